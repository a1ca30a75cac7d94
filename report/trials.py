"""The tables of report/recipe.md: what was tried for the recipe, scored on T91's held-out images only."""

from models import model_label
from report.experiments import PREPARATIONS, RECIPES
from report.facts import least_that_counts, shown_steps
from report.tables import Table, mark_best

ANSWERS = {True: "yes", False: "no", None: "unknown"}


def held_out(result):
    """The best PSNR of a run on the held-out images, in dB."""
    return result["trained"]["val_psnr"]


def signed(value):
    """A difference in dB: +0.21, -0.05."""
    return f"{value:+.2f}"


def answer(facts, name, difference):
    """Whether a difference on the held-out images is more than the luck of the seed, as far as that is known."""
    return ANSWERS[facts.counts(difference, name, held_out=True)]


def changed(experiment, group):
    """What an experiment of a group changes: the flags of prepare.py and train.py."""
    if group in ("variety", "sizes", "patches"):
        return f"`{' '.join((*PREPARATIONS[experiment.data], *experiment.recipe_flags))}`"
    if experiment.recipe:
        return f"`{' '.join(RECIPES[experiment.recipe])}`"
    if group == "pieces":
        return "negatives on" if experiment.negatives else "negatives off, nothing else changed"
    return "nothing changed"


def trials_table(facts, group):
    """Trainings of one network against the first of them."""
    members = facts.group(group)
    (first, base), *_ = members
    psnrs = [held_out(result) for _, result in members]
    rows = []
    for (experiment, result), psnr in zip(members, mark_best(psnrs, [f"{psnr:.2f}" for psnr in psnrs]), strict=True):
        change = held_out(result) - held_out(base)
        compared = ("", "") if experiment == first else (signed(change), answer(facts, experiment.model, change))
        rows.append((changed(experiment, group), *shown_steps(result["trained"]), psnr, *compared))
    columns = (
        "flags", "steps", "best after", "held-out PSNR (dB)", "against the first (dB)", "more than luck",
    )  # fmt: skip
    return Table(group, "", columns, tuple(rows), columns[::5])


def pairs_table(facts, group):
    """Trainings with and without one thing, of several networks."""
    rows = []
    for (experiment, with_it), (_, without) in facts.pairs(group):
        change = held_out(with_it) - held_out(without)
        scores = (f"{held_out(with_it):.2f}", f"{held_out(without):.2f}", signed(change))
        rows.append((model_label(experiment.model, {}), *scores, answer(facts, experiment.model, change)))
    columns = ("network", "with (dB)", "without (dB)", "difference (dB)", "more than luck")
    return Table(group, "", columns, tuple(rows), columns[::4])


def whole_table(facts, group):
    """Whole trainings of one recipe, beside the weights that are shipped."""
    shipped = {network.name: f"{network.trained['val_psnr']:.2f}" for network in facts.scored}
    rows = [
        (
            model_label(experiment.model, {}),
            f"{result['trained']['epoch']} of {experiment.epochs}",
            f"{held_out(result):.2f}",
            f"{result['history'][-1]['val_psnr']:.2f}",
            shipped.get(experiment.model, ""),
        )
        for experiment, result in facts.group(group)
    ]
    columns = (
        "network",
        "best epoch",
        "held-out PSNR (dB)",
        "after the last epoch (dB)",
        "of the shipped weights (dB)",
    )
    return Table(group, "", columns, tuple(rows), columns[:1])


def seeds_table(facts):
    """How far the seed alone moves the score."""
    rows = [
        (
            model_label(name, {}),
            str(epochs),
            str(len(values)),
            f"{values.mean():.2f}",
            f"{values.std(ddof=1):.3f}",
            f"{least_that_counts(values):.2f}",
        )
        for name, epochs, (_, values) in facts.all_seeds
    ]
    columns = (
        "network",
        "epochs",
        "seeds",
        "held-out PSNR, mean (dB)",
        "standard deviation (dB)",
        "a difference counts from (dB)",
    )
    return Table("seeds", "", columns, tuple(rows))
