"""Deep Image Prior and ZSSR in test.py: rows, what is kept, going on after an interruption, the paper's protocol."""

import signal

import numpy as np
import pytest
from helpers import PHOTOGRAPH, read_json, refused

from engine import deep_prior, prior_scoring, zero_shot
from engine.deep_prior import Setting
from engine.prior_scoring import SAW, paper_pair, paper_psnr
from engine.results import read_results
from utils import calc_psnr, rgb_to_ycbcr


@pytest.fixture(autouse=True)
def small_networks(monkeypatch):
    network = {"inputs": 8, "widths": (8, 8, 8), "skips": 4}
    monkeypatch.setitem(deep_prior.SETTINGS, "sr", Setting(30, 0.03, network=network))
    monkeypatch.setitem(zero_shot.STAGES, 4, [(1, (4.0, 4.0), 2)])


@pytest.fixture
def place(workplace, photographs):
    photographs(workplace / "mine", count=2, size=(64, 72))
    return workplace


def scored(script, *flags, methods=("dip",)):
    """Run test.py on the two images; status, out, err."""
    fixed = ("--dataset", "mine", "--device", "cpu", "--steps", 2, "--out", "report", "--no-figures")
    precision = () if "--precision" in flags else ("--precision", "fp32")  # auto is bf16 on some machines
    return script("test", *fixed, *precision, "--method", *methods, *flags)


def rows(done):
    """The lines of the table that are of Deep Image Prior."""
    return [line.partition("Deep")[2] for line in done.out.splitlines() if "Deep" in line and "note" not in line]


def fits(place):
    return sorted((place / "report" / "results" / "fits").iterdir())


def test_methods_are_rows_with_documents_that_say_what_they_saw(script, place):
    done = scored(script, methods=("dip", "zssr", "dip"))
    assert done.status == 0, done.err
    for label in ("Deep Image Prior (steps=2)", "ZSSR (steps=2)"):
        assert done.out.count(f"  {label} ") == 3 and f"note: {label}: {SAW}\n" in done.out
    assert len(fits(place)) == 4
    documents = {document["key"]: document for document in read_results(place / "report" / "results")}
    assert documents.keys() == {"dip_steps2", "zssr_steps2"}
    for document in documents.values():
        assert document["saw"] == SAW and document["trained"] is None and document["weights"] is None
        assert document["protocol"]["colour"] == "rgb"
        assert [image["name"] for image in document["images"]] == ["photo0", "photo1"]
    assert documents["zssr_steps2"]["parameters"] == 224_640
    lr = {key: document["protocol"]["degradation"].partition(", ")[2] for key, document in documents.items()}
    assert lr["zssr_steps2"].endswith(", quantised to uint8") and lr["dip_steps2"].endswith(", not quantised")


def test_lr_of_deep_image_prior_is_that_of_networks_on_rgb_before_it_is_rounded():
    flags = {"seed": 0, "steps": None, "precision": "fp32"}
    dip, zssr = (prior_scoring.prior_network(method, 4, "cpu", None, **flags) for method in ("dip", "zssr"))
    (exact, hr), (rounded, same) = (network.pair_of(PHOTOGRAPH) for network in (dip, zssr))
    assert np.array_equal(hr, same) and rounded.dtype == np.uint8 and exact.dtype == np.float32
    assert 0 < np.abs(exact.clip(0, 255) - rounded).max() <= 1.5  # MATLAB rounds twice, after rows and columns


def test_what_was_fitted_is_kept_with_its_seconds_and_another_seed_is_fitted_anew(script, place, monkeypatch):
    first = scored(script)
    fitted, follow = [], prior_scoring.follow
    monkeypatch.setattr(prior_scoring, "follow", lambda *a: fitted.append(a) or follow(*a))
    made = read_json(place / "report" / "results" / "mine_x4_dip_steps2.json")["fits"]
    monkeypatch.setattr(prior_scoring, "provenance", lambda device: {"commit": "a later one"})
    assert rows(scored(script)) == rows(first) and not fitted
    assert read_json(place / "report" / "results" / "mine_x4_dip_steps2.json")["fits"] == made and len(made) == 2
    scored(script, "--seed", 1)
    assert len(fitted) == 2 and len(fits(place)) == 4
    assert "Deep Image Prior (steps=2, bf16)" in scored(script, "--precision", "bf16").out
    assert (place / "report" / "results" / "mine_x4_dip_steps2_bf16.json").exists()


