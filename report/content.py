"""The report's tables: each function makes one from the facts, with the phrases of the report's language."""

import json
from itertools import chain
from pathlib import Path

import numpy as np

from data.catalog import TRAIN_SETS
from data.patch_file import prepare_command
from engine.recipe import HELD_OUT
from models import MODELS, model_label
from report.results import FORMER
from report.tables import Table, mark_best
from report.words import NONE, number, short_device, signed

LITERATURE = json.loads((Path(__file__).resolve().parent / "literature.json").read_text(encoding="utf-8"))
LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"


def made(name, say, columns, rows, texts=(), key=None, **values):
    """Return a Table, without the columns in which nothing is known.

    name: of its files. columns: their names, None for those of the phrases. texts: indices of columns that hold words.
    key: of its caption's phrase, which values fill in.
    """
    columns, rows = columns or say.phrase(f"table.{key or name}_columns"), list(rows)
    used = [index for index in range(len(columns)) if index == 0 or any(row[index] != NONE for row in rows)]
    rows = tuple(tuple(row[index] for index in used) for row in rows)
    caption, words = say.phrase(f"table.{key or name}", **values), tuple(columns[index] for index in texts)
    return Table(name, caption, tuple(columns[index] for index in used), rows, words)


def published(model):
    """Return what a network's paper reached on Set5 x4, and with which training set: "31.53 (1.8 M), T91"; or "".

    With the parameters of the paper's network where the one that is built by default is smaller.
    """
    known = LITERATURE["networks"].get(model)
    if not known:
        return ""
    size = f" ({known['parameters'] / 1e6:.1f} M)" if "parameters" in known else ""
    return f"{known['psnr']:.2f}{size}, {known['training_set']}"


def paper_of(network, facts):
    """Return what published() says of a network where the report's test set and scale are the paper's; or ""."""
    same = (facts.dataset, facts.scale) == ("Set5", 4) and network.has_default_options
    return published(network.model) if same else ""


def name_of(network, say):
    """Return a network's label as tables have it: marked where its scores ship with the project."""
    return say.phrase("table.shipped", label=network.label) if network.is_reference else network.label


def with_std(network):
    """Return a network's PSNR, the mean over its seeds with the standard deviation where there are several."""
    return f"{network.psnr:.2f}" + (f" ± {network.std:.2f}" if network.std is not None else "")


CELLS = {  # what a network's cell in a column holds
    "parameters": lambda network: number(network.parameters, "{:,}"),
    "giga": lambda network: number(network.giga, "{:,.1f}"),
    "field": lambda network: number(network.field, "{0}×{0}"),
    "milliseconds": lambda network: number(network.seconds and 1000 * network.seconds, "{:,.0f}"),
    "year": lambda network: network.kind[2] or NONE,
    "device": lambda network: short_device(network.document["device"]),
    "validation": lambda network: number(network.val_psnr),
    "psnr": with_std,
}


def cells(network, names):
    """Return a network's cells in columns of CELLS. names: divided by spaces."""
    return tuple(CELLS[name](network) for name in names.split())


# ---------------------------------------------------------------- data


def patches_of(network):
    """Return what a result says of the patches that a network was trained on; of several scales those of its own."""
    data = network.trained.get("data", {})
    scale = network.document["scale"]
    return next((one for one in data.get("other_scales", ()) if one.get("scale") == scale), data)


def sets_of(facts):
    """Return ({training set: what a result says of it}, {test set: a result document}) of the networks.

    "held_out" are the images that no network saw in training: none under the classroom protocol.
    """
    training, tests = {}, {facts.dataset: facts.networks[0].document}
    for network in facts.networks:
        data = patches_of(network)
        if "dataset" in data:
            found = training.setdefault(data["dataset"], data | {"held_out": []})
            found["held_out"] = found["held_out"] or (data.get("held_out", []) if network.val_set == HELD_OUT else [])
    for network in facts.shown:
        for name, results in network.elsewhere.items():
            tests.setdefault(name, results[0].document)
    return training, tests


def data_table(facts, say):
    """Return the table of the image sets."""
    training, tests = sets_of(facts)
    rows = []
    for name, data in training.items():
        known = TRAIN_SETS.get(name)
        use = say.phrase("table.use_training" if data["held_out"] else "table.use_all", held_out=len(data["held_out"]))
        count, manifest = f"{len(known.images)}" if known else NONE, data.get("manifest", NONE)
        rows.append((name, count, use, f"`{manifest[:12]}`"))
    for name, document in tests.items():
        manifest = f"`{document['dataset_manifest'][:12]}`"
        rows.append((name, f"{len(document['images'])}", say.phrase("table.use_test"), manifest))
    return made("data", say, None, rows, (2, 3))


