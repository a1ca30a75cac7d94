"""The report's comparisons: which results differ in one thing only, a subsection for each, and the conclusions."""

from dataclasses import dataclass, field

from report.content import costs_table, option_table, recipe_differences, recipes_compared_table, seeds_table
from report.facts import class_name, enlarges_first
from report.sentences import verdict
from report.words import signed


@dataclass
class Section:
    """A subsection of the analysis: a table, and where it is named a chart. members: networks that differ in option."""

    title: str
    table: object
    text: str
    chart: str | None = None
    members: list = field(default_factory=list)
    option: str = ""

    def markdown(self):
        """Return the subsection with placeholders for its table and its chart."""
        shown = [f"{{{{ table {self.table.name} }}}}"] + [f"{{{{ figure {self.chart} }}}}"] * bool(self.chart)
        return "\n\n".join([f"### {self.title}", *shown, self.text])


def sections(facts, say):
    """Return the Sections that the results allow, in their order."""
    found = []
    if facts.repeated:
        found.append(seeds_section(facts, say))
    if len({network.model for network in facts.networks}) > 1:
        found.append(architectures_section(facts, say))
    names = {}
    for (model, option, *_), members in facts.option_groups.items():
        count = names[model, option] = names.get((model, option), 0) + 1
        name = f"option_{model}_{option}" + (f"_{count}" if count > 1 else "")
        found.append(option_section(facts, members, option, name, say))
    for number, members in enumerate(facts.recipe_groups.values(), start=1):
        found.append(recipes_section(facts, members, f"recipes_{number}", say))
    return found


def seeds_section(facts, say):
    """Return how far the seed alone moves a result: what every other difference is held against."""
    spread = max(network.std for network in facts.repeated)
    text = say.phrase("analysis.seeds", spread=spread, bound=2 * 2**0.5 * spread)
    return Section(say.phrase("analysis.seeds_title"), seeds_table(facts, say), text)


def architectures_section(facts, say):
    """Return the networks' accuracy against their costs."""
    by_cost = sorted((network for network in facts.networks if network.giga), key=lambda network: network.giga)
    text = ""
    if len(by_cost) > 1:
        cheap, dear = by_cost[0], by_cost[-1]
        values = {"few": cheap.giga, "low": cheap.psnr, "many": dear.giga, "high": dear.psnr}
        ratio = dear.giga / cheap.giga
        text += say.phrase("analysis.extremes", cheap=cheap.label, dear=dear.label, ratio=ratio, **values)
    front = efficient(by_cost)
    if 1 < len(front) < len(by_cost):
        text += say.phrase("analysis.front", who=say.joined([network.label for network in front]))
    each = {kind: [1e9 * n.giga / n.parameters for n in by_cost if enlarges_first(n) is kind] for kind in (True, False)}
    if all(each.values()) and min(each[True]) > max(each[False]):
        text += say.phrase("analysis.per_parameter", first=min(each[True]), last=max(each[False]))
    return Section(say.phrase("analysis.architectures_title"), costs_table(facts, say), text, chart="costs")


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
    difference = last.psnr - first.psnr
    values = {"first": first.options[option], "last": last.options[option], "low": first.psnr, "high": last.psnr}
    text = say.phrase("analysis.option", option=option, set=facts.dataset, change=say.change(difference), **values)
    text += verdict(difference, facts.threshold(last, first), say)
    text += say.phrase("analysis.option_epochs", epochs=first.recipe.get("epochs"))
    title = say.phrase("analysis.option_title", network=class_name(first.model), option=option)
    return Section(title, option_table(members, option, name, say), text, name, members, option)


def recipes_section(facts, members, name, say):
    """Return what another training of the same network changes."""
    best, last = (choose(members, key=lambda network: network.psnr) for choose in (max, min))
    difference, count = best.psnr - last.psnr, len(recipe_differences(members))
    text = say.phrase("analysis.recipes", count=len(members), difference=difference)
    text += verdict(difference, facts.threshold(best, last), say)
    text += say.phrase("analysis.recipes_several", count=count) if count > 1 else ""
    title = say.phrase("analysis.recipes_title", network=class_name(best.model))
    return Section(title, recipes_compared_table(members, name, say), text)


def conclusion(facts, say):
    """Return the conclusions that the numbers allow, as a list."""
    best, where = facts.best, {"set": facts.dataset, "scale": facts.scale}
    change = say.change(best.psnr - facts.bicubic["psnr"])
    items = [say.phrase("analysis.conclusion_best", best=best.label, psnr=best.psnr, change=change, **where)]
    if len(facts.networks) > 1:
        scores = say.joined([f"{network.label} {network.psnr:.2f} dB" for network in facts.by_psnr])
        items.append(say.phrase("analysis.conclusion_order", scores=scores))
    for section in sections(facts, say):
        if section.option:
            first, last, option = section.members[0], section.members[-1], section.option
            values = {"first": first.options[option], "last": last.options[option]}
            difference = last.psnr - first.psnr
            text = say.phrase(
                "analysis.conclusion_option",
                label=class_name(first.model),
                option=option,
                change=signed(difference),
                **values,
            )
            items.append(text + verdict(difference, facts.threshold(last, first), say))
    key = "conclusion_limits" if facts.repeated else "conclusion_limits_seed"
    items.append(say.phrase(f"analysis.{key}", set=facts.dataset, count=len(facts.images)))
    return "\n".join(f"{number}. {item}" for number, item in enumerate(items, start=1))
