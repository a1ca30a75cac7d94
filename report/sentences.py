"""The report's sentences of fact: each function makes one paragraph or more from the facts, in the report's language.

They may hold placeholders as the text files do: {{ table ... }}, {{ figure ... }}, {{ cite ... }}.
"""

import json

from data.catalog import TEST_SETS, TRAIN_SETS
from engine.recipe import HELD_OUT
from report.content import LITERATURE, paper_of, recipe_differences, recipe_fields, recipe_names, sets_of
from report.facts import MODELS, enlarges_first
from report.words import signed

ANCHORS = {2: (33.66, 0.9299), 3: (30.39, 0.8682), 4: (28.42, 0.8104)}  # bicubic on Set5, as the literature has it
FALL_DB = 0.02  # of the validation PSNR from its best, that is worth a word
EXAMPLES = 2  # images that are shown from the top and the bottom of the order by gain: so many in all


def cited(name):
    """Return a set or network with its reference, where there is one."""
    key = name.lower()
    return f"{name} {{{{ cite {key} }}}}" if key in LITERATURE["references"] else name


def plural(count, noun):
    """Return a count with its English noun: 1 network, 2 networks."""
    return f"{count} {noun}" + "s" * (count != 1)


def summary(facts, say):
    """Return the abstract."""
    best, bicubic = facts.best, facts.bicubic
    labels = say.joined([network.label for network in facts.networks])
    where = say(f"{facts.dataset}（×{facts.scale}）", f"{facts.dataset} (×{facts.scale})")
    score = f"**{best.psnr:.2f} dB / {best.ssim:.4f}**"
    if len(facts.networks) == 1:
        start = say(
            f"本报告训练并评测单幅图像超分辨率（single-image super-resolution, SISR）网络 {labels}。",
            f"This report trains and evaluates {labels}, a network for single-image super-resolution (SISR).",
        )
        result = say(f"{labels} 在 {where} 上", f"On {where}, {labels}")
    else:
        start = say(
            f"本报告在同一评价协议下比较 {len(facts.networks)} 个单幅图像超分辨率（single-image super-resolution, SISR）"
            f"网络：{labels}。",
            f"This report compares {plural(len(facts.networks), 'network')} for single-image super-resolution (SISR) "
            f"under one protocol: {labels}.",
        )
        result = say(
            f"在 {where} 上，{best.label} 的 PSNR 最高，", f"On {where}, {best.label} has the highest PSNR and"
        )
    gain = best.psnr - bicubic["psnr"]
    return f"{start}{say('', ' ')}{result}" + say(
        f"达到 {score}（PSNR / SSIM），比双三次插值（bicubic，{bicubic['psnr']:.2f} dB / {bicubic['ssim']:.4f}）{say.change(gain)}。",
        f" reaches {score} (PSNR / SSIM), {say.change(gain)} than bicubic interpolation ({bicubic['psnr']:.2f} dB / "
        f"{bicubic['ssim']:.4f}).",
    )


# ---------------------------------------------------------------- data


def sets(facts, say):
    """Return which image sets were used for what."""
    training, tests = sets_of(facts)
    trained = say.joined([cited(name) for name in training]) if training else say("（未记录）", "(not recorded)")
    tested = say.joined([cited(name) for name in tests])
    text = say(
        f"训练集为 {trained}，测试集为 {tested}。", f"The networks were trained on {trained} and tested on {tested}."
    )
    if {*training, *tests} & {*TRAIN_SETS, *TEST_SETS}:
        text += say(
            "图像按解码后像素的 SHA-256 校验，与来源、文件名和格式无关；表中末列是整套图像清单的散列值，两份数据的散列值相同，像素就完全相同。",
            " The images are checked by the SHA-256 of their decoded pixels, wherever they came from; the last column is "
            "that of the list of all of them: where it is equal, so are all pixels.",
        )
    return text


