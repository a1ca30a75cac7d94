"""The report's comparisons: which results differ in one thing only, a subsection for each, and the conclusions."""

from collections import Counter
from dataclasses import dataclass
from functools import partial

from report import charts
from report.content import group_table, name_of, shown_value
from report.figures import Figure
from report.results import margin_over_seeds
from report.sentences import common


@dataclass
class Section:
    """A subsection of the analysis: a Table or None, what is said of it, and a Figure or None."""

    title: str
    table: object
    text: str
    figure: object = None

    def markdown(self):
        """Return the subsection with placeholders for its table and its figure."""
        shown = [f"{{{{ table {self.table.name} }}}}"] if self.table else []
        shown += [f"{{{{ figure {self.figure.name} }}}}"] if self.figure else []
        return "\n\n".join([f"### {self.title}", *shown, self.text])


def sections(facts, say):
    """Return the Sections that the results allow, in their order."""
    values, where = common(facts, say), {"dataset": facts.dataset, "scale": facts.scale, "say": say}
    found = []
    if facts.widest:
        bound = margin_over_seeds([0], [0], lent=facts.widest.psnrs)
        text = say.text("analysis.seeds", spread=facts.widest.std, seeds=len(facts.widest.runs), bound=bound)
        found.append(Section(say.text("analysis.seeds_title"), None, text))
    if len({network.model for network in facts.placed}) > 1:
        by_cost, front = sorted(facts.placed, key=lambda network: network.giga), facts.front
        labels = [name_of(network, say) for network in front]
        draw = partial(charts.draw_map, networks=facts.placed, front=front, **where)
        text = say.text("analysis.map", by_cost=by_cost, front=labels)
        found.append(Section(say.text("analysis.map_title"), None, text, Figure("map", say.phrase("figure.map"), draw)))
    names = Counter()
    for (model, field, *_), members in facts.groups.items():
        of = change_of(field, members, say)
        name = f"option_{model}_{field.rpartition('.')[2]}"
        names[name] += 1
        name += f"_{names[name]}" if names[name] > 1 else ""
        title, text = (say.text(f"analysis.{key}", **values | of) for key in ("option_title", "option"))
        draw = partial(charts.draw_group, members=members, option=of["option"], values=of["texts"], **where)
        figure = Figure(name, say.phrase("figure.option", option=of["option"]), draw)
        found.append(Section(title, group_table(members, field, name, say), text, figure))
    return found


def change_of(field, members, say):
    """Return what a sentence needs on networks that differ in one field."""
    change = {"network": members[0].name, "option": say.known("recipe", field), "is_option": "." not in field}
    change["texts"] = [shown_value(field, network.fields[field], say) for network in members]
    return change | {"first": members[0], "last": members[-1]}


def conclusion(facts, say):
    """Return the conclusions that the numbers allow, as a list."""
    options = [change_of(field, members, say) for (_, field, *_), members in facts.groups.items()]
    items = say.text("analysis.conclusion", options=options, **common(facts, say)).splitlines()
    return "\n".join(f"{number}. {item}" for number, item in enumerate(items, start=1))
