"""The report's comparisons: which results differ in one thing only, a subsection for each, and the conclusions."""

from dataclasses import dataclass
from functools import partial

from report import charts
from report.content import (
    map_table,
    name_of,
    option_table,
    paper_is_larger,
    recipe_differences,
    recipes_compared_table,
    seeds_table,
)
from report.figures import Figure
from report.sentences import common


@dataclass
class Section:
    """A subsection of the analysis: a Table, what is said of it, and a Figure or None."""

    title: str
    table: object
    text: str
    figure: object = None

    def markdown(self):
        """Return the subsection with placeholders for its table and its figure."""
        shown = [f"{{{{ table {self.table.name} }}}}"]
        shown += [f"{{{{ figure {self.figure.name} }}}}"] if self.figure else []
        return "\n\n".join([f"### {self.title}", *shown, self.text])


def sections(facts, say):
    """Return the Sections that the results allow, in their order."""
    values, where = common(facts, say), {"dataset": facts.dataset, "scale": facts.scale, "say": say}
    found = []
    if facts.repeated:
        text = say.text("analysis.seeds", spread=max(network.std for network in facts.repeated))
        found.append(Section(say.text("analysis.seeds_title"), seeds_table(facts, say), text))
    if len({network.model for network in facts.shown}) > 1:
        draw = partial(charts.draw_map, networks=facts.placed, front=facts.front, **where)
        text = say.text("analysis.map", **values | costs_of(facts, say))
        figure = Figure("map", say.phrase("figure.map"), draw) if facts.front else None
        found.append(Section(say.text("analysis.map_title"), map_table(facts, say), text, figure))
    names = {}
    for (model, option, *_), members in facts.option_groups.items():
        count = names[model, option] = names.get((model, option), 0) + 1
        name = f"option_{model}_{option}" + (f"_{count}" if count > 1 else "")
        of = option_change(option, members)
        title, text = (say.text(f"analysis.{key}", **values | of) for key in ("option_title", "option"))
        draw = partial(charts.draw_option, members=members, option=option, **where)
        figure = Figure(name, say.phrase("figure.option", option=option), draw)
        found.append(Section(title, option_table(members, option, name, say), text, figure))
    for number, members in enumerate(facts.recipe_groups.values(), start=1):
        ordered = sorted(members, key=lambda network: network.psnr)
        of = {"best": ordered[-1], "last": ordered[0], "count": len(members), "network": members[0].name}
        of["differences"] = len(recipe_differences(members))
        table = recipes_compared_table(members, f"recipes_{number}", say)
        title, text = (say.text(f"analysis.{key}", **values | of) for key in ("recipes_title", "recipes"))
        found.append(Section(title, table, text))
    return found


def option_change(option, members):
    """Return what a sentence needs on networks that differ in one option."""
    return {"network": members[0].name, "option": option, "first": members[0], "last": members[-1]}


def costs_of(facts, say):
    """Return what the networks' accuracy is held against: the cheapest, the dearest, and those that none excels."""
    by_cost = sorted(facts.placed, key=lambda network: network.giga)
    costs = {"by_cost": by_cost, "front": [name_of(network, say) for network in facts.front]}
    costs["larger"] = list(dict.fromkeys(network.name for network in facts.shown if paper_is_larger(network.model)))
    for name, kind in (("early", "pre-upsampling"), ("late", "post-upsampling")):
        costs[name] = [1e9 * network.giga / network.parameters for network in by_cost if network.kind[0] == kind]
    return costs


def conclusion(facts, say):
    """Return the conclusions that the numbers allow, as a list."""
    options = [option_change(option, members) for (_, option, *_), members in facts.option_groups.items()]
    items = say.text("analysis.conclusion", options=options, **common(facts, say)).splitlines()
    return "\n".join(f"{number}. {item}" for number, item in enumerate(items, start=1))
