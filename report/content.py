"""The report's tables: each function makes one from the facts, with the phrases of the report's language."""

import json
from pathlib import Path

from data.catalog import TEST_SETS, TRAIN_SETS
from data.patch_file import prepare_command
from models import MODELS, non_default_options
from models.listing import by_kind
from report.tables import Table, mark_best
from report.words import NONE, number, short_device, signed

LITERATURE = json.loads((Path(__file__).resolve().parent / "literature.json").read_text(encoding="utf-8"))
KIND = ("framework", "design")
LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
HIDDEN = {"started_from", "data.held_out", "data.manifest", "data.format", "data.format_version"}
HIDDEN |= {"data.scale", "data.colour", "data.content", "data.other_scales"}


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


def paper_of(network, dataset, scale):
    """Return the PSNR in dB that the paper states for a network on a test set; None where that is not known."""
    key = {"Set5": "psnr", "Set14": "second_psnr"}.get(dataset)
    known = LITERATURE["networks"].get(network.model, {})
    return known.get(key) if scale == 4 and network.has_default_options and not paper_is_larger(network.model) else None


def paper_is_larger(model):
    """Return whether the paper's value is of a larger network than is built by default, whose size then is known."""
    return "parameters" in LITERATURE["networks"].get(model, {})


def published(model):
    """Return what a network's paper reached on Set5 x4, and with which training set: "31.53 (1.8 M), T91"; or "".

    With the parameters of the paper's network where the one that is built by default is smaller.
    """
    known = LITERATURE["networks"].get(model)
    if not known:
        return ""
    size = f" ({known['parameters'] / 1e6:.1f} M)" if paper_is_larger(model) else ""
    return f"{known['psnr']:.2f}{size}, {known['training_set']}"


def name_of(network, say):
    """Return a network's label as tables have it: marked where its scores ship with the project."""
    return say.phrase("table.shipped", label=network.label) if network.is_reference else network.label


def with_std(network):
    """Return a network's PSNR, the mean over its seeds with the standard deviation where there are several."""
    return f"{network.psnr:.2f}" + (f" ± {network.std:.2f}" if network.std is not None else "")


CELLS = {  # what a network's cell in a column holds
    "label": lambda network: network.label,
    "parameters": lambda network: number(network.parameters, "{:,}"),
    "giga": lambda network: number(network.giga, "{:,.1f}"),
    "field": lambda network: number(network.field, "{0}×{0}"),
    "milliseconds": lambda network: number(network.seconds and 1000 * network.seconds, "{:,.0f}"),
    "year": lambda network: network.kind[2] or NONE,
    "device": lambda network: short_device(network.document["device"]),
    "validation": lambda network: number(network.trained.get("val_psnr")),
    "psnr": with_std,
}


def cells(network, names):
    """Return a network's cells in columns of CELLS. names: divided by spaces."""
    return tuple(CELLS[name](network) for name in names.split())


# ---------------------------------------------------------------- data


def sets_of(facts):
    """Return ({training set: what a result says of it}, {test set: a result document}) of the networks."""
    training, tests = {}, {facts.dataset: facts.networks[0].document}
    for network in facts.networks:
        if "dataset" in network.trained.get("data", {}):
            training.setdefault(network.trained["data"]["dataset"], network.trained["data"])
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
        use = say.phrase("table.use_training", held_out=len(data.get("held_out", ())))
        count = f"{len(known.images)}" if known else NONE
        rows.append((name, count, megapixels(known), use, f"`{data.get('manifest', NONE)[:12]}`"))
    for name, document in tests.items():
        use, manifest = say.phrase("table.use_test"), f"`{document['dataset_manifest'][:12]}`"
        rows.append((name, f"{len(document['images'])}", megapixels(TEST_SETS.get(name)), use, manifest))
    return made("data", say, None, rows, (3, 4))


def megapixels(image_set):
    """Return a catalogued set's size as text."""
    return number(image_set and sum(image.width * image.height for image in image_set.images) / 1e6)


# ---------------------------------------------------------------- networks and training


def networks_table(facts, say):
    """Return the table of what the networks are; one that was trained in several ways has one row."""
    rows = {}
    for network in facts.networks:
        options = say.listed(f"{option}={value}" for option, value in network.options.items()) or NONE
        where = say.known("framework", network.kind[0]) or NONE
        row = (*cells(network, "label parameters giga field"), where, options)
        rows.setdefault((network.model, options), row)
    return made("networks", say, None, rows.values(), (4, 5), scale=facts.scale)


def recipe_letters(facts):
    """Return {training: "A", "B", ...} of the recipes of the results table; one recipe needs no letter."""
    return dict(zip(facts.recipes, LETTERS, strict=False)) if len(facts.recipes) > 1 else {}


