"""Result documents: what test.py says of a network on a test set, written and read back in this one place.

A document is a dict with the fields SHARED, of the network, and SCORES, of one test set, and with
    "zoom"     {image: [x, y, size]} of the windows asked for with --zoom, or null
    "history"  the rows of the training's log.csv, or [] where no log of that run lies beside the checkpoint
test.py writes each to a file of its own. weights/<model>_x4.json holds SHARED once and a list "scores" of SCORES, and
has its history in the .csv beside it.
"""

import csv
import hashlib
import json
import math
import re
import reprlib
from pathlib import Path

import numpy as np

from data.catalog import TRAIN_SETS, manifest_hash
from engine.losses import trades_psnr
from support.command_line import UserError, describe_os_error, is_plain_text
from support.files import check_regular, write_json
from utils import protocol

SHARED = ("model", "options", "label", "key", "parameters", "scale", "weights", "trained")
SCORES = ("dataset", "dataset_manifest", "self_ensemble", "protocol", "precision", "tile", "images", "mean")
SCORES += ("command", "versions", "device", "commit", "clean")
MAX_SCORE = 1000  # dB: far above any PSNR of 8-bit images
MARKUP = re.compile(r"[`<|$]|!(?=\[)|(?<=\])[(:[]|\{(?=\{)")  # of Markdown, HTML and the report's placeholders


# ---------------------------------------------------------------- writing


def joined_keys(keys):
    """Return the networks of a file for its name, which is short however many they are."""
    joined = "-".join(keys)
    return joined if len(joined) <= 100 else f"{len(keys)}networks-{hashlib.sha256(joined.encode()).hexdigest()[:8]}"


def describe_set(dataset, images, zoom):
    """Return the fields of a document that say what was scored.

    images: CatalogImages, of catalog.describe_image(). zoom: {name: (x, y, size)} of the windows asked for.
    """
    return {
        "dataset": dataset,
        "dataset_manifest": manifest_hash(images),
        "zoom": {name: list(window) for name, window in zoom.items()} or None,
    }


def result_documents(networks, shared):
    """Return {key: document} of the networks of a table, or of bicubic where it is alone.

    networks: scoring.Network, bicubic first, with a row for each image that is scored so far.
    shared: what describe_set() returns, and what provenance() does.
    """
    baselines = {network.colour: network for network in networks if network.is_baseline}
    others = [network for network in networks if not network.is_baseline]
    return {
        network.key: shared | network_document(network, baselines[network.colour]) for network in others or networks
    }


def network_document(network, bicubic):
    """Return the part of a document that says what a network is and how it did beside bicubic."""
    images = [
        row | {"bicubic_psnr": base["psnr"], "bicubic_ssim": base["ssim"]}
        for row, base in zip(network.rows, bicubic.rows, strict=True)
    ]
    return (
        {"protocol": protocol(network.colour, network.scale)}
        | network.description
        | {
            "label": network.label,
            "key": network.key,
            "images": images,
            "mean": {column: mean(images, column) for column in images[0] if column != "name"},
        }
    )


def mean(rows, column):
    """Return the mean of one column over images."""
    return float(np.mean([row[column] for row in rows]))


def write_documents(folder, networks, documents):
    """Write each document to the results, and a copy into the run folder where the checkpoint lies in one.

    Yields a line for the user about each file.
    """
    networks = {network.key: network for network in networks}
    for key, document in documents.items():
        path = folder / f"{document['dataset']}_x{document['scale']}_{key}.json"
        hashes = {(document["weights"] or {}).get("sha256", ""), document["dataset_manifest"]}
        text = path.read_text("utf-8", "replace") if path.exists() else None
        write_json(path, document)
        other = text is not None and not all(known in text for known in hashes)
        yield f"wrote {path}" + ", in place of the scores of other weights or images" * other
        checkpoint = networks[key].path
        if checkpoint and (run := run_folder(checkpoint, document["trained"])):
            try:
                write_json(run / name_beside_run(checkpoint, document), document)
            except OSError as error:  # it may be somebody else's run
                yield f"note: no copy beside the checkpoint: {describe_os_error(error)}"


def name_beside_run(path, document):
    """Return the name of the copy in the run folder: scores_Set5.json, scores_Set5_ensemble.json."""
    parts = ["scores", document["dataset"]]
    parts += [f"x{document['scale']}"] * ("scales" in document["options"])  # which has several
    parts += [path.stem] * (path.stem != "best") + ["ensemble"] * document["self_ensemble"]
    parts += ["bf16"] * (document["precision"] == "bf16") + [f"tile{document['tile']}"] * bool(document["tile"])
    return "_".join(parts) + ".json"


def notes(network):
    """Yield what a reader must know of a network's numbers before comparing them, a sentence each; none of bicubic."""
    if "saw" in network.description:
        yield network.description["saw"]
    if trained := network.description["trained"]:
        yield from training_notes(trained, network)
    for part in network.description.get("parts", []):
        yield f"{part['share']:.3g} of it is {part['label']}, {part['weights']['path']}"
        yield from (f"of {part['label']}: {note}" for note in training_notes(part["trained"], network))


