"""The HTML page: it needs nothing outside it, has everything that the Markdown has, and takes none of it for HTML."""

import base64
import io
import re
from html.parser import HTMLParser
from urllib.parse import quote, unquote

import numpy as np
import pytest
from helpers import refusal
from PIL import Image
from skimage import data

from report.formulas import formula_svg
from report.page import COLUMN, MAX_WIDTH, render_page, write_light
from report.words import Language

VOID = {"meta", "link", "img", "br", "hr", "input"}
PHOTOGRAPH = Image.fromarray(data.astronaut()[:128, 100:260])


class Elements(HTMLParser):
    """The elements of a page as dicts: tag, attributes, "text" inside, "inside" tags; unbalanced ones fail."""

    def __init__(self, html):
        super().__init__()
        self.found, self.open = [], []
        self.feed(html)
        self.close()
        assert not self.open

    def handle_starttag(self, tag, attributes):
        names = [name for name, _ in attributes]
        assert len(set(names)) == len(names)
        element = dict(attributes) | {"tag": tag, "text": "", "inside": [outer["tag"] for outer in self.open]}
        self.found.append(element)
        if tag not in VOID:
            self.open.append(element)

    def handle_startendtag(self, tag, attributes):
        self.handle_starttag(tag, attributes)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag):
        assert self.open.pop()["tag"] == tag

    def handle_data(self, text):
        for element in self.open:
            element["text"] += text

    def all(self, tag):
        return [element for element in self.found if element["tag"] == tag]


@pytest.fixture
def page(tmp_path):
    """Render Markdown whose images lie in tmp_path: page(text, sliders) -> its Elements, with the HTML as .html."""

    def render(text, sliders=(), title="报告", language="zh"):
        html = render_page(text, tmp_path, list(sliders), title=title, say=Language(language))
        elements = Elements(html)
        elements.html = html
        return elements

    return render


@pytest.fixture
def comparison(tmp_path):
    """A slider's description with the results' files: comparison({label: psnr}, name)."""

    def make(psnrs, name="butterfly"):
        results = []
        for number, (label, psnr) in enumerate(psnrs.items()):
            path = tmp_path / f"{len(name)}_{number}.{'webp' if number % 2 else 'png'}"
            Image.eval(PHOTOGRAPH, lambda value, number=number: value ^ number).save(path, lossless=True)
            results.append({"label": label, "path": path, "psnr": psnr, "ssim": psnr and psnr / 40})
        return {"name": name, "results": results}

    return make


def decoded(image):
    """The picture in an <img> element."""
    kind, _, content = image["src"].partition(";base64,")
    assert kind == "data:image/webp"
    return Image.open(io.BytesIO(base64.b64decode(content, validate=True)))