def field_name(key, say):
    """Return what a field of recipe or data is called."""
    return say.known("recipe", key)


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


def settings_of(network):
    """Return {field: value} of how a network was trained, without seed, hashes and names of images."""
    return {key: value for key, value in network.runs[0].training.items() if key not in HIDDEN}


def recipe_table(facts, say):
    """Return the table of the recipes in the results, a column for each that is different."""
    letters, groups = recipe_letters(facts), list(facts.recipes.values())
    settings = [settings_of(group[0]) | {"recipe.precision": group[0].recipe.get("precision")} for group in groups]
    keys = dict.fromkeys(
        key for one in settings for key in one if any(other.get(key) is not None for other in settings)
    )
    rows = [(field_name(key, say), *(shown_value(key, one.get(key), say) for one in settings)) for key in keys]
    item, value, recipe, networks = say.phrase("table.recipe_columns", letter="{letter}")
    if letters:
        rows.insert(0, (networks, *(say.listed(name_of(network, say) for network in group) for group in groups)))
    columns = [item, *([recipe.format(letter=letter) for letter in letters.values()] or [value])]
    return made("recipe", say, columns, rows, range(len(columns)))


def training_table(facts, say):
    """Return the table of the trainings' course, a row for each run."""
    letters, rows = recipe_letters(facts), []
    for network in facts.networks:
        for run in network.runs:
            history, epochs = run.document.get("history") or [], run.recipe.get("epochs", 0)
            steps = network.steps_per_epoch and network.steps_per_epoch * (len(history) or epochs)
            seconds = sum(row.get("seconds", 0) for row in history)
            many = len(network.runs) > 1
            row = (
                say.phrase("table.with_seed", label=network.label, seed=run.seed) if many else network.label,
                letters.get(network.training, NONE),
                f"{run.trained.get('epoch', NONE)} / {epochs}",
                number(steps, "{:,}"),
                number(run.trained.get("val_psnr")),
                say.duration(seconds) if seconds else NONE,
                short_device(run.trained.get("device")),
            )
            rows.append(row)
    return made("training", say, None, rows, (1, 6))


# ---------------------------------------------------------------- results


def scored(name, facts, networks, results, bicubic, say, key, **values):
    """Return a table of results on a test set. results: (PSNR in dB, its text, SSIM) of each network."""
    psnrs = mark_best([psnr for psnr, _, _ in results], [text for _, text, _ in results])
    ssims = mark_best([ssim for *_, ssim in results], [f"{ssim:.4f}" for *_, ssim in results])
    rows = [["Bicubic", NONE, f"{bicubic['psnr']:.2f}", f"{bicubic['ssim']:.4f}", NONE, NONE, NONE]]
    for one in facts.untrained if key == "results" else ():
        label, psnr = say.phrase("table.untrained", label=one.document["label"]), one.psnr.mean()
        scores = (f"{psnr:.2f}", f"{one.ssim.mean():.4f}", signed(psnr - bicubic["psnr"]))
        rows.append([label, number(one.document["parameters"], "{:,}"), *scores, NONE, NONE])
    for network, (psnr, *_), *marked in zip(networks, results, psnrs, ssims, strict=True):
        ensemble = ensemble_scores(network) if key == "results" else NONE
        paper = number(paper_of(network, values["set"], facts.scale))
        sizes = (name_of(network, say), *cells(network, "parameters"))
        rows.append([*sizes, *marked, signed(psnr - bicubic["psnr"]), ensemble, paper])
    columns = say.phrase("table.results_columns")
    return made(name, say, columns, rows, key=key, scale=facts.scale, **values)


def results_table(facts, say):
    """Return the main table: PSNR and SSIM on the test set, and what goes with them where it is known."""
    results = [(network.psnr, with_std(network), network.ssim) for network in facts.shown]
    return scored("results", facts, facts.shown, results, facts.bicubic, say, "results", set=facts.dataset)


def ensemble_scores(network):
    """Return PSNR and SSIM with self-ensemble, means over the runs, in one cell."""
    if not network.ensembles:
        return NONE
    psnr, ssim = (sum(getattr(run, key).mean() for run in network.ensembles) for key in ("psnr", "ssim"))
    return f"{psnr / len(network.ensembles):.2f} / {ssim / len(network.ensembles):.4f}"


def further_table(facts, dataset, say):
    """Return the table of the results on another test set."""
    networks = [network for network in facts.shown if dataset in network.elsewhere]
    found = [network.elsewhere[dataset][0] for network in networks]
    results = [(result.psnr.mean(), f"{result.psnr.mean():.2f}", result.ssim.mean()) for result in found]
    images = found[0].document["images"]
    bicubic = {key: sum(image[f"bicubic_{key}"] for image in images) / len(images) for key in ("psnr", "ssim")}
    values = {"set": dataset, "count": len(images)}
    return scored(f"further_{dataset}", facts, networks, results, bicubic, say, "further", **values)


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


