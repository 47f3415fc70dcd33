"""The scans of a folder file by file, and the names of their masks."""

from __future__ import annotations

import hashlib
import warnings
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import torch
from torch import Tensor

from ...data import UnlabelledImages
from ...data.formats._scans import SUPPORTED, companions, read_frames
from ...data.formats._sizes import resize_image
from ...data.names import readable
from ..runs import sha256

_ENDINGS = (*SUPPORTED, ".dicom", ".ima")


@dataclass(frozen=True)
class ScanFile:
    """A file of one or several frames.

    Attributes:
        path: where it is.
        name: its path below the folder, as text.
        kind: its format, as `sslmed.data.UnlabelledImages.scans` has it.
        frames: the number of its frames or slices.
        masks: paths of its masks below the output folder: one for each frame, or one for a whole NIfTI volume.
    """

    path: Path
    name: str
    kind: str
    frames: int
    masks: tuple[str, ...]

    def mask_of(self, frame: int) -> str:
        """The path of the mask of a frame."""
        return self.masks[frame if len(self.masks) > 1 else 0]

    def read(self) -> Tensor:
        """Decode all frames: (F, 1, H, W) float32 in [0, 1].

        Raises:
            ValueError, OSError: the file cannot be read, or its number of frames has changed.
        """
        found = read_frames(self.path, self.kind, window="full")
        if len(found) != self.frames:
            raise ValueError(f"{self.path}: {self.frames} frames were expected, got {len(found)}")
        return found

    def digest(self) -> str:
        """The first 16 digits of the SHA-256 of its content."""
        parts = [sha256(path) for path in (self.path, *companions(self.path, self.kind))]
        return (parts[0] if len(parts) == 1 else hashlib.sha256("".join(parts).encode()).hexdigest())[:16]


def scan_files(folder: str, *, skip_broken: bool) -> tuple[list[ScanFile], dict[str, str], list[str]]:
    """List the files of a folder that hold scans, their headers read.

    Args:
        folder: any folder that `UnlabelledImages` reads.
        skip_broken: leave out what cannot be read.

    Returns:
        The files; the reason for each broken file that was left out, by its name; the names of files that were left
        out because they are masks by their names.

    Raises:
        ValueError, OSError, ImportError: as `UnlabelledImages`.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # about masks, which the caller names
        scans = UnlabelledImages(folder, broken="headers" if skip_broken else "error")
    places = [(path.relative_to(scans.root).as_posix(), kind, count) for path, kind, count in scans.scans]
    files = [
        ScanFile(path, readable(place), kind, count, masks)
        for (path, kind, count), (place, _, _), masks in zip(scans.scans, places, mask_names(places), strict=True)
    ]
    return files, scans.unreadable, scans.masks


def mask_names(files: Sequence[tuple[str, str, int]]) -> list[tuple[str, ...]]:
    """The paths of the masks of files, given by path, format and number of frames.

    A mask has its scan's name with the ending .png, so that both can be paired; a NIfTI volume's mask keeps its
    ending; frames get a number. Where the masks of two files would have one name, those of both keep the old ending
    before the new one.
    """
    found = [_masks(place, kind, count, full=False) for place, kind, count in files]
    full = set[int]()
    while True:  # a longer name may be that of another file's mask
        seen = Counter(name.casefold() for names in found for name in names)
        clashing = {k for k, names in enumerate(found) if any(seen[name.casefold()] > 1 for name in names)} - full
        if not clashing:
            return found
        full |= clashing
        for k in clashing:
            found[k] = _masks(*files[k], full=True)


def _masks(place: str, kind: str, count: int, *, full: bool) -> tuple[str, ...]:
    if kind == "nifti":
        return (place,)
    path = PurePosixPath(place)
    ending = next((e for e in sorted(_ENDINGS, key=len, reverse=True) if path.name.lower().endswith(e)), "")
    stem = str(path.with_name(path.name[: len(path.name) - len(ending)] or path.name)) if not full else place
    return (f"{stem}.png",) if count == 1 else tuple(f"{stem}-{k:04d}.png" for k in range(count))


def as_square(frame: Tensor, size: int, fit: str) -> Tensor:
    """A frame (1, H, W) as the networks saw their images: (1, size, size)."""
    return resize_image(frame, size, fit=fit)


def at_size(square: Tensor, shape: tuple[int, int], fit: str) -> Tensor:
    """Values (1, size, size) of a square at the size (H, W) of its frame, interpolated: the way back of `as_square`."""
    height, width = shape
    whole = (max(shape), max(shape)) if fit == "pad" else shape
    found = torch.nn.functional.interpolate(square[None], whole, mode="bilinear", align_corners=False)[0]
    top, left = (whole[0] - height) // 2, (whole[1] - width) // 2
    return found[:, top : top + height, left : left + width]
