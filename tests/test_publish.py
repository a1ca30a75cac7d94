"""weights/publish.py: what it writes of a run, and what of the shipped networks it scores again."""

import pytest
from helpers import clean_run, read_json, refusal, small_checkpoint

from engine.results import SCORES, SHARED, read_results
from weights import publish

KEY = "vdsr_depth3_num_features8"


@pytest.fixture
def shelf(workplace, monkeypatch):
    """An empty weights folder, for which a run stands ready; `sample` is the set that is scored."""
    monkeypatch.setattr(publish, "WEIGHTS", workplace / "weights")
    monkeypatch.setattr(publish, "SETS", ("sample",))
    (workplace / "weights").mkdir()
    small_checkpoint(workplace / "run" / "best.pth")  # of epoch 3, 30.0 dB
    (workplace / "run" / "log.csv").write_text("epoch,loss,val_psnr\n3,0.2,30.0\n")
    return workplace / "weights"


def test_run_is_published_with_its_scores_plain_and_with_self_ensemble_and_its_log(shelf, script, workplace):
    publish.main(["run", "--device", "cpu"])
    names = [f"{KEY}_x4{suffix}" for suffix in (".csv", ".json", ".pth")]
    assert sorted(path.name for path in shelf.iterdir()) == names
    content = read_json(shelf / names[1])
    assert list(content) == [*SHARED, "scores"] and all(list(scores) == [*SCORES] for scores in content["scores"])
    assert content["weights"]["path"] == f"weights/{names[2]}"
    flags = ("--weights", shelf / names[2], "--dataset", "sample", "--no-figures", "--out", "out")
    clean_run(script, *flags)
    clean_run(script, *flags, "--self-ensemble")
    for published, tested in zip(read_results(shelf), read_results(workplace / "out" / "results"), strict=True):
        assert published.keys() <= tested.keys()
        for field in ("label", "key", "self_ensemble", "trained", "protocol", "dataset_manifest", "history", "zoom"):
            assert published[field] == tested[field]
        assert [row["psnr"] for row in published["images"]] == [row["psnr"] for row in tested["images"]]


def test_rescore_writes_only_the_json_of_each_shipped_network(shelf):
    small_checkpoint(shelf / f"{KEY}_x4.pth")
    before = (shelf / f"{KEY}_x4.pth").read_bytes()
    publish.main(["--rescore", "carn", "--device", "cpu"])
    assert len(list(shelf.iterdir())) == 1
    publish.main(["--rescore", "--device", "cpu"])
    assert sorted(path.suffix for path in shelf.iterdir()) == [".json", ".pth"]
    assert (shelf / f"{KEY}_x4.pth").read_bytes() == before
    assert [document["self_ensemble"] for document in read_results(shelf)] == [False, True]


@pytest.mark.parametrize("arguments", [[], ["run", "--rescore"], ["nowhere"]])
def test_what_names_no_run_is_refused(shelf, arguments):
    assert "runs/carn_x4" in refusal(publish.main, arguments)
    assert not list(shelf.iterdir())