def training_notes(trained, network):
    """Yield what a reader must know of the training of a network or of a part of it, a sentence each."""
    earlier = trained.get("started_from", [])
    runs = [*earlier, trained]
    if earlier:
        begun = dict.fromkeys(f"{run['label']} after {run['data'].get('dataset')}" for run in earlier)
        yield f"its training began with the weights of {' and '.join(begun)}"
    if trades_psnr(loss := str(trained["recipe"].get("loss"))):
        yield f"it was trained with {loss}, which trades PSNR for texture; its newest epoch was kept"
    for val_set in sorted({run["val_set"] for run in runs} - {"held-out"}):
        yield (
            f"its best epoch was chosen on {val_set} (classroom protocol), so its number there is not one of an unseen "
            "test set"
        )
    for name, image_set in TRAIN_SETS.items():
        manifests = {run["data"].get("manifest") for run in runs if run["data"].get("dataset") == name}
        if manifests - {image_set.manifest}:
            yield f"it was trained on other images than those that {name} stands for here"
    scale = trained["data"].get("scale", network.scale)  # of a network of several scales, that of its largest
    if trained.get("protocol") not in (None, protocol(network.colour, scale)):
        yield "it was trained under another protocol than it is scored by here"


# ---------------------------------------------------------------- the log of a training


def read_history(weights, trained):
    """Return the rows of the log beside a checkpoint, as numbers; [] where there is none, or another run's.

    weights: path of the checkpoint, whose log is log.csv in its run folder, carn_x4.csv beside carn_x4.pth.
    trained: the checkpoint, or what a document repeats of it: the row of its epoch has its val_psnr.
    """
    beside = weights.with_suffix(".csv")
    folder = run_folder(weights, trained)
    return read_log(beside, trained) or (read_log(folder / "log.csv", trained) if folder else [])


def run_folder(weights, trained):
    """Return the folder of the run that a checkpoint is of, with its log, None where it is not at hand.

    It is where the checkpoint lies, or for a copy of it, such as ./best.pth, where the checkpoint says.
    """
    named = trained.get("run")
    if not isinstance(named, str) or named.replace("\\", "/").startswith("//"):  # Windows would ask another machine
        named = ""
    for folder in (weights.parent, weights.parent / named):
        if read_log(folder / "log.csv", trained):
            return folder
    return None


def read_log(path, trained):
    """Return the rows of a log.csv as numbers; [] where the file is missing, no such log, or that of another run.

    A spreadsheet may have been at it.
    """
    try:
        with open(check_regular(path), encoding="utf-8", newline="") as file:
            rows = [{column: float(value) for column, value in row.items()} for row in csv.DictReader(file)]
        rows = [row | {"epoch": int(row["epoch"])} for row in rows]
        scored = {row["epoch"]: row["val_psnr"] for row in rows}
        return rows if scored.get(trained["epoch"]) == trained["val_psnr"] else []
    except (UserError, OSError, ArithmeticError, LookupError, TypeError, ValueError, AttributeError, csv.Error):
        return []


# ---------------------------------------------------------------- reading

KINDS = {  # what a value must be, in words: whether it is
    "a text": lambda value: isinstance(value, str),
    "a plain name": lambda value: isinstance(value, str) and Path(value).name == value,  # it stands in names of files
    "an object with plain names": lambda value: isinstance(value, dict) and all(map(KINDS["a plain name"], value)),
    "y or rgb": lambda value: value in ("y", "rgb"),
    "a number of seconds": lambda value: type(value) in (int, float) and 0 <= value < 1e9,
    "a list of objects": lambda value: isinstance(value, list) and all(isinstance(one, dict) for one in value),
    "plain values": lambda value: KINDS["an object with plain names"](value) and all(map(is_plain, value.values())),
    "a whole number": lambda value: type(value) is int,
    "a number": lambda value: type(value) in (int, float) and abs(value) <= MAX_SCORE,
    "a number or null": lambda value: value is None or KINDS["a number"](value),
    "true or false": lambda value: type(value) is bool,
    "an object": lambda value: isinstance(value, dict),
    "a list": lambda value: isinstance(value, list),
    "a list of images": lambda value: isinstance(value, list) and len(value) > 0,
}
DOCUMENT = {
    **dict.fromkeys(("label", "dataset_manifest", "precision", "device"), "a text"),
    **dict.fromkeys(("key", "model", "dataset"), "a plain name"),
    **dict.fromkeys(("scale", "parameters"), "a whole number"),
    **dict.fromkeys(("protocol", "mean"), "an object"),
    "options": "plain values",
    "self_ensemble": "true or false",
    "images": "a list of images",
    "history": "a list",
}
WEIGHTS = {"path": "a text", "sha256": "a text"}
TRAINED = {"epoch": "a whole number", "val_psnr": "a number or null", "val_set": "a text"}
TRAINED |= {"recipe": "plain values", "data": "an object with plain names"}
KNOWN = {  # what need not be there, by the place where it stands
    "": {"versions": "an object"},
    "protocol": {"colour": "y or rgb"},
    "trained": {"versions": "an object", "started_from": "a list of objects"},
    "trained.recipe": {"seed": "a whole number", "loss": "a text", "epochs": "a whole number"},
    "trained.data": {
        **dict.fromkeys(("dataset", "manifest"), "a text"),
        **dict.fromkeys(("patch_size", "stride"), "a whole number"),
        **{"held_out": "a list", "copies": "a list", "other_scales": "a list of objects"},
    },
}
NUMBERS = {"psnr": "a number or null", "ssim": "a number"}  # null: the PSNR of equal images, JSON has no infinity
NUMBERS |= {f"bicubic_{column}": kind for column, kind in NUMBERS.items()}


