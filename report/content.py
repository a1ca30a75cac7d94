"""The report's tables, the inputs of its charts, and the words in which its text compares numbers."""

from collections import Counter
from dataclasses import asdict
from itertools import groupby, permutations

from data.batches import MAX_CONTRAST
from data.catalog import TRAIN_SETS
from data.patch_file import prepare_command
from data.patches import DEFAULT_PATCH
from engine.recipe import Recipe
from models import model_label, model_options
from report.experiments import PREPARATIONS, RECIPES
from report.facts import (
    HELD_OUT_FILE,
    SCALE,
    SCORE,
    SECOND_SET,
    TEST_SET,
    TRAINING_SET,
    cutting,
    highest_shown,
    least_that_counts,
    measured_size,
    patch_count,
    result_file,
    set_numbers,
    shown_steps,
)
from report.tables import Table, mark_best

EPOCHS = Recipe().epochs  # of a full training
STAGES = "一二三四五六七八九十"
FALL_DB = 0.02  # of the held-out PSNR from its best, that is worth a word
SIZES = {  # groups of experiments that vary one size: its option, and how the report names it
    "depth": ("depth", "卷积层数 (depth)"),
    "blocks": ("num_blocks", "残差块数 (blocks)"),
    "dense": ("num_blocks", "稠密块数 (dense blocks)"),
    "recursions": ("num_recursions", "递归次数 (recursions)"),
}
SWITCHES = {  # groups of experiments that switch one thing off
    "batch_norm": "批归一化 (BN)",
    "skip": "双三次全局残差 (bicubic skip)",
    "recipe": "短训练的方案 (recipe)",
}
NONE = "—"
COUNTS = {None: "无法判断", True: "是", False: "否"}  # whether a difference is more than the luck of the seed
TRAIN, BUILD = "python train.py --model …", "python report/build.py"
EXPERIMENTS, SPEED, LIST = "python report/run_experiments.py", "python benchmarks/speed.py", "python train.py --list"
COMMANDS = {  # table or figure: what made its numbers
    "data": BUILD,
    "held_out": BUILD,
    "patches": BUILD,
    "degradation": BUILD,
    "networks": LIST,
    "network": LIST,
    "recipe": TRAIN,
    "training": f"{TRAIN}; {SPEED}",
    "curves": TRAIN,
    "test": SCORE,
    "second": f"{SCORE} --dataset {SECOND_SET} --no-figures",
    "papers": f"{SCORE}; report/literature.json",
    "images": SCORE,
    "comparison": SCORE,
    "costs": f"{SCORE}; {LIST}; {SPEED}",
    "whole_plain": f"{EXPERIMENTS} --groups whole_plain; {SCORE}",
    **dict.fromkeys(("seeds", "equal", "switches", "pieces", "variety", "sizes", *SIZES), EXPERIMENTS),
}


# ---------------------------------------------------------------- words


def number(value, form="{:.2f}"):
    """A number as text, a dash where there is none."""
    return NONE if value is None else form.format(value)


def mean_scores(result):
    """(PSNR in dB, SSIM) of a result, means over its images, as text; dashes where there is none."""
    mean = result["mean"] if result else {"psnr": None, "ssim": None}
    return number(mean["psnr"]), number(mean["ssim"], "{:.4f}")


def ensemble_scores(network):
    """The same of a network's result with --self-ensemble, in one cell."""
    return " / ".join(mean_scores(network.ensemble)) if network.ensemble else NONE


def signed(value):
    """A difference in dB with its sign: +0.21, −0.05."""
    return f"{value:+.2f}".replace("-", "−")


def change(value):
    """A difference in dB in words: 高 0.21 dB."""
    if abs(value) < 0.005:
        return "持平"
    return f"{'高' if value > 0 else '低'} {abs(value):.2f} dB"


def duration(seconds):
    """Seconds in words: 52 分钟, 9.7 小时."""
    if seconds < 60:
        return f"{seconds:.0f} 秒"
    return f"{seconds / 60:.0f} 分钟" if seconds < 5400 else f"{seconds / 3600:.1f} 小时"


def joined(labels):
    """A list in words: A、B 和 C."""
    *first, last = labels
    space = "" if first and first[-1].endswith("）") else " "
    return f"{'、'.join(first)}{space}和 {last}" if first else last


def gain(result, base):
    """What a result of test.py has over another, in dB on the test set."""
    return result["mean"]["psnr"] - base["mean"]["psnr"]


