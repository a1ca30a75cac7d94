"""Interpolated weights and averaged outputs: rows of their own, and networks that cannot be mixed."""

import pytest
import torch
from helpers import edited, read_json, refused, run_in, scored, small_checkpoint

import test
from engine.checkpoint import load_checkpoint
from engine.mixing import fuse, interpolate
from engine.results import joined_keys
from engine.scoring import load_networks
from models import build_model

CPU = torch.device("cpu")
KEY = "vdsr_depth3_num_features8"


@pytest.fixture
def two(workplace):
    """Paths of two checkpoints of the same network with other weights."""
    return [small_checkpoint(workplace / f"{name}.pth", seed=seed) for seed, name in enumerate("ab")]


@pytest.fixture
def norms(workplace):
    """The same of a network with batch normalisation, whose statistics differ and whose counts are whole numbers."""
    paths = []
    for number in (1, 2):
        paths.append(small_checkpoint(workplace / f"bn{number}.pth"))
        options = {"num_blocks": 1, "num_features": 4, "batch_norm": True, "bicubic_skip": True}
        model = build_model("srresnet", 4, 1, **options)
        weights = {name: value + number for name, value in model.state_dict().items()}
        with edited(paths[-1]) as checkpoint:
            checkpoint |= {"model": "srresnet", "options": options, "weights": weights}
    return paths


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_interpolated_weights_lie_between_the_two_and_statistics_too(norms, share):
    first, second = (load_checkpoint(path)["weights"] for path in norms)
    network = interpolate(*load_networks(norms, None, CPU), share)
    weights = network.model.model.model.state_dict()
    assert weights.keys() == first.keys()
    for name, value in weights.items():
        expected = (1 - share) * first[name] + share * second[name] if value.is_floating_point() else first[name]
        torch.testing.assert_close(value, expected)
    for path, before in zip(norms, (first, second), strict=True):  # what it was made of is as it was
        assert all(torch.equal(value, before[name]) for name, value in load_checkpoint(path)["weights"].items())


def test_fused_output_is_the_mean_of_the_outputs(two):
    networks = load_networks([*two, two[0]], None, CPU)
    lr = torch.rand(1, 1, 9, 14)
    with torch.no_grad():
        expected = (2 * networks[0].model(lr) + networks[1].model(lr)) / 3
        torch.testing.assert_close(fuse(networks).model(lr), expected)


def test_fusion_of_many_networks_has_a_short_name(two):
    assert len(fuse(load_networks([*two] * 20, None, CPU)).key) < 60


def test_mixtures_are_rows_of_their_own_with_their_parts_on_record(script, workplace, two):
    with edited(two[1]) as checkpoint:
        checkpoint["val_set"] = "Set5"
    out, documents = scored(script, workplace, *two, flags=("--fuse", "--interpolate", *two, 0.25))
    folder = workplace.name
    names = [f"{folder}-a", f"{folder}-b"]
    alone = [f"{KEY}_{name}" for name in names]
    fused, between = f"fusion_{joined_keys(alone)}", f"{alone[0]}_0.25_{names[1]}"
    assert documents.keys() == {*alone, fused, between}
    assert f"VDSR (depth=3, num_features=8) [0.75 {names[0]} + 0.25 {names[1]}]  " in out
    for key, shares in ((fused, [0.5, 0.5]), (between, [0.75, 0.25])):
        document = documents[key]
        assert (document["weights"], document["trained"], document["history"]) == (None, None, [])
        assert [part["share"] for part in document["parts"]] == shares
        assert [part["weights"] for part in document["parts"]] == [documents[other]["weights"] for other in alone]
        assert len({row["mean"]["psnr"] for row in documents.values()}) == 4
        label = documents[alone[1]]["label"]
        assert f"note: {document['label']}: of {label}: its best epoch was chosen on Set5" in out
    assert documents[fused]["parameters"] == 2 * documents[alone[0]]["parameters"]
    assert documents[between]["parameters"] == documents[alone[0]]["parameters"]


@pytest.mark.parametrize(
    "flags", [["--interpolate", "a.pth", "b.pth", "0.3"], ["--weights", "a.pth", "b.pth", "--fuse"]]
)
def test_mixture_enlarges_photographs(workplace, two, flags, shots):
    run_in(workplace, ["--input", "shots", "--output", "large", "--device", "cpu", *flags], test)
    assert len(list((workplace / "large").iterdir())) == 2


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--interpolate", "a.pth", "b.pth", "1.5"], ["0 to 1", "'1.5'"]),
        (["--interpolate", "a.pth", "b.pth", "nan"], ["0 to 1", "'nan'"]),
        (["--interpolate", "a.pth", "c.pth", "0.3"], ["c.pth", "no such file"]),
        (["--interpolate", "a.pth", "bn1.pth", "0.3"], ["VDSR (depth=3", "SRResNet", "same options"]),
        (["--interpolate", "a.pth", "rgb.pth", "0.3"], ["rgb.pth", "RGB", "same options"]),
        (["--interpolate", "a.pth", "x2.pth", "0.3"], ["scales 2, 4"]),
        (["--weights", "a.pth", "--fuse"], ["--fuse", "found 1"]),
        (["--weights", "a.pth", "rgb.pth", "--fuse"], ["one colour", "Y and RGB"]),
        (["--weights", "a.pth", "b.pth", "--input", "a.png"], ["--input", "found 2"]),
        (["--weights", "a.pth", "--interpolate", "a.pth", "b.pth", "0.3", "--input", "a.png"], ["--input"]),
    ],
    ids=lambda value: " ".join(value) if value[0].startswith("--") else "",
)
def test_what_cannot_be_mixed_is_refused(script, workplace, two, norms, flags, words):
    small_checkpoint(workplace / "rgb.pth", channels=3)
    small_checkpoint(workplace / "x2.pth", scale=2)
    assert refused(script, "test", [*flags, "--device", "cpu"], *words, unchanged=workplace)


def test_report_is_of_networks_that_were_trained(script, workplace, two):
    """A mixture is no row of its tables."""
    scored(script, workplace, two[0], flags=("--interpolate", *two, 0.3))
    from report.results import results_with

    results = results_with("weights", workplace / "out" / "results")
    assert [result.document["key"] for result in results] == [KEY]
    assert len(list((workplace / "out" / "results").iterdir())) == 2
    assert read_json(workplace / "out" / "results" / f"shots_x4_{KEY}.json")["parameters"] > 0
