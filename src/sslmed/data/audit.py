"""Look at a folder of scans before training on it: python -m sslmed.data.audit FOLDER.

Counts by class, files that cannot be read, masks whose lesion is smaller than a pixel once resized, near duplicates
with their pictures, and what gives a class away before any pixel of anatomy: a size, an aspect, a brightness. The class
of a scan is the folder it lies in. The report is printed and written as one HTML page, which holds thumbnails and file
names and nothing of a file's header.
"""

from __future__ import annotations

import argparse
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from .. import _checks
from ._audit_page import page
from ._copies import near_duplicates
from .formats._scans import companions, read_frames, scan_kind
from .formats._sizes import resize_image, resize_labels
from .formats.images import read_mask
from .names import encodable, named_as_mask, readable
from .readers._cases import shown
from .readers.unlabelled import scans_below

Index = npt.NDArray[np.int64]
Numbers = npt.NDArray[np.float64]

MASKS = ("*mask*",)  # beside the names that `UnlabelledImages` takes for masks
SIZES = (32, 64, 128, 224)
_THUMBNAIL, _NEIGHBOURS = 96, 5


@dataclass(frozen=True)
class Scan:
    """One file: name and class (its folder), (H, W), number of frames, thumbnail (1, 96, 96) of the middle frame."""

    name: str
    group: str
    size: tuple[int, int]
    frames: int
    thumbnail: torch.Tensor


@dataclass(frozen=True)
class Leak:
    """How well one plain property tells the classes apart.

    Attributes:
        feature: "height", "width", "aspect" or "brightness".
        accuracy: balanced accuracy of the 5 nearest neighbours in it, leave one out.
        chance: 1 / classes.
        marked: whether it exceeds chance by 0.1 and by 4 standard errors.
    """

    feature: str
    accuracy: float
    chance: float
    marked: bool


@dataclass(frozen=True)
class Audit:
    """What `audit` found.

    Attributes:
        root: the folder.
        scans: the readable scans.
        masks: names of the files taken for masks.
        tiny: names of the masks with a lesion that is smaller than a pixel at a size of 32, 64, 128 and 224, by size.
        broken: reason for each scan or mask that cannot be read, by name.
        duplicates: groups of near duplicates, those across classes first.
        leaks: a line for each property; empty with one class.
    """

    root: Path
    scans: list[Scan]
    masks: list[str]
    tiny: dict[int, list[str]]
    broken: dict[str, str]
    duplicates: list[list[Scan]]
    leaks: list[Leak]

    @property
    def classes(self) -> dict[str, int]:
        """Number of readable scans of each class."""
        return dict(sorted(Counter(scan.group for scan in self.scans).items()))

    def __str__(self) -> str:
        across = sum(len({scan.group for scan in group}) > 1 for group in self.duplicates)
        lines = [
            f"{encodable(str(self.root))}: {len(self.scans)} scans, {sum(scan.frames for scan in self.scans)} frames, "
            f"{len(self.masks)} masks, {len(self.broken)} unreadable files",
            *(f"  {count:6d}  {name or '(top folder)'}" for name, count in self.classes.items()),
            *(
                f"lesions smaller than a pixel at {size} px: {len(names)} masks, as {names[0]}"
                for size, names in self.tiny.items()
                if names
            ),
            f"near duplicates: {len(self.duplicates)} groups of {sum(map(len, self.duplicates))} scans, "
            f"{across} groups across classes",
            *("  " + " = ".join(scan.name for scan in group) for group in self.duplicates[:10]),
            *([f"  and {len(self.duplicates) - 10} more"] if len(self.duplicates) > 10 else []),
        ]
        if self.leaks:
            lines.append("classes told apart by (balanced accuracy, leave one out):")
        for leak in self.leaks:
            note = "  <- gives the class away" if leak.marked else ""
            lines.append(f"  {leak.feature:10s} {leak.accuracy:.2f}, by chance {leak.chance:.2f}{note}")
        lines += [f"unreadable: {name}: {reason}" for name, reason in self.broken.items()]
        return "\n".join(lines)