def verdict(facts, difference, name, other=None):
    """Whether a difference between runs of two networks, or of one, is more than the luck of the seed, in words."""
    threshold = facts.threshold(name, other)
    if threshold is None:
        return "没有多个种子的结果，无法判断是否超出随机波动"
    if abs(difference) > threshold:
        return f"超出随机波动的界限 {threshold:.2f} dB"
    return f"在随机波动的界限 {threshold:.2f} dB 之内，不能据此分出优劣"


# ---------------------------------------------------------------- tables


def data_table():
    """The image sets."""
    rows = []
    for name, one in set_numbers().items():
        held_out = len(one["held_out"])
        use = f"训练 {one['images'] - held_out} 幅，留出 {held_out} 幅选择轮次" if held_out else "只用于测试"
        rows.append((name, str(one["images"]), f"{one['megapixels']:.2f}", use, f"`{one['manifest'][:12]}…`"))
    columns = ("数据集", "图像数", "百万像素", "用途", "像素清单 SHA-256")
    return Table("data", "数据集", columns, tuple(rows), ("用途", "像素清单 SHA-256"))


def held_out_table(facts):
    """T91's held-out images and what bicubic makes of them."""
    sizes = {image.name: f"{image.width}×{image.height}" for image in TRAIN_SETS["T91"].images}
    rows = [
        (image["name"], sizes[image["name"]], f"{image['psnr']:.2f}", f"{image['ssim']:.4f}")
        for image in facts.held_out["images"]
    ]
    rows.append(("平均", "", *mean_scores(facts.held_out)))
    columns = ("图像", "大小", "双三次 PSNR (dB)", "双三次 SSIM")
    return Table("held_out", f"T91 的留出图像与双三次插值的得分（×{SCALE}，Y 通道）", columns, tuple(rows))


def networks_table(facts):
    """What the networks are."""
    rows = [
        (
            network.label,
            f"{network.parameters:,}",
            f"{network.giga:,.1f}",
            f"{network.receptive_field}×{network.receptive_field}",
            "输入端（双三次）" if network.enlarges_first else "网络末端（可学习）",
            "，".join(f"{option}={default}" for option, default in model_options(network.name).items()),
        )
        for network in facts.networks
    ]
    columns = ("网络", "参数量", "乘加次数 (G)", "感受野 (LR 像素)", "放大位置", "默认选项")
    caption = f"六个网络（Y 通道，×{SCALE}；乘加次数按 1280×720 的输出计算）"
    return Table("networks", caption, columns, tuple(rows), ("放大位置", "默认选项"))


def recipe_table(facts):
    """The recipe, train.py's defaults, beside that of the short trainings and the classroom's plain one."""
    recipes = {"本项目的方案": asdict(Recipe())}
    for experiment, result in facts.group("recipe"):
        column = "课堂的朴素方案" if experiment.recipe else "第五章短训练的方案"
        absent = {"negatives": False, "contrast": 0, "centralize": False}  # from before there were any
        recipes.setdefault(column, absent | result["trained"]["recipe"])
    names = {
        "loss": ("损失函数", {"mse": "均方误差 (MSE)"}.get),
        "batch_size": ("每步图像块数 (batch size)", str),
        "learning_rate": ("Adam 的最高学习率", "{:g}".format),
        "schedule": ("学习率曲线", {"cosine": "余弦降到 0 (cosine)", "constant": "不变"}.get),
        "warmup": ("预热步数 (warm-up)", str),
        "centralize": ("滤波器梯度去均值 (centralization)", {True: "有", False: "无"}.get),
        "clip": ("梯度范数上限 (clipping)", lambda value: f"{value:g}" if value else "不限"),
        "augment": ("翻转与旋转 (8 种视图)", {True: "有", False: "无"}.get),
        "negatives": ("负片 (1 − x)", {True: "一半", False: "无"}.get),
        "contrast": (
            "提高对比度的图像块 (contrast)",
            lambda value: f"{value:.0%}，至多 {MAX_CONTRAST} 倍" if value else "无",
        ),
        "average": ("权重的指数平均 (EMA)", lambda value: f"每步 {value:g}" if value else "无"),
        "precision": ("卷积精度", lambda value: "bf16（硬件支持时）" if value == "auto" else value),
    }
    rows = [(title, *(show(recipe[key]) for recipe in recipes.values())) for key, (title, show) in names.items()]
    columns = ("项目", *recipes)
    return Table("recipe", "训练方案", columns, tuple(rows), columns)


