"""The report: of whatever networks have results, in the user's own words, with nothing untrue of another's numbers."""

import math
import re
from itertools import combinations
from types import SimpleNamespace
from urllib.parse import quote

import numpy as np
import pytest
from helpers import refusal, result_document
from PIL import Image
from skimage import data

from engine.results import SCORES
from models import MODELS
from report.build import main
from report.charts import draw_training, name_points
from report.comparisons import Panel, draw_image
from report.content import LITERATURE
from report.document import Document, descriptions
from report.drawing import figure_file
from report.facts import load
from report.figures import all_figures, training_of
from report.results import Result, networks_of
from report.words import Language
from support.files import write_json
from utils import calc_psnr, shave, to_y

IMAGES = {"face": data.astronaut()[:64, 200:272], "cup": data.coffee()[100:164, 200:264, 1]}  # the second grey
DATA_FIGURES = ("degradation", "patches", "held_out")
RECIPE = {"precision": "fp32", "learning_rate": 1e-3, "clip": 0.5}
OURS = ("H200", "EPYC", "/tmp/", "weights/", "六", "six ")  # of our machines and networks
LABELS = {model.__name__ for name, model in MODELS.items() if name != "bicubic"}


def document(model="srcnn", psnr=30.0, key=None, label=None, *, seed=0, recipe=None, **changes):
    """A result of two images with the mean PSNR asked for."""
    recipe = RECIPE | {"seed": seed} | (recipe or {})
    one = result_document(model, recipe=recipe, trained={"val_psnr": psnr - 3.7}, **changes)
    (image,) = one["images"]
    other = image | {"name": "cup", "psnr": psnr - 1, "bicubic_psnr": 27.5}
    one["images"] = [image | {"psnr": psnr + 1}, other]
    one["mean"] = one["mean"] | {"psnr": psnr, "bicubic_psnr": 27.75}
    one["history"] = [row | {"val_psnr": psnr - 4 + row["epoch"] / 10} for row in one["history"]]
    weights = {"path": "best.pth", "sha256": f"{key or model}{recipe}"}
    return one | {"key": key or model, "label": label or one["label"], "weights": weights} | changes


@pytest.fixture
def folder(tmp_path, blank_figures):
    """The folder of a report."""
    return tmp_path / "report"


@pytest.fixture
def made(folder):
    """Build the report of documents: made(document, ..., "--lang", "en") -> report.md."""

    def run(*given):
        documents = [one for one in given if isinstance(one, dict)]
        for number, one in enumerate(documents):
            write_json(folder / "results" / f"{one['dataset']}_x{one['scale']}_{one['key']}{number}.json", one)
        flags = [one for one in given if not isinstance(one, dict)]
        main(["--out", str(folder), "--data-dir", str(folder / "none"), *flags])
        return (folder / "report.md").read_text(encoding="utf-8")

    return run


def section(text, title):
    """The part of a report below a heading."""
    return re.split(rf"^#+ .*{title}$", text, flags=re.M)[1].partition("\n## ")[0]


def rows(text, caption):
    """The cells of the table whose caption holds some words, without its head."""
    table = re.search(rf"\*\*[^\n]*{caption}[^\n]*\*\*\n\n(.*?)\n\n", text, re.S)[1]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()]
    return cells[2:]


# ---------------------------------------------------------------- whose report it is


@pytest.mark.parametrize("language", Language.NAMES)
@pytest.mark.parametrize("model", ["srcnn", "carn"])
def test_report_of_one_network_names_that_alone_and_nothing_of_another_machine(folder, made, model, language):
    made(document(model), "--lang", language)
    files = [folder / "report.md", *(folder / "text").glob("*.md"), *(folder / "tables").iterdir()]
    label = MODELS[model].__name__
    for path in files:
        text = path.read_text(encoding="utf-8")
        assert [other for other in LABELS - {label} if re.search(rf"\b{other}\b", text)] == [], path
        assert [word for word in OURS if word in text] == [], path
    text = (folder / "report.md").read_text(encoding="utf-8")
    assert label in text and "My Laptop" in text and "my_photos" in text
    assert not re.search("名|最低|从高到低|highest|least,", section(text, {"zh": "总表", "en": "Results"}[language]))
    if language == "en":
        assert not re.search("[\u4e00-\u9fff]", text)
    assert "<!--" not in text and "{{" not in text


