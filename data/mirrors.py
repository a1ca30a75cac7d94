"""Mirrors: fetching the missing images of a set from the places that serve it, and trusting none of them.

A download is kept only when its pixels are those of the set, so that one that was cut off goes on where it stopped.
The mirrors serve their files at once: an answer that leads elsewhere is not followed.
"""

import tempfile
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit
from urllib.request import HTTPRedirectHandler, build_opener

from data.images import read_image
from support.command_line import UserError, is_plain_text
from support.progress import in_thread, progress

DOWNLOAD_TIMEOUT = 15  # seconds without an answer
DOWNLOAD_SECONDS = 120  # for one file, from the first byte asked to the last one read
DOWNLOAD_TRIES = 2
MAX_DOWNLOAD = 20_000_000  # bytes; the largest image of the catalogue is 1 MB


@dataclass(frozen=True)
class Mirror:
    """A place that serves a set: base address, and the path below it of each file that may hold an image."""

    base: str
    paths: tuple


def github(repository, commit, paths):
    """Return the Mirror of files in a GitHub repository at a fixed commit."""
    return Mirror(f"https://raw.githubusercontent.com/{repository}/{commit}/", tuple(paths))


def download(image_set, missing, say):
    """Yield (name, pixels) of a set's images as its mirrors, asked in turn, supply them.

    image_set: a catalog.ImageSet.
    missing: names of the images that are wanted; with none of them no mirror is asked.
    say: called with a line for the user where a mirror is asked or passed over.
    The first wrong, broken or absent file ends the visit to a mirror: it is named, and the next may have the rest.
    """
    missing = set(missing)
    silent = set()  # hosts that did not answer: not asked again for their other mirrors
    for mirror in image_set.mirrors:
        host = urlsplit(mirror.base).netloc
        if not missing or host in silent:
            continue
        say(f"{image_set.name}: fetching {len(missing)} images from {mirror.base}")
        # Files named after images that are here already come last: some mirrors number the images in their own way.
        present = {image.name for image in image_set.images} - missing
        paths = sorted(mirror.paths, key=lambda path: Path(path).stem.removesuffix("_GT") in present)
        for path in progress(paths, image_set.name, "images"):
            if not missing:
                break
            try:
                names, pixels = decode(image_set, fetch(mirror.base + path))
            except (OSError, HTTPException, UserError) as error:
                say(f"{mirror.base}{path}: {in_words(error)}; this mirror is passed over")
                if isinstance(error, URLError) and not isinstance(error, HTTPError):
                    silent.add(host)
                break
            for name in missing.intersection(names):
                yield name, pixels
            missing.difference_update(names)


def decode(image_set, content):
    """Return (names, pixels) of a downloaded image of the set; raise UserError when it is none or broken."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "image"  # whatever the mirror calls it
        path.write_bytes(content)
        try:
            pixels = read_image(path)
        except UserError as error:
            raise UserError(str(error).removeprefix(f"{path}: ")) from error
    names = image_set.identify(pixels)
    if not names:
        raise UserError(f"{pixels.shape[1]}x{pixels.shape[0]} pixels that are no image of {image_set.name}")
    return names, pixels


def in_words(error):
    """Return why a download failed, on one line; a server's own words only where a terminal obeys nothing in them."""
    if isinstance(error, HTTPError):
        return f"HTTP status {error.code}"
    text = str(error) or f"no whole answer within {DOWNLOAD_SECONDS} seconds"
    return f"{text if is_plain_text(text) else ascii(text):.200}"


def fetch(address):
    """Return the bytes at an http(s) address, asked DOWNLOAD_TRIES times at most; raise OSError when none come."""
    for attempt in range(1, DOWNLOAD_TRIES + 1):
        try:
            # however slowly headers, content or what follows it come, only a thread waits for them
            return in_thread(fetch_once, address).result(DOWNLOAD_SECONDS)
        except OSError as error:
            final = isinstance(error, HTTPError) and error.code < 500
            if final or attempt == DOWNLOAD_TRIES:
                raise


class NoRedirects(HTTPRedirectHandler):
    """Takes an answer that leads elsewhere for the error that it is to us, its content unread."""

    def redirect_request(self, *_):
        return None


def fetch_once(address):
    """Return the bytes at an address; raise OSError where they are too many, too slow or cut short."""
    with build_opener(NoRedirects).open(address, timeout=DOWNLOAD_TIMEOUT) as response:
        length = response.headers.get("Content-Length")
        content = response.read(MAX_DOWNLOAD + 1)
    if len(content) > MAX_DOWNLOAD:
        raise OSError(f"more than {MAX_DOWNLOAD:,} bytes")
    if length is not None and str(len(content)) != length.strip():
        raise OSError(f"cut short: {len(content)} of {length} bytes")
    return content