def training_table(facts):
    """How far each network was trained, and how long it takes."""
    rows = []
    for network in facts.networks:
        patches_per_s = network.speed["patches_per_s"]
        speed = (f"{patches_per_s:.3g}", duration(EPOCHS * patch_count() / patches_per_s))
        if not network.result:
            rows.append((network.label, "未训练", *[NONE] * 6, *speed))
            continue
        trained, runs = network.trained, [run for run, _ in network.runs]
        rows.append(
            (
                network.label,
                " + ".join(f"{epochs} / {run['recipe']['epochs']}" for run, epochs in network.runs),
                "、".join(dict.fromkeys(f"{patch_count(*cutting(run)):,}" for run in runs)),
                " + ".join(f"{steps:,}" for steps, *_ in network.stages),
                "、".join(dict.fromkeys(batch_of(*batch) for _, *batch in network.stages)),
                "、".join(dict.fromkeys(f"{run['recipe']['clip']:g}" for run in runs)),
                " + ".join(str(run["epoch"]) for run in runs),
                f"{trained['val_psnr']:.2f}",
                *speed,
            )
        )
    columns = (
        "网络", "完成 / 计划轮数", "每轮图像块", "步数", "每步图像块", "梯度范数上限", "最佳轮",
        "留出图像 PSNR (dB)", "训练速度 (块/秒)", f"{EPOCHS} 轮用时（推算）",
    )  # fmt: skip
    return Table("training", "训练概况", columns, tuple(rows))


def marked_scores(results):
    """[(PSNR, SSIM)] of results as mean_scores has them, the best of each in bold; of None dashes."""
    columns = zip(("psnr", "ssim"), zip(*map(mean_scores, results), strict=True), strict=True)
    marked = [mark_best([result and result["mean"][key] for result in results], texts) for key, texts in columns]
    return list(zip(*marked, strict=True))


def test_table(facts):
    """The main result."""
    marked = marked_scores([network.result for network in facts.networks])
    rows = [("Bicubic", "0", NONE, *mean_scores(facts.bicubic), NONE, NONE, NONE, NONE)]
    for network, own in zip(facts.networks, marked, strict=True):
        paper = network.paper
        rows.append(
            (
                network.label,
                f"{network.parameters:,}",
                epochs_in_brief(network),
                *own,
                ensemble_scores(network),
                f"{paper['psnr']:.2f}",
                signed(network.psnr - paper["psnr"]) if network.result else NONE,
                paper["training_set"],
            )
        )
    columns = (
        "网络", "参数量", "最佳 / 计划轮数", "PSNR (dB)", "SSIM", "自集成 PSNR (dB) / SSIM", "论文 PSNR (dB)",
        "相差 (dB)", "论文的训练集",
    )  # fmt: skip
    caption = f"{TEST_SET} ×{SCALE} 的平均 PSNR 与 SSIM（Y 通道，四边各去掉 {SCALE} 像素）"
    return Table("test", caption, columns, tuple(rows), ("论文的训练集",))


def second_table(facts):
    """The result on a second test set, beside what the papers say of it."""
    networks = facts.scored_twice
    marked = marked_scores([network.second for network in networks])
    rows = [("Bicubic", *mean_scores(facts.second_bicubic), NONE, NONE)]
    for network, own in zip(networks, marked, strict=True):
        paper = network.paper["second_psnr"]
        rows.append((network.label, *own, number(paper), signed(network.second["mean"]["psnr"] - paper)))
    columns = ("网络", "PSNR (dB)", "SSIM", "论文 PSNR (dB)", "相差 (dB)")
    return Table("second", f"{SECOND_SET} ×{SCALE} 的平均 PSNR 与 SSIM（协议同上）", columns, tuple(rows))


def best_epochs(network, of):
    """The best epoch of each run of a network's training, and how many were planned: 93 / 200 + 4 / 4."""
    return " + ".join(f"{run['epoch']}{of}{run['recipe']['epochs']}" for run, _ in network.runs)


def epochs_in_brief(network):
    """The best epoch of a training that was one run, and how many were planned; of another how many runs it had."""
    if not network.result:
        return "未训练"
    return best_epochs(network, " / ") if len(network.runs) == 1 else f"分 {len(network.runs)} 段"


def trained_on(network):
    """Where each run of a network's training took place, and how long it took: NVIDIA H200，7 分钟."""
    places = []
    for (run, _), history in zip(network.runs, network.histories.values(), strict=True):
        if history:
            device = run["device"].partition(": ")[2].replace(", ", "，").replace(" threads", " 线程")
            places.append(f"{device}，{duration(sum(row['seconds'] for row in history))}")
    return "；然后 ".join(places)


def batch_of(batch_size, patch_size):
    """The patches of a step, with their size where it is not prepare.py's own: 16, or 8 (40×40)."""
    return f"{batch_size}" + (f" ({patch_size}×{patch_size})" if patch_size != DEFAULT_PATCH else "")


