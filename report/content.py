"""The report's tables: each function makes one from the facts, in the report's language."""

import json
from pathlib import Path

from data.catalog import TEST_SETS, TRAIN_SETS
from data.patches import prepare_command
from engine.recipe import HELD_OUT
from models import non_default_options
from report.facts import MODELS, enlarges_first
from report.result_files import training_of
from report.tables import Table, mark_best
from report.words import NONE, number, short_device, signed

LITERATURE = json.loads((Path(__file__).resolve().parent / "literature.json").read_text(encoding="utf-8"))
LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"


def paper_of(network, dataset, scale):
    """Return what the paper states for a network on a test set at x4: its PSNR in dB; None where that is not known."""
    key = {"Set5": "psnr", "Set14": "second_psnr"}.get(dataset)
    known = LITERATURE["networks"].get(network.model, {})
    return known.get(key) if scale == 4 and network.has_default_options else None


def name_of(network, say):
    """Return a network's label as tables have it: marked where its scores ship with the project."""
    return network.label + (say("（随附）", " (shipped)") if network.is_reference else "")


def recipe_names(facts):
    """Return {training: "A", "B", ...} of the recipes of the results table; one recipe needs no letter."""
    return dict(zip(facts.recipes, LETTERS, strict=False)) if len(facts.recipes) > 1 else {}


def with_std(network, say):
    """Return a network's PSNR, the mean over its seeds with the standard deviation where there are several."""
    return f"{network.psnr:.2f}" + (f" ± {network.std:.2f}" if network.std is not None else "")


# ---------------------------------------------------------------- data


def sets_of(facts):
    """Return ({training set: its networks' data}, {test set: number of images}) in the results."""
    training, tests = {}, {facts.dataset: facts.networks[0].document}
    for network in facts.everything:
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
        known, held_out = TRAIN_SETS.get(name), len(data.get("held_out", ()))
        count = len(known.images) if known else None
        use = say(f"训练；其中 {held_out} 幅留作验证集", f"training; {held_out} of them held out")
        rows.append((name, number(count, "{}"), megapixels(known), use, f"`{data.get('manifest', NONE)[:12]}`"))
    for name, document in tests.items():
        manifest = f"`{document['dataset_manifest'][:12]}`"
        use = say("测试", "test")
        rows.append((name, f"{len(document['images'])}", megapixels(TEST_SETS.get(name)), use, manifest))
    columns = say(
        ("数据集", "图像数", "百万像素", "用途", "像素清单 SHA-256"),
        ("set", "images", "megapixels", "use", "SHA-256 of the pixels"),
    )
    return Table("data", say("数据集", "Image sets"), columns, tuple(rows), columns[3:])


def megapixels(image_set):
    """Return a catalogued set's size as text."""
    pixels = image_set and sum(image.width * image.height for image in image_set.images) / 1e6
    return number(pixels)


def held_out_table(name, scores, say):
    """Return the table of bicubic's scores on the held-out images. scores: [{"name", "psnr", "ssim"}]."""
    sizes = {image.name: f"{image.width}×{image.height}" for image in TRAIN_SETS[name].images}
    rows = [(row["name"], sizes[row["name"]], f"{row['psnr']:.2f}", f"{row['ssim']:.4f}") for row in scores]
    means = [sum(row[key] for row in scores) / len(scores) for key in ("psnr", "ssim")]
    rows.append((say("平均", "mean"), "", f"{means[0]:.2f}", f"{means[1]:.4f}"))
    columns = say(("图像", "大小", "PSNR (dB)", "SSIM"), ("image", "size", "PSNR (dB)", "SSIM"))
    caption = say(f"{name} 的验证集图像与双三次插值的得分", f"Held-out images of {name} and bicubic's scores on them")
    return Table("held_out", caption, columns, tuple(rows))


# ---------------------------------------------------------------- networks and training


def networks_table(facts, say):
    """Return the table of what the networks are."""
    rows = []
    for network in unlike(facts.networks):
        first = enlarges_first(network)
        where = {True: say("输入端（双三次）", "input (bicubic)"), False: say("网络末端", "end of the network")}
        side = network.field
        rows.append(
            (
                network.label,
                number(network.parameters, "{:,}"),
                number(network.giga, "{:,.1f}"),
                f"{side}×{side}" if side else NONE,
                where.get(first, NONE),
                say("，", ", ").join(f"{option}={value}" for option, value in network.options.items()) or NONE,
            )
        )
    columns = say(
        ("网络", "参数量", "乘加次数 (G)", "感受野 (LR 像素)", "放大位置", "选项"),
        ("network", "parameters", "multiply-adds (G)", "receptive field (LR px)", "enlarges at", "options"),
    )
    caption = say(
        f"网络的规模（×{facts.scale}；乘加次数按 1280×720 的输出计算）",
        f"Size of the networks (×{facts.scale}; multiply-adds for an output of 1280×720)",
    )
    return Table("networks", caption, columns, tuple(rows), columns[4:])


