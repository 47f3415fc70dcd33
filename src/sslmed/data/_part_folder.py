"""A folder that appears under its name only when it is complete."""

from __future__ import annotations

import errno
import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]


@contextmanager
def part_folder(path: Path) -> Iterator[Path]:
    """Yield a new folder `.NAME.*.part` beside `path`, which is renamed to `path` at the end of the `with` block.

    After an error, or if another process was faster, the folder is removed. That of a killed process is removed
    by the next one that writes the same `path`. Each process locks its own folder, so that those in use stay; where
    folders cannot be locked, as on Windows and some network file systems, none is removed.

    Raises:
        OSError: the folder cannot be made or renamed.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    for abandoned in path.parent.glob(f".{path.name}.*.part"):
        with suppress(OSError), _locked(abandoned):
            shutil.rmtree(abandoned, ignore_errors=True)
    name = f".{path.name}.{uuid.uuid4().hex[:8]}"
    part, unlocked = path.with_name(f"{name}.part"), path.with_name(f"{name}.new")
    unlocked.mkdir()
    with ExitStack() as stack:
        with suppress(OSError):
            stack.enter_context(_locked(unlocked))  # before it gets the name that other processes look for
        unlocked.rename(part)
        stack.callback(shutil.rmtree, part, ignore_errors=True)
        yield part
        try:
            part.rename(path)
        except OSError:
            if not path.is_dir():  # else another process was faster with the same content
                raise


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Lock a folder, no longer than this process lives; OSError if another process has it, or if locks fail."""
    if fcntl is None:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(descriptor)
