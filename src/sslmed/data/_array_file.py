"""An array of known size on disk: a full disk is an error before the work, not a dead process in its middle."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

_BLOCK = 2**20  # bytes
# of file systems that reserve nothing, and of systems without the call
_NO_RESERVING = {errno.EINVAL, errno.ENOSYS, errno.ENODEV, errno.EOPNOTSUPP}


class ArrayFile:
    """Items of one layout as rows of a `.npy` file, whose space is reserved at once.

    It is written like any file and not through memory: where a mapped page finds no room, the process dies.

    Args:
        path: the file.
        first: an item; `append` takes others of its shape and type.
        count: how many will be appended at most.

    Raises:
        OSError: there is no room, or the system refuses otherwise; the message names the file and its size.
    """

    def __init__(self, path: Path, first: npt.NDArray[Any], count: int) -> None:
        self.path, self.shape, self.dtype = path, first.shape, first.dtype
        self.nbytes = first.nbytes * count
        self._count, self._appended = count, 0
        with writing(path, self.nbytes):
            self._file = path.open("wb")
            try:
                self._write_header(count)
                _reserve(self._file, self.nbytes)
            except BaseException:
                self._abandon()
                raise

    def append(self, array: npt.NDArray[Any]) -> None:
        with writing(self.path, self.nbytes):
            self._file.write(np.ascontiguousarray(array).data)
        self._appended += 1

    def __enter__(self) -> ArrayFile:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is not None:
            self._abandon()
            return
        with writing(self.path, self.nbytes), self._file:
            if self._appended < self._count:
                self._file.truncate(self._file.tell())
                self._file.seek(0)
                self._write_header(self._appended)  # as long as before: numpy leaves room for more digits
            to_disk(self._file)

    def _write_header(self, count: int) -> None:
        layout = {"descr": self.dtype.str, "fortran_order": False, "shape": (count, *self.shape)}
        np.lib.format.write_array_header_1_0(self._file, layout)

    def _abandon(self) -> None:
        with suppress(OSError):  # what is still buffered finds no room either
            self._file.close()


@contextmanager
def writing(path: Path, nbytes: int) -> Iterator[None]:
    """Let errors of the system name the file of the cache, and how much room it needs."""
    try:
        yield
    except OSError as error:
        raise OSError(error.errno, f"the cache needs {nbytes:,} bytes for {path}: {error.strerror or error}") from error


def _reserve(file: BinaryIO, nbytes: int) -> None:
    """Give the file this many bytes from where it is, or raise OSError."""
    file.flush()
    start = file.tell()
    try:
        os.posix_fallocate(file.fileno(), start, nbytes)
    except (AttributeError, OSError) as error:
        if isinstance(error, OSError) and error.errno not in _NO_RESERVING:
            raise
        for done in range(0, nbytes, _BLOCK):  # in full: a file that is merely long occupies nothing
            file.write(bytes(min(_BLOCK, nbytes - done)))
        to_disk(file)
        file.seek(start)


def to_disk(file: BinaryIO) -> None:
    file.flush()
    os.fsync(file.fileno())
