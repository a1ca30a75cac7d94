"""The report's sentences of fact: what their templates in phrases.toml are filled with, from the facts.

They may hold placeholders as the text files do: {{ table ... }}, {{ cite ... }}.
"""

from data.catalog import TEST_SETS, TRAIN_SETS
from engine.losses import trades_psnr
from engine.recipe import HELD_OUT
from report.content import LITERATURE, paper_of, patches_of, sets_of

TEXTS = ("summary", "sets", "colour", "patches", "validation", "enlargement", "optimisation", "recipes", "course")
TEXTS += ("anchor", "ranking", "gains", "examples")
FACTS = ("scale", "networks", "images", "bicubic", "repeated", "is_anchor", "by_gain", "best")  # that templates name


def cite(key):
    """Return the placeholder of a reference."""
    return f"{{{{ cite {key} }}}}"


def sentence(name, facts, say):
    """Return a text of phrases.toml's [text] from what the facts hold."""
    return say.text(f"text.{name}", **common(facts, say), **about_data(facts), **about_training(facts, say))


def common(facts, say):
    """Return what every template may name."""
    papers = {network.model: network.name for network in facts.networks if paper_of(network, facts)}
    return {
        **{name: getattr(facts, name) for name in FACTS},
        "set": facts.dataset,
        "one": len(facts.networks) == 1,
        "second": facts.by_psnr[:2][-1],
        "gain": facts.best.psnr - facts.bicubic["psnr"],
        "scores": [f"{network.label} {network.psnr:.2f} dB" for network in facts.by_psnr],
        "papers": papers,
        "untrained": [one.document["label"] for one in facts.untrained],
        "larger": [name for model, name in papers.items() if "parameters" in LITERATURE["networks"][model]],
        "cite": cite,
        "verdict": lambda first, second: verdict(facts, first, second, say),
    }


def verdict(facts, first, second, say):
    """Return whether the difference of two networks is more than chance, in words that end a sentence."""
    return say.text("text.verdict", threshold=facts.threshold(first, second), difference=abs(first.psnr - second.psnr))


def about_data(facts):
    """Return what the section on data names."""
    training, tests = sets_of(facts)
    data = [patches_of(network) for network in facts.networks]
    cuts, newest = [], [network.label for network in facts.networks if trades_psnr(str(network.recipe.get("loss")))]
    for one in data:
        cut = {key: one.get(key) for key in ("patch_size", "stride")}
        cut["copies"] = [f"{copy:g}" for copy in one.get("copies", []) if copy != 1]
        cuts += [cut] * (cut not in cuts)
    chosen_on = {}
    for network in facts.networks:
        if network.label not in newest:
            chosen_on.setdefault(network.val_set, []).append(network.label)
    return {
        "training_sets": [cited(name) for name in training],
        "test_sets": [cited(name) for name in tests],
        "catalogued": [name for name in dict.fromkeys([*training, *tests]) if name in {*TRAIN_SETS, *TEST_SETS}],
        "newest": newest,
        "cuts": cuts,
        "held_out": chosen_on.pop(HELD_OUT, []),
        "classroom": chosen_on,
        **{kind: [network.label for network in facts.networks if network.colour == kind] for kind in ("y", "rgb")},
    }


def cited(name):
    """Return a set with its reference, where there is one."""
    return f"{name} {cite(name.lower())}" if name.lower() in LITERATURE["references"] else name


def about_training(facts, say):
    """Return what the sections on networks and training name."""
    recipes = [network.recipe for network in facts.networks]
    losses = {recipe.get("loss", "mse") for recipe in recipes}
    settings = [network.settings for network in facts.networks]
    names = dict.fromkeys(name for one in settings for name in one)
    names = [name for name in names if len({str(one.get(name)) for one in settings}) > 1]
    kinds = {"early": "pre-upsampling", "late": "post-upsampling"}
    return {
        "losses": losses,
        "other_losses": [f"`{name}`" for name in sorted(losses - {"mse"})],
        "cosine": any(recipe.get("schedule") == "cosine" for recipe in recipes),
        "average": any(recipe.get("average") for recipe in recipes),
        "centralize": any(recipe.get("centralize") is True for recipe in recipes),  # in older results
        "augmented": all(recipe.get("augment") for recipe in recipes),
        "negatives": all(recipe.get("negatives", True) for recipe in recipes),  # a flag of its own in older results
        "contrast": all(recipe.get("contrast", "negatives" not in recipe) for recipe in recipes),
        **{name: list(dict.fromkeys(n.name for n in facts.networks if n.kind[0] == kinds[name])) for name in kinds},
        "differences": [say.known("recipe", name) for name in names],
        "alike": len({network.training for network in facts.networks}) == 1,
        "structures": len({(n.model, str(n.options)) for n in facts.networks}) == len(facts.networks),
        "begun": [network for network in facts.networks if network.trained.get("started_from")],
    }


def example(facts, name, missing, say):
    """Return a sentence with the numbers of one test image. missing: networks whose picture of it there is not."""
    index = facts.networks[0].runs[0].names.index(name)
    ordered = sorted(facts.networks, key=lambda network: network.image_psnr[index])
    values = {"base": facts.images[index]["psnr"], "best": ordered[-1], "last": ordered[0], "one": len(ordered) == 1}
    values |= {"top": float(ordered[-1].image_psnr[index]), "low": float(ordered[0].image_psnr[index])}
    return say.text("text.example", name=name, missing=missing, **values)