def steps_of_patches(network):
    """The steps of a network's training, those with batches of one kind in a row added up: 2,910 of 4, then …"""
    kinds = groupby(network.stages, key=lambda stage: batch_of(*stage[1:]))
    return ", then ".join(f"{sum(steps for steps, *_ in stages):,} of {batch}" for batch, stages in kinds)


def readme_table(facts):
    """The main result as README has it, in English."""
    rows = [("Bicubic", "0", "", "", *mean_scores(facts.bicubic), "", *mean_scores(facts.second_bicubic), "")]
    for network in facts.networks:
        trained, paper = network.trained, network.paper
        rows.append(
            (
                network.label,
                f"{network.parameters:,}",
                best_epochs(network, " of ") if trained else "no weights yet",
                steps_of_patches(network) if trained else NONE,
                *mean_scores(network.result),
                ensemble_scores(network),
                *mean_scores(network.second),
                f"{paper['psnr']:.2f}, {paper['second_psnr']:.2f}; {paper['training_set']}",
            )
        )
    columns = (
        "network", "parameters", "best epoch", "steps, of so many patches", "PSNR (dB)", "SSIM",
        "self-ensemble: PSNR (dB) / SSIM", f"{SECOND_SET}: PSNR (dB)", f"{SECOND_SET}: SSIM",
        f"paper: PSNR, on {SECOND_SET}; training set",
    )  # fmt: skip
    return Table("readme", "", columns, tuple(rows), columns[-1:])


def readme_seeds(facts):
    """How far other seeds took the networks whose whole training was repeated with them, a line of README each."""
    lines = []
    for name, (test, _) in facts.whole_seeds.items():
        scores = " and ".join(f"{psnr:.2f}" for psnr in test[1:])
        seeds = "another seed" if len(test) == 2 else f"{len(test) - 1} other seeds"
        spread = f"standard deviation with the shipped run {test.std(ddof=1):.3f} dB"
        lines.append(
            f"{model_label(name, {})} trained the same way with {seeds}: {scores} dB on {TEST_SET}; {spread}.\n"
        )
    return "".join(lines)


def readme_plain(facts):
    """What the plain recipe gave for as many epochs, a line of README."""
    plain = whole_plain(facts)
    if not plain:
        return ""
    scores = [
        f"{n.label} {result['mean']['psnr']:.2f} (best epoch {result['trained']['epoch']})" for n, result in plain
    ]
    compared = ": {:.2f} dB apart, in the table above {:.2f}".format(*plain_spreads(facts)) if len(plain) > 1 else ""
    trained = f"Trained as in a classroom (the plain recipe, {EPOCHS} epochs of T91's images as they are)"
    reversals = "".join(f" {better} comes out below {worse}." for better, worse, _ in plain_reversals(facts))
    return f"{trained}: {', '.join(scores)}, in dB on {TEST_SET}{compared}.{reversals}\n"


def per_image_table(facts, key, form, title):
    """One score per image and network."""
    rows = [("Bicubic", facts.bicubic)] + [(network.label, network.result) for network in facts.scored]
    names = [image["name"] for image in facts.bicubic["images"]]
    columns = [
        [next(image[key] for image in result["images"] if image["name"] == name) for _, result in rows]
        for name in names
    ]
    columns.append([result["mean"][key] for _, result in rows])
    columns = [mark_best(values, [form.format(value) for value in values]) for values in columns]
    cells = zip([label for label, _ in rows], *columns, strict=True)
    caption = f"{TEST_SET} ×{SCALE} 逐图 {title}"
    return Table(f"images_{key}", caption, ("网络", *names, "平均"), tuple(cells))


def costs_table(facts):
    """Quality beside what it costs."""
    rows = [
        (
            network.label,
            number(network.psnr),
            f"{network.parameters / 1e3:,.0f} K",
            f"{network.giga:,.1f}",
            f"{1e3 * network.speed['seconds']:,.0f}",
        )
        for network in facts.networks
    ]
    columns = ("网络", "PSNR (dB)", "参数量", "乘加次数 (G)", "每幅图像用时 (ms)")
    return Table("costs", f"精度与代价（用时：{TEST_SET} 平均，fp32，{hardware(facts)}）", columns, tuple(rows))


def members_table(name, caption, members, title, shown):
    """Experiments side by side: size and scores. shown: the first cell of an experiment and its result."""
    psnrs = [result["mean"]["psnr"] for _, result in members]
    rows = []
    for (experiment, result), psnr in zip(members, mark_best(psnrs, map(number, psnrs)), strict=True):
        parameters, giga = measured_size(experiment.model, **result["options"])
        scores = (f"{result['trained']['val_psnr']:.2f}", psnr, f"{result['mean']['ssim']:.4f}")
        rows.append((shown(experiment, result), f"{parameters:,}", f"{giga:,.1f}", *scores))
    columns = (title, "参数量", "乘加次数 (G)", "留出图像 PSNR (dB)", f"{TEST_SET} PSNR (dB)", f"{TEST_SET} SSIM")
    return Table(name, caption, columns, tuple(rows))