# ---------------------------------------------------------------- networks and training


def networks_table(facts, say):
    """Return the table of what the networks are and cost; one that was trained in several ways has one row.

    The device is a column where the times were measured on several.
    """
    devices = {short_device(network.document["device"]) for network in facts.shown}
    rows = {}
    for network in facts.shown:
        framework, design, _ = network.kind
        kind = (say.known("framework", framework) or NONE, say.known("design", design) or NONE)
        costs = cells(network, "year parameters giga field milliseconds device")
        row = (name_of(network, say), *kind, *(costs if len(devices) > 1 else (*costs[:-1], NONE)))
        rows.setdefault((network.model, str(network.options), network.colour), row)
    where = say("，", ", ") + devices.pop() if len(devices) == 1 else ""
    return made("networks", say, None, rows.values(), (1, 2, 8), scale=facts.scale, device=where)


def recipe_letters(facts):
    """Return {training: "A", "B", ...} of the recipes of the results table; one recipe needs no letter."""
    return dict(zip(facts.recipes, LETTERS, strict=False)) if len(facts.recipes) > 1 else {}


def shown_value(key, value, say):
    """Return a value of a field of recipe or data as text."""
    if value is None:
        return NONE
    if isinstance(value, bool):
        return say.phrase(f"value.{str(value).lower()}")
    if isinstance(value, str):
        return say.known("value", value)
    if isinstance(value, list):
        return ", ".join(f"{one:g}" for one in value)
    if key in ("recipe.clip", "recipe.average", "recipe.contrast") and not value:
        return say.phrase("value.none")
    return f"{value}×{value}" if key == "data.patch_size" else f"{value:g}"


def recipe_table(facts, say):
    """Return the table of the recipes in the results, a column for each that is different."""
    letters, groups = recipe_letters(facts), list(facts.recipes.values())
    settings = [group[0].settings | {"recipe.precision": group[0].recipe.get("precision")} for group in groups]
    keys = dict.fromkeys(
        key for one in settings for key in one if any(other.get(key) is not None for other in settings)
    )
    settings = [{key: one.get("recipe.augment") and value for key, value in FORMER.items()} | one for one in settings]
    rows = [(say.known("recipe", key), *(shown_value(key, one.get(key), say) for one in settings)) for key in keys]
    item, value, recipe, networks = say.phrase("table.recipe_columns", letter="{letter}")
    if letters:
        rows.insert(0, (networks, *(say.listed(name_of(network, say) for network in group) for group in groups)))
    columns = [item, *([recipe.format(letter=letter) for letter in letters.values()] or [value])]
    return made("recipe", say, columns, rows, range(len(columns)))


def training_table(facts, say):
    """Return the table of the trainings' course, a row for each run."""
    letters, rows = recipe_letters(facts), []
    for network, run in [(one, run) for one in facts.networks for run in one.runs]:
        label = network.label
        if len(network.runs) > 1:
            label = say.phrase("table.with_seed", label=label, seed=run.seed)
        seconds = sum(row.get("seconds", 0) for row in run.document.get("history") or [])
        epochs = f"{run.trained.get('epoch', NONE)} / {run.recipe.get('epochs', 0)}"
        course = number(run.trained.get("val_psnr")), say.duration(seconds) if seconds else NONE
        rows.append(
            (label, letters.get(network.training, NONE), epochs, *course, short_device(run.trained.get("device")))
        )
    return made("training", say, None, rows, (1, 5))


# ---------------------------------------------------------------- results


def results_table(facts, dataset, say):
    """Return the table of PSNR and SSIM on a test set, and what goes with them where it is known."""
    is_main = dataset == facts.dataset
    networks = [network for network in facts.shown if is_main or dataset in network.elsewhere]
    found = [network.runs if is_main else network.elsewhere[dataset] for network in networks]
    images = found[0][0].document["images"]
    base = facts.bicubic
    if not is_main:
        base = {key: np.mean([image[f"bicubic_{key}"] for image in images]) for key in ("psnr", "ssim")}
    rows = [("Bicubic", NONE, f"{base['psnr']:.2f}", f"{base['ssim']:.4f}", *[NONE] * 3)]
    for one in facts.untrained if is_main else ():
        label, psnr = say.phrase("table.untrained", label=one.document["label"]), one.psnr.mean()
        scores = f"{psnr:.2f}", f"{one.ssim.mean():.4f}", signed(psnr - base["psnr"])
        rows.append((label, number(one.document["parameters"], "{:,}"), *scores, NONE, NONE))
    psnrs, ssims = ([float(np.mean([getattr(run, key) for run in runs])) for runs in found] for key in ("psnr", "ssim"))
    texts = [with_std(network) if is_main else f"{psnr:.2f}" for network, psnr in zip(networks, psnrs, strict=True)]
    marked = mark_best(psnrs, texts), mark_best(ssims, [f"{ssim:.4f}" for ssim in ssims])
    for network, psnr, *scores in zip(networks, psnrs, *marked, strict=True):
        further = (ensemble_scores(network), paper_of(network, facts) or NONE) if is_main else (NONE, NONE)
        gain = signed(psnr - base["psnr"])
        rows.append((name_of(network, say), *cells(network, "parameters"), *scores, gain, *further))
    columns, name = say.phrase("table.results_columns"), "results" if is_main else f"further_{dataset}"
    values = {"set": dataset, "scale": facts.scale, "count": len(images)}
    return made(name, say, columns, rows, (6,), "results" if is_main else "further", **values)


