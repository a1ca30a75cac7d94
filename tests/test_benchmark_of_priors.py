"""benchmarks/priors.py: both loops are timed in turn and measured, and the file says what was found."""

from helpers import read_json

from benchmarks import priors
from engine import deep_prior
from engine.deep_prior import Setting


def test_both_loops_are_measured_and_written(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(deep_prior.SETTINGS, "sr", Setting(30, 0.03, network={"inputs": 8, "widths": (8, 8, 8)}))
    flags = ["--size", "36", "--seconds", "0.1", "--steps", "1", "--device", "cpu", "--out", str(tmp_path)]
    priors.main(flags)
    (path,) = tmp_path.iterdir()
    document = read_json(path)
    seconds, ratio = document["seconds_per_step"], document["ratio"]
    assert seconds.keys() == document["megabytes"].keys() == {"ours", "plain"}
    assert min(document["megabytes"].values()) > 100 and ratio["n"] >= 3
    assert ratio["low"] <= seconds["plain"]["high"] / seconds["ours"]["low"]
    assert document["precision"]["plain"] == "fp32" and str(path) in capsys.readouterr().out


def test_both_loops_learn_the_same_problem(monkeypatch):
    monkeypatch.setitem(deep_prior.SETTINGS, "sr", Setting(30, 0.03, network={"inputs": 8, "widths": (8, 8, 8)}))
    for make in priors.STEPS.values():
        step, _ = make(36, priors.choose_device("cpu"))
        losses = [step().item() for _ in range(40)]
        assert losses[-1] < 0.75 / 12 < losses[0]  # 1/12 is the variance of random pixels
