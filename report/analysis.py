"""The report's comparisons: which results differ in one thing only, a subsection for each, and the conclusions."""

from dataclasses import dataclass

from report.content import costs_table, option_table, recipe_differences, recipes_compared_table, seeds_table
from report.facts import MODELS, enlarges_first
from report.sentences import verdict
from report.words import signed

HINT = "python report/run_experiments.py"


@dataclass
class Section:
    """A subsection of the analysis. tables: [Table]. chart: its name, or None. options: (members, option) of a chart."""

    title: str
    name: str
    tables: list
    text: str
    chart: str | None = None
    options: tuple = ()

    def markdown(self):
        """Return the subsection with placeholders for its tables and its chart."""
        shown = [f"{{{{ table {table.name} }}}}" for table in self.tables]
        shown += [f"{{{{ figure {self.chart} }}}}"] if self.chart else []
        return "\n\n".join([f"### {self.title}", *shown, self.text])


def sections(facts, say):
    """Return the Sections that the results allow, in their order."""
    found = []
    if facts.repeated:
        found.append(seeds_section(facts, say))
    if len({network.model for network in facts.networks}) > 1:
        found.append(architectures_section(facts, say))
    for key, members in facts.option_groups.items():
        names = [f"option_{section_key(key)}", *(f"option_{section_key(key)}_{number}" for number in range(2, 99))]
        taken = {section.name for section in found}
        found.append(option_section(facts, members, key[1], next(n for n in names if n not in taken), say))
    for number, members in enumerate(facts.recipe_groups.values(), start=1):
        found.append(recipes_section(facts, members, f"recipes_{number}", say))
    return found


def section_key(key):
    """Return what names a group's table and chart: vdsr_depth."""
    return f"{key[0]}_{key[1]}"


def seeds_section(facts, say):
    """Return how far the seed alone moves a result: what every other difference is held against."""
    spread = max(network.std for network in facts.repeated)
    text = say(
        "只换随机种子（初始化、打乱顺序、数据增强都随之改变），结果也会波动。设单次运行的标准差为 $s$，两次运行之差的标准差为 $\\sqrt{2}\\,s$；"
        f"差别超过它的两倍才可以说不是偶然。表中最大的 $s$ 为 {spread:.3f} dB，由它得到的界限是 {2 * 2**0.5 * spread:.2f} dB。"
        "种子数少，这个界限本身也只是粗略的估计。",
        "Results move when the seed alone changes (initialisation, order, augmentation). With a standard deviation $s$ of a "
        "run, the difference of two runs has $\\sqrt{2}\\,s$; only more than twice that is hardly chance. The largest $s$ of "
        f"the table is {spread:.3f} dB, which makes a bound of {2 * 2**0.5 * spread:.2f} dB. With few seeds the bound is rough.",
    )
    title = say("随机种子：多大的差别才算差别", "Seeds: which difference counts")
    return Section(title, "seeds", [seeds_table(facts, say)], text)


def architectures_section(facts, say):
    """Return the networks' accuracy against their costs."""
    by_cost = sorted((n for n in facts.networks if n.giga), key=lambda network: network.giga)
    parts = []
    if len(by_cost) > 1:
        cheap, dear = by_cost[0], by_cost[-1]
        parts.append(
            say(
                f"乘加次数最少的是 {cheap.label}（{cheap.giga:,.1f} G，{cheap.psnr:.2f} dB），最多的是 {dear.label}"
                f"（{dear.giga:,.1f} G，{dear.psnr:.2f} dB），后者是前者的 {dear.giga / cheap.giga:,.1f} 倍。",
                f"{cheap.label} needs the fewest multiply-adds ({cheap.giga:,.1f} G, {cheap.psnr:.2f} dB), {dear.label} the most "
                f"({dear.giga:,.1f} G, {dear.psnr:.2f} dB), {dear.giga / cheap.giga:,.1f} times as many. ",
            )
        )
    front = efficient(by_cost)
    if 1 < len(front) < len(by_cost):
        parts.append(
            say(
                f"没有别的网络能以更少的乘加次数达到更高 PSNR 的是 {say.joined([n.label for n in front])}。",
                f"No other network reaches more PSNR with fewer multiply-adds than {say.joined([n.label for n in front])}. ",
            )
        )
    kinds = {enlarges_first(network) for network in by_cost}
    if {True, False} <= kinds:
        per = {
            kind: [1e3 * n.giga / n.parameters for n in by_cost if enlarges_first(n) is kind] for kind in (True, False)
        }
        parts.append(
            say(
                f"先放大的网络每个参数要做 {1e6 * min(per[True]) / 1e4:,.0f} 万次以上的乘加，末端放大的网络至多 {1e6 * max(per[False]) / 1e4:,.0f} 万次："
                "参数量、乘加次数和实际用时是三个不同的量。",
                f"Networks that enlarge first need at least {1e6 * min(per[True]):,.0f} multiply-adds for each parameter, those that "
                f"enlarge last at most {1e6 * max(per[False]):,.0f}: parameters, multiply-adds and time are three different things.",
            )
        )
    title = say("网络结构：精度与代价", "Structures: accuracy and costs")
    return Section(title, "architectures", [costs_table(facts, say)], "".join(parts), chart="costs")