def ensemble_scores(network):
    """Return PSNR and SSIM with self-ensemble, means over the runs, in one cell."""
    if not network.ensembles:
        return NONE
    psnr, ssim = (np.mean([getattr(run, key).mean() for run in network.ensembles]) for key in ("psnr", "ssim"))
    return f"{psnr:.2f} / {ssim:.4f}"


def images_table(facts, quantity, say):
    """Return the scores of each test image, in columns where they are few. quantity: "psnr" or "ssim"."""
    form, title = {"psnr": ("{:.2f}", "PSNR (dB)"), "ssim": ("{:.4f}", "SSIM")}[quantity]
    names, network, image = [one["name"] for one in facts.images], *say.phrase("table.images_columns")
    labels = ["Bicubic", *(name_of(network, say) for network in facts.shown)]
    values = [[one[quantity] for one in facts.images], *(getattr(n, f"image_{quantity}") for n in facts.shown)]
    by_image = [mark_best(list(column), list(map(form.format, column))) for column in zip(*values, strict=True)]
    if len(names) <= 6:
        columns, rows = [network, *names], zip(labels, *by_image, strict=True)
    else:
        columns, rows = [image, *labels], [(name, *cells) for name, cells in zip(names, by_image, strict=True)]
    caption = {"set": facts.dataset, "scale": facts.scale, "quantity": title}
    return made(f"images_{quantity}", say, columns, rows, key="images", **caption)


# ---------------------------------------------------------------- comparisons


def group_table(members, field, name, say):
    """Return the table of networks that differ in one field alone."""
    first = members[0]
    columns = "parameters giga validation psnr"
    rows = [
        (shown_value(field, n.fields[field], say), *cells(n, columns), signed(n.psnr - first.psnr)) for n in members
    ]
    rest = {name: value for name, value in first.options.items() if name != field}
    network = model_label(first.model, rest) if first.model in MODELS else first.name
    option = say.known("recipe", field)
    columns = [option, *say.phrase("table.option_columns")]
    return made(name, say, columns, rows, key="option", network=network, option=option)


# ---------------------------------------------------------------- where the numbers come from


def commands_table(facts, kind, say):
    """Return the table of the commands that trained or scored the networks; equal ones share a row.

    kind: "training" or "scoring".
    """
    groups = {}
    scored = [
        (name_of(network, say), [*network.runs, *network.ensembles, *chain.from_iterable(network.elsewhere.values())])
        for network in facts.shown
    ]
    if kind == "scoring":
        scored += [(one.document["label"], [one]) for one in facts.untrained]
    for name, runs in scored:
        for run in runs:
            source = run.trained if kind == "training" else run.document
            commands = [*prepared_by(run)] * (kind == "training") + [source.get("command") or NONE]
            versions = source.get("versions") or {}
            torch = [f"torch {versions['torch']}"] if "torch" in versions else []
            where = say("，", ", ").join([short_device(source.get("device")), *torch])
            commit = f"`{(source.get('commit') or NONE)[:10]}{'' if source.get('clean', True) else '*'}`"
            row = ("<br>".join(f"`{command}`" for command in commands), where, commit)
            groups.setdefault(row, {})[name] = None
    rows = [(say.listed(labels), *row) for row, labels in groups.items()]
    return made(f"commands_{kind}", say, say.phrase("table.commands_columns"), rows, (1, 2, 3))


def prepared_by(run):
    """Yield the commands that made a run's patches, one for each of its scales; none where they are not known."""
    data = run.trained.get("data", {})
    if data.get("dataset") not in TRAIN_SETS or not {"patch_size", "stride"} <= {*data}:
        return
    for one in (data, *data.get("other_scales", ())):
        how = (one["patch_size"], one["stride"], tuple(one.get("copies", (1.0,))))
        scale = one.get("scale", run.document["scale"])
        yield prepare_command(data["dataset"], scale, data.get("colour", "y"), *how)
