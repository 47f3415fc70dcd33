"""Locks on folders, so that one run at a time writes to them."""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Iterator
from pathlib import Path

from filelock import FileLock, Timeout

from .processes import broadcast_rank0, rank

_NO_LOCKS = {errno.ENOSYS, errno.ENOTSUP, errno.ENOLCK}  # network file systems may have none


class Busy(OSError):
    """Another process works in a folder."""


@contextlib.contextmanager
def folder_lock(folder: Path, *, wait: bool = False) -> Iterator[None]:
    """Lock a folder for this process, or for those that run with it, for the length of a `with` block.

    The operating system releases the lock when the process ends, also after kill -9. Files that an
    earlier process left half written are removed. Under torchrun all processes must call this; the first one locks.

    Args:
        folder: made if it is not there.
        wait: wait for the process that holds the lock, rather than raise.

    Raises:
        Busy: another process holds the lock; under torchrun all processes raise.
        OSError: the folder cannot be made.
    """
    with contextlib.ExitStack() as stack:
        error: OSError | None = None
        if rank() == 0:
            try:
                _lock(folder, stack, wait=wait)
            except OSError as caught:
                error = caught
        error = broadcast_rank0(error)
        if error is not None:
            raise error
        yield


def _lock(folder: Path, stack: contextlib.ExitStack, *, wait: bool) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    try:
        stack.enter_context(FileLock(folder / ".lock").acquire(timeout=-1 if wait else 0))
    except Timeout:
        raise Busy(f"{folder} is in use by another process") from None
    except (NotImplementedError, OSError) as error:
        if isinstance(error, OSError) and error.errno not in _NO_LOCKS:
            raise
        print(f"    {folder} cannot be locked here; make sure that no other process works in it", flush=True)
        return
    for part in folder.glob(".*.part"):
        part.unlink(missing_ok=True)