def audit(root: str | os.PathLike[str], *, threshold: float = 0.95, masks: Sequence[str] = MASKS) -> Audit:
    """Read every scan below a folder once and compare them.

    Args:
        root: the folder. The class of a scan is the path of the folder it lies in, below `root`.
        threshold: correlation above which two scans are near duplicates, as in `splits.near_duplicates`. Of a clip or
            volume the middle frame is compared.
        masks: patterns of paths below `root`, whatever their case, that name masks, beside those that
            `UnlabelledImages` takes for masks.

    Returns:
        What was found. Unreadable scans and masks are in it, not raised; masks in DICOM and NIfTI are not looked into.

    Raises:
        FileNotFoundError, NotADirectoryError: `root` is no folder.
        ImportError: a DICOM or NIfTI file is there and pydicom or nibabel is not.
        ValueError: `threshold` is out of range, or no scan below `root` can be read.
    """
    _checks.number("threshold", threshold, low=-1.0, high=1.0)
    folder = Path(root)
    scans: list[Scan] = []
    hidden: list[str] = []
    tiny: dict[int, list[str]] = {size: [] for size in SIZES}
    broken: dict[str, str] = {}
    files = scans_below(folder)
    parts = {part for path in files for part in companions(path, scan_kind(path))}
    for path in files:
        name = readable(path.relative_to(folder).as_posix())
        kind = scan_kind(path)
        if kind is None or path in parts:
            continue
        if named_as_mask(path.relative_to(folder)) or any(fnmatch(name.lower(), pattern.lower()) for pattern in masks):
            hidden.append(name)
            if kind == "image":
                try:
                    mask = read_mask(path)
                except (ValueError, OSError) as error:
                    broken[name] = str(error).removeprefix(f"{path}: ")
                    continue
                for side, names in tiny.items():
                    if resize_labels(mask, (side, side))[1]:
                        names.append(name)
        elif kind == "unsupported":
            broken[name] = "unsupported format"
        else:
            try:
                frames = read_frames(path, kind, window="own")
            except (ValueError, OSError) as error:
                broken[name] = encodable(str(error).removeprefix(f"{path}: "))
                continue
            middle = frames[len(frames) // 2]
            group = readable(path.parent.relative_to(folder).as_posix().removeprefix("."))
            size = (middle.shape[1], middle.shape[2])
            scans.append(Scan(name, group, size, len(frames), resize_image(middle, _THUMBNAIL)))
    if not scans:
        raise ValueError(f"{folder}: no scan can be read{'; ' + shown(broken) if broken else ''}")
    return Audit(folder, scans, hidden, tiny, broken, _duplicates(scans, threshold), _leaks(scans))


def main(arguments: Sequence[str] | None = None, *, prog: str = "python -m sslmed.data.audit") -> None:
    """Print the report and write its page."""
    parser = argparse.ArgumentParser(prog=prog, description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--out", type=Path, default=Path("audit.html"), help="the page (default: audit.html)")
    parser.add_argument("--threshold", type=float, default=0.95, help="of near duplicates (default: 0.95)")
    parser.add_argument("--masks", nargs="*", default=MASKS, metavar="PATTERN", help="paths that name masks")
    options = parser.parse_args(arguments)
    try:
        found = audit(options.folder, threshold=options.threshold, masks=options.masks)
        options.out.write_text(page(found), encoding="utf-8")
    except (ValueError, OSError, ImportError) as error:
        parser.exit(2, f"{parser.prog}: {error}\n")
    print(found)
    print(f"report: {encodable(str(options.out))}")


def _duplicates(scans: list[Scan], threshold: float) -> list[list[Scan]]:
    first = near_duplicates([scan.thumbnail for scan in scans], threshold=threshold)
    groups: dict[int, list[Scan]] = {}
    for scan, key in zip(scans, first.tolist(), strict=True):
        groups.setdefault(key, []).append(scan)
    several = [group for group in groups.values() if len(group) > 1]
    return sorted(several, key=lambda group: len({scan.group for scan in group}) == 1)


def _leaks(scans: list[Scan]) -> list[Leak]:
    names = sorted({scan.group for scan in scans})
    labels = np.array([names.index(scan.group) for scan in scans])
    counts = np.bincount(labels)
    if len(names) < 2:
        return []
    features = {
        "height": [scan.size[0] for scan in scans],
        "width": [scan.size[1] for scan in scans],
        "aspect": [scan.size[1] / scan.size[0] for scan in scans],
        "brightness": [scan.thumbnail.mean().item() for scan in scans],
    }
    chance = 1 / len(names)
    # Of the mean of the classes' recalls, were each scan's class guessed.
    error = float(np.sqrt((chance * (1 - chance) / counts).sum())) / len(names)
    leaks = []
    for feature, values in features.items():
        right = _neighbours_vote(np.asarray(values, dtype=np.float64), labels, len(names)) == labels
        accuracy = float(np.mean([right[labels == k].mean() for k in range(len(names))]))
        leaks.append(Leak(feature, accuracy, chance, accuracy > chance + max(0.1, 4 * error)))
    return leaks


def _neighbours_vote(values: Numbers, labels: Index, classes: int) -> Index:
    """Guess the class of each scan from those nearest in one number.

    All scans no farther than the fifth neighbour vote, each with the inverse of the size of its class, the scan itself
    left out: where all values are equal every class has the same weight.
    """
    counts = np.bincount(labels, minlength=classes)
    votes = np.empty(len(values), dtype=np.int64)
    place = min(_NEIGHBOURS, len(values) - 1) - 1
    for i, value in enumerate(values):
        distance = np.abs(values - value)
        distance[i] = np.inf
        near = labels[distance <= np.partition(distance, place)[place]]
        others = counts - (np.arange(classes) == labels[i])
        votes[i] = np.argmax(np.bincount(near, minlength=classes) / np.maximum(others, 1))
    return votes


if __name__ == "__main__":
    main()