def colour(facts, say):
    """Return on which channels the networks work."""
    rgb = [n.label for n in facts.networks if n.document["protocol"].get("colour") == "rgb"]
    y = [n.label for n in facts.networks if n.label not in rgb]
    parts, space = [], " " if y and rgb else ""
    if y:
        who = say.joined(y) if rgb else say("网络", "The network" + ("s" if len(y) > 1 else ""))
        work = "" if len(y) > 1 else "s"
        parts.append(say(f"{who}{space}只处理亮度（luma）Y；", f"{who} work{work} on luma, Y, alone. "))
    if rgb:
        who = say.joined(rgb) if y else say("网络", "The network" + ("s" if len(rgb) > 1 else ""))
        work = "" if len(rgb) > 1 else "s"
        parts.append(
            say(
                f"{who}{space}处理 RGB 三个通道，评分时换算为 Y；",
                f"{who} work{work} on RGB, which is converted to Y to be scored. ",
            )
        )
    return "".join(parts) + say(
        "Y 采用 BT.601 演播室范围，与 MATLAB 的 `rgb2ycbcr` 相同：",
        "Y is BT.601's studio range, as MATLAB's `rgb2ycbcr` has it:",
    )


def patches(facts, say):
    """Return how the training images were cut, from what the results say of it."""
    cuts = {}
    for network in facts.networks:
        data = network.trained.get("data", {})
        if "patch_size" in data:
            key = json.dumps([data["patch_size"], data.get("stride"), data.get("copies", [1.0])])
            cuts.setdefault(key, []).append(network)
    if not cuts:
        return ""
    size, stride, copies = json.loads(next(iter(cuts)))
    small = [f"{one:g}" for one in copies if one != 1]
    lr = size // facts.scale
    if len(cuts) > 1:
        text = say(
            "每幅图像及其缩小的副本切成 HR 图像块（patch）与对应的 LR 图像块；大小、步长（stride）和缩小的倍数因网络而异，见训练方案的表。",
            "Each image and its scaled copies are cut into HR patches and the LR patches that belong to them; size, stride and "
            "scales are not the same for all networks, see the table of recipes.",
        )
    else:
        scaled = say(
            f"图像除原大小外还按 {'、'.join(small)} 倍缩小成副本；",
            f"Beside the images themselves, copies scaled by {', '.join(small)} are used. ",
        )
        text = (scaled if small else "") + say(
            f"每幅图像切成 {size}×{size} 的 HR 图像块（patch）与对应的 {lr}×{lr} LR 图像块，步长（stride）为 {stride}。",
            f"Each image is cut into HR patches of {size}×{size} and their LR patches of {lr}×{lr}, with a stride of {stride}.",
        )
    recipes = [network.recipe for network in facts.networks]
    if all(recipe.get("augment") for recipe in recipes):
        text += say(
            "训练时每个图像块随机取 8 种翻转与旋转之一（数据增强，augmentation）。",
            " In training each patch is shown in one of its 8 flipped and turned forms at random (augmentation).",
        )
    if all(recipe.get("negatives") for recipe in recipes):
        text += say("并以一半的概率取负片（1 − x）。", " Half of them are shown as negatives (1 − x).")
    return text


def validation(facts, say):
    """Return on which images the best epoch was chosen."""
    classroom = {}
    for network in facts.networks:
        if network.trained.get("val_set", HELD_OUT) != HELD_OUT:
            classroom.setdefault(network.trained["val_set"], []).append(network.label)
    parts = []
    if sum(map(len, classroom.values())) < len(facts.networks):
        parts.append(
            say(
                "从训练集中留出若干幅完整的图像作为验证集（held-out images），不参与训练，只在它们上面选择 PSNR 最高的轮次；"
                "测试集只用来评分。按整幅而不是按图像块留出，是因为同一幅图像的块内容相近，按块划分会泄漏。",
                "A few whole images are held out of the training set; the epoch with the best PSNR is chosen on them, and the "
                "test set is used for scoring only. Whole images are held out, not patches: those of one image are alike.",
            )
        )
    for val_set, labels in classroom.items():
        who = say.joined(labels)
        parts.append(
            say(
                f"{who} 的最佳轮次是在 {val_set} 上选择的（课堂协议），因此在 {val_set} 上的得分不是未见数据上的得分，会偏高。",
                f"The best epoch of {who} was chosen on {val_set} (classroom protocol): its score there is not one on unseen "
                "images, and too high.",
            )
        )
    return "\n\n".join(parts)


