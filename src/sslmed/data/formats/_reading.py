"""The boundary around every file that is read: whatever its damage, the error is a ValueError or OSError naming it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch


class Unreadable(ValueError):
    """What a reader itself refuses, without the file's name, which `reading` puts before it."""


@contextmanager
def reading(path: Path, kind: str) -> Iterator[None]:
    """Let only errors pass that name the file; a body in this context opens or decodes `path`.

    Decoders answer damage with errors of any type. StopIteration and IndexError are the worst of them: raised by a data
    set's items, they end a loop over it as if it had no more. MemoryError and ImportError are not about the file and
    pass unchanged, as does KeyboardInterrupt.

    Args:
        path: the file.
        kind: what it should be, as "DICOM file".

    Raises:
        OSError: the file is missing or the system cannot read it.
        ValueError: it is empty or damaged, or the body refused it.
    """
    try:
        if path.is_file() and not path.stat().st_size:
            raise Unreadable("the file is empty (0 bytes)")
        yield
    except (MemoryError, ImportError):
        raise
    except Exception as error:
        if isinstance(error, OSError) and error.filename is not None:
            raise
        if isinstance(error, OSError) and error.errno is not None:
            raise OSError(error.errno, error.strerror, str(path)) from error
        if isinstance(error, ValueError) and str(error).startswith(f"{path}: "):
            raise
        if isinstance(error, Unreadable):
            raise ValueError(f"{path}: {error}") from error.__cause__
        raise ValueError(
            f"{path}: not a readable {kind}; it may be corrupt or truncated ({type(error).__name__}: {error})"
        ) from error


def frame_of(frames: torch.Tensor, index: int, path: Path) -> torch.Tensor:
    """Return a copy of one frame; raise ValueError where the file holds fewer by now than when it was listed."""
    if index >= len(frames):
        raise ValueError(f"{path}: frame {index} was expected, but the file holds {len(frames)} by now")
    return frames[index].clone()
