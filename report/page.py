"""The report's Markdown -> one HTML file that needs nothing beside it: formulas, images and sliders are inside."""

import base64
import io
import re
from html import escape, unescape
from itertools import count
from pathlib import Path
from urllib.parse import unquote

import mistune
from PIL import Image

from report.drawing import PAGE_WIDTH
from report.formulas import CHINESE, formula_svg
from support.command_line import UserError

HERE = Path(__file__).resolve().parent
COLUMN = 782  # CSS pixels: the text column of page.css, 46 em of 17 px
MAX_WIDTH = 2 * COLUMN  # pixels of an embedded image: sharp on a dense screen and still when enlarged
SLIDER_WIDTH = 512  # CSS pixels, about: an image of 256 pixels is shown twice as large
MARKER = "<!-- sliders -->"
NO_SLIDERS = (
    '<p class="note">此处应为可拖动的对比图；生成本页时手边没有与结果相符的重建图像。先运行 '
    "<code>python test.py --weights weights/*.pth</code>（Set5 的图像用 <code>python prepare.py --test-sets</code> "
    "取得），再运行 <code>python report/build.py</code>，它们就会出现在这里。</p>\n"
)
TAG = re.compile(r"<[^>]*>")
FIGURE = re.compile(r"(<figure>.*?</figure>)", re.DOTALL)
TABLE_CAPTION = re.compile(r"<strong>表 .*</strong>", re.DOTALL)
SIGN = "[\u3000-\u303f\uff00-\uff65]"  # Chinese punctuation
BREAK_IN_CHINESE = re.compile(rf"(?<={CHINESE})\n(?={CHINESE})|(?<={SIGN})\n|\n(?={SIGN})")


def render_page(text, folder, sliders, *, title):
    """One self-contained HTML page, as text, from the report's Markdown; the same input gives the same bytes.

    folder: what the images' paths in `text` start from. title: the browser tab's. sliders: the comparisons that take
    the place of the line `<!-- sliders -->`, one dict per image: {"name", "results": [{"label", "path", "psnr" in dB
    (None for the original), "ssim"}, ...]}, bicubic first, two results or more, all of one size. Without any, a
    sentence there says how to get them. Raises UserError for an image that cannot be read or a formula that
    matplotlib's mathtext does not know.
    """
    renderer = PageRenderer(Path(folder), sliders)
    content = mistune.create_markdown(renderer=renderer, plugins=["table", "math"])(text)
    parts = {
        "title": escape(title),
        "contents": "\n".join(
            f'<li class="level{level}"><a href="#{escape(anchor)}">{html}</a></li>'
            for level, anchor, html in renderer.headings
            if level in (2, 3)
        ),
        "content": content,
        "style": (HERE / "page.css").read_text(encoding="utf-8"),
        "script": (HERE / "page.js").read_text(encoding="utf-8"),
    }
    template = (HERE / "page.html").read_text(encoding="utf-8")
    return re.sub(r"\{\{(\w+)\}\}", lambda found: parts[found[1]], template)


class PageRenderer(mistune.HTMLRenderer):
    """Markdown tokens -> HTML. Raw HTML is shown as text; only comments and line breaks are taken for what they are."""

    def __init__(self, folder, sliders):
        super().__init__(escape=True)
        self.folder = folder
        self.sliders = sliders
        self.headings = []  # (level, anchor, HTML) in the page's order

    def heading(self, text, level, **attributes):
        """A heading with an anchor like GitHub's, so that links inside the Markdown work in both places."""
        slug = re.sub(r"[^\w\- ]", "", plain(text).lower()).strip().replace(" ", "-") or "section"
        taken = {anchor for _, anchor, _ in self.headings}
        names = (f"{slug}-{number}" if number else slug for number in count())
        anchor = next(name for name in names if name not in taken)
        self.headings.append((level, anchor, re.sub(r"</?a\b[^>]*>", "", text)))
        link = f'<a class="anchor" href="#{escape(anchor)}" aria-label="本节的链接">#</a>'
        return f'<h{level} id="{escape(anchor)}">{text}{link}</h{level}>\n'

    def paragraph(self, text):
        """A paragraph; images in it stand between its parts, HTML having no figures inside paragraphs.

        One in bold that begins with 表 and a space is the caption of the table below it.
        """
        if TABLE_CAPTION.fullmatch(text):
            return f'<p class="caption">{text}</p>\n'
        parts = (part.strip() for part in FIGURE.split(join_lines(text)))
        return "".join(f"{part}\n" if FIGURE.match(part) else f"<p>{part}</p>\n" for part in parts if part)

    def block_text(self, text):
        """The text of a list item."""
        return join_lines(text)

    def codespan(self, text):
        """Code in a line; a line never ends between the dashes of a flag."""
        return re.sub(r"--[\w-]+", r'<span class="flag">\g<0></span>', super().codespan(text))

    def table(self, text):
        """A table that scrolls by itself where the screen is too narrow."""
        return f'<div class="table" tabindex="0" role="region" aria-label="表格">\n<table>\n{text}</table>\n</div>\n'

    def image(self, text, url, title=None):
        """A figure with its caption, as wide beside the text as it is on an A4 page."""
        source, size, dpi = embedded(self.folder / unquote(url))
        width = round(size[0] * COLUMN / PAGE_WIDTH / dpi) if dpi else size[0]
        attributes = {
            "src": source,
            "width": width,
            "height": round(width * size[1] / size[0]),
            "alt": plain(text),
            "title": title,
            "decoding": "async",
        }
        image = f'<button class="zoom" type="button"><img{self.render_attrs(attributes)}></button>'
        caption = f"<figcaption>{text}</figcaption>" if text else ""
        return f"<figure>{image}{caption}</figure>"

    def inline_math(self, text):
        """$...$"""
        return formula_svg(text)

    def block_math(self, text):
        """$$...$$"""
        return f'<span class="display">{formula_svg(text, display=True)}</span>\n'

    def block_html(self, html):
        """The sliders at their marker; other comments are left out."""
        if html.strip() == MARKER:
            return "".join(map(slider, self.sliders)) or NO_SLIDERS
        return "" if re.fullmatch(r"\s*<!--.*?-->\s*", html, re.DOTALL) else super().block_html(html)

    def inline_html(self, html):
        """A line break, as tables need it; comments are left out."""
        if re.fullmatch(r"<br\s*/?>", html):
            return "<br>"
        return "" if html.startswith("<!--") else super().inline_html(html)