# ---------------------------------------------------------------- networks and training


def enlargement(facts, say):
    """Return where the networks enlarge, the largest difference in their structure."""
    kinds = {True: [], False: []}
    for network in facts.networks:
        label = MODELS[network.model].__name__ if network.model in MODELS else None
        if label and label not in kinds[enlarges_first(network)]:
            kinds[enlarges_first(network)].append(label)
    first, last = kinds[True], kinds[False]
    square = facts.scale**2
    parts = []
    if first:
        who, many = say.joined(first), len(first) > 1
        parts.append(
            say(
                f"{who} 先用双三次插值把图像放大，所有卷积都在大图上进行。",
                f"{who} first enlarge{'' if many else 's'} the image bicubically; all convolutions see the large image.",
            )
        )
    if last:
        who, many = say.joined(last), len(last) > 1
        parts.append(
            say(
                f"{who} 在小图上计算，最后才用可学习的层放大，同样一层卷积的计算量只有在大图上的 1/{square}。",
                f"{who} compute{'' if many else 's'} on the small image and enlarge{'' if many else 's'} it at the end by "
                f"layers that learn, where a convolution costs 1/{square} of what it does on the large one.",
            )
        )
    return say("", " ").join(parts)


def optimisation(facts, say):
    """Return loss, optimizer, schedule and averaging of the recipes, with their formulas."""
    recipes = [network.recipe for network in facts.networks]
    losses = {recipe.get("loss", "mse") for recipe in recipes}
    paragraphs = []
    if "mse" in losses:
        paragraphs += [
            say("均方误差（mean squared error, MSE）损失为", "The mean squared error (MSE) is"),
            r"$$L(\theta) = \frac{1}{N}\sum_{i=1}^{N}\left(f_\theta(x)_i - y_i\right)^2$$",
            say(
                "其中 $i$ 遍历一步中的全部像素。优化器为 Adam {{ cite adam }}。",
                "where $i$ runs over all pixels of a step. The optimizer is Adam {{ cite adam }}.",
            ),
        ]
    if others := sorted(losses - {"mse"}):
        names = say.joined([f"`{name}`" for name in others])
        paragraphs.append(
            say(
                f"使用的损失函数还有 {names}。"
                if "mse" in losses
                else f"损失函数为 {names}，优化器为 Adam {{{{ cite adam }}}}。",
                f"The loss is {names}, the optimizer Adam {{{{ cite adam }}}}.",
            )
        )
    if any(recipe.get("schedule") == "cosine" for recipe in recipes):
        paragraphs += [
            say(
                "学习率在预热的 $w$ 步内线性升到 $\\eta_{\\max}$，再按余弦降到 0（$S$ 为总步数）：",
                "The learning rate rises linearly to $\\eta_{\\max}$ in the $w$ steps of warm-up, then falls to 0 along a cosine ($S$: all steps):",
            ),
            r"$$\eta(s) = \frac{\eta_{\max}}{2}\left(1 + \cos\frac{\pi (s - w)}{S - w}\right)$$",
        ]
    if any(recipe.get("average") for recipe in recipes):
        paragraphs += [
            say(
                "验证和保存的是权重的指数滑动平均（exponential moving average, EMA）：",
                "What is validated and saved is the exponential moving average (EMA) of the weights:",
            ),
            r"$$\bar\theta \leftarrow \beta\,\bar\theta + (1 - \beta)\,\theta$$",
        ]
    if any(recipe.get("centralize") for recipe in recipes):
        paragraphs.append(
            say(
                "每个滤波器的梯度都减去其均值（gradient centralization {{ cite centralization }}）。",
                "The mean of each filter's gradient is taken away (gradient centralization {{ cite centralization }}).",
            )
        )
    return "\n\n".join(paragraphs)


