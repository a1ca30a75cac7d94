"""The report's Markdown -> one HTML file that needs nothing beside it: formulas, images and sliders are inside.

write_light() makes a copy for repositories and web sites instead, whose pictures are small files beside it.
"""

import base64
import io
import re
from html import escape, unescape
from itertools import count
from pathlib import Path
from urllib.parse import quote, unquote

import mistune
from PIL import Image

from report.drawing import PAGE_WIDTH
from report.formulas import CHINESE, formula_svg
from support.command_line import UserError
from support.files import check_regular, written_whole

HERE = Path(__file__).resolve().parent
COLUMN = 782  # CSS pixels: the text column of page.css, 46 em of 17 px
MAX_WIDTH = 2 * COLUMN  # pixels of an embedded image: sharp on a dense screen and still when enlarged
SLIDER_WIDTH = 512  # CSS pixels, about: an image of 256 pixels is shown twice as large
MARKER = "<!-- sliders -->"
TAG = re.compile(r"<[^>]*>")
FIGURE = re.compile(r"(<figure>.*?</figure>)", re.DOTALL)
TABLE_CAPTION = re.compile(r"<strong>(表|Table) \d.*</strong>", re.DOTALL)
SIGN = "[\u3000-\u303f\uff00-\uff65]"  # Chinese punctuation
BREAK_IN_CHINESE = re.compile(rf"(?<={CHINESE})\n(?={CHINESE})|(?<={SIGN})\n|\n(?={SIGN})")