def test_descriptions_of_networks_are_in_both_languages_and_cite_papers_that_are_known():
    chinese, english = descriptions("zh"), descriptions("en")
    assert chinese.keys() == english.keys() >= {"srcnn", "xlsr"}
    for model in chinese:
        ours, theirs = ({*re.findall(r"\{\{ cite (\w+) \}\}", text[model])} for text in (chinese, english))
        assert ours == theirs and ours and ours <= LITERATURE["references"].keys()


def test_names_of_title_and_student_come_from_about_toml(folder, made):
    made(document())
    about = folder / "about.toml"
    text = about.read_text(encoding="utf-8")
    text = text.replace('title = ""', 'title = "我的报告"').replace('name = ""', 'name = "李明"')
    about.write_text(text, encoding="utf-8")
    head = made().splitlines()
    assert head[0] == "# 我的报告" and head[2].startswith("姓名：李明　日期：20")
    assert "<title>我的报告</title>" in (folder / "report.html").read_text(encoding="utf-8")
    about.write_text("name = 李明\n", encoding="utf-8")
    assert "about.toml" in refusal(made)
    for path in (about, folder / "text" / "5_analysis.md", folder / "text" / "network_srcnn.md"):
        path.write_text(text if path == about else "## 李明", encoding="utf-8-sig")  # with a mark, as some editors do
        assert "李明" in made()
        path.write_text("李明", encoding="gbk")
        assert f"{path}: not text in UTF-8" in refusal(made)
        path.write_text(text if path == about else "## 李明", encoding="utf-8")


def test_texts_are_the_users_a_deleted_one_comes_back_and_a_language_changes_what_is_untouched(folder, made):
    made(document())
    analysis, model = folder / "text" / "5_analysis.md", folder / "text" / "network_srcnn.md"
    initial = analysis.read_text(encoding="utf-8")
    analysis.write_text("## 我的分析\n\n文字。\n", encoding="utf-8")
    model.unlink()
    text = made()
    assert "## 5 我的分析\n\n文字。" in text and "### 2.1 SRCNN" in text and model.exists()
    text = made("--lang", "en")
    assert "## 5 我的分析" in text and "## 6 Conclusion" in text and "## Abstract" in text
    analysis.unlink()
    made("--lang", "zh")
    assert analysis.read_text(encoding="utf-8") == initial
    (folder / "text" / "55_discussion.md").write_text("## 讨论\n\n又一节。\n", encoding="utf-8")
    assert "又一节。" in made()


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("{{ table resluts }}", ["line 3", "table resluts", "table results", "table recipe"]),
        ("{{ tabel results }}", ["line 3", "tabel results", "table NAME"]),
        ("文字 {{ table results }} 文字", ["line 3", "table results"]),
        ("{{ cite nobody }}", ["line 3", "cite nobody"]),
    ],
)
def test_misspelt_placeholder_is_refused_naming_file_line_and_what_is_allowed(folder, made, line, words):
    made(document())
    before = (folder / "report.md").read_bytes()
    path = folder / "text" / "6_conclusion.md"
    path.write_text(f"## 结论\n\n{line}\n", encoding="utf-8")
    message = refusal(made)
    assert [word for word in [str(path), *words] if word not in message] == []
    assert (folder / "report.md").read_bytes() == before


def test_scale_and_references_in_the_users_sentences_and_formulas_with_braces(folder, made):
    made(document("srcnn", 30.25))
    path = folder / "text" / "6_conclusion.md"
    path.write_text("## 结论\n\n×{{ scale }}，$x^{{2}}$ {{ cite drrn }}\n", encoding="utf-8")
    text = made()
    assert "×4，$x^{{2}}$ [" in text
    assert "Tai" in section(text, "参考文献") and "Kim" not in section(text, "参考文献")


# ---------------------------------------------------------------- numbers


