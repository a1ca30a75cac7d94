"""Writing HDF5: a new file that neither a full disk nor Ctrl-C in the middle of a write makes HDF5 crash over."""

import io
from contextlib import contextmanager

import h5py

from support.signals import undisturbed


@contextmanager
def new_hdf5(path):
    """Yield the HDF5Writer of a new file; raise OSError, at the latest at the end, where it could not be written."""
    with PatientFile(path, "w+") as storage:
        writer = HDF5Writer(storage)
        try:
            writer.open()
            yield writer
        finally:
            writer.close()
        storage.check()


class HDF5Writer:
    """Adds arrays and attributes to an HDF5 file. Signals wait for the end of each call; a full disk is an OSError."""

    def __init__(self, storage):
        self.storage = storage
        self.file = None
        self.growing = {}  # name -> dataset; looking it up in the file would take as long as writing

    @undisturbed()
    def open(self):
        self.file = h5py.File(self.storage, "w")

    @undisturbed()
    def close(self):
        if self.file:
            self.file.close()

    @undisturbed()
    def write(self, name, array):
        """Add a whole array as the dataset `name`."""
        self.file[name] = array
        self.storage.check()

    @undisturbed()
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
        self.storage.check()

    @undisturbed()
    def describe(self, **attributes):
        """Set attributes of the file."""
        self.file.attrs.update(attributes)


class PatientFile(io.FileIO):
    """A file that keeps its first error to itself until check() raises it.

    HDF5 does not survive a disk that is full: having failed to write, it fails again when it is closed, and crashes.
    Nor does it survive what a signal raises in one of these methods: all that writes to it is undisturbed().
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