def epochs_of(members):
    """How long the experiments of a group were trained."""
    return members[0][1]["trained"]["recipe"]["epochs"]


def equal_table(facts):
    """The networks after the same number of steps."""
    members = facts.group("equal")
    caption = f"同样训练 {epochs_of(members)} 轮的网络（{TEST_SET} ×{SCALE}）"
    return members_table("equal", caption, members, "网络", lambda experiment, _: model_label(experiment.model, {}))


def sizes_table(group, members):
    """One group of experiments that vary a size."""
    option, title = SIZES[group]
    caption = f"{sized_label(members)}：{title}（各训练 {epochs_of(members)} 轮）"
    return members_table(group, caption, members, title, lambda _, result: str(result["options"][option]))


def sized(facts):
    """{group: its members} of the experiments that vary a size, where there are several to compare."""
    groups = {group: facts.group(group) for group in SIZES}
    return {group: members for group, members in groups.items() if len(members) > 1}


def sized_label(members):
    """The network of a group of sizes, with the options that all of them share."""
    (experiment, _), (other, _) = members[0], members[-1]
    shared = {option: value for option, value in experiment.options.items() if other.options.get(option) == value}
    return model_label(experiment.model, model_options(experiment.model) | shared)


def switches_table(facts):
    """All experiments that switch something off."""
    rows = []
    for group, title in SWITCHES.items():
        for (experiment, with_it), (_, without) in facts.pairs(group):
            difference = gain(with_it, without)
            held_out = with_it["trained"]["val_psnr"] - without["trained"]["val_psnr"]
            rows.append(
                (
                    title,
                    model_label(experiment.model, {}),
                    f"{with_it['mean']['psnr']:.2f}",
                    f"{without['mean']['psnr']:.2f}",
                    signed(difference),
                    signed(held_out),
                    COUNTS[facts.counts(difference, experiment.model)],
                )
            )
    columns = (
        "开关", "网络", f"有：{TEST_SET} PSNR (dB)", "无 (dB)", "差 (dB)", "留出图像上的差 (dB)", "超出随机波动",
    )  # fmt: skip
    return Table("switches", "逐项开关实验", columns, tuple(rows), ("网络", "超出随机波动"))


def pieces_table(facts):
    """The recipe with one piece changed at a time."""
    members = facts.group("pieces")
    (default, base), *changed = members
    rows = [("短训练的方案", f"{base['trained']['val_psnr']:.2f}", f"{base['mean']['psnr']:.2f}", NONE, NONE)]
    for experiment, result in changed:
        difference = gain(result, base)
        rows.append(
            (
                f"`{' '.join(RECIPES[experiment.recipe])}`" if experiment.recipe else "加上负片",
                f"{result['trained']['val_psnr']:.2f}",
                f"{result['mean']['psnr']:.2f}",
                signed(difference),
                COUNTS[facts.counts(difference, default.model)],
            )
        )
    columns = ("训练方案", "留出图像 PSNR (dB)", f"{TEST_SET} PSNR (dB)", "差 (dB)", "超出随机波动")
    caption = f"{model_label(default.model, {})}：训练方案逐项更改（各训练 {epochs_of(members)} 轮）"
    return Table("pieces", caption, columns, tuple(rows), ("训练方案", "超出随机波动"))


def whole_plain(facts):
    """[(network, result)] of those trained by the classroom's plain recipe for as long as by the project's own."""
    plain = {experiment.model: result for experiment, result in facts.group("whole_plain")}
    return [(network, plain[network.name]) for network in facts.scored if network.name in plain]


def plain_spreads(facts):
    """How far apart the best and the worst network of whole_plain() are, and the same ones as shipped, in dB."""
    psnrs = [(result["mean"]["psnr"], network.psnr) for network, result in whole_plain(facts)]
    return [max(column) - min(column) for column in zip(*psnrs, strict=True)]


def plain_reversals(facts):
    """[(better, worse, margin)]: networks whose order as shipped the plain recipe reverses, and by how many dB."""
    psnrs = [(network.label, network.psnr, result["mean"]["psnr"]) for network, result in whole_plain(facts)]
    return [
        (better, worse, after - before)
        for (better, high, before), (worse, low, after) in permutations(psnrs, 2)
        if round(high, 2) > round(low, 2) and round(after, 2) > round(before, 2)  # as the tables show them
    ]