def test_results_are_in_order_of_publication_with_the_best_in_bold_and_what_goes_with_them(made):
    carn, vdsr = document("carn", 31.5), document("vdsr", 31.0)
    ensemble = document("carn", 31.7, "carn_ensemble", self_ensemble=True, weights=carn["weights"])
    other = document("vdsr", 29.0, dataset="more", weights=vdsr["weights"])
    stray = document("carn", 40.0, dataset="more", weights={"path": "x", "sha256": "of other weights"})
    text = made(carn, vdsr, ensemble, other, stray)
    assert [row[:1] + row[2:] for row in rows(text, "平均 PSNR 与 SSIM")] == [
        ["Bicubic", "27.75", "0.8000", "—", "—"],
        ["VDSR", "31.00", "**0.8500**", "+3.25", "—"],
        ["CARN", "**31.50**", "**0.8500**", "+3.75", "31.70 / 0.8500"],
    ]
    assert [row[0] for row in rows(text, "more ×4")] == ["Bicubic", "VDSR"]
    assert "40.00" not in text and "按 PSNR 从高到低为 CARN 31.50 dB、VDSR 31.00 dB" in text


def test_bicubic_is_said_to_be_the_literatures_only_where_it_is(made):
    result = document(dataset="Set5")
    assert "与文献中的数值相同" not in made(result)
    for image in result["images"]:
        image |= {"bicubic_psnr": 28.42, "bicubic_ssim": 0.8104}
    assert "与文献中的数值相同" in made(result)


def test_classroom_protocol_is_named(made):
    text = made(document(recipe={"val_set": "Set5"}))
    assert "SRCNN 的最佳轮次是在 Set5 上选择的（课堂协议）" in text and "不参与训练" not in text


def test_training_tables_hold_what_the_results_say(made):
    text = made(document("srcnn"), document("carn", recipe={"clip": 0.0}))
    recipe = {row[0]: row[1:] for row in rows(text, "训练方案")}
    assert recipe["梯度范数上限 (clipping)"] == ["0.5", "无"] and recipe["网络"] == ["SRCNN", "CARN"]
    assert recipe["图像块大小（HR 像素）"] == ["48×48", "48×48"]
    assert rows(text, "训练概况")[0] == ["SRCNN", "A", "3 / 3", "26.30", "2 分钟", "My Laptop"]
    assert "不同之处是梯度范数上限 (clipping)" in text
    assert [row[0] for row in rows(text, "评分的命令")] == ["SRCNN、CARN"]  # equal commands share a row
    assert len(rows(text, "训练各网络的命令")) == 2
    assert "$\\eta(s)" not in text and "\\bar\\theta" not in text  # neither a cosine nor an average


def test_markup_in_a_result_is_shown_and_puts_nothing_into_the_page(folder, made):
    """A command that ends its code and names an image would embed it, whosever it is."""
    private = folder.parent / "private.png"
    Image.new("RGB", (9, 6)).save(private)
    crafted = f"a` ![b]({private}) <img src={private}> {{{{ figure results }}}} $c$ d | e"
    pages = []
    for text in ("python test.py", crafted):
        made(document("srcnn") | {"command": text, "device": f"cpu: {text}"})
        pages.append((folder / "report.html").read_text(encoding="utf-8"))
    assert pages[0].count("<img") == pages[1].count("<img") > 0
    assert pages[0].count("<td") == pages[1].count("<td")
    assert "private.png" in pages[1] and 'src="/' not in pages[1]


# ---------------------------------------------------------------- comparisons


def test_networks_that_differ_in_one_option_are_a_group_and_those_that_differ_in_two_are_not(made):
    sizes = [document("vdsr", 30 + depth / 10, f"vdsr{depth}", options={"depth": depth}) for depth in (20, 5, 10)]
    two = document("vdsr", 33.0, "vdsr_two", options={"depth": 7, "num_features": 8})
    other = document("vdsr", 33.0, "vdsr_other", options={"depth": 8}, recipe={"epochs": 9})
    text = made(*sizes, two, other)
    assert [row[0] for row in rows(text, "只改变 depth")] == ["5", "10", "20"]
    assert [row[-1] for row in rows(text, "只改变 depth")] == ["+0.00", "+0.50", "+1.50"]
    assert "option_vdsr_depth.png" in text and "只改变 num_features" not in text


