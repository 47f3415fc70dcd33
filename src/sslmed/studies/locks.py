"""Folders that one run at a time works in, or writes in."""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Iterator
from pathlib import Path

from .processes import agree, rank

try:
    import fcntl
except ImportError:  # Windows, where folders are not locked
    fcntl = None  # type: ignore[assignment]

_NO_LOCKS = {errno.ENOSYS, errno.ENOTSUP, errno.ENOLCK}  # network file systems may have none


class Busy(OSError):
    """Another process works in a folder."""


@contextlib.contextmanager
def hold(folder: Path, *, wait: bool = False) -> Iterator[None]:
    """Keep a folder to this process, or to those that run with it, for the length of a `with` block.

    The lock is the system's own on an open file, which ends with the process however that ends: kill -9 leaves none.
    What an earlier process left half written is removed. Of several processes all must come here; the first one locks.

    Args:
        folder: made if it is not there.
        wait: for a process that holds the folder to let go, rather than raise.

    Raises:
        Busy: another process holds the folder; of several processes, all raise.
        OSError: the folder cannot be made.
    """
    with contextlib.ExitStack() as stack:
        error: OSError | None = None
        if rank() == 0:
            try:
                _lock(folder, stack, wait=wait)
            except OSError as caught:
                error = caught
        error = agree(error)
        if error is not None:
            raise error
        yield


def _lock(folder: Path, stack: contextlib.ExitStack, *, wait: bool) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    if fcntl is None:
        return
    file = stack.enter_context((folder / ".lock").open("w"))
    try:
        fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except BlockingIOError:
        raise Busy(f"{folder} is in use by another process") from None
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise
        print(f"    {folder} cannot be locked here; see to it that no other process works in it", flush=True)
        return
    for part in folder.glob(".*.part"):
        part.unlink(missing_ok=True)
