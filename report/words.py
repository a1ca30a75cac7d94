"""The report's language: a choice between Chinese and English, and numbers in words."""

NONE = "—"


class Language:
    """Callable with a text in Chinese and the same in English; returns the one that the report is written in."""

    NAMES = ("zh", "en")

    def __init__(self, name):
        self.name = name

    def __call__(self, zh, en):
        return zh if self.name == "zh" else en

    def joined(self, labels):
        """Return a list in words: A、B 和 C; A, B and C."""
        *first, last = labels
        if not first:
            return last
        before, after = (" " * (letter.isascii() and letter.isalnum()) for letter in (first[-1][-1], last[0]))
        return self(f"{'、'.join(first)}{before}和{after}{last}", f"{', '.join(first)} and {last}")

    def change(self, value):
        """Return a difference in dB in words: 高 0.21 dB; 0.21 dB higher."""
        if abs(value) < 0.005:
            return self("持平", "equal")
        size = f"{abs(value):.2f} dB"
        return self(f"{'高' if value > 0 else '低'} {size}", f"{size} {'higher' if value > 0 else 'lower'}")

    def duration(self, seconds):
        """Return seconds in words: 52 分钟, 9.7 小时; 52 min, 9.7 h."""
        if seconds < 60:
            return self(f"{seconds:.0f} 秒", f"{seconds:.0f} s")
        if seconds < 5400:
            return self(f"{seconds / 60:.0f} 分钟", f"{seconds / 60:.0f} min")
        return self(f"{seconds / 3600:.1f} 小时", f"{seconds / 3600:.1f} h")


def number(value, form="{:.2f}"):
    """Return a number as text, a dash where there is none."""
    return NONE if value is None else form.format(value)


def signed(value, digits=2):
    """Return a difference with its sign: +0.21, −0.05; a dash where there is none."""
    return NONE if value is None else f"{value:+.{digits}f}".replace("-", "−")


def short_device(text):
    """Return a device without its kind: NVIDIA H200, of "cuda: NVIDIA H200"."""
    return (text or NONE).partition(": ")[2] or text or NONE
