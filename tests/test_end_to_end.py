"""The scripts one after the other, as a user types them: each in a process of its own, in another folder."""

import re

import pytest
from helpers import lines_of, read_json

from support.command_line import ROOT


def test_network_trained_on_t91_for_an_epoch_is_above_bicubic_on_set5(workplace, datasets):
    """The course's path on the real images, with few patches and a small network."""
    data = ("--data-dir", "data", "--source", datasets)
    network = ("--model", "vdsr", "--set", "depth=4", "--set", "num_features=16")
    lines_of(workplace, ROOT / "prepare.py", "--stride", 400, *data)
    trained = lines_of(workplace, ROOT / "train.py", *network, "--epochs", 1, "--batch-size", 8, *data)
    assert "(bicubic 24.84)" in trained[-2]
    assert re.fullmatch(r"best epoch: 1, psnr: 25\.\d\d", trained[-1])
    scored = lines_of(workplace, ROOT / "test.py", "--weights", "best.pth", "--no-figures", "--out", "report", *data)
    assert any(re.search(r"^mean +Bicubic +28\.42 +0\.8104 ", line) for line in scored)
    (path,) = (workplace / "report" / "results").iterdir()
    result = read_json(path)
    assert [image["name"] for image in result["images"]] == ["baby", "bird", "butterfly", "head", "woman"]
    assert result["mean"]["psnr"] > result["mean"]["bicubic_psnr"] == pytest.approx(28.42, abs=0.005)
    assert result["trained"]["val_set"] == "held-out" and result["trained"]["data"]["dataset"] == "T91"
    assert sorted(path.name for path in workplace.iterdir()) == ["best.pth", "data", "report", "runs"]