def test_seeds_are_one_row_with_their_spread_and_decide_what_counts(made):
    runs = [document("srcnn", psnr, f"srcnn_{seed}", seed=seed) for seed, psnr in enumerate((30.0, 30.2, 30.1))]
    text = made(*runs, document("carn", 30.2), document("vdsr", 31.5))
    assert [row[2] for row in rows(text, "平均 PSNR")] == ["27.75", "30.10 ± 0.10", "**31.50**", "30.20"]
    assert "相差 1.30 dB，超出随机波动的界限 0.61 dB" in text


def test_every_number_of_several_seeds_is_their_mean_on_further_test_sets_too(made):
    runs = [document("vdsr", 30.0 + seed, f"vdsr_{seed}", seed=seed) for seed in range(3)]
    further = [one | {"dataset": "more"} for one in runs]
    bf16 = further[0] | {"key": "vdsr_0_bf16", "precision": "bf16"}
    bf16["images"] = [image | {"psnr": 1.0} for image in bf16["images"]]
    deep = document("vdsr", 32.0, "vdsr_deep", options=runs[0]["options"] | {"depth": 9})
    text = made(*runs, deep, document(), bf16, *further)
    assert rows(text, "more ×4")[1][2] == "**31.00**"
    assert [row[-3] for row in rows(text, "只改变 depth")] == ["28.30", "27.30"]


def test_two_runs_of_one_seed_are_two_rows(made):
    again = document("srcnn", 31.0, "srcnn_again", "SRCNN [again]", recipe={"precision": "bf16"})
    assert [row[2] for row in rows(made(document("srcnn"), again), "平均 PSNR")] == ["27.75", "30.00", "**31.00**"]


def test_network_of_another_colour_has_a_row_of_its_own(made):
    colour = document("srcnn", 31.0, "srcnn_rgb", "SRCNN (RGB)", protocol=document()["protocol"] | {"colour": "rgb"})
    text = made(document("srcnn"), colour)
    assert [row[0] for row in rows(text, "网络的结构与代价")] == ["SRCNN", "SRCNN (RGB)"]


def test_networks_have_their_kind_and_what_their_papers_reached_and_the_map_its_front(made):
    """SRCNN costs more than FSRCNN and reaches less, CARN reaches most; the network of the paper on DRCN is larger."""
    names = {"carn": 31.5, "srcnn": 30.4, "fsrcnn": 30.5, "drcn": 31.2}
    small = document("vdsr", 30.0, "small", dataset="Set5", options={"num_features": 8})  # not that of its paper
    text = made(*(document(name, psnr, dataset="Set5") for name, psnr in names.items()), small)
    assert {row[0]: row[1:4] for row in rows(text, "网络的结构与代价")} == {
        "SRCNN": ["先放大", "线性", "2014"],
        "FSRCNN": ["末端放大", "线性", "2016"],
        "VDSR (num_features=8)": ["先放大", "残差", "2016"],
        "DRCN": ["先放大", "递归", "2016"],
        "CARN": ["末端放大", "多路径", "2018"],
    }
    assert {row[0]: row[-1] for row in rows(text, "平均 PSNR")} == {
        "Bicubic": "—",
        "SRCNN": "30.49, ImageNet (395,909)",
        "FSRCNN": "30.71, T91 + General-100",
        "VDSR (num_features=8)": "—",
        "DRCN": "31.53 (1.8 M), T91",
        "CARN": "32.13, DIV2K (800)",
    }
    assert "达到更高 PSNR 的是 FSRCNN 和 CARN。" in text and "figures/map.png" in text
    assert "与论文数值的差别不能只归因于结构" in text
    assert "DRCN 的论文数值来自更大的网络" in text