def unlike(networks):
    """Return the first of the networks with each model and options."""
    return list({(n.model, json.dumps(n.options, sort_keys=True)): n for n in reversed(networks)}.values())[::-1]


def recipe_fields(say):
    """Return {field of recipe or data: (name, how to show a value)} of what is known; others show as they are."""
    yes = {True: say("有", "yes"), False: say("无", "no")}
    loss = {"mse": say("均方误差 (MSE)", "mean squared error"), "l1": "L1", "charbonnier": "Charbonnier"}
    schedule = {"cosine": say("余弦降到 0 (cosine)", "cosine to 0"), "constant": say("不变", "constant")}
    none = say("无", "none")
    size = say("图像块大小（HR 像素）", "patch size (HR px)")
    return {
        "data.dataset": (say("训练集", "training set"), str),
        "data.patch_size": (size, lambda value: f"{value}×{value}"),
        "data.stride": (say("图像块步长 (stride)", "stride of the patches"), str),
        "data.copies": (say("缩小副本的倍数", "scaled copies"), lambda value: ", ".join(f"{one:g}" for one in value)),
        "recipe.epochs": (say("轮数 (epochs)", "epochs"), str),
        "recipe.loss": (say("损失函数", "loss"), lambda value: loss.get(value, value)),
        "recipe.batch_size": (say("每步图像块数 (batch size)", "batch size"), str),
        "recipe.learning_rate": (say("Adam 的学习率", "Adam's learning rate"), "{:g}".format),
        "recipe.schedule": (say("学习率曲线", "schedule"), lambda value: schedule.get(value, value)),
        "recipe.warmup": (say("预热步数 (warm-up)", "warm-up steps"), str),
        "recipe.clip": (
            say("梯度范数上限 (clipping)", "bound of the gradient's norm"),
            lambda v: f"{v:g}" if v else none,
        ),
        "recipe.centralize": (say("梯度去均值 (centralization)", "gradient centralization"), yes.get),
        "recipe.average": (say("权重指数平均 (EMA)", "average of the weights"), lambda v: f"{v:g}" if v else none),
        "recipe.augment": (say("翻转与旋转 (augmentation)", "flips and turns"), yes.get),
        "recipe.negatives": (say("负片 (1 − x)", "negatives (1 − x)"), yes.get),
        "recipe.contrast": (
            say("提高对比度的图像块", "patches of raised contrast"),
            lambda v: f"{v:.0%}" if v else none,
        ),
        "recipe.val_set": (
            say("选择轮次的图像", "best epoch chosen on"),
            lambda v: say("验证集", HELD_OUT) if v == HELD_OUT else v,
        ),
        "recipe.freeze_bn": (say("固定 BN 统计量", "batch norm frozen"), yes.get),
        "recipe.precision": (say("卷积精度", "precision"), str),
    }


def shown_field(fields, key, value):
    """Return a value of a recipe's field as text."""
    if value is None:
        return NONE
    return str(fields[key][1](value)) if key in fields else json.dumps(value, ensure_ascii=False).strip('"')


def settings_of(network):
    """Return {field: value} of how a network was trained, without seed, held-out names and hashes."""
    hidden = ("held_out", "manifest", "format", "format_version", "scale", "colour", "hash", "content", "sha256")
    fields = {key: value for key, value in training_of(network.document).items() if key not in ("started_from",)}
    return {key: value for key, value in fields.items() if key.rpartition(".")[2] not in hidden}


def recipe_table(facts, say):
    """Return the table of the recipes in the results, a column for each that is different."""
    fields, letters = recipe_fields(say), recipe_names(facts)
    columns = [settings_of(members[0]) | {"recipe.precision": members[0].recipe.get("precision")}
               for members in facts.recipes.values()]  # fmt: skip
    known = [key for key in fields if any(column.get(key) is not None for column in columns)]
    other = [key for column in columns for key in column if key not in fields]
    keys = [*known, *dict.fromkeys(other)]
    rows = [
        (fields[key][0] if key in fields else key, *(shown_field(fields, key, column.get(key)) for column in columns))
        for key in keys
        if key != "recipe.freeze_bn" or any(column.get(key) for column in columns)
    ]
    if letters:
        trained = (say("、", ", ").join(name_of(n, say) for n in members) for members in facts.recipes.values())
        rows.insert(0, (say("网络", "networks"), *trained))
    heads = [letters.get(training, say("取值", "value")) for training in facts.recipes]
    heads = [say(f"方案 {head}", f"recipe {head}") if letters else head for head in heads]
    header = (say("项目", "item"), *heads)
    return Table("recipe", say("训练方案", "How the networks were trained"), header, tuple(rows), header)


