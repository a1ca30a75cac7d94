"""The report's Markdown -> one HTML file that needs nothing beside it: formulas, images and sliders are inside.

write_light() makes a copy of the Markdown for repositories, whose pictures are small files beside it.
"""

import base64
import io
import re
from html import escape, unescape
from itertools import count
from pathlib import Path
from urllib.parse import unquote

import mistune
import numpy as np
from jinja2 import Environment, FileSystemLoader
from markupsafe import Markup
from PIL import Image, ImageOps

from report.document import SLIDERS, write
from report.drawing import PAGE_WIDTH
from report.formulas import CHINESE, formula_svg
from report.words import phrases
from support.command_line import UserError
from support.files import check_regular, written_whole

HERE = Path(__file__).resolve().parent
COLUMN = 782  # CSS pixels: the text column of page.css, 46 em of 17 px
MAX_WIDTH = 2 * COLUMN  # pixels of an embedded image: sharp on a dense screen and still when enlarged
SLIDER_WIDTH = 512  # CSS pixels, about: an image of 256 pixels is shown twice as large
LIGHT = r"\]\((figures/[^)]*)\.png\)"  # in Markdown, a figure that the light copy has too
TAG = re.compile(r"<[^>]*>")
FIGURE = re.compile(r"(<figure>.*?</figure>)", re.DOTALL)
TABLE_CAPTION = re.compile(r"<strong>(表|Table) \d.*</strong>", re.DOTALL)
SIGN = "[\u3000-\u303f\uff00-\uff65]"  # Chinese punctuation
# a line end in Chinese or beside its punctuation, which browsers would show as a space
BREAK_IN_CHINESE = re.compile(rf"(?<={CHINESE})\n(?={CHINESE})|(?<={SIGN})\n|\n(?={SIGN})")


def render_page(text, folder, sliders, *, title, say):
    """Return one HTML page, as text, from the report's Markdown; the same input gives the same bytes.

    folder: what the images' paths in `text` start from. title: the browser tab's. sliders: the comparisons that take
    the place of the line `<!-- sliders -->`, one dict per image: {"name", "results": [{"label", "path", "psnr" in dB
    (None for the original), "ssim"}, ...]}, bicubic first, two results or more, all of one size. Raises
    UserError for an image that cannot be read or a formula that matplotlib's mathtext does not know.
    """
    words = phrases(say.name)["page"]
    template = Environment(autoescape=True, loader=FileSystemLoader(HERE)).get_template(
        "page.html", globals={"words": words}
    )
    renderer = PageRenderer(Path(folder), sliders, words, template.module.slider)
    content = mistune.create_markdown(renderer=renderer, plugins=["table", "math"])(text)
    style, script = (Markup((HERE / name).read_text(encoding="utf-8")) for name in ("page.css", "page.js"))
    return template.render(
        title=title, headings=renderer.headings, content=Markup(content), style=style, script=script, words=words
    )


def write_light(text, folder, target):
    """Write report.md with small WebP pictures beside it to a folder; returns their bytes in all.

    text, folder: as for render_page; only PNG figures of the text are made small, under the same names.
    """
    written = [target / "report.md"]
    write(written[0], re.sub(LIGHT, r"](\1.webp)", text))
    for address in dict.fromkeys(re.findall(LIGHT, text)):
        written.append(target / f"{unquote(address)}.webp")
        with written_whole(written[-1]) as temporary:
            temporary.write_bytes(reduced(folder / f"{unquote(address)}.png")[0])
    return sum(path.stat().st_size for path in written)