def test_names_in_the_map_lie_on_no_other_name_and_inside(tmp_path):
    """Twenty points, half of them close together."""
    points = [(10 ** (n % 5), 30 + n / 9, f"Network {n}") for n in range(10)]
    points += [(100 + 9 * n, 31 + n / 40, f"Net {n}") for n in range(10)]
    with figure_file(tmp_path / "map.png", 7.2, 4.6, "constrained") as figure:
        axes = figure.subplots()
        axes.plot(*zip(*((x, y) for x, y, _ in points), strict=True), "o", label="networks")
        axes.set(xscale="log")
        axes.margins(0.1)
        axes.legend(loc="lower right")
        name_points(axes, points)
        figure.canvas.draw()
        boxes = [text.get_window_extent() for text in axes.texts]
        assert [text.get_text() for text in axes.texts] == [name for *_, name in points]
        assert [one for one, other in combinations(boxes, 2) if one.overlaps(other)] == []
        assert all(axes.bbox.x0 <= box.x0 and box.x1 <= axes.bbox.x1 for box in boxes)


def test_one_network_trained_in_several_ways_is_compared_where_one_thing_differs(made):
    slow = document("carn", 30.0, "carn_slow", "CARN (slow)", recipe={"learning_rate": 1e-4})
    both = document("carn", 29.5, "carn_both", "CARN (both)", recipe={"learning_rate": 1e-4, "clip": 0.0})
    text = made(document("carn", 31.0), slow, both)
    rates, bounds = (rows(text, f"只改变{words}") for words in (" Adam 的学习率", " 梯度范数上限"))
    assert [row[:1] + row[-3:] for row in rates] == [
        ["0.0001", "26.30", "30.00", "+0.00"],
        ["0.001", "27.30", "31.00", "+1.00"],
    ]
    assert [row[:1] + row[-1:] for row in bounds] == [["无", "+0.00"], ["0.5", "+0.50"]]
    assert "Adam 的学习率 从 0.0001 变为 0.001" in text and "步数相同" not in text


def test_one_network_computed_in_two_ways_is_no_comparison_and_how_to_get_one_is_said(made):
    text = made(document("carn", 31.0), document("carn", 30.9, "carn_bf16", "CARN bf16", precision="bf16"))
    assert [row[0] for row in rows(text, "平均 PSNR")] == ["Bicubic", "CARN", "CARN bf16"]
    analysis = section(text, "对比分析")
    assert "目前的结果中没有可以相互比较的网络" in analysis and "--set depth=10" in analysis


def test_result_of_a_network_that_the_registry_has_no_more_is_shown_as_far_as_it_is_known(made):
    text = made(document("srcnn"), document("carn", 31.0, "gone", "Gone") | {"model": "gone"})
    assert rows(text, "网络的结构与代价")[1][:6] == ["Gone", "—", "—", "—", "1,234", "—"]
    assert rows(text, "平均 PSNR")[-1][0] == "Gone"


def test_shipped_scores_are_marked_and_there_only_if_asked_for(made, tmp_path, monkeypatch):
    monkeypatch.setattr("report.facts.ROOT", tmp_path)
    shared = document("carn", 31.5)
    scores = [{key: shared.pop(key) for key in SCORES if key in shared}]
    scores.append(scores[0] | {"self_ensemble": True})
    write_json(tmp_path / "weights" / "carn_x4.json", shared | {"scores": scores})
    assert "CARN" not in made(document("srcnn"))
    text = made("--shipped")
    assert [row[0] for row in rows(text, "平均 PSNR")] == ["Bicubic", "SRCNN", "CARN（随附）"]
    assert "SRCNN 的平均 PSNR 为 30.00 dB" in text  # the sentences are about the user's own network


def trained_on(one, **fields):
    """A document with fields of its training set: of T91, two images held out."""
    one["trained"]["data"] |= {"dataset": "T91", "held_out": ["t1", "t2"]} | fields
    return one


def test_classroom_protocol_holds_no_image_out_and_a_loss_for_texture_keeps_the_last_epoch(made):
    classroom = trained_on(document(recipe={"val_set": "Set5"}))
    texture = trained_on(document("carn", recipe={"loss": "mse + 1e-3 gan"}))
    text = made(classroom, texture, "--lang", "en")
    assert "| T91 | 91 | training; 2 of them held out |" in text  # of CARN they are
    assert "The loss of CARN trades PSNR for texture" in text and "is chosen on them" not in text
    text = made(classroom, document("carn", recipe={"val_set": "Set5"}), "--lang", "en")
    assert "| T91 | 91 | training, all of them |" in text and "held_out.png" not in text


