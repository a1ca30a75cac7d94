"""HDF5: sealed files, and new ones that neither a full disk nor Ctrl-C in a write makes HDF5 crash over.

A sealed file begins with a user block, which HDF5 leaves alone: one line with the SHA-256 of all bytes behind it. HDF5
is given no file that has changed since it was written: over damaged ones it can crash, or wait for ever.
"""

import hashlib
import io
from contextlib import contextmanager

import h5py
import numpy as np

from support.files import written_whole
from support.signals import undisturbed

USER_BLOCK = 512  # bytes, the fewest that HDF5 allows


def seal_of(file):
    """Return the user block that an HDF5 file must have to be as it was sealed; file: open, at that block's end."""
    return f"sealed with SHA-256 {hashlib.file_digest(file, 'sha256').hexdigest()}\n".encode().ljust(USER_BLOCK, b"\0")


def seal(path):
    """Write the user block of an HDF5 file that has room for one, to be read only while the file stays as it is."""
    with open(path, "r+b") as file:
        file.seek(USER_BLOCK)
        block = seal_of(file)
        file.seek(0)
        file.write(block)


@contextmanager
def new_hdf5(path):
    """Yield the HDF5Writer of a new file, which is in its place, sealed, when the block ends well.

    Signals wait for the end of each of the writer's calls; a second one changes nothing while the file is given up.
    Raises OSError, at the latest at the end, where the file could not be written.
    """
    with undisturbed() as ask, written_whole(path) as temporary:
        with PatientFile(temporary, "w+") as storage:
            with h5py.File(storage, "w", userblock_size=USER_BLOCK) as file:
                yield HDF5Writer(file, storage, ask)
            storage.check()
        seal(temporary)
        ask()


class HDF5Writer:
    """Adds arrays and attributes to an HDF5 file; a full disk is an OSError, a signal that has come an Interrupted."""

    def __init__(self, file, storage, ask):
        self.file = file
        self.storage = storage
        self.ask = ask
        self.growing = {}  # name -> dataset; looking it up in the file would take as long as writing
        self.hashes = {}  # name -> hashlib's object of the values so far

    def write(self, name, array):
        """Add a whole array as the dataset `name`."""
        self.file[name] = array
        self.written(name, array)

    def append(self, name, rows, chunk):
        """Add rows (n, ...) to the end of the dataset `name`, which begins with none; `chunk` rows lie together."""
        if name not in self.growing:
            shape = rows.shape[1:]
            self.growing[name] = self.file.create_dataset(
                name, (0, *shape), rows.dtype, maxshape=(None, *shape), chunks=(chunk, *shape)
            )
        dataset = self.growing[name]
        dataset.resize(len(dataset) + len(rows), axis=0)
        dataset[-len(rows) :] = rows
        self.written(name, rows)

    def written(self, name, array):
        """Add values to a dataset's hash, and raise what has come meanwhile."""
        self.hashes.setdefault(name, hashlib.sha256()).update(np.ascontiguousarray(array))
        self.storage.check()
        self.ask()

    @property
    def content(self):
        """The SHA-256 of the values of all datasets, in hexadecimal; the datasets' order does not matter."""
        lines = "".join(f"{name} {hashed.hexdigest()}\n" for name, hashed in sorted(self.hashes.items()))
        return hashlib.sha256(lines.encode()).hexdigest()

    def describe(self, **attributes):
        """Set attributes of the file."""
        self.file.attrs.update(attributes)


class PatientFile(io.FileIO):
    """A file that keeps its first error to itself until check() raises it.

    HDF5 does not survive a disk that is full: having failed to write, it fails again when it is closed, and crashes.
    Nor does it survive what a signal raises in one of these methods, or while the file is given up.
    """

    error = None

    def write(self, content):
        left = memoryview(content).cast("B")
        size = len(left)
        try:
            while len(left) and not self.error:
                left = left[super().write(left) :]
        except OSError as error:
            self.error = error
        return size

    def truncate(self, size=None):
        try:
            return super().truncate(size)
        except OSError as error:
            self.error = self.error or error
            return size

    def check(self):
        """Raise the error that has been kept, if there is one."""
        if self.error:
            raise self.error