class PageRenderer(mistune.HTMLRenderer):
    """Markdown tokens -> HTML. Raw HTML is shown as text; only comments and line breaks are taken for what they are."""

    def __init__(self, folder, sliders, words, slider):
        super().__init__(escape=True)
        self.folder, self.sliders, self.words, self.slider = folder, sliders, words, slider
        self.headings = []  # (level, anchor, HTML) in the page's order

    def heading(self, text, level, **attributes):
        """Return a heading with an anchor like GitHub's, so that links inside the Markdown work in both places."""
        slug = re.sub(r"[^\w\- ]", "", plain(text).lower()).strip().replace(" ", "-") or "section"
        taken = {anchor for _, anchor, _ in self.headings}
        names = (f"{slug}-{number}" if number else slug for number in count())
        anchor = next(name for name in names if name not in taken)
        self.headings.append((level, anchor, Markup(re.sub(r"</?a\b[^>]*>", "", text))))
        link = f'<a class="anchor" href="#{escape(anchor)}" aria-label="{self.words["anchor"]}">#</a>'
        return f'<h{level} id="{escape(anchor)}">{text}{link}</h{level}>\n'

    def paragraph(self, text):
        """Return a paragraph, its images between its parts; in bold, from 表 1 or Table 1 on, a table's caption."""
        if TABLE_CAPTION.fullmatch(text):
            return f'<p class="caption">{text}</p>\n'
        parts = (part.strip() for part in FIGURE.split(BREAK_IN_CHINESE.sub("", text)))
        return "".join(f"{part}\n" if FIGURE.match(part) else f"<p>{part}</p>\n" for part in parts if part)

    def block_text(self, text):
        """Return the text of a list item."""
        return BREAK_IN_CHINESE.sub("", text)

    def codespan(self, text):
        """Return code in a line, which never ends between the dashes of a flag."""
        return re.sub(r"--[\w-]+", r'<span class="flag">\g<0></span>', super().codespan(text))

    def table(self, text):
        """Return a table that scrolls by itself where the screen is too narrow."""
        name = self.words["table"]
        return f'<div class="table" tabindex="0" role="region" aria-label="{name}">\n<table>\n{text}</table>\n</div>\n'

    def image(self, text, url, title=None):
        """Return a figure with its caption, as wide beside the text as it is on an A4 page."""
        content, size, dpi = reduced(self.folder / unquote(url))
        width = round(size[0] * COLUMN / PAGE_WIDTH / dpi) if dpi else size[0]
        size = f'width="{width}" height="{round(width * size[1] / size[0])}"'
        image = f'<img src="{inside(content)}" {size} alt="{escape(plain(text))}" decoding="async">'
        image = f'<button class="zoom" type="button">{image}</button>'
        caption = f"<figcaption>{text}</figcaption>" if text else ""
        return f"<figure>{image}{caption}</figure>"

    def inline_math(self, text):
        """Return a formula in a line, $...$."""
        return formula_svg(text)

    def block_math(self, text):
        """Return a formula on its own line, $$...$$."""
        return f'<span class="display">{formula_svg(text, display=True)}</span>\n'

    def block_html(self, html):
        """Return the sliders at their marker, nothing for other comments."""
        if html.strip() == SLIDERS:
            return "".join(self.slider(**slider_of(comparison)) for comparison in self.sliders)
        return "" if re.fullmatch(r"\s*<!--.*?-->\s*", html, re.DOTALL) else super().block_html(html)

    def inline_html(self, html):
        """Return a line break, as tables need it, nothing for comments."""
        if re.fullmatch(r"<br\s*/?>", html):
            return "<br>"
        return "" if html.startswith("<!--") else super().inline_html(html)


def plain(html):
    """Return the text of rendered HTML, unescaped; a formula counts with its TeX source."""
    return unescape(TAG.sub("", html))


# ---------------------------------------------------------------- images


def opened(path):
    """Return (RGB or RGBA image, its dots per inch or None) of a file; raises UserError for one that cannot be read."""
    try:
        with Image.open(check_regular(path, "an image")) as image:
            dpi = image.info.get("dpi", (None,))[0]
            image = ImageOps.exif_transpose(image)
            if image.mode.startswith("I;16"):  # convert() would cut off what is above 255
                image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
            return image.convert("RGBA" if image.has_transparency_data else "RGB"), dpi
    except (OSError, Image.DecompressionBombError) as error:
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


def inside(content):
    """Return the address of a WebP picture that is inside the page."""
    return "data:image/webp;base64," + base64.b64encode(content).decode()


def slider_of(comparison):
    """Return what the template shows of one comparison: all results on one stage, two chosen, which page.js lets wipe.

    As it stands it is bicubic and the best result side by side, for print and for browsers without script.
    """
    images = [opened(result["path"])[0] for result in comparison["results"]]
    addresses = [inside(webp(image, lossless=True)) for image in images]  # every pixel is as in the file
    results = [one | {"address": address} for one, address in zip(comparison["results"], addresses, strict=True)]
    width, height = images[0].size
    return {
        "name": comparison["name"],
        "results": results,
        "best": max(range(1, len(results)), key=lambda number: results[number]["psnr"] or 0),
        "width": width,
        "height": height,
        "shown": width * max(1, round(SLIDER_WIDTH / width)),
    }