def test_interrupted_test_goes_on_with_the_image_it_had_not_done(script, place, monkeypatch):
    calls, follow = [], prior_scoring.follow

    def second_interrupted(*arguments):
        calls.append(arguments)
        rows, _ = follow(*arguments)
        return rows, signal.SIGINT if len(calls) == 2 else None

    monkeypatch.setattr(prior_scoring, "follow", second_interrupted)
    stopped = scored(script)
    assert stopped.status == 130 and "kept" in stopped.err and len(fits(place)) == 1
    done = scored(script)
    assert done.status == 0 and len(calls) == 3 and len(fits(place)) == 2


@pytest.mark.parametrize("damage", [lambda good: good[:100], lambda good: good[:8] + b"\xff" + good[9:]])
def test_damaged_file_of_a_fit_is_made_again(script, place, damage):
    first = scored(script)
    good = fits(place)[0].read_bytes()
    fits(place)[0].write_bytes(damage(good))
    again = scored(script)
    assert [row.split()[:-2] for row in rows(again)] == [row.split()[:-2] for row in rows(first)]  # but for seconds
    assert len(fits(place)[0].read_bytes()) == len(good)


@pytest.mark.parametrize(
    ("method", "scale", "size", "words"),
    [
        ("zssr", 4, (24, 40), "small: 40x24 cannot be fitted by zssr; sides of 64"),
        ("dip-paper", 3, (64, 64), "divide 32"),
        ("dip-paper", 4, (60, 65), "small: 65x60 cannot be fitted by dip-paper; sides of 64"),
        ("dip", 2, (32, 40), "small: 40x32 cannot be fitted by dip; sides of 34"),
    ],
)
def test_what_a_method_cannot_score_is_one_line_before_the_others_are_fitted(
    script, place, photographs, monkeypatch, method, scale, size, words
):
    monkeypatch.setitem(deep_prior.SETTINGS, "sr", Setting(30, 0.03))
    (photographs(place / "other", count=1, size=size) / "photo0.png").rename(place / "mine" / "small.png")
    done = scored(script, "--scale", scale, methods=(method,))
    assert (done.status, done.err.count("\n")) == (2, 1) and words in done.err
    assert not [*place.rglob("*.json"), *place.rglob("*.npz")]
    refused(script, "test", ("--dataset", "mine", "--steps", 2), "--method", unchanged=place)


def test_papers_pair_is_cropped_at_the_centre_to_multiples_of_32():
    lr, hr = paper_pair(PHOTOGRAPH[:70, :100], 4)
    assert hr.shape == (64, 96, 3) and lr.shape == (16, 24, 3) and lr.dtype == np.uint8
    assert np.array_equal(hr, PHOTOGRAPH[3:67, 2:98])


def test_papers_score_leaves_four_rows_before_and_five_behind():
    hr = PHOTOGRAPH[:64, :64]
    sr = hr.copy()
    sr[:4] = sr[-5:] = sr[:, :4] = sr[:, -5:] = 0
    assert paper_psnr(sr, hr) == np.inf
    sr[4, 4] = hr[4, 4] // 2
    inner = [rgb_to_ycbcr(image[4:59, 4:59] / 255.0)[..., 0] for image in (sr, hr)]
    assert paper_psnr(sr, hr) == pytest.approx(calc_psnr(*inner))


def test_papers_protocol_is_a_table_and_a_file_of_its_own(script, place):
    done = scored(script, methods=("dip-paper",))
    assert done.status == 0, done.err
    path = place / "report" / "results" / "paper_protocol" / "mine_x4_dip_steps2.json"  # beside that of whole fits
    document = read_json(path)
    for image in document["images"]:
        line = f"{image['name']:<14}{image['bicubic_psnr']:>9.2f}{image['psnr']:>9.2f}"
        assert line in done.out
    assert document["mean"]["psnr"] == pytest.approx(np.mean([image["psnr"] for image in document["images"]]))