def plain(html):
    """The text of rendered HTML, unescaped; a formula counts with its TeX source."""
    return unescape(TAG.sub("", html))


def join_lines(text):
    """Text without the line ends inside Chinese and beside its punctuation, which browsers would show as spaces."""
    return BREAK_IN_CHINESE.sub("", text)


# ---------------------------------------------------------------- images


def opened(path):
    """(RGB or RGBA image, its dots per inch or None) of a file; raises UserError where there is none to be read."""
    try:
        with Image.open(path) as image:
            dpi = image.info.get("dpi", (None,))[0]
            return image.convert("RGBA" if image.has_transparency_data else "RGB"), dpi
    except FileNotFoundError:
        raise UserError(f"{path}: no such image, but the report shows it; draw it, or leave it out") from None
    except OSError as error:
        raise UserError(f"{path}: not an image that can be read ({error}); supply PNG, JPEG or WebP") from error


def webp(image, **options):
    """An image as the bytes of a WebP file."""
    content = io.BytesIO()
    image.save(content, "WEBP", **options)
    return content.getvalue()


def data_uri(content):
    """The bytes of a WebP file as an address."""
    return "data:image/webp;base64," + base64.b64encode(content).decode()


def embedded(path):
    """(data URI, (width, height) in pixels, the dpi that goes with them or None) of an image, no wider than MAX_WIDTH.

    Drawings are smaller without loss, photographs with it; the smaller of the two is taken.
    """
    image, dpi = opened(path)
    if image.width > MAX_WIDTH:
        dpi = dpi and dpi * MAX_WIDTH / image.width
        image = image.resize((MAX_WIDTH, round(image.height * MAX_WIDTH / image.width)), Image.Resampling.LANCZOS)
    content = min(webp(image, lossless=True), webp(image, quality=85, use_sharp_yuv=True), key=len)
    return data_uri(content), image.size, dpi


# ---------------------------------------------------------------- sliders


def slider(comparison):
    """The HTML of one comparison: all results on one stage, two of them chosen, which page.js lets wipe each other.

    As it stands it is bicubic and the best result side by side, for print and for browsers without script.
    """
    name, results = escape(comparison["name"]), comparison["results"]
    best = max(range(1, len(results)), key=lambda number: results[number]["psnr"] or 0)
    images = [opened(result["path"])[0] for result in results]
    sizes = {image.size for image in images}
    if len(sizes) > 1:
        folder = results[0]["path"].parent
        raise UserError(f"{folder}: the results for {name} have several sizes, {sorted(sizes)}; make them anew")
    ((width, height),) = sizes
    panes = "".join(
        f'<figure class="pane{" left" * (number == 0)}{" right" * (number == best)}">'
        f'<img src="{exact(image, result["path"])}" width="{width}" height="{height}" draggable="false" '
        f'alt="{name}，{escape(result["label"])}" decoding="async">'
        f"<figcaption>{escape(result['label'])}{scores(result)}</figcaption></figure>\n"
        for number, (result, image) in enumerate(zip(results, images, strict=True))
    )
    shown = width * max(1, round(SLIDER_WIDTH / width))
    return (
        f'<section class="slider" aria-label="{name}">\n<p class="name">{name}</p>\n'
        f'<div class="sides">{choice("左", results, 0)}{choice("右", results, best)}</div>\n'
        f'<div class="stage" style="--width:{shown}px;--ratio:{width}/{height}">\n{panes}'
        f'<input type="range" min="0" max="100" value="50" aria-label="{name}：分界线的位置（百分比）">\n'
        "</div>\n</section>\n"
    )


def exact(image, path):
    """The data URI of a result with every pixel as it is in the file."""
    return data_uri(path.read_bytes() if path.suffix == ".webp" else webp(image, lossless=True))


def scores(result):
    """PSNR and SSIM of a result, for its caption."""
    return "" if result["psnr"] is None else f" <span>{result['psnr']:.2f} dB / {result['ssim']:.4f}</span>"


def choice(side, results, chosen):
    """The control that says which result one side shows."""
    options = ""
    for number, result in enumerate(results):
        psnr = "" if result["psnr"] is None else f" {result['psnr']:.2f} dB"
        selected = " selected" if number == chosen else ""
        options += f'<option value="{number}"{selected}>{escape(result["label"])}{psnr}</option>'
    return f'<label>{side} <select autocomplete="off">{options}</select></label>'