def recipes(facts, say):
    """Return whether the networks were trained alike, and which was trained by which recipe."""
    if len(facts.networks) == 1:
        return ""
    if not recipe_names(facts):
        return say(
            "各网络的训练方案相同，只有结构不同。",
            "All networks were trained by the same recipe; only their structure differs.",
        )
    fields = recipe_fields(say)
    members = [group[0] for group in facts.recipes.values()]
    names = say.joined([fields[key][0] if key in fields else key for key in recipe_differences(members)])
    return say(
        f"各网络的训练方案不完全相同，不同之处是{names}；网络之间的差别因此既来自结构，也来自训练。",
        f"The networks were not all trained alike; what differs is: {names}. Differences between them come from their "
        "structure and from their training.",
    )


def course(facts, say):
    """Return what the training curves show: the best epoch, and where more training made it worse."""
    parts = []
    for network in facts.networks:
        if network.trained.get("started_from"):
            count = len(network.trained["started_from"])
            parts.append(
                say(
                    f"{network.label} 的训练从已有的权重开始（此前训练过 {count} 次）；表中只列最后一次。",
                    f"The training of {network.label} began with the weights of {plural(count, 'earlier training')}; the table has the last one.",
                )
            )
    late = [network.label for network in facts.networks if overfits(network)]
    if late:
        who = say.joined(late)
        parts.append(
            say(
                f"{who} 的验证 PSNR 在训练结束之前就已达到最高，此后训练损失仍在下降而验证 PSNR 降低，这是过拟合（overfitting）的迹象。",
                f"The validation PSNR of {who} was highest before the end; afterwards the loss kept falling while that PSNR "
                "fell too: a sign of overfitting.",
            )
        )
    return "\n\n".join(parts)


def overfits(network):
    """Return whether the loss went on falling while the validation PSNR fell, in the last fifth of a training or more."""
    rows, epoch = network.history, network.trained.get("epoch")
    later = [row for row in rows if row["epoch"] > (epoch or 0)]
    chosen = [row for row in rows if row["epoch"] == epoch]
    if not chosen or len(later) < max(2, len(rows) / 5):
        return False
    return later[-1]["loss"] < chosen[0]["loss"] and later[-1]["val_psnr"] < chosen[0]["val_psnr"] - FALL_DB


# ---------------------------------------------------------------- results


def anchor(facts, say):
    """Return bicubic's score, and whether it is the literature's."""
    psnr, ssim = (round(facts.bicubic[key], digits) for key, digits in (("psnr", 2), ("ssim", 4)))
    text = say(
        f"双三次插值在 {facts.dataset}（×{facts.scale}）上得到 {psnr:.2f} dB / {ssim:.4f}",
        f"Bicubic interpolation scores {psnr:.2f} dB / {ssim:.4f} on {facts.dataset} (×{facts.scale})",
    )
    if facts.dataset == "Set5" and (psnr, ssim) == ANCHORS.get(facts.scale):
        return text + say(
            "，与文献中的数值相同，说明退化与指标和文献一致。",
            ", the literature's values: degradation and metrics are the usual ones.",
        )
    return text + say("，是以下各表的基线。", ", the baseline of the following tables.")


def ranking(facts, say):
    """Return the networks by PSNR, and how far they are from their papers."""
    best = facts.best
    gain = say.change(best.psnr - facts.bicubic["psnr"])
    if len(facts.networks) == 1:
        text = say(
            f"{best.label} 的平均 PSNR 为 {best.psnr:.2f} dB，比双三次{gain}。",
            f"{best.label} has a mean PSNR of {best.psnr:.2f} dB, {gain} than bicubic.",
        )
    else:
        ordered = say("、", ", ").join(f"{network.label} {network.psnr:.2f} dB" for network in facts.by_psnr)
        text = say(
            f"按 PSNR 从高到低为 {ordered}；最高的 {best.label} 比双三次{gain}。",
            f"From the highest PSNR down: {ordered}; {best.label} is {gain} than bicubic.",
        ) + top_two(facts, say)
    return text + papers(facts, say)