def training_table(facts, say):
    """Return the table of the trainings' course."""
    letters, rows = recipe_names(facts), []
    for network in facts.networks:
        for run in network.runs:
            trained, history = run.trained, run.document.get("history") or []
            steps = network.steps_per_epoch and network.steps_per_epoch * (len(history) or run.recipe.get("epochs", 0))
            seconds = sum(row.get("seconds", 0) for row in history)
            label = network.label + (say(f"，种子 {run.seed}", f", seed {run.seed}") if len(network.runs) > 1 else "")
            rows.append(
                (
                    label,
                    *([letters[network.training]] if letters else []),
                    f"{trained.get('epoch', NONE)} / {run.recipe.get('epochs', NONE)}",
                    number(steps, "{:,}"),
                    number(trained.get("val_psnr")),
                    say.duration(seconds) if seconds else NONE,
                    short_device(trained.get("device")),
                )
            )
    middle = [say("方案", "recipe")] if letters else []
    columns = (
        say("网络", "network"), *middle, say("最佳 / 计划轮数", "best / planned epochs"), say("步数", "steps"),
        say("验证 PSNR (dB)", "validation PSNR (dB)"), say("用时", "time"), say("设备", "device"),
    )  # fmt: skip
    caption = say("训练概况（用时为各轮之和）", "Course of the trainings (time: the sum over epochs)")
    return Table("training", caption, columns, tuple(rows), (*middle, columns[-1]))


# ---------------------------------------------------------------- results


def results_table(facts, say):
    """Return the main table: PSNR and SSIM on the test set, and what goes with them where it is known."""
    papers = [paper_of(network, facts.dataset, facts.scale) for network in facts.shown]
    has_ensembles = any(network.ensembles for network in facts.shown)
    psnrs = mark_best([n.psnr for n in facts.shown], [with_std(n, say) for n in facts.shown])
    ssims = mark_best([n.ssim for n in facts.shown], [f"{n.ssim:.4f}" for n in facts.shown])
    blank = [NONE] * (has_ensembles + any(papers))
    rows = [("Bicubic", NONE, f"{facts.bicubic['psnr']:.2f}", f"{facts.bicubic['ssim']:.4f}", NONE, *blank)]
    for network, psnr, ssim, paper in zip(facts.shown, psnrs, ssims, papers, strict=True):
        ensemble = ensemble_scores(network)
        rows.append(
            (
                name_of(network, say),
                number(network.parameters, "{:,}"),
                psnr,
                ssim,
                signed(network.psnr - facts.bicubic["psnr"]),
                *([ensemble] if has_ensembles else []),
                *([number(paper)] if any(papers) else []),
            )
        )
    columns = [
        say("网络", "network"),
        say("参数量", "parameters"),
        "PSNR (dB)",
        "SSIM",
        say("比双三次 (dB)", "gain (dB)"),
    ]
    columns += [say("自集成 PSNR / SSIM", "self-ensemble PSNR / SSIM")] * has_ensembles
    columns += [say("论文 PSNR (dB)", "paper's PSNR (dB)")] * any(papers)
    caption = say(
        f"{facts.dataset} ×{facts.scale} 的平均 PSNR 与 SSIM", f"Mean PSNR and SSIM on {facts.dataset} ×{facts.scale}"
    )
    return Table("results", caption, tuple(columns), tuple(rows))


def ensemble_scores(network):
    """Return PSNR and SSIM with self-ensemble, means over the runs, in one cell."""
    if not network.ensembles:
        return NONE
    psnrs, ssims = zip(*((run.psnr.mean(), run.ssim.mean()) for run in network.ensembles), strict=True)
    return f"{sum(psnrs) / len(psnrs):.2f} / {sum(ssims) / len(ssims):.4f}"


