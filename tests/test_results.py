"""engine/results.py: documents read back from results and from weights/, and what is none."""

import json
import math
import os
import re
import unicodedata

import pytest
from helpers import read_json, refusal, result_document

from engine.results import SCORES, SHARED, read_log, read_result_file, read_results
from support.files import write_json

DOCUMENT = result_document("carn")
(IMAGE,) = DOCUMENT["images"]
LOG = "epoch,loss,val_psnr,seconds\n1,0.01,26.1,30\n2,0.005,26.2,30\n3,0.0033333333333333335,26.3,30\n"


def test_documents_are_the_same_from_results_and_from_weights(tmp_path):
    write_json(tmp_path / "results" / "Set5_x4_carn.json", DOCUMENT)
    scores = {field: DOCUMENT[field] for field in SCORES}
    shelf = {field: DOCUMENT[field] for field in SHARED} | {"scores": [scores, scores | {"self_ensemble": True}]}
    write_json(tmp_path / "weights" / "carn_x4.json", shelf)
    (tmp_path / "weights" / "carn_x4.csv").write_text(LOG)
    assert read_results(tmp_path / "results") == [DOCUMENT]
    plain, ensemble = read_results(tmp_path / "weights")
    assert plain == DOCUMENT
    assert ensemble == DOCUMENT | {"self_ensemble": True, "label": "CARN+", "key": "carn_ensemble"}
    (tmp_path / "weights" / "carn_x4.csv").write_text(LOG.replace("26.3", "26.25"))  # another run's
    assert [document["history"] for document in read_results(tmp_path / "weights")] == [[], []]


def test_equal_images_are_null_in_a_file_since_json_has_no_infinity_and_infinite_again_when_read(tmp_path):
    image = IMAGE | {"psnr": math.inf}
    write_json(tmp_path / "a.json", DOCUMENT | {"images": [image], "mean": DOCUMENT["mean"] | {"psnr": math.inf}})
    assert read_json(tmp_path / "a.json")["mean"]["psnr"] is None
    (document,) = read_result_file(tmp_path / "a.json")
    assert document["images"][0]["psnr"] == document["mean"]["psnr"] == math.inf


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ([], ["the file is []", "an object"]),
        ({"label": "a\nb"}, ["it holds 'a\\nb'", "no plain line"]),
        ({"command": "\x1b[2J"}, ["it holds '\\x1b[2J'", "no plain line"]),
        ({"options": {"a": [{"\u202e": 1}]}}, ["it holds '\\u202e'", "no plain line"]),
        ({"key": None}, ["key is None"]),
        ({"scale": "4"}, ["scale is '4'", "a whole number"]),
        ({"images": []}, ["images is []"]),
        ({"images": [IMAGE, IMAGE]}, ["the same name"]),
        ({"images": [IMAGE | {"psnr": "30"}]}, ["images[0].psnr is '30'", "a number or null"]),
        ({"images": [IMAGE | {"ssim": math.nan}]}, ["images[0].ssim is nan"]),
        ({"images": [{"name": "face"}]}, ["images[0].psnr is missing"]),
        ({"weights": {"path": "x"}}, ["weights.sha256"]),
        ({"trained": {"epoch": 2}}, ["trained.val_psnr is missing"]),
        ({"trained": DOCUMENT["trained"] | {"recipe": {"seed": "0"}}}, ["trained.recipe.seed is '0'"]),
        ({"trained": DOCUMENT["trained"] | {"recipe": {"learning_rate": {}}}}, ["trained.recipe is", "plain values"]),
        ({"trained": DOCUMENT["trained"] | {"data": {"held_out": 5}}}, ["trained.data.held_out is 5", "a list"]),
        ({"trained": DOCUMENT["trained"] | {"started_from": ["x"]}}, ["trained.started_from", "a list of objects"]),
        ({"protocol": {"colour": "cmyk"}}, ["protocol.colour is 'cmyk'", "y or rgb"]),
        ({"versions": 3}, ["versions is 3", "an object"]),
        ({"images": [IMAGE | {"seconds": "x"}]}, ["images[0].seconds is 'x'", "a number of seconds"]),
        *(({field: "/../../x"}, [f"{field} is '/../../x'", "a plain name"]) for field in ("dataset", "model", "key")),
        ({"images": [IMAGE | {"name": "../x"}]}, ["images[0].name is '../x'", "a plain name"]),
        ({"options": {"../x": 1}}, ["options is {'../x': 1}"]),
        ({"history": [{"epoch": 1}]}, ["history[0].val_psnr"]),
        ({"scores": 3}, ["scores is 3"]),
        ({"scores": [{"label": 3}]}, ["label is 3"]),
    ],
)
def test_file_that_is_no_result_is_refused_and_names_field_and_value(tmp_path, change, words):
    content = change if isinstance(change, list) else DOCUMENT | change
    (tmp_path / "a.json").write_text(json.dumps(content))
    message = refusal(read_results, tmp_path)
    assert "a.json is not " in message and all(word in message for word in words), message


def test_file_that_is_no_json_is_refused(tmp_path):
    (tmp_path / "a.json").write_text("[" * 100_000)
    assert "a.json is not JSON" in refusal(read_results, tmp_path)


def test_nothing_in_a_result_is_markup_and_ordinary_text_stays(tmp_path):
    private = "![](/home/me/private.png) [x]: /y [x][y] <img src=x> `a` | $b$ {{ figure z }}"
    plain = {
        "label": "VDSR [runs-best]",
        "device": "cpu: AMD EPYC (R), 2 threads",
        "command": "python test.py --tile 9",
    }
    (tmp_path / "a.json").write_text(json.dumps(DOCUMENT | plain | {"versions": {private: [private]}}))
    (document,) = read_results(tmp_path)
    assert {name: document[name] for name in plain} == plain
    ((name, (text,)),) = document["versions"].items()
    assert name == text and not re.search(r"[`<|$]|!\[|\]\(|\]\[|\]:|\{\{", text)
    assert unicodedata.normalize("NFKC", text) == private


@pytest.mark.parametrize("target", ["/dev/zero", "/proc/self/environ", "fifo", "/"])
@pytest.mark.parametrize("name", ["a.json", "log.csv"])
def test_device_pipe_and_what_the_system_makes_up_is_no_result(tmp_path, target, name):
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / name).symlink_to(target)
    if name == "log.csv":
        assert read_log(tmp_path / name, {"epoch": 1, "val_psnr": 2.0}) == []
    else:
        assert "where a result of test.py is needed" in refusal(read_results, tmp_path)


@pytest.mark.parametrize(
    "text", ["", "epoch\n1\n", "epoch;val_psnr\n1;2\n", "epoch,val_psnr\none,2\n", "epoch,val_psnr\n1,2,3\n"]
)
def test_log_that_a_spreadsheet_has_changed_is_none(tmp_path, text):
    (tmp_path / "log.csv").write_text(text)
    trained = {"epoch": 1, "val_psnr": 2.0}
    assert read_log(tmp_path / "log.csv", trained) == read_log(tmp_path / "missing.csv", trained) == []