def papers(facts, say):
    """Return how far the networks are from what their papers state, and on what those trained."""
    known = [(network, paper_of(network, facts.dataset, facts.scale)) for network in facts.networks]
    known = [(network, paper) for network, paper in known if paper]
    if not known:
        return ""
    distances = [f"{network.label} {signed(network.psnr - paper)} dB" for network, paper in known]
    sizes = [f"{network.label}: {LITERATURE['networks'][network.model]['training_set']}" for network, _ in known]
    return say(
        f"与论文的数值相差：{'、'.join(distances)}。论文的训练集与训练方法不同（{'；'.join(sizes)}），这些差别不能只归因于结构。",
        f" From the papers' values they differ by: {', '.join(distances)}. The papers trained on other sets and in other "
        f"ways ({'; '.join(sizes)}); these differences are not those of the structure alone.",
    )


def top_two(facts, say):
    """Return whether the difference of the best two is more than the luck of the seed, as far as that is known."""
    first, second = facts.by_psnr[:2]
    threshold = facts.threshold(first, second)
    difference = first.psnr - second.psnr
    if threshold is None:
        return say(
            f"前两名 {first.label} 与 {second.label} 相差 {difference:.2f} dB；没有多个随机种子的结果，无法判断这一差别是否超出随机波动。",
            f" The first two, {first.label} and {second.label}, are {difference:.2f} dB apart; without results of several "
            "seeds it is not known whether that is more than chance.",
        )
    return say(
        f"前两名 {first.label} 与 {second.label} 相差 {difference:.2f} dB，",
        f" The first two, {first.label} and {second.label}, are {difference:.2f} dB apart, ",
    ) + verdict(difference, threshold, say)


def verdict(difference, threshold, say):
    """Return whether a difference in dB is more than chance, in words that end a sentence."""
    if abs(difference) > threshold:
        return say(f"超出随机波动的界限 {threshold:.2f} dB。", f"more than chance allows ({threshold:.2f} dB).")
    return say(
        f"在随机波动的界限 {threshold:.2f} dB 之内，不能据此分出优劣。",
        f"within what chance allows ({threshold:.2f} dB): it does not show which is better.",
    )


def further(facts, say):
    """Return the tables of the other test sets."""
    names = dict.fromkeys(name for network in facts.networks for name in network.elsewhere)
    return "\n\n".join(f"{{{{ table further_{name} }}}}" for name in names)


def gains(facts, say):
    """Return on which image the networks gain most, and least."""
    if len(facts.images) < 2:
        return ""
    ordered = images_by_gain(facts)
    (name, most), (other, least) = ordered[0], ordered[-1]
    who = facts.networks[0].label if len(facts.networks) == 1 else say("各网络平均", "The networks on average")
    verb, space = ("gains", " ") if len(facts.networks) == 1 else ("gain", "")
    return say(
        f"{who}{space}比双三次提高的 PSNR 在 {name} 上最大（{most:+.2f} dB），在 {other} 上最小（{least:+.2f} dB）。".replace(
            "-", "−"
        ),
        f"{who} {verb} most over bicubic on {name} ({most:+.2f} dB) and least on {other} ({least:+.2f} dB).".replace(
            "-", "−"
        ),
    )


def images_by_gain(facts):
    """Return [(image, mean gain over bicubic in dB)], the largest gain first."""
    gains = [
        (image["name"], sum(float(n.image_psnr[index]) - image["psnr"] for n in facts.networks) / len(facts.networks))
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
    ordered = sorted(facts.networks, key=lambda network: network.image_psnr[index], reverse=True)
    best, last = ordered[0], ordered[-1]
    top = float(best.image_psnr[index])
    text = say(
        f"{name}：双三次为 {base:.2f} dB，{best.label} {'' if best is last else '最高，'}为 {top:.2f} dB（{say.change(top - base)}）",
        f"{name}: bicubic has {base:.2f} dB, {best.label} {'' if best is last else 'the most, '}{top:.2f} dB ({say.change(top - base)})",
    )
    if best is not last:
        low = float(last.image_psnr[index])
        text += say(f"，{last.label} 最低，为 {low:.2f} dB", f", {last.label} the least, {low:.2f} dB")
    return text + say("。", ".")