def further_table(facts, dataset, say):
    """Return the table of the results on another test set."""
    networks = [network for network in facts.shown if dataset in network.elsewhere]
    scores = [(r.psnr.mean(), r.ssim.mean()) for network in networks for r in network.elsewhere[dataset][:1]]
    papers = [paper_of(network, dataset, facts.scale) for network in networks]
    images = networks[0].elsewhere[dataset][0].document["images"]
    bicubic = [sum(image[key] for image in images) / len(images) for key in ("bicubic_psnr", "bicubic_ssim")]
    psnrs = mark_best([psnr for psnr, _ in scores], [f"{psnr:.2f}" for psnr, _ in scores])
    ssims = mark_best([ssim for _, ssim in scores], [f"{ssim:.4f}" for _, ssim in scores])
    rows = [("Bicubic", f"{bicubic[0]:.2f}", f"{bicubic[1]:.4f}", NONE, *[NONE] * any(papers))]
    for network, psnr, ssim, (value, _), paper in zip(networks, psnrs, ssims, scores, papers, strict=True):
        cells = (psnr, ssim, signed(value - bicubic[0]), *([number(paper)] if any(papers) else []))
        rows.append((name_of(network, say), *cells))
    columns = [say("网络", "network"), "PSNR (dB)", "SSIM", say("比双三次 (dB)", "gain (dB)")]
    columns += [say("论文 PSNR (dB)", "paper's PSNR (dB)")] * any(papers)
    caption = say(
        f"{dataset} ×{facts.scale}（{len(images)} 幅）的平均 PSNR 与 SSIM",
        f"Mean PSNR and SSIM on {dataset} ×{facts.scale} ({len(images)} images)",
    )
    return Table(f"further_{dataset}", caption, tuple(columns), tuple(rows))


def images_table(facts, quantity, say):
    """Return the scores of each test image, in the longer direction the images. quantity: "psnr" or "ssim"."""
    form, title = {"psnr": ("{:.2f}", "PSNR (dB)"), "ssim": ("{:.4f}", "SSIM")}[quantity]
    names = [image["name"] for image in facts.images]
    values = [("Bicubic", [image[quantity] for image in facts.images])]
    values += [(name_of(network, say), list(getattr(network, f"image_{quantity}"))) for network in facts.shown]
    best = [max(column) for column in zip(*(row for _, row in values), strict=True)]
    cells = [
        [
            mark_best([value, top], [form.format(value), form.format(top)])[0]
            for value, top in zip(row, best, strict=True)
        ]
        for _, row in values
    ]
    if len(names) <= 6:
        columns = (say("网络", "network"), *names)
        rows = [(label, *row) for (label, _), row in zip(values, cells, strict=True)]
    else:
        columns = (say("图像", "image"), *(label for label, _ in values))
        rows = list(zip(names, *cells, strict=True))
    caption = say(
        f"{facts.dataset} ×{facts.scale} 逐图的 {title}", f"{title} of each image of {facts.dataset} ×{facts.scale}"
    )
    return Table(f"images_{quantity}", caption, columns, tuple(rows))


def costs_table(facts, say):
    """Return the table of accuracy beside what it costs."""
    rows = [
        (
            network.label,
            number(network.parameters, "{:,}"),
            number(network.giga, "{:,.1f}"),
            number(network.seconds and 1000 * network.seconds, "{:,.0f}"),
            short_device(network.document["device"]),
            f"{network.psnr:.2f}",
        )
        for network in facts.networks
    ]
    columns = say(
        ("网络", "参数量", "乘加次数 (G)", "每幅用时 (ms)", "设备", "PSNR (dB)"),
        ("network", "parameters", "multiply-adds (G)", "time per image (ms)", "device", "PSNR (dB)"),
    )
    caption = say(
        f"精度与代价（用时为评分时在 {facts.dataset} 上测得的平均值）",
        f"Accuracy and costs (time: the mean measured on {facts.dataset} when it was scored)",
    )
    return Table("costs", caption, columns, tuple(rows), columns[4:5])


# ---------------------------------------------------------------- comparisons


def option_table(members, option, name, say):
    """Return the table of networks that differ in one option."""
    first = members[0]
    rows = [
        (
            f"{n.options[option]}",
            number(n.parameters, "{:,}"),
            number(n.giga, "{:,.1f}"),
            number(n.trained.get("val_psnr")),
            with_std(n, say),
            signed(n.psnr - first.psnr),
        )
        for n in members
    ]
    columns = (
        option, say("参数量", "parameters"), say("乘加次数 (G)", "multiply-adds (G)"),
        say("验证 PSNR (dB)", "validation PSNR (dB)"), "PSNR (dB)", say("相差 (dB)", "difference (dB)"),
    )  # fmt: skip
    others = {key: value for key, value in non_default(first).items() if key != option}
    notes = "，".join(f"{key}={value}" for key, value in others.items())
    network = MODELS[first.model].__name__ if first.model in MODELS else first.model
    title = network + (f"（{notes}）" if notes else "")
    caption = say(f"{title}：只改变 {option}", f"{title}: only {option} differs")
    return Table(name, caption, columns, tuple(rows))


