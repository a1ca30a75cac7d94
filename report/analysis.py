"""The report's comparisons: which results differ in one thing only, a subsection for each, and the conclusions."""

from dataclasses import dataclass, field

from report.content import map_table, name_of, option_table, recipe_differences, recipes_compared_table, seeds_table
from report.sentences import common


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
    values = common(facts, say)
    found = []
    if facts.repeated:
        text = say.text("analysis.seeds", spread=max(network.std for network in facts.repeated))
        found.append(Section(say.text("analysis.seeds_title"), seeds_table(facts, say), text))
    if len({network.model for network in facts.shown}) > 1:
        text = say.text("analysis.map", **costs_of(facts, say))
        found.append(Section(say.text("analysis.map_title"), map_table(facts, say), text, "map"))
    names = {}
    for (model, option, *_), members in facts.option_groups.items():
        count = names[model, option] = names.get((model, option), 0) + 1
        name = f"option_{model}_{option}" + (f"_{count}" if count > 1 else "")
        of = {"first": members[0], "last": members[-1], "option": option, "network": members[0].name}
        table = option_table(members, option, name, say)
        title, text = (say.text(f"analysis.{key}", **values | of) for key in ("option_title", "option"))
        found.append(Section(title, table, text, name, members, option))
    for number, members in enumerate(facts.recipe_groups.values(), start=1):
        ordered = sorted(members, key=lambda network: network.psnr)
        of = {"best": ordered[-1], "last": ordered[0], "count": len(members), "network": members[0].name}
        of["differences"] = len(recipe_differences(members))
        table = recipes_compared_table(members, f"recipes_{number}", say)
        title, text = (say.text(f"analysis.{key}", **values | of) for key in ("recipes_title", "recipes"))
        found.append(Section(title, table, text))
    return found


def costs_of(facts, say):
    """Return what the networks' accuracy is held against: the cheapest, the dearest, and those that none excels."""
    by_cost = sorted((network for network in facts.shown if network.giga), key=lambda network: network.giga)
    costs = {"by_cost": by_cost, "front": [name_of(network, say) for network in facts.front]}
    for name, kind in (("early", "pre-upsampling"), ("late", "post-upsampling")):
        costs[name] = [1e9 * network.giga / network.parameters for network in by_cost if network.kind[0] == kind]
    return costs


def conclusion(facts, found, say):
    """Return the conclusions that the numbers allow, as a list. found: the Sections."""
    options = [
        {"network": one.members[0].name, "option": one.option, "first": one.members[0], "last": one.members[-1]}
        for one in found
        if one.option
    ]
    items = say.text("analysis.conclusion", options=options, **common(facts, say)).splitlines()
    return "\n".join(f"{number}. {item}" for number, item in enumerate(items, start=1))