def test_networks_are_said_to_be_trained_alike_where_they_were(made):
    def said(*documents):
        return re.findall(r"All networks were trained by the same recipe[^.]*\.", made(*documents, "--lang", "en"))

    begun = document("carn")
    begun["trained"]["started_from"] = [{"label": "CARN x2"}]
    assert said(document(), begun) == []
    alike = "All networks were trained by the same recipe"
    assert said(document(), document("carn")) == [f"{alike}; only their structure differs."]
    assert said(document(), document(protocol={"colour": "rgb"}, key="rgb")) == [f"{alike}."]


def test_patches_of_a_network_for_several_scales_are_those_of_its_own(made):
    other = {"scale": 3, "patch_size": 75, "stride": 25, "dataset": "my_photos", "manifest": "feed"}
    one = document("mdsr", scale=3)
    one["trained"]["data"] |= {"scale": 4, "patch_size": 76, "other_scales": [other]}
    assert "75×75 的 HR 图像块（patch）与对应的 25×25 LR" in made(one)


def test_differences_of_infinite_psnrs_are_no_number_and_are_said_to_be_none(made):
    flat = document(psnr=math.inf)
    flat["trained"]["val_psnr"], flat["history"] = 26.0, []
    for image in flat["images"]:
        image["bicubic_psnr"] = math.inf
    text = made(flat, "--lang", "en")
    assert "not comparable with bicubic interpolation (infinite PSNR)" in text and "nan" not in text
    assert "has a mean PSNR of 27.75 dB, equal to bicubic." in made(document(psnr=27.75))


def test_results_with_self_ensemble_alone_are_refused_with_what_to_do(made):
    assert "python test.py --weights best.pth" in refusal(made, document(self_ensemble=True))


def test_placeholders_of_names_with_braces_and_spaces_are_found_and_misspelt_pictures_refused(folder):
    names = ["a{1}", "b  c"]
    facts, say = SimpleNamespace(scale=4), Language("en")
    figures = {f"comparison_{name}": SimpleNamespace(name=f"comparison_{name}", caption=name) for name in names}
    made = Document(facts, say, {}, figures, {})
    for name in names:
        assert f"(figures/{quote(f'comparison_{name}')}.png)" in made.line(f"{{{{ figure comparison_{name} }}}}", True)
    assert made.line("$x^{{2}}$", True) == "$x^{{2}}$"
    assert "comparison_a{1}" in refusal(made.line, "{{ figure comparison_a }}", True)
    assert Document(facts, say, {}, {}, {}).line("{{ figure comparison_a }}", True) == ""  # no pictures at all


# ---------------------------------------------------------------- pictures, and what is refused


def test_pictures_are_shown_where_they_are_those_of_the_results(folder, made):
    (folder / "figures").mkdir(parents=True)
    result, wrong = document("srcnn"), document("carn")
    for name, hr in IMAGES.items():
        rng = np.random.default_rng(0)
        shown = [np.clip(hr + rng.normal(0, sigma, hr.shape), 0, 255).astype(np.uint8) for sigma in (20, 10, 15)]
        psnrs = [float(calc_psnr(*(shave(to_y(one), 4) / 255 for one in (image, hr)))) for image in shown]
        row = next(image for image in result["images"] if image["name"] == name)
        row |= {"psnr": psnrs[1], "bicubic_psnr": psnrs[0]}
        next(image for image in wrong["images"] if image["name"] == name).update(bicubic_psnr=psnrs[0])
        keys = zip(("bicubic", "srcnn", "carn"), shown, psnrs, strict=True)
        panels = [Panel(key, key, to_y(image), image, psnr, 0.8, key == "bicubic") for key, image, psnr in keys]
        draw_image(folder / "figures", {"srcnn": result, "carn": wrong}, name, hr, panels, None)
    text = made(result, wrong)
    assert "figures/comparison_cup.png" in text
    assert {f"{kind}_face.png" for kind in ("comparison", "errors")} <= {*re.findall(r"figures/(\w+\.png)", text)}
    assert "缺少 CARN 的图像" in text
    page = (folder / "report.html").read_text(encoding="utf-8")
    sliders = "".join(re.findall(r'<section class="slider".*?</section>', page, re.S))
    assert page.count(">HR</option>") == 4 and ">CARN" not in sliders
    main(["--out", str(folder), "--web", str(folder.parent / "web")])
    assert (folder.parent / "web" / "figures" / "comparison_face.webp").exists()