def is_plain(value):
    """Return whether a value is a number, a text, a truth, nothing, or a list of such."""
    return isinstance(value, int | float | str | None) or (isinstance(value, list) and all(map(is_plain, value)))


def read_results(folder):
    """Return the documents in the .json files of a folder: of test.py's results, or of weights/; in order of names.

    An infinite PSNR, null in a file, is math.inf in them. Raises UserError naming file, field and value where a file
    holds something else.
    """
    return [document for path in sorted(Path(folder).glob("*.json")) for document in read_result_file(path)]


def read_result_file(path):
    """Return the documents in one .json file: one, or in one of weights/ as many as it has scores."""
    path = check_regular(path, "a result of test.py")
    try:
        content = inert(path, json.loads(path.read_bytes()))
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path} is not JSON ({error}); name a file that test.py wrote in report/results") from error
    check(path, "the file", content, "an object")
    if "scores" not in content:
        check_document(path, content)
        return [with_infinities(content)]
    check(path, "scores", content["scores"], "a list")
    documents = []
    for number, scores in enumerate(content["scores"]):
        check(path, f"scores[{number}]", scores, "an object")
        document = {field: content.get(field) for field in SHARED} | {"zoom": None, "history": []} | scores
        check_document(path, document)
        if document["trained"]:
            document["history"] = read_history(path.with_suffix(".pth"), document["trained"])
        if document["self_ensemble"]:
            document |= {"label": f"{document['label']}+", "key": f"{document['key']}_ensemble"}
        documents.append(with_infinities(document))
    return documents


def inert(path, value):
    """Return a JSON value in whose texts nothing is markup: what is takes its full width, as Chinese text has it.

    Terminals, the report's Markdown and its HTML show them as they are. Raises UserError for what is no plain line.
    """
    if isinstance(value, dict):
        return {inert(path, key): inert(path, item) for key, item in value.items()}
    if isinstance(value, list):
        return [inert(path, item) for item in value]
    if isinstance(value, str) and not is_plain_text(value):
        raise UserError(f"{path} is not as it was written: it holds {value!a:.100}, which is no plain line")
    return widened(value) if isinstance(value, str) else value


def widened(text):
    """Return a text in which nothing is markup."""
    return MARKUP.sub(lambda found: chr(ord(found[0]) + 0xFEE0), text)


def check(path, place, value, kind):
    """Raise UserError unless a value is of a kind of KINDS."""
    if not KINDS[kind](value):
        raise UserError(f"{path} is not a result of test.py: {place} is {reprlib.repr(value)}, not {kind}")


def check_fields(path, place, content, fields):
    """Raise UserError unless an object has these fields.

    place: where it stands, "" for the whole file. fields: {name: kind}.
    """
    check(path, place or "the file", content, "an object")
    for name, kind in fields.items():
        field = f"{place}.{name}" if place else name
        if name not in content:
            raise UserError(f"{path} is not a result of test.py: {field} is missing")
        check(path, field, content[name], kind)


def check_document(path, document):
    """Raise UserError unless a document has what its readers rely on."""
    check_fields(path, "", document, DOCUMENT)
    for name, fields in (("weights", WEIGHTS), ("trained", TRAINED)):
        if document.get(name) is not None:  # bicubic has neither
            check_fields(path, name, document[name], fields)
    for place, fields in KNOWN.items():
        found = document
        for name in place.split(".") if place else ():
            found = found.get(name) or {}
        check_fields(path, place, found, {name: kind for name, kind in fields.items() if found.get(name) is not None})
    for number, image in enumerate(document["images"]):
        seconds = {"seconds": "a number of seconds"} if image.get("seconds") is not None else {}
        check_fields(path, f"images[{number}]", image, {"name": "a plain name"} | NUMBERS | seconds)
    check_fields(path, "mean", document["mean"], NUMBERS)
    for number, row in enumerate(document["history"]):
        check_fields(path, f"history[{number}]", row, {"epoch": "a whole number", "val_psnr": "a number"})
    names = [image["name"] for image in document["images"]]
    if len(set(names)) < len(names):
        raise UserError(f"{path} is not a result of test.py: two of its images have the same name")


def with_infinities(document):
    """Return a document in which the PSNRs that are null are infinite."""

    def read(row):
        return {name: math.inf if value is None else value for name, value in row.items()}

    return document | {"images": [read(row) for row in document["images"]], "mean": read(document["mean"])}
