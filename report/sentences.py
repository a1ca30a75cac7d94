"""The report's sentences of fact, each from the facts and with the phrases of the report's language.

They may hold placeholders as the text files do: {{ table ... }}, {{ cite ... }}.
"""

from data.catalog import TEST_SETS, TRAIN_SETS
from engine.recipe import HELD_OUT
from report.content import LITERATURE, field_name, paper_of, recipe_differences, sets_of
from report.facts import class_name, enlarges_first
from report.words import signed

ANCHORS = {2: (33.66, 0.9299), 3: (30.39, 0.8682), 4: (28.42, 0.8104)}  # bicubic on Set5, as the literature has it
FALL_DB = 0.02  # of the validation PSNR from its best, that is worth a word
MSE = r"$$L(\theta) = \frac{1}{N}\sum_{i=1}^{N}\left(f_\theta(x)_i - y_i\right)^2$$"
COSINE = r"$$\eta(s) = \frac{\eta_{\max}}{2}\left(1 + \cos\frac{\pi (s - w)}{S - w}\right)$$"
AVERAGE = r"$$\bar\theta \leftarrow \beta\,\bar\theta + (1 - \beta)\,\theta$$"


def labels_of(networks):
    """Return the networks' labels."""
    return [network.label for network in networks]


def summary(facts, say):
    """Return the abstract."""
    best, base = facts.best, facts.bicubic
    return say.phrase(
        "text.summary_one" if len(facts.networks) == 1 else "text.summary",
        labels=say.joined(labels_of(facts.networks)),
        count=len(facts.networks),
        set=facts.dataset,
        scale=facts.scale,
        best=best.label,
        score=f"**{best.psnr:.2f} dB / {best.ssim:.4f}**",
        base=f"{base['psnr']:.2f} dB / {base['ssim']:.4f}",
        change=say.change(best.psnr - base["psnr"]),
    )


# ---------------------------------------------------------------- data


def sets(facts, say):
    """Return which image sets were used for what."""
    training, tests = sets_of(facts)
    trained = say.joined(list(map(cited, training))) if training else say.phrase("text.not_recorded")
    text = say.phrase("text.sets", trained=trained, tested=say.joined(list(map(cited, tests))))
    return text + (say.phrase("text.catalogued") if {*training, *tests} & {*TRAIN_SETS, *TEST_SETS} else "")


def cited(name):
    """Return a set with its reference, where there is one."""
    return f"{name} {{{{ cite {name.lower()} }}}}" if name.lower() in LITERATURE["references"] else name


def colour(facts, say):
    """Return on which channels the networks work, and what Y is."""
    kinds = {"y": [], "rgb": []}
    for network in facts.networks:
        kinds[network.runs[0].colour].append(network.label)
    if all(kinds.values()):
        work = say.phrase("text.some_rgb", **{kind: say.joined(labels) for kind, labels in kinds.items()})
    else:
        work = say.phrase("text.all_y" if kinds["y"] else "text.all_rgb")
    return work + say.phrase("text.luma")