def drawing(width, height):
    """A chart-like image: flat colours and lines."""
    image = Image.new("RGB", (width, height), "white")
    image.paste("#0072b2", (width // 8, height // 2, width // 2, height))
    image.paste("black", (0, height - 4, width, height))
    return image


FULL = """# 报告

## 1 数据

文字 $x^2$，[链接](https://example.org/a?b=1&c=2) 和 `代码`。

$$\\frac{1}{N}\\sum_{i=1}^N x_i$$

| 网络 | PSNR |
|:--|--:|
| CARN | 31.20 |

![图 1](a.png)

<!-- sliders -->

## 参考文献

1. 一
"""


def test_page_needs_nothing_outside_it(page, tmp_path, comparison):
    drawing(300, 200).save(tmp_path / "a.png")
    elements = page(FULL, [comparison({"Bicubic": 22.1, "CARN": 26.8})])
    for element in elements.found:
        inward = ("data:", "#", "https://example.org") if element["tag"] == "a" else ("data:", "#")
        for name in ("src", "srcset", "href", "data", "poster"):
            assert element.get(name, "#").startswith(inward)
    assert len(elements.all("script")) == 3
    styles = "".join(element["text"] + element.get("style", "") for element in elements.found)
    assert "url(" not in styles and "@import" not in styles
    policy = next(meta["content"] for meta in elements.all("meta") if "content" in meta and "http-equiv" in meta)
    assert "default-src 'none'" in policy
    assert elements.found[0]["lang"] == "zh-CN"
    assert elements.html.startswith("<!DOCTYPE html>") and "{{" not in elements.html


def test_same_input_gives_the_same_bytes_and_no_id_twice(page, tmp_path, comparison):
    drawing(300, 200).save(tmp_path / "a.png")
    sliders = [comparison({"Bicubic": 22.1, "CARN": 26.8}), comparison({"Bicubic": 22.1, "CARN": 26.8}, "bird")]
    first, second = page(FULL + "\n再一次 $x^2$\n", sliders), page(FULL + "\n再一次 $x^2$\n", sliders)
    assert first.html == second.html
    names = [element["id"] for element in first.found if "id" in element]
    assert len(set(names)) == len(names) == 3


# ---------------------------------------------------------------- text


def test_html_in_text_title_and_alt_text_is_shown_and_not_obeyed(page, tmp_path):
    drawing(30, 20).save(tmp_path / "a.png")
    hostile = '<script>alert("1")</script>'
    text = f'# {hostile}\n\n{hostile}\n\n<div onclick="x()">块</div>\n\n![{hostile} "引号" $a<b$](a.png)\n'
    elements = page(text + f"\n`{hostile}`\n\n[链接](javascript:alert(1))\n", title=f"</title>{hostile}")
    assert len(elements.all("script")) == 3
    assert not elements.all("div")
    assert elements.all("title")[0]["text"] == f"</title>{hostile}"
    assert elements.all("h1")[0]["text"].startswith(hostile)
    assert elements.all("code")[0]["text"] == hostile
    assert elements.all("img")[0]["alt"] == f'{hostile} "引号" a<b'
    assert not any("javascript" in link["href"] for link in elements.all("a"))


def test_comments_vanish_and_line_breaks_in_tables_stay(page):
    elements = page("<!-- made by a script -->\n\n| a |\n|---|\n| 一<br>二 <!-- not this --> |\n")
    assert "made by" not in elements.html
    assert "not this" not in elements.html
    assert elements.all("br")[0]["inside"][-1] == "td"


def test_lines_of_a_chinese_paragraph_join_without_a_space_and_english_ones_with(page):
    elements = page("第一行\n第二行（\nand\nEnglish\n）与\nx\n\n- 项目\n  续行\n")
    assert elements.all("p")[0]["text"] == "第一行第二行（and\nEnglish）与\nx"
    assert elements.all("li")[-1]["text"] == "项目续行"


def test_every_heading_has_an_anchor_of_its_own_that_the_contents_link_to(page):
    elements = page(
        "# 报告\n\n## 1 引言\n\n## 结果\n\n### 结果\n\n## 结果\n\n## ！\n\n## 5. Set5 × [4](#x)\n\n#### 深\n"
    )
    headings = [element for element in elements.found if re.fullmatch("h[1-6]", element["tag"])]
    anchors = [heading["id"] for heading in headings]
    assert anchors == ["报告", "1-引言", "结果", "结果-1", "结果-2", "section", "5-set5--4", "深"]
    listed = [link for link in elements.all("a") if "nav" in link["inside"]]
    assert [link["href"] for link in listed] == [f"#{anchor}" for anchor in anchors[1:-1]]
    assert [link["text"] for link in listed] == ["1 引言", "结果", "结果", "结果", "！", "5. Set5 × 4"]
    assert not any("a" in link["inside"] for link in listed)


def test_tables_keep_their_alignment_and_cannot_widen_the_page(page):
    elements = page(
        "**表 1　结果**\n\n**表 1** 列出结果。\n\n| 网络 | PSNR | 备注 |\n|:--|--:|:-:|\n| CARN | 31.20 | $x$ |\n"
    )
    assert [paragraph.get("class") for paragraph in elements.all("p")] == ["caption", None]
    sides = [(cell["tag"], cell["style"], cell["text"]) for cell in elements.all("th") + elements.all("td")]
    assert sides[:5] == [
        ("th", "text-align:left", "网络"),
        ("th", "text-align:right", "PSNR"),
        ("th", "text-align:center", "备注"),
        ("td", "text-align:left", "CARN"),
        ("td", "text-align:right", "31.20"),
    ]
    assert "div" in elements.all("table")[0]["inside"]
    assert re.search(r"\.table {[^}]*overflow-x: auto", elements.html)


# ---------------------------------------------------------------- formulas


def path_box(svg):
    """(left, top, right, bottom) of an SVG's path, from its points."""
    numbers = np.array([float(number) for number in re.findall(r"-?[\d.]+", svg["d"])]).reshape(-1, 2)
    return *numbers.min(0), *numbers.max(0)


def test_formulas_are_paths_with_their_source_as_text(page):
    elements = page("行内 $\\frac{a}{b}<1$ 公式\n\n$$\n\\hat{y}\n= f(x)\n$$\n")
    inline, display = elements.all("svg")
    assert (inline["role"], inline["aria-label"]) == ("img", r"\frac{a}{b}<1")
    assert (inline["inside"][-1], display["inside"][-2:]) == ("p", ["main", "span"])
    assert display["aria-label"] == r"\hat{y} = f(x)"
    assert [title["text"] for title in elements.all("title")[1:]] == [inline["aria-label"], display["aria-label"]]
    assert not any("$" in element["text"] for element in elements.all("p"))


@pytest.mark.parametrize(
    "tex", ["x", "f", "y_1", r"\frac{a}{b}", r"\sum_{i=1}^N x_i", r"\text{损失}=1", r"\sqrt{x}", "-"]
)
def test_formula_fills_its_box_and_stands_on_the_baseline(tex):
    """Nothing is cut off at the sides, and at most 5 units of 100 above and below; y = 0 is the baseline."""
    elements = Elements(formula_svg(tex))
    (svg,), (path,) = elements.all("svg"), elements.all("path")
    left, top, width, height = map(float, svg["viewbox"].split())
    box = path_box(path)
    assert left <= box[0] and box[2] <= left + width
    assert box[1] >= top - 5 and box[3] <= top + height + 5
    sides = [float(svg[side].removesuffix("em")) for side in ("width", "height")]
    assert sides == pytest.approx([width / 100, height / 100])
    below = -float(re.search(r"vertical-align:(-?[\d.]+)em", svg["style"])[1]) * 100
    assert below == pytest.approx(top + height)
    if tex == "x":
        assert box[3] == pytest.approx(0, abs=3)  # the letter's foot is on the line
    if tex == "y_1":
        assert box[3] > 15  # what hangs below it, hangs below it


def test_limits_of_a_sum_keep_away_from_what_stands_before_it():
    """They are wider than the sign: set close up, they would touch the N."""
    (path,) = Elements(formula_svg(r"N\sum_{i=1}^N x")).all("path")
    first, second, *_ = sorted(path_box({"d": part})[::2] for part in path["d"].split("M")[1:])
    assert second[0] - first[1] > 10  # of 100


@pytest.mark.parametrize("bad", [r"\quad", r"\begin{cases}1\end{cases}", r"\frac{a", "中文", r"\unknown"])
def test_formula_that_cannot_be_drawn_is_named_in_one_line(page, bad, caplog):
    assert bad in refusal(page, f"好的 $x$，坏的 ${bad}$。\n")
    assert not caplog.records  # which would be further lines


# ---------------------------------------------------------------- images


def test_images_are_inside_the_page_with_size_alt_text_and_caption(page, tmp_path):
    (tmp_path / "figures").mkdir()
    drawing(600, 400).save(tmp_path / "figures" / "图 一.png", dpi=(300, 300))
    elements = page("前文\n![图 1　损失 $x$](<figures/图 一.png>)\n后文\n\n![](figures/图%20一.png)\n")
    first, second = elements.all("img")
    assert (first["alt"], second["alt"]) == ("图 1　损失 x", "")
    assert [caption["text"] for caption in elements.all("figcaption")] == ["图 1　损失 x"]
    assert first["inside"][-2:] == ["figure", "button"]
    assert [paragraph["text"] for paragraph in elements.all("p")] == ["前文", "后文"]
    assert np.array_equal(decoded(first).convert("RGB"), drawing(600, 400))  # a drawing loses nothing
    assert int(first["width"]) == pytest.approx(COLUMN * 2 / 7.2, abs=1)  # 2 inches of a text column of 7.2
    assert int(first["height"]) == pytest.approx(int(first["width"]) * 2 / 3, abs=1)


def test_wide_images_are_reduced_and_photographs_compressed(page, tmp_path):
    drawing(3600, 1000).save(tmp_path / "wide.png", dpi=(1000, 1000))
    photograph = Image.fromarray(data.astronaut())
    photograph.save(tmp_path / "photograph.png")
    wide, compressed = page("![宽](wide.png)\n\n![照片](photograph.png)\n").all("img")
    assert decoded(wide).size == (MAX_WIDTH, round(MAX_WIDTH / 3.6))
    assert int(wide["width"]) == COLUMN // 2  # 3.6 inches still
    assert decoded(compressed).size == photograph.size
    assert len(compressed["src"]) < (tmp_path / "photograph.png").stat().st_size / 4
    difference = np.asarray(decoded(compressed).convert("RGB"), float) - np.asarray(photograph, float)
    assert 0 < np.sqrt(np.mean(difference**2)) < 6


def test_users_photographs_stand_upright_and_16_bits_of_grey_are_shown_as_8(page, tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by a quarter
    drawing(60, 40).save(tmp_path / "phone.png", exif=exif)
    ramp = np.linspace(0, 65535, 64, dtype=np.uint16)[None].repeat(8, 0)
    Image.fromarray(ramp).save(tmp_path / "deep.png")
    phone, deep = page("![照片](phone.png)\n\n![灰度](deep.png)\n").all("img")
    assert decoded(phone).size == (40, 60)
    np.testing.assert_array_equal(np.asarray(decoded(deep).convert("L")), ramp >> 8)


@pytest.mark.parametrize("address", ["missing.png", "damaged.png", "gigantic.png", "https://example.org/a.png"])
def test_image_that_cannot_be_read_is_named_in_one_line(page, tmp_path, address, comparison, monkeypatch):
    if address == "gigantic.png":
        drawing(600, 400).save(tmp_path / address)
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100_000)
    (tmp_path / "damaged.png").write_bytes(b"no image")
    assert address.rpartition("/")[2] in refusal(page, f"![图]({address})\n")
    made = comparison({"Bicubic": 22.1, "CARN": 26.8})
    made["results"][1]["path"].unlink()
    assert "9_1.webp" in refusal(page, "<!-- sliders -->\n", [made])


# ---------------------------------------------------------------- sliders


def test_slider_offers_every_result_and_starts_with_bicubic_and_the_best(page, comparison):
    made = comparison({"Bicubic": 22.1, "SRCNN": 25.4, "CARN <&>": 26.8, "VDSR": 26.5, "原图": None})
    elements = page("前\n\n<!-- sliders -->\n\n后\n", [made])
    images = elements.all("img")
    for image, result in zip(images, made["results"], strict=True):
        with Image.open(result["path"]) as pixels:  # to the last bit: the page is looked at for small differences
            assert np.array_equal(decoded(image).convert("RGB"), pixels.convert("RGB"))
        assert image["alt"] == f"butterfly, {result['label']}"
    labels = ["Bicubic 22.10 dB", "SRCNN 25.40 dB", "CARN <&> 26.80 dB", "VDSR 26.50 dB", "原图"]
    options = elements.all("option")
    assert [option["text"] for option in options] == 2 * labels
    assert [option["text"] for option in options if "selected" in option] == ["Bicubic 22.10 dB", "CARN <&> 26.80 dB"]
    panes = [element for element in elements.all("figure") if "pane" in element["class"]]
    assert [pane["class"].split()[1:] for pane in panes] == [["left"], [], ["right"], [], []]
    assert panes[2]["text"].strip() == "CARN <&> 26.80 dB / 0.6700"
    assert panes[4]["text"].strip() == "原图"
    stage = next(element for element in elements.all("div") if element.get("class") == "stage")
    assert stage["style"] == "--width:480px;--ratio:160/128"  # 160 pixels three times as large
    assert "butterfly" in elements.all("input")[0]["aria-label"]


def test_sliders_stand_where_the_marker_is_in_the_order_given_and_bicubic_is_on_one_side_even_if_it_is_best(
    page, comparison
):
    sliders = [comparison({"Bicubic": 28.0, "SRCNN": 20.0, "VDSR": 21.0}, name) for name in ("baby", "<b>鸟</b>")]
    elements = page("## 前\n\n<!-- sliders -->\n\n## 后\n", sliders)
    order = [element for element in elements.found if element["tag"] in ("h2", "section")]
    assert [element.get("aria-label") or element["id"] for element in order] == ["前", "baby", "<b>鸟</b>", "后"]
    assert [element["value"] for element in elements.all("option") if "selected" in element] == ["0", "2"] * 2


def test_page_in_english_has_no_chinese_word_of_its_own(page, tmp_path, comparison):
    drawing(30, 20).save(tmp_path / "a.png")
    text = "# Report\n\n## Data\n\n**Table 1. Sets**\n\n| a |\n|---|\n| 1 |\n\n![Figure 1](a.png)\n\n<!-- sliders -->\n"
    elements = page(text, [comparison({"Bicubic": 22.1, "CARN": 26.8})], "Report", "en")
    assert elements.found[0]["lang"] == "en"
    body = elements.html.partition("<body>")[2].partition("<script>\n")[0]
    assert not re.search("[\u4e00-\u9fff]", body)
    assert [paragraph["class"] for paragraph in elements.all("p") if "class" in paragraph] == ["caption", "name"]


def test_light_copy_has_small_pictures_beside_it_that_its_text_shows_whatever_their_names(tmp_path):
    (tmp_path / "figures").mkdir()
    drawing(3600, 1000).save(tmp_path / "figures" / "curves.png", dpi=(300, 300))
    PHOTOGRAPH.save(tmp_path / "figures" / "errors_图 (1).png")
    text = f"# 报告\n\n![图 1　曲线](figures/curves.png)\n\n![图 2](figures/{quote('errors_图 (1)')}.png)\n"
    size = write_light(text, tmp_path, tmp_path / "web")
    there = [path for path in (tmp_path / "web").rglob("*") if path.is_file()]
    assert size == sum(path.stat().st_size for path in there) and len(there) == 3
    shown = re.findall(r"\]\((.*?)\)", (tmp_path / "web" / "report.md").read_text(encoding="utf-8"))
    assert [unquote(address) for address in shown] == ["figures/curves.webp", "figures/errors_图 (1).webp"]
    with Image.open(tmp_path / "web" / "figures" / "curves.webp") as picture:
        assert picture.width == MAX_WIDTH


def test_figure_of_an_image_whose_name_markdown_would_misread_is_shown(page, tmp_path):
    (tmp_path / "figures").mkdir()
    PHOTOGRAPH.save(tmp_path / "figures" / "errors_图 (1).png")
    html = page(f"![Figure 1](figures/{quote('errors_图 (1)')}.png)\n").html
    assert html.count("<figcaption>") == 1 and "![" not in html