def whole_plain_table(facts):
    """What the plain recipe gives, beside the shipped weights."""
    rows = []
    for network, result in whole_plain(facts):
        trained = result["trained"]
        rows.append(
            (
                network.label,
                f"{trained['epoch']} / {trained['recipe']['epochs']}",
                shown_steps(trained)[0],
                f"{trained['val_psnr']:.2f}",
                *mean_scores(result),
                *mean_scores(network.result),
                signed(gain(network.result, result)),
            )
        )
    columns = (
        "网络", "最佳轮", "步数", "留出图像 PSNR (dB)", f"{TEST_SET} PSNR (dB)", f"{TEST_SET} SSIM",
        "正式结果 PSNR (dB)", "正式结果 SSIM", "PSNR 之差 (dB)",
    )  # fmt: skip
    return Table("whole_plain", f"课堂的朴素方案训练 {EPOCHS} 轮，与正式结果对照", columns, tuple(rows))


def variety_table(facts):
    """More variety in the data, after about the same number of steps."""
    members = facts.group("variety")
    (first, base), *_ = members
    rows = []
    for experiment, result in members:
        flags = (*PREPARATIONS[experiment.data], *experiment.recipe_flags)
        trained, compared = result["trained"], [NONE, NONE]
        if experiment != first:
            difference = trained["val_psnr"] - base["trained"]["val_psnr"]
            compared = [signed(difference), COUNTS[facts.counts(difference, first.model, held_out=True)]]
        rows.append(
            (
                f"`{' '.join(flags)}`",
                f"{patch_count(*cutting(trained)):,}",
                *shown_steps(trained),
                f"{result['mean']['psnr']:.2f}",
                f"{trained['val_psnr']:.2f}",
                *compared,
            )
        )
    columns = (
        "数据", "图像块", "步数", "最佳轮的步数", f"{TEST_SET} PSNR (dB)", "留出图像 PSNR (dB)", "差 (dB)",
        "超出随机波动",
    )  # fmt: skip
    caption = f"{model_label(first.model, {})}：训练数据的多样性（差值为留出图像上与第一行之差）"
    return Table("variety", caption, columns, tuple(rows), ("数据", "超出随机波动"))


def seeds_table(facts):
    """The luck of the seed."""
    rows = [
        (
            model_label(name, {}),
            str(epochs),
            str(len(test)),
            f"{test.mean():.2f} ± {test.std(ddof=1):.2f}",
            f"{test.min():.2f}–{test.max():.2f}",
            f"{held_out.mean():.2f} ± {held_out.std(ddof=1):.2f}",
            f"{least_that_counts(test):.2f}",
        )
        for name, epochs, (test, held_out) in facts.all_seeds
    ]
    columns = (
        "网络", "轮数", "种子数", f"{TEST_SET} PSNR (dB)", "最低–最高", "留出图像 PSNR (dB)", "两次运行之差的界限 (dB)",
    )  # fmt: skip
    return Table("seeds", "不同随机种子 (seed) 的波动：平均值 ± 标准差", columns, tuple(rows))


def trainings_table(facts):
    """The commands that trained the weights, a run after the other, and what its patches were cut with."""
    rows = []
    for network in facts.scored:
        for number, (run, _) in enumerate(network.runs):
            patch_size, stride, copies = cutting(run)
            prepared = prepare_command(TRAINING_SET, SCALE, "y", patch_size, stride, copies)
            stage = f"，第{STAGES[number]}段" if len(network.runs) > 1 else ""
            command = f"`{run['command']}`" if "command" in run else NONE
            rows.append((f"{network.label}{stage}", f"`{prepared}`", command, run.get("device", NONE), _commit(run)))
    columns = ("权重", "图像块", "训练", "设备", "代码版本 (commit)")
    return Table("trainings", "各权重的训练命令", columns, tuple(rows), columns)


def sources_table(facts):
    """Where every number comes from."""
    rows = []
    for network in facts.scored:
        results = {
            result_file(network.name): network.result,
            result_file(network.name, "_ensemble"): network.ensemble,
            result_file(network.name, test_set=SECOND_SET): network.second,
        }
        for file, result in results.items():
            if result:
                rows.append((f"`{file}`", f"`{result['command']}`", result["device"], _commit(result)))
    alike = Counter((result["device"], _commit(result)) for result in facts.experiments.values())
    rows += [(f"`experiments/*.json`（{count} 个）", f"`{EXPERIMENTS}`", *origin) for origin, count in alike.items()]
    held_out = facts.held_out
    rows.append((f"`results/{HELD_OUT_FILE}`", f"`{BUILD}`", held_out["device"], _commit(held_out)))
    benchmark = facts.benchmark
    rows.append(
        (
            f"`benchmarks/results/{facts.benchmark_file}`",
            "`python benchmarks/speed.py`",
            hardware(facts),
            _commit(benchmark),
        )
    )
    columns = ("文件", "命令", "设备", "代码版本 (commit)")
    return Table("sources", "结果文件的来源", columns, tuple(rows), columns)