def non_default(network):
    """Return the options of a network that differ from the defaults."""
    return non_default_options(network.model, network.options) if network.model in MODELS else network.options


def recipe_differences(members):
    """Return the fields of recipe and data in which networks were trained differently."""
    settings = [settings_of(network) for network in members]
    keys = dict.fromkeys(key for setting in settings for key in setting)
    return [key for key in keys if len({json.dumps(setting.get(key)) for setting in settings}) > 1]


def recipes_compared_table(members, name, say):
    """Return the table of one network that was trained in different ways."""
    fields, keys = recipe_fields(say), recipe_differences(members)
    rows = []
    for network in members:
        settings = settings_of(network)
        values = [shown_field(fields, key, settings.get(key)) for key in keys]
        rows.append((network.label, *values, number(network.trained.get("val_psnr")), with_std(network, say)))
    heads = [fields[key][0] if key in fields else key for key in keys]
    columns = (say("结果", "result"), *heads, say("验证 PSNR (dB)", "validation PSNR (dB)"), "PSNR (dB)")
    label = members[0].label.partition(" [")[0].partition(" (")[0]
    caption = say(f"{label}：同一网络，不同的训练", f"{label}: the same network, trained differently")
    return Table(name, caption, columns, tuple(rows), tuple(heads))


def seeds_table(facts, say):
    """Return the table of networks that were trained with several seeds."""
    rows = [
        (
            network.label,
            say("、", ", ").join(str(run.seed) for run in network.runs),
            f"{network.recipe.get('epochs', NONE)}",
            f"{network.psnr:.2f} ± {network.std:.3f}",
            f"{network.psnrs.min():.2f}–{network.psnrs.max():.2f}",
        )
        for network in facts.repeated
    ]
    columns = say(
        ("网络", "种子 (seed)", "轮数", "PSNR (dB)，均值 ± 标准差", "范围 (dB)"),
        ("network", "seeds", "epochs", "PSNR (dB), mean ± std", "range (dB)"),
    )
    return Table(
        "seeds",
        say("只换随机种子的训练", "Trainings that differ by the seed alone"),
        columns,
        tuple(rows),
        columns[1:2],
    )


# ---------------------------------------------------------------- where the numbers come from


def commands_table(facts, kind, say):
    """Return the table of the commands that trained the networks, or scored them; equal ones share a row.

    kind: "training" or "scoring".
    """
    groups = {}
    for network in [*facts.everything, *facts.references]:
        for run in [*network.runs, *network.ensembles, *(r for results in network.elsewhere.values() for r in results)]:
            source = run.trained if kind == "training" else run.document
            command = source.get("command") or NONE
            commit = (source.get("commit") or NONE)[:10] + ("" if source.get("clean", True) else "*")
            versions = source.get("versions") or {}
            torch = f"torch {versions['torch']}" if "torch" in versions else ""
            where = say("，", ", ").join(filter(None, (short_device(source.get("device")), torch)))
            prepared = prepared_by(run) if kind == "training" else ""
            labels = groups.setdefault((prepared, command, where, commit), {})
            labels[name_of(network, say)] = None
    rows = []
    for (prepared, command, where, commit), labels in groups.items():
        commands = "<br>".join(f"`{one}`" for one in (prepared, command) if one)
        rows.append((say("、", ", ").join(labels), commands, where, f"`{commit}`"))
    columns = say(("网络", "命令", "设备与版本", "代码版本"), ("networks", "command", "device and versions", "commit"))
    captions = {
        "training": say("训练各网络的命令", "Commands that trained the networks"),
        "scoring": say("评分的命令", "Commands that scored them"),
    }
    return Table(f"commands_{kind}", captions[kind], columns, tuple(rows), columns)


def prepared_by(run):
    """Return the command that made a run's patches, "" where that is not known."""
    data = run.trained.get("data", {})
    if data.get("dataset") not in TRAIN_SETS or not {"patch_size", "stride"} <= {*data}:
        return ""
    how = (data["patch_size"], data["stride"], tuple(data.get("copies", (1.0,))))
    return prepare_command(data["dataset"], run.document["scale"], data.get("colour", "y"), *how)
