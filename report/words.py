"""The report's language: its phrases, its sentences as Jinja templates, and numbers in words."""

import math
import tomllib
from functools import cache
from pathlib import Path

import jinja2

TEMPLATES = Path(__file__).resolve().parent / "templates"
NONE = "—"


class Language:
    """Callable with a short text in Chinese and the same in English; returns the one that the report is written in."""

    NAMES = ("zh", "en")

    def __init__(self, name):
        self.name = name
        self.environment = jinja2.Environment(undefined=jinja2.StrictUndefined)
        self.environment.filters |= {
            "db": "{:.2f}".format,
            "ssim": "{:.4f}".format,
            "giga": "{:,.1f}".format,
            "signed": signed,
            "change": self.change,
            "listed": self.listed,
            "joined": self.joined,
            "labels": lambda networks: [network.label for network in networks],
        }

    def __call__(self, zh, en):
        return zh if self.name == "zh" else en

    def phrase(self, key, **values):
        """Return a text of templates/<language>/phrases.toml with its values filled in; of a list each one."""
        section, _, name = key.partition(".")
        found = phrases(self.name)[section][name]
        return [one.format(**values) for one in found] if isinstance(found, list) else found.format(**values)

    def text(self, key, **values):
        """Return a text of phrases.toml that is a Jinja template with its values filled in."""
        section, _, name = key.partition(".")
        return self.environment.from_string(phrases(self.name)[section][name]).render(values)

    def known(self, section, name):
        """Return what phrases.toml calls a name in a section; the name itself where it does not have it."""
        return phrases(self.name).get(section, {}).get(name, name)

    def listed(self, labels):
        """Return labels one after the other: A、B、C; A, B, C."""
        return self("、", ", ").join(labels)

    def joined(self, labels):
        """Return a list in words: A、B 和 C; A, B and C; "" of nothing."""
        *first, last = labels or [""]
        if not first:
            return last
        before, after = (" " * (letter.isascii() and letter.isalnum()) for letter in (first[-1][-1], last[0]))
        return self.listed(first) + self(f"{before}和{after}", " and ") + last

    def change(self, value, other=""):
        """Return a difference in dB in words: 高 0.21 dB; 0.21 dB higher. other: in English, than what it is."""
        if not math.isfinite(value):  # SR and HR of an image are equal
            return self("无法比较（PSNR 为无穷大）", f"not comparable{' with ' * bool(other)}{other} (infinite PSNR)")
        if abs(value) < 0.005:
            return self("持平", f"equal{' to ' * bool(other)}{other}")
        size, than = f"{abs(value):.2f} dB", " than " * bool(other) + other
        return self(f"{'高' if value > 0 else '低'} {size}", f"{size} {'higher' if value > 0 else 'lower'}{than}")

    def duration(self, seconds):
        """Return seconds in words: 52 分钟, 9.7 小时; 52 min, 9.7 h."""
        if seconds < 60:
            return f"{seconds:.0f} {self('秒', 's')}"
        hours = f"{seconds / 3600:.1f} {self('小时', 'h')}"
        return hours if seconds >= 5400 else f"{seconds / 60:.0f} {self('分钟', 'min')}"


@cache
def phrases(language):
    """Return {section: {name: text or list of texts}} of a language."""
    return tomllib.loads((TEMPLATES / language / "phrases.toml").read_text(encoding="utf-8"))


def number(value, form="{:.2f}"):
    """Return a number as text, a dash where there is none."""
    return NONE if value is None else form.format(value)


def signed(value):
    """Return a difference with its sign: +0.21, −0.05; a dash for none, of two that are infinite."""
    return NONE if math.isnan(value) else f"{value:+.2f}".replace("-", "−")


def short_device(text):
    """Return a device without its kind: NVIDIA H200, of "cuda: NVIDIA H200"."""
    return (text or NONE).partition(": ")[2] or text or NONE