def _commit(document):
    """The first characters of the commit that a file was written at, with a star where files had changed since."""
    commit = document.get("commit")
    return NONE if not commit else f"`{commit[:7]}`" + ("" if document.get("clean") else " *")


def hardware(facts):
    """The benchmark's machine in words."""
    described = facts.benchmark["hardware"]
    return described.get("gpu") or f"{described['processor']}，{described['threads']} 线程"


def has_pieces(facts):
    """Whether the recipe's pieces were tried: the default and at least one more beside the plain recipe."""
    tried = [experiment.recipe for experiment, _ in facts.group("pieces")]
    return "" in tried and len(tried) > 2


def all_tables(facts):
    """{name: Table} of everything that the report shows."""
    tables = [
        data_table(),
        held_out_table(facts),
        networks_table(facts),
        recipe_table(facts),
        training_table(facts),
        test_table(facts),
        *([second_table(facts)] if facts.scored_twice else []),
        per_image_table(facts, "psnr", "{:.2f}", "PSNR (dB)"),
        per_image_table(facts, "ssim", "{:.4f}", "SSIM"),
        costs_table(facts),
        *([equal_table(facts)] if len(facts.group("equal")) > 1 else []),
        *(sizes_table(group, members) for group, members in sized(facts).items()),
        *([switches_table(facts)] if any(facts.pairs(group) for group in SWITCHES) else []),
        *([pieces_table(facts)] if has_pieces(facts) else []),
        *([whole_plain_table(facts)] if whole_plain(facts) else []),
        *([variety_table(facts)] if len(facts.group("variety")) > 1 else []),
        *([seeds_table(facts)] if facts.seeds else []),
        trainings_table(facts),
        sources_table(facts),
    ]
    return {table.name: table for table in tables}


# ---------------------------------------------------------------- charts


def chart_inputs(facts):
    """{figure: (function of report.charts, its inputs)} of what there are numbers for."""
    charts = {}
    held_out = facts.held_out["mean"]["psnr"]
    with_history = [network for network in facts.scored if network.history]
    curves = {network.name: network.points for network in with_history}
    if curves:
        chosen = {n.name: len(n.points) - len(n.history) + n.trained["epoch"] - 1 for n in with_history}
        charts["curves"] = ("draw_curves", {"networks": curves, "bicubic": held_out, "chosen": chosen})
    for network in with_history:
        for suffix, history in network.histories.items():
            if history:
                charts[f"curve_{network.name}{suffix}"] = ("draw_run", {"history": history, "bicubic": held_out})
    costs = {
        network.name: {
            "parameters": network.parameters,
            "giga": network.giga,
            "milliseconds": 1e3 * network.speed["seconds"],
            "psnr": network.psnr,
        }
        for network in facts.scored
    }
    charts["costs"] = ("draw_costs", {"networks": costs, "scale": SCALE})
    gains = {
        network.name: [image["psnr"] - image["bicubic_psnr"] for image in network.result["images"]]
        for network in facts.scored
    }
    images = {image["name"]: image["psnr"] for image in facts.bicubic["images"]}
    charts["images"] = ("draw_images", {"gains": gains, "images": images, "scale": SCALE})
    papers = {
        network.name: {
            "ours": network.psnr,
            "paper": network.paper["psnr"],
            "training_set": network.paper["training_set"],
        }
        for network in facts.networks
    }
    lines = {"bicubic": facts.bicubic["mean"]["psnr"], "t91_only": facts.literature["t91_only"]["psnr"]}
    charts["papers"] = ("draw_papers", {"networks": papers, **lines, "scale": SCALE})
    sizes = {group: size_points(facts, group, members) for group, members in sized(facts).items()}
    if sizes:
        charts["sizes"] = ("draw_sizes", {"groups": sizes, "scale": SCALE})
    switches = {SWITCHES[group]: switch_bars(facts, group) for group in SWITCHES if facts.pairs(group)}
    if switches:
        charts["switches"] = ("draw_switches", {"groups": switches, "scale": SCALE})
    return charts


def size_points(facts, group, members):
    """One panel of draw_sizes."""
    option, title = SIZES[group]
    points = [[r["options"][option], r["mean"]["psnr"], r["trained"]["val_psnr"]] for _, r in members]
    error = facts.error(members[0][0].model)
    return {"network": sized_label(members), "option": title, "points": points, "error": error}