def test_figures_are_drawn(tmp_path):
    """One real build, of three small networks trained on the built-in photographs."""
    small = {"num_features": 2}
    sizes = [document("vdsr", 30 + n, f"vdsr{n}", options={"depth": n} | small) for n in (2, 3)]
    for one in (*sizes, document("srcnn", 30.0, options=small)):
        one["trained"]["data"] |= {"dataset": "sample", "held_out": ["coins"]}
        write_json(tmp_path / "results" / f"{one['key']}.json", one)
    main(["--out", str(tmp_path), "--lang", "en"])
    names = {path.stem for path in (tmp_path / "figures").glob("*.png")}
    assert names == {"curves", "images", "map", "option_vdsr_depth", "network_srcnn", "network_vdsr", *DATA_FIGURES}
    assert all(path.with_suffix(".pdf").exists() for path in (tmp_path / "figures").glob("*.png"))


def test_curves_of_one_network_have_a_pdf_too(tmp_path):
    (network,) = networks_of([Result(tmp_path / "a.json", document())], "my_test")
    draw_training(tmp_path / "curves.png", [network], None, Language("en"))
    assert (tmp_path / "curves.pdf").exists()


@pytest.mark.parametrize(("val_set", "drawn"), [("held-out", True), ("Set5", False)])
def test_curves_have_bicubics_line_where_it_is_of_the_images_they_were_measured_on(tmp_path, val_set, drawn):
    one = document("srcnn")
    one["trained"] |= {"val_set": val_set, "data": one["trained"]["data"] | {"dataset": "sample"}}
    write_json(tmp_path / "srcnn.json", one)
    facts = load(tmp_path)
    figures = all_figures(facts, [], training_of(facts, tmp_path, None), {}, Language("en"))
    assert (figures["curves"].draw.keywords["bicubic"] is not None) == drawn


def test_without_results_the_commands_that_make_them_are_named(folder, made):
    assert "python test.py --weights best.pth" in refusal(made)
    assert not (folder / "report.md").exists()


def test_results_of_different_images_under_one_name_and_what_is_no_result_are_refused(folder, made):
    message = refusal(made, document("srcnn"), document("carn", dataset_manifest="other"))
    assert "dataset_manifest differs" in message and "my_test_x4_carn" in message
    (folder / "results" / "broken.json").write_text("[]", encoding="utf-8")
    assert "broken.json" in refusal(made)


FEWER = document(key="srcnn_1", seed=1) | {"images": document()["images"][:1]}
MORE = document(dataset="more"), document("carn", dataset="more", dataset_manifest="other")


@pytest.mark.parametrize(("others", "field"), [((FEWER,), "list of images"), (MORE, "dataset_manifest")])
def test_seeds_and_further_sets_of_different_images_are_refused(made, others, field):
    assert f"{field} differs" in refusal(made, document(), document("carn"), *others)


def test_method_without_a_training_set_has_a_row_that_says_so_and_its_command(made):
    fitted = document("carn", 29.0, key="dip", label="Deep Image Prior") | {"model": "dip", "weights": None}
    fitted |= {"trained": None, "saw": "the LR of each test image"}
    text = made(document(), fitted, fitted | {"dataset_manifest": "other", "key": "other"}, "--lang", "en")
    row = ["Deep Image Prior (no training set)", "1,234", "29.00", "0.8500", "+1.25"]
    assert [one for one in rows(text, "Mean PSNR and SSIM") if "Deep" in one[0]] == [row]
    assert text.count("Deep Image Prior") == 3 and "fitted to the LR of each test image" in text