def map_table(facts, say):
    """Return the table of all networks by framework and design: what they cost, what they reach, and what the paper.

    The device is a column where the times were measured on several.
    """
    order = by_kind()
    networks = sorted(facts.shown, key=lambda network: order.index(network.model) if network.model in order else 99)
    devices = {short_device(network.document["device"]) for network in networks}
    rows = []
    for network in networks:
        kind = [say.known(word, name) or NONE for word, name in zip(KIND, network.kind, strict=False)]
        costs = cells(network, "year parameters giga milliseconds")
        device, psnr = cells(network, "device psnr")
        paper = published(network.model) if (facts.dataset, facts.scale) == ("Set5", 4) else ""
        rows.append((name_of(network, say), *kind, *costs, device if len(devices) > 1 else NONE, psnr, paper or NONE))
    where = say.listed([facts.dataset, *(devices if len(devices) == 1 else ())])
    return made("map", say, None, rows, (1, 2, 7, 9), set=where)


# ---------------------------------------------------------------- comparisons


def option_table(members, option, name, say):
    """Return the table of networks that differ in one option."""
    first = members[0]
    columns = "parameters giga validation psnr"
    rows = [(f"{n.options[option]}", *cells(n, columns), signed(n.psnr - first.psnr)) for n in members]
    others = non_default_options(first.model, first.options) if first.model in MODELS else first.options
    notes = ", ".join(f"{key}={value}" for key, value in others.items() if key != option)
    network = first.name + (f" ({notes})" if notes else "")
    columns = [option, *say.phrase("table.option_columns")]
    return made(name, say, columns, rows, key="option", network=network, option=option)


def recipe_differences(members):
    """Return the fields of recipe and data in which networks were trained differently."""
    settings = [settings_of(network) for network in members]
    keys = dict.fromkeys(key for one in settings for key in one)
    return [key for key in keys if len({json.dumps(one.get(key)) for one in settings}) > 1]


def recipes_compared_table(members, name, say):
    """Return the table of one network that was trained in different ways."""
    keys, (result, *scores) = recipe_differences(members), say.phrase("table.recipes_columns")
    rows = []
    for network in members:
        values = [shown_value(key, settings_of(network).get(key), say) for key in keys]
        rows.append((network.label, *values, *cells(network, "validation psnr")))
    columns = [result, *(field_name(key, say) for key in keys), *scores]
    words = range(1, 1 + len(keys))
    return made(name, say, columns, rows, words, key="recipes", network=members[0].name)


def seeds_table(facts, say):
    """Return the table of networks that were trained with several seeds."""
    rows = [
        (
            network.label,
            say.listed(str(run.seed) for run in network.runs),
            f"{network.recipe.get('epochs', NONE)}",
            f"{network.psnr:.2f} ± {network.std:.3f}",
            f"{network.psnrs.min():.2f}–{network.psnrs.max():.2f}",
        )
        for network in facts.repeated
    ]
    return made("seeds", say, None, rows, (1,))


# ---------------------------------------------------------------- where the numbers come from


def commands_table(facts, kind, say):
    """Return the table of the commands that trained or scored the networks; equal ones share a row.

    kind: "training" or "scoring".
    """
    groups = {}
    for network in facts.shown:
        for run in network.every_run:
            source = run.trained if kind == "training" else run.document
            commands = [prepared_by(run)] * (kind == "training") + [source.get("command") or NONE]
            versions = source.get("versions") or {}
            torch = [f"torch {versions['torch']}"] if "torch" in versions else []
            where = say("，", ", ").join([short_device(source.get("device")), *torch])
            commit = f"`{(source.get('commit') or NONE)[:10]}{'' if source.get('clean', True) else '*'}`"
            row = ("<br>".join(f"`{command}`" for command in commands if command), where, commit)
            groups.setdefault(row, {})[name_of(network, say)] = None
    rows = [(say.listed(labels), *row) for row, labels in groups.items()]
    return made(f"commands_{kind}", say, say.phrase("table.commands_columns"), rows, (1, 2, 3))


def prepared_by(run):
    """Return the command that made a run's patches, "" where that is not known."""
    data = run.trained.get("data", {})
    if data.get("dataset") not in TRAIN_SETS or not {"patch_size", "stride"} <= {*data}:
        return ""
    how = (data["patch_size"], data["stride"], tuple(data.get("copies", (1.0,))))
    return prepare_command(data["dataset"], run.document["scale"], data.get("colour", "y"), *how)