def switch_bars(facts, group):
    """One group of draw_switches."""
    return [[model_label(on.model, {}), gain(a, b), facts.error(on.model)] for (on, a), (_, b) in facts.pairs(group)]


# ---------------------------------------------------------------- what the analysis says


def overfits(history, best_epoch):
    """Whether the held-out PSNR of a run, at its best well before the end, fell while the loss did."""
    if not history or best_epoch >= 0.8 * len(history):
        return False
    best, last = history[best_epoch - 1], history[-1]
    return last["loss"] < best["loss"] and last["val_psnr"] < best["val_psnr"] - FALL_DB


def overfits_in_a_run(network):
    """Whether one of the runs of a network overfits."""
    runs = zip(network.histories.values(), network.runs, strict=True)
    return any(overfits(history, run["epoch"]) for history, (run, _) in runs)


def out_of_sight(facts):
    """The epochs whose loss is above what the curves show, network by network: DRRN 第二段第 15 轮（…）."""
    highest = highest_shown(network.points for network in facts.scored if network.history)
    found = []
    for network in facts.scored:
        epochs = []
        for number, rows in enumerate(network.shown):
            stage = f"第{STAGES[number]}段" if len(network.runs) > 1 else ""
            epochs += [
                f"{stage}第 {row['epoch']} 轮（{scientific(row['loss'])}）" for row in rows if row["loss"] > highest
            ]
        if epochs:
            found.append(f"{network.label} {'、'.join(epochs)}")
    return found


def scientific(value):
    """A number with two digits: 0.69, $2.6\\times10^{20}$."""
    digits, _, exponent = f"{value:.1e}".partition("e")
    return f"{value:.2g}" if value < 100 else rf"${digits}\times10^{{{int(exponent)}}}$"


def first_seeds(facts):
    """The networks whose run of seed 0, on which the comparisons rest, is the best or the worst of its seeds."""
    found = []
    for name, (psnrs, _) in facts.seeds.items():
        places = {psnrs.max(): "最高", psnrs.min(): "最低"}
        if psnrs[0] in places:
            found.append(
                f"{model_label(name, {})} 的种子 0 是 {len(psnrs)} 个中{places[psnrs[0]]}的"
                f"（{psnrs[0]:.2f} dB，平均 {psnrs.mean():.2f} dB）"
            )
    return found


def sizes_of(trained):
    """In how many sizes a run had each image: with its copies."""
    _, _, copies = cutting(trained)
    return len(copies)


def has_negatives(trained):
    """Whether half the patches of a run were negatives, 1 - x."""
    return trained["recipe"].get("negatives", False)


def mixes_patches(network):
    """Whether the runs of its training had different patches, so that their losses cannot be compared."""
    return len({(cutting(run), has_negatives(run)) for run, _ in network.runs}) > 1


def deviating(facts, value_of, default):
    """The networks with another value in one of their runs, each run's in order: DRRN（16、8）.

    value_of: called with what is known of a run.
    """
    found = []
    for network in facts.scored:
        values = [value for value, _ in groupby(value_of(run) for run, _ in network.runs)]
        if values != [default]:
            found.append(f"{network.label}（{'、'.join(f'{value:g}' for value in values)}）")
    return found


def stages(network):
    """The networks of the runs of a training, in order, where not all of them are what is shipped; else []."""
    labels = [run["label"].removesuffix(f" x{SCALE}") for run, _ in network.runs[:-1]] + [network.label]
    return labels if len(set(labels)) > 1 else []


def other_pieces(facts):
    """{piece of the recipe: the networks with another value of it in one of their runs, with these}."""
    default = asdict(Recipe())
    pieces = ("batch_size", "clip", "learning_rate", "contrast")
    # a piece that is absent was not there yet: none
    return {
        piece: deviating(facts, lambda run, piece=piece: run["recipe"].get(piece, 0), default[piece])
        for piece in pieces
    }


def conclusions(facts):
    """The experiments whose difference is more than the luck of the seed, each in words."""
    found = [
        (on.model, gain(a, b), f"采用{title}")
        for group, title in SWITCHES.items()
        for (on, a), (_, b) in facts.pairs(group)
    ]
    for group, members in sized(facts).items():
        option, title = SIZES[group]
        (first, a), (_, b) = members[0], members[-1]
        found.append((first.model, gain(b, a), f"的{title} {a['options'][option]} → {b['options'][option]}"))
    return [
        f"{model_label(name, {})} {what}（{signed(difference)} dB）"
        for name, difference, what in found
        if facts.counts(difference, name)
    ]