def render_page(text, folder, sliders, *, title, say, pictures=None):
    """Return one HTML page, as text, from the report's Markdown; the same input gives the same bytes.

    folder: what the images' paths in `text` start from. title: the browser tab's. sliders: the comparisons that take
    the place of the line `<!-- sliders -->`, one dict per image: {"name", "results": [{"label", "path", "psnr" in dB
    (None for the original), "ssim"}, ...]}, bicubic first, two results or more, all of one size. pictures: where the
    page finds them, Inside() unless told otherwise. Raises UserError for an image that cannot be read or a formula that
    matplotlib's mathtext does not know.
    """
    renderer = PageRenderer(Path(folder), sliders, say, pictures or Inside())
    content = mistune.create_markdown(renderer=renderer, plugins=["table", "math"])(text)
    parts = {
        "language": say("zh-CN", "en"),
        "title": escape(title),
        "contents_title": say("目录", "Contents"),
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


def write_light(text, folder, target, sliders, *, title, say):
    """Write report.md and report.html with small WebP pictures beside them to a folder; returns their bytes in all.

    text, folder, sliders: as for render_page; only PNG figures of the text are made small, under the same names.
    """
    beside = Beside(target / "figures")
    page = render_page(text, folder, sliders, title=title, say=say, pictures=beside)
    light = re.sub(r"\]\(figures/([^)]*)\.png\)", r"](figures/\1.webp)", text.replace(f"{MARKER}\n\n", ""))
    written = [target / "report.html", target / "report.md", *beside.written]
    for path, content in zip(written, (page, light), strict=False):
        with written_whole(path) as temporary:
            temporary.write_text(content, encoding="utf-8")
    return sum(path.stat().st_size for path in dict.fromkeys(written))


class PageRenderer(mistune.HTMLRenderer):
    """Markdown tokens -> HTML. Raw HTML is shown as text; only comments and line breaks are taken for what they are."""

    def __init__(self, folder, sliders, say, pictures):
        super().__init__(escape=True)
        self.folder, self.sliders, self.say, self.pictures = folder, sliders, say, pictures
        self.headings = []  # (level, anchor, HTML) in the page's order

    def heading(self, text, level, **attributes):
        """A heading with an anchor like GitHub's, so that links inside the Markdown work in both places."""
        slug = re.sub(r"[^\w\- ]", "", plain(text).lower()).strip().replace(" ", "-") or "section"
        taken = {anchor for _, anchor, _ in self.headings}
        names = (f"{slug}-{number}" if number else slug for number in count())
        anchor = next(name for name in names if name not in taken)
        self.headings.append((level, anchor, re.sub(r"</?a\b[^>]*>", "", text)))
        name = self.say("本节的链接", "link to this section")
        link = f'<a class="anchor" href="#{escape(anchor)}" aria-label="{name}">#</a>'
        return f'<h{level} id="{escape(anchor)}">{text}{link}</h{level}>\n'

    def paragraph(self, text):
        """A paragraph; images in it stand between its parts, HTML having no figures inside paragraphs.

        One in bold that begins with 表 or Table and a number is the caption of the table below it.
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
        name = self.say("表格", "table")
        return f'<div class="table" tabindex="0" role="region" aria-label="{name}">\n<table>\n{text}</table>\n</div>\n'

    def image(self, text, url, title=None):
        """A figure with its caption, as wide beside the text as it is on an A4 page."""
        source, size, dpi = self.pictures.figure(self.folder / unquote(url))
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
            return "".join(slider(comparison, self.say, self.pictures) for comparison in self.sliders)
        return "" if re.fullmatch(r"\s*<!--.*?-->\s*", html, re.DOTALL) else super().block_html(html)

    def inline_html(self, html):
        """A line break, as tables need it; comments are left out."""
        if re.fullmatch(r"<br\s*/?>", html):
            return "<br>"
        return "" if html.startswith("<!--") else super().inline_html(html)


def plain(html):
    """Return the text of rendered HTML, unescaped; a formula counts with its TeX source."""
    return unescape(TAG.sub("", html))


def join_lines(text):
    """Return text without the line ends in Chinese and beside its punctuation, which browsers would show as spaces."""
    return BREAK_IN_CHINESE.sub("", text)


# ---------------------------------------------------------------- images


def opened(path):
    """Return (RGB or RGBA image, its dots per inch or None) of a file; raises UserError for one that cannot be read."""
    try:
        with Image.open(check_regular(path, "an image")) as image:
            dpi = image.info.get("dpi", (None,))[0]
            return image.convert("RGBA" if image.has_transparency_data else "RGB"), dpi
    except OSError as error:
        raise UserError(f"{path}: not an image that can be read ({error}); supply PNG, JPEG or WebP") from error


def webp(image, **options):
    """Return an image as the bytes of a WebP file."""
    content = io.BytesIO()
    image.save(content, "WEBP", **options)
    return content.getvalue()


def reduced(path):
    """Return (bytes of a WebP, (width, height), the dpi that goes with them or None) of an image up to MAX_WIDTH wide.

    Drawings are smaller without loss, photographs with it; the smaller of the two is taken.
    """
    image, dpi = opened(path)
    if image.width > MAX_WIDTH:
        dpi = dpi and dpi * MAX_WIDTH / image.width
        image = image.resize((MAX_WIDTH, round(image.height * MAX_WIDTH / image.width)), Image.Resampling.LANCZOS)
    content = min(webp(image, lossless=True), webp(image, quality=85, use_sharp_yuv=True), key=len)
    return content, image.size, dpi


class Inside:
    """Pictures inside the page."""

    def figure(self, path):
        """Return (address, (width, height) in pixels, dpi or None) of a figure."""
        content, size, dpi = reduced(path)
        return data_uri(content), size, dpi

    def result(self, path, image):
        """Return the address of a slider's side, with every pixel as it is in the file."""
        return data_uri(path.read_bytes() if path.suffix == ".webp" else webp(image, lossless=True))


class Beside:
    """Pictures as small files in a folder beside the page."""

    def __init__(self, folder):
        self.folder, self.written = folder, []

    def figure(self, path):
        """Return (address, (width, height) in pixels, dpi or None) of a figure, which is written."""
        content, size, dpi = reduced(path)
        return self.write(path, content), size, dpi

    def result(self, path, image):
        """Return the address of a slider's side, which is written with some loss."""
        return self.write(path, webp(image, quality=88, use_sharp_yuv=True))

    def write(self, path, content):
        """Write a picture under the name of another file; returns its address."""
        self.written.append(self.folder / f"{path.stem}.webp")
        with written_whole(self.written[-1]) as temporary:
            temporary.write_bytes(content)
        return f"figures/{quote(self.written[-1].name)}"


def data_uri(content):
    """Return the bytes of a WebP file as an address."""
    return "data:image/webp;base64," + base64.b64encode(content).decode()


# ---------------------------------------------------------------- sliders


def slider(comparison, say, pictures):
    """Return the HTML of one comparison: all results on one stage, two of them chosen, which page.js lets wipe.

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
        f'<img src="{pictures.result(result["path"], image)}" width="{width}" height="{height}" draggable="false" '
        f'alt="{name}, {escape(result["label"])}" decoding="async">'
        f"<figcaption>{escape(result['label'])}{scores(result)}</figcaption></figure>\n"
        for number, (result, image) in enumerate(zip(results, images, strict=True))
    )
    shown = width * max(1, round(SLIDER_WIDTH / width))
    place = say("分界线的位置（百分比）", "place of the dividing line (percent)")
    return (
        f'<section class="slider" aria-label="{name}">\n<p class="name">{name}</p>\n'
        f'<div class="sides">{choice(say("左", "left"), results, 0)}{choice(say("右", "right"), results, best)}</div>\n'
        f'<div class="stage" style="--width:{shown}px;--ratio:{width}/{height}">\n{panes}'
        f'<input type="range" min="0" max="100" value="50" aria-label="{name}: {place}">\n'
        "</div>\n</section>\n"
    )


def scores(result):
    """Return PSNR and SSIM of a result, for its caption."""
    return "" if result["psnr"] is None else f" <span>{result['psnr']:.2f} dB / {result['ssim']:.4f}</span>"


def choice(side, results, chosen):
    """Return the control that says which result one side shows."""
    options = ""
    for number, result in enumerate(results):
        psnr = "" if result["psnr"] is None else f" {result['psnr']:.2f} dB"
        selected = " selected" if number == chosen else ""
        options += f'<option value="{number}"{selected}>{escape(result["label"])}{psnr}</option>'
    return f'<label>{side} <select autocomplete="off">{options}</select></label>'