def patches(facts, say):
    """Return how the training images were cut and shown, from what the results say of it."""
    data = [network.trained.get("data", {}) for network in facts.networks]
    cuts = [(one.get("patch_size"), one.get("stride"), one.get("copies", [1.0])) for one in data]
    size, stride, copies = cuts[0]
    if any(cut != cuts[0] for cut in cuts):
        text = say.phrase("text.patches_several")
    elif size is None:
        return ""
    else:
        small = say.listed(f"{one:g}" for one in copies if one != 1)
        text = say.phrase("text.patches_scaled", copies=small) if small else ""
        text += say.phrase("text.patches", size=size, lr=size // facts.scale, stride=stride)
    recipes = [network.recipe for network in facts.networks]
    if all(recipe.get("augment") for recipe in recipes):
        if not any("negatives" in recipe for recipe in recipes):  # a flag of its own in older results
            return text + say.phrase("text.augmented_all")
        text += say.phrase("text.augmented")
        text += say.phrase("text.negatives") if all(recipe.get("negatives") for recipe in recipes) else ""
    return text


def validation(facts, say):
    """Return on which images the best epoch was chosen."""
    chosen_on = {}
    for network in facts.networks:
        chosen_on.setdefault(network.trained.get("val_set", HELD_OUT), []).append(network.label)
    parts = [say.phrase("text.held_out")] if chosen_on.pop(HELD_OUT, []) else []
    parts += [say.phrase("text.classroom", who=say.joined(who), set=name) for name, who in chosen_on.items()]
    return "\n\n".join(parts)


# ---------------------------------------------------------------- networks and training


def enlargement(facts, say):
    """Return where the networks enlarge, the largest difference in their structure."""
    kinds = {True: {}, False: {}, None: {}}
    for network in facts.networks:
        kinds[enlarges_first(network)][class_name(network.model)] = None
    text = say.phrase("text.enlarges_first", who=say.joined(list(kinds[True]))) if kinds[True] else ""
    if kinds[False]:
        text += say.phrase("text.enlarges_last", who=say.joined(list(kinds[False])), square=facts.scale**2)
    return text


def optimisation(facts, say):
    """Return loss, optimizer, schedule and averaging of the recipes, with their formulas."""
    recipes = [network.recipe for network in facts.networks]
    losses = {recipe.get("loss", "mse") for recipe in recipes}
    others = say.joined([f"`{name}`" for name in sorted(losses - {"mse"})] or [""])
    parts = [say.phrase("text.mse"), MSE, say.phrase("text.mse_where")] if "mse" in losses else []
    if others:
        parts.append(say.phrase("text.mse_also" if parts else "text.other_loss", losses=others))
    if any(recipe.get("schedule") == "cosine" for recipe in recipes):
        parts += [say.phrase("text.cosine"), COSINE]
    if any(recipe.get("average") for recipe in recipes):
        parts += [say.phrase("text.average"), AVERAGE]
    if any(recipe.get("centralize") for recipe in recipes):
        parts.append(say.phrase("text.centralize"))
    return "\n\n".join(parts)


def recipes(facts, say):
    """Return whether the networks were trained alike, and what differs."""
    if len(facts.networks) == 1:
        return ""
    different = recipe_differences(facts.networks)
    if not different:
        return say.phrase("text.one_recipe")
    return say.phrase("text.several_recipes", what=say.joined([field_name(key, say) for key in different]))


def course(facts, say):
    """Return what the training curves show: the best epoch, and where more training made it worse."""
    parts = []
    for network in facts.networks:
        if begun := network.trained.get("started_from"):
            parts.append(say.phrase("text.started_from", label=network.label, count=len(begun)))
    if late := [network.label for network in facts.networks if overfits(network)]:
        parts.append(say.phrase("text.overfits", who=say.joined(late)))
    return "\n\n".join(parts)


def overfits(network):
    """Return whether the validation PSNR fell in the last fifth of a training or more, while the loss fell too."""
    rows, epoch = network.history, network.trained.get("epoch")
    later = [row for row in rows if row["epoch"] > (epoch or 0)]
    chosen = [row for row in rows if row["epoch"] == epoch]
    if not chosen or len(later) < max(2, len(rows) / 5):
        return False
    return later[-1]["loss"] < chosen[0]["loss"] and later[-1]["val_psnr"] < chosen[0]["val_psnr"] - FALL_DB


# ---------------------------------------------------------------- results


def anchor(facts, say):
    """Return bicubic's score, and whether it is the literature's."""
    psnr, ssim = round(facts.bicubic["psnr"], 2), round(facts.bicubic["ssim"], 4)
    known = facts.dataset == "Set5" and (psnr, ssim) == ANCHORS.get(facts.scale)
    text = say.phrase("text.anchor", set=facts.dataset, scale=facts.scale, psnr=psnr, ssim=ssim)
    return text + say.phrase("text.anchor_known" if known else "text.anchor_own")


def ranking(facts, say):
    """Return the networks by PSNR, whether the first two differ, and how far all are from their papers."""
    best = facts.best
    ordered = say.listed(f"{network.label} {network.psnr:.2f} dB" for network in facts.by_psnr)
    change = say.change(best.psnr - facts.bicubic["psnr"])
    if len(facts.networks) == 1:
        return say.phrase("text.ranking_one", best=best.label, psnr=best.psnr, change=change) + papers(facts, say)
    first, second = facts.by_psnr[:2]
    difference = first.psnr - second.psnr
    text = say.phrase("text.ranking", ordered=ordered, best=best.label, change=change)
    text += say.phrase("text.top_two", first=first.label, second=second.label, difference=difference)
    return text + verdict(difference, facts.threshold(first, second), say) + papers(facts, say)


def verdict(difference, threshold, say):
    """Return whether a difference in dB is more than chance, in words that end a sentence. threshold: None: unknown."""
    if threshold is None:
        return say.phrase("analysis.unknown")
    return say.phrase("analysis.beyond" if abs(difference) > threshold else "analysis.within", threshold=threshold)


def papers(facts, say):
    """Return how far the networks are from what their papers state, and on what those trained."""
    known = [(network, paper_of(network, facts.dataset, facts.scale)) for network in facts.networks]
    known = [(network, paper) for network, paper in known if paper]
    if not known:
        return ""
    distances = say.listed(f"{network.label} {signed(network.psnr - paper)} dB" for network, paper in known)
    sizes = [f"{n.label}: {LITERATURE['networks'][n.model]['training_set']}" for n, _ in known]
    return say.phrase("text.papers", distances=distances, sets=say("；", "; ").join(sizes))


def further(facts, say):
    """Return the tables of the other test sets."""
    return "\n\n".join(f"{{{{ table further_{name} }}}}" for name in facts.other_sets)


def gains(facts, say):
    """Return on which image the networks gain most, and least."""
    if len(facts.images) == 1:
        return ""
    (name, most), *_, (other, least) = images_by_gain(facts)
    key = "text.gains_one" if len(facts.networks) == 1 else "text.gains"
    values = {"name": name, "most": signed(most), "other": other, "least": signed(least)}
    return say.phrase(key, label=facts.networks[0].label, **values)


def images_by_gain(facts):
    """Return [(image, mean gain over bicubic in dB)], the largest gain first."""
    count = len(facts.networks)
    gains = [
        (image["name"], sum(float(network.image_psnr[index]) - image["psnr"] for network in facts.networks) / count)
        for index, image in enumerate(facts.images)
    ]
    return sorted(gains, key=lambda pair: pair[1], reverse=True)


def example_images(facts):
    """Return the images that are shown: with the largest gain and the smallest."""
    names = [name for name, _ in images_by_gain(facts)]
    return list(dict.fromkeys([names[0], names[-1]]))


def example(facts, name, say):
    """Return a sentence with the numbers of one test image."""
    index = next(number for number, image in enumerate(facts.images) if image["name"] == name)
    base = facts.images[index]["psnr"]
    psnrs = {network.label: float(network.image_psnr[index]) for network in facts.networks}
    best, last = max(psnrs, key=psnrs.get), min(psnrs, key=psnrs.get)
    values = {"best": best, "top": psnrs[best], "last": last, "low": psnrs[last], "base": base}
    key = "text.example_one" if best == last else "text.example"
    return say.phrase(key, name=name, change=say.change(psnrs[best] - base), **values)
