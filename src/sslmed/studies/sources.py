"""Open the data set that a folder holds, recognised by its layout, or synthetic images where no folder is given."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..data import READERS, UnlabelledImages
from ..data.names import named_as_mask

PHANTOM = "phantom"
UNLABELLED = "unlabelled images"


@dataclass(frozen=True)
class Source:
    """Where images come from.

    Attributes:
        option: the option that named `place`, for messages.
        place: a folder, or `phantom`.
        phantom: (size) -> the synthetic set that `phantom` names; None where there is none.
        unlabelled: of a set that comes in two parts, read the one without labels.
    """

    option: str
    place: str
    phantom: Callable[[int], Any] | None = None
    unlabelled: bool = False


def open_set(source: Source, *, size: int, fit: str = "stretch", skip_broken: bool = False) -> tuple[str, str, Any]:
    """Find the reader of a source and open it, without decoding an image.

    Args:
        source: what to open.
        size: pixels a side of its images.
        fit: how images become square: "stretch" or "pad", as in the readers.
        skip_broken: of unlabelled images, leave out the files whose headers cannot be read.

    Returns:
        The set's name, the source as results may print it (no folder of this machine), and the data set.

    Raises:
        ValueError, OSError: the folder is missing or empty, holds several sets, or holds masks but is not a set
            with masks.
    """
    if source.place == PHANTOM and source.phantom is not None:
        synthetic = source.phantom(size)
        return type(synthetic).__name__, _described(synthetic), synthetic
    root = Path(source.place)
    if not root.exists():
        other = ", or `phantom` for synthetic images" if source.phantom is not None else ""
        raise FileNotFoundError(f"{source.option} {source.place}: no such folder (give a folder{other})")
    if not root.is_dir():
        raise NotADirectoryError(f"{source.option} {source.place} is a file; a folder was expected")
    shown = Path(os.path.abspath(root)).name  # the same from wherever the command is given
    inner = (entry for entry in sorted(root.iterdir()) if entry.is_dir())
    readers = _recognised([root]) or _recognised(inner)
    if len(readers) > 1:
        raise ValueError(
            f"{source.option} {source.place} holds several sets, {' and '.join(map(_title, readers))}; name one"
        )
    for reader in readers:
        part = reader.without_labels if source.unlabelled else {}
        # A set whose images were counted is refused by its reader where some are missing; here that is noted.
        settings = {"allow_partial": True} if reader.published else {}
        found = reader(root, size=size, fit=fit, **settings, **part)
        if not len(found):
            raise ValueError(
                f"{source.option} {source.place}, read as {_title(reader)}, holds no images"
                + (" without labels" if part else "")
            )
        return _title(reader), shown, found
    with warnings.catch_warnings():  # about masks, which are an error here
        warnings.simplefilter("ignore", UserWarning)
        scans = UnlabelledImages(root, size=size, fit=fit, broken="headers" if skip_broken else "error")
    masks = scans.ids if named_as_mask(Path(shown, "0")) else scans.masks
    if masks:
        raise ValueError(
            f"{source.option} {source.place} would be read as unlabelled images, but holds {len(masks)} mask"
            f"{'s' * (len(masks) > 1)}, as {masks[0]}; name the whole folder of a known set, one with images/ and "
            "masks/ under the same names, or a folder without masks"
        )
    return UNLABELLED, shown, scans


def _title(reader: type[Any]) -> str:
    return reader.title or reader.__name__


def _recognised(folders: Iterable[Path]) -> list[type[Any]]:
    """List the readers that recognise the folders, each once; the first reader that recognises a folder reads it."""
    found = (next((reader for reader in READERS if reader.recognises(folder)), None) for folder in folders)
    return list(dict.fromkeys(reader for reader in found if reader is not None))


def _described(synthetic: Any) -> str:
    organ = getattr(synthetic, "organ", None)
    kind = {"MammogramPhantom": "mammograms", "MRPhantom": "MR volumes"}.get(
        type(synthetic).__name__, "B-mode" + (f" of the {organ}" if organ not in (None, "breast") else "")
    )
    return f"synthetic {kind}, seed {synthetic.seed}"