def efficient(by_cost):
    """Return the networks that are better than all that cost less. by_cost: sorted by multiply-adds."""
    front = []
    for network in by_cost:
        if not front or network.psnr > front[-1].psnr:
            front.append(network)
    return front


def option_section(facts, members, option, name, say):
    """Return what one option changes."""
    first, last = members[0], members[-1]
    difference, threshold = last.psnr - first.psnr, facts.threshold(last, first)
    network = MODELS[first.model].__name__ if first.model in MODELS else first.model
    text = say(
        f"{option} 从 {first.options[option]} 变为 {last.options[option]}，{facts.dataset} 上的 PSNR {say.change(difference)}"
        f"（{first.psnr:.2f} → {last.psnr:.2f} dB）",
        f"From {option}={first.options[option]} to {last.options[option]} the PSNR on {facts.dataset} is {say.change(difference)} "
        f"({first.psnr:.2f} → {last.psnr:.2f} dB)",
    )
    if threshold is None:
        text += say(
            "；没有多个种子的结果，无法判断是否超出随机波动。",
            "; without several seeds it is not known whether that is more than chance.",
        )
    else:
        text += say("，", ", ") + verdict(difference, threshold, say)
    epochs = {network.recipe.get("epochs") for network in members}
    text += (
        say(
            f"各变体都训练 {epochs.pop()} 轮，步数相同而时间不同。",
            f" All were trained for {epochs.pop()} epochs: the same number of steps, not the same time.",
        )
        if len(epochs) == 1
        else ""
    )
    title = say(f"{network} 的 {option}", f"{option} of {network}")
    table = option_table(members, option, name, say)
    return Section(title, name, [table], text, chart=name, options=(members, option))


def recipes_section(facts, members, name, say):
    """Return what another training of the same network changes."""
    best = max(members, key=lambda network: network.psnr)
    last = min(members, key=lambda network: network.psnr)
    difference, threshold = best.psnr - last.psnr, facts.threshold(best, last)
    count = len(recipe_differences(members))
    text = say(
        f"网络相同、训练不同的 {len(members)} 个结果最多相差 {difference:.2f} dB",
        f"The {len(members)} results of the same network, trained differently, are up to {difference:.2f} dB apart",
    )
    text += say("，", ", ") + verdict(difference, threshold, say) if threshold is not None else say("。", ".")
    if count > 1:
        text += say(
            f"训练在 {count} 项上不同，差别不能归于其中一项。",
            f" The trainings differ in {count} things; the difference is not that of one of them.",
        )
    label = MODELS[best.model].__name__ if best.model in MODELS else best.model
    title = say(f"{label} 的训练方案", f"How {label} was trained")
    return Section(title, name, [recipes_compared_table(members, name, say)], text)


def hint(say):
    """Return what a report without any comparison says in their place."""
    return say(
        f"目前的结果中没有可以相互比较的网络。再训练一个网络（`python train.py --model …`）并评分，或者运行一组对照实验（`{HINT} --help`），"
        "重新生成报告后，这里会出现比较。",
        f"There are no results yet that could be compared. Train and score another network (`python train.py --model ...`), or "
        f"run a group of experiments (`{HINT} --help`): the comparison appears here when the report is built again.",
    )


def conclusion(facts, say):
    """Return the conclusions that the numbers allow, as a list."""
    best, bicubic = facts.best, facts.bicubic["psnr"]
    items = [
        say(
            f"在 {facts.dataset}（×{facts.scale}）上，{best.label} 的平均 PSNR 为 {best.psnr:.2f} dB，比双三次{say.change(best.psnr - bicubic)}。",
            f"On {facts.dataset} (×{facts.scale}) {best.label} has a mean PSNR of {best.psnr:.2f} dB, {say.change(best.psnr - bicubic)} than bicubic.",
        )
    ]
    if len(facts.networks) > 1:
        scores = say.joined([f"{network.label} {network.psnr:.2f} dB" for network in facts.by_psnr])
        items.append(say(f"从高到低依次为 {scores}。", f"From the highest down: {scores}."))
    for members, option in (section.options for section in sections(facts, say) if section.options):
        first, last = members[0], members[-1]
        change = signed(last.psnr - first.psnr)
        threshold = facts.threshold(last, first)
        note = (
            "" if threshold is None else say("，", ", ") + verdict(last.psnr - first.psnr, threshold, say).rstrip("。.")
        )
        items.append(
            say(
                f"{first.label} 的 {option} 由 {first.options[option]} 变为 {last.options[option]}：{change} dB{note}。",
                f"{option} of {first.label} from {first.options[option]} to {last.options[option]}: {change} dB{note}.",
            )
        )
    count = len(facts.images)
    single = not facts.repeated
    limits = (
        say(f"局限：{facts.dataset} 只有 {count} 幅图像", f"Limits: {facts.dataset} has {count} images only")
        if count < 100
        else ""
    )
    if limits:
        limits += (
            say("，每个结果只来自一个随机种子。", ", and each result comes from one seed.")
            if single
            else say("。", ".")
        )
        items.append(limits)
    return "\n".join(f"{number}. {item}" for number, item in enumerate(items, start=1))
