"""Any folder of scans, for pretext learning."""

from __future__ import annotations

import operator
import os
import re
import warnings
from collections import Counter
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import Dataset

from ... import _checks
from ..._latest import Latest
from ..formats._reading import frame_of
from ..formats._scans import SUPPORTED, companions, count_frames, read_frames, scan_kind
from ..formats._sizes import Sizing
from ..names import encodable, named_as_mask, readable
from ._cases import shown

_PICKLED = re.compile(
    r"(^|/)(data_batch_\d|test_batch|batches\.meta)$|\.(pkl|pickle)$|cifar-\d+-python\.tar", re.IGNORECASE
)
_MASK, _NO_SCAN, _UNSUPPORTED = "a mask, by its name", "no scan, by its name", "unsupported format"


class UnlabelledImages(Dataset[dict[str, Any]]):
    r"""All scans below a folder, in the order of their paths: images, GIF and DICOM frames, NIfTI and MetaImage slices.

    Each file is read, or named in `skipped`: texts, tables and programs; and masks, which are told by a word in their
    names (mask, annotation, label, seg, gt, contour, as in `a-mask.png` or `labels/a.png`) and named in a warning.
    Whatever else cannot be read is an error, since it may hold a scan. Hidden files and folders are passed over. Links
    are followed, each folder once. Headers are read at once, pixels when they are asked for. A clip or volume is
    decoded anew for each frame asked for out of order: keep such sets in a `DiskCache`, which decodes each file once.

    Args:
        root: the folder.
        size: side in pixels of the square that images are resized to; None keeps them as they are.
        fit: how images become square: "stretch" does not keep the aspect, "pad" adds black to the shorter side.
        window: what becomes [0, 1] in DICOM files, as in `read_dicom`. Each channel of a volume is scaled from its
            least to its greatest value.
        broken: "error"; "skip" to decode every file once now and leave out those that fail, listed in `skipped`; or
            "headers" to leave out those whose headers cannot be read, as for a `DiskCache` that leaves out the rest.

    Items:
        image (1, H, W) float32 in [0, 1]; id, the path below `root` with "/", and "#" and the frame's number in files
        of several; group, the file's path, where some file has several frames. In both, bytes of names that are no
        UTF-8, and control characters, are written as `\xe9`, and a backslash twice.

    Attributes:
        files: the files that are read.
        skipped: the reason for each file left out, by its path below `root`.
        masks: the paths of those that were taken for masks.

    Raises:
        FileNotFoundError, NotADirectoryError: `root` is no folder.
        ImportError: a DICOM or NIfTI file is there and pydicom or nibabel is not.
        ValueError: there is no scan below it, a file in an unsupported format, or one with a damaged header; on
            reading, a file is broken.

    Warns:
        UserWarning: files were left out because their names say that they are masks.

    Example:
        >>> import tempfile
        >>> from PIL import Image
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     Image.new("L", (40, 30)).save(f"{folder}/scan 1.png")
        ...     scans = UnlabelledImages(folder, size=32)
        ...     scans.ids, scans[0]["image"].shape
        (['scan 1.png'], torch.Size([1, 32, 32]))
    """

    labels: None = None

    def __init__(
        self,
        root: str | os.PathLike[str],
        *,
        size: int | None = None,
        fit: str = "stretch",
        window: str = "full",
        broken: str = "error",
    ) -> None:
        self.root: Path = Path(root)
        self._sizing = Sizing(size, fit)
        self.size: int | None = self._sizing.size
        self.fit: str = self._sizing.fit
        self.window: str = _checks.choice("window", window, ("full", "header", "own"))
        skip = _checks.choice("broken", broken, ("error", "skip", "headers")) != "error"
        kinds = {path: scan_kind(path) for path in scans_below(self.root)}
        masks = {path for path, kind in kinds.items() if kind and named_as_mask(path.relative_to(self.root))}
        parts = {part for path, kind in kinds.items() for part in companions(path, kind)}
        unsupported = [
            self._name(path)
            for path, kind in kinds.items()
            if kind == "unsupported" and path not in masks and path not in parts
        ]
        if unsupported and not skip:
            pickled = [name for name in unsupported if _PICKLED.search(name)]
            raise ValueError(
                f"{self.root}: unsupported scans {shown(unsupported)}; supported are {', '.join(SUPPORTED)}; "
                + (
                    f"{pickled[0]} looks like images in Python's pickle format, as of CIFAR-10, which is not opened "
                    "since it may run any code: save the images as PNG files first"
                    if pickled
                    else 'move other files elsewhere, or leave them out with broken="skip"'
                )
            )
        self.masks: list[str] = [self._name(path) for path in kinds if path in masks]
        self.skipped: dict[str, str] = {self._name(path): _NO_SCAN for path, kind in kinds.items() if kind is None}
        self.skipped |= dict.fromkeys(self.masks, _MASK) | dict.fromkeys(unsupported, _UNSUPPORTED)
        self._last = Latest[Path, torch.Tensor]()
        self.files: list[Path] = []
        self._frames: list[tuple[Path, str, int]] = []
        self.ids: list[str] = []
        for path, kind in kinds.items():
            if kind is None or kind == "unsupported" or path in masks:
                continue
            try:
                decode = broken == "skip"
                count = len(read_frames(path, kind, window=window)) if decode else count_frames(path, kind)
            except (ValueError, OSError) as error:
                if not skip:
                    raise
                self.skipped[self._name(path)] = encodable(str(error))
                continue
            self.files += [path, *companions(path, kind)]
            self._frames += [(path, kind, k) for k in range(count)]
            self.ids += [self._name(path) + (f"#{k}" if count > 1 else "") for k in range(count)]
        count = len(self.masks)
        left_out = f"{count} mask{'s' * (count > 1)}, by name, as {shown(self.masks, limit=1)}" if count else ""
        if not self.ids:
            raise ValueError(
                f"{self.root} holds no images{' but ' * bool(left_out)}{left_out}; looked for "
                f"{', '.join(SUPPORTED)} in all its folders"
            )
        if left_out:
            warnings.warn(f"{self.root}: left out {left_out}; rename them if they are scans", stacklevel=2)
        several = len({path for path, _, _ in self._frames}) < len(self.ids)
        self.groups: list[str] | None = [self._name(path) for path, _, _ in self._frames] if several else None

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, index: int) -> dict[str, Any]:
        i = range(len(self.ids))[operator.index(index)]
        path, kind, frame = self._frames[i]
        frames = self._last.of(path, lambda: read_frames(path, kind, window=self.window))
        item = {"image": self._sizing.image(frame_of(frames, frame, path)), "id": self.ids[i]}
        return item if self.groups is None else item | {"group": self.groups[i]}

    @property
    def scans(self) -> list[tuple[Path, str, int]]:
        """Each file that holds images, with its format and the number of its frames."""
        return [
            (path, kind, count) for (path, kind), count in Counter((p, kind) for p, kind, _ in self._frames).items()
        ]

    @property
    def unreadable(self) -> dict[str, str]:
        """What of `skipped` is neither a mask nor known to hold no scan."""
        return {name: reason for name, reason in self.skipped.items() if reason not in (_MASK, _NO_SCAN)}

    def _name(self, path: Path) -> str:
        return readable(path.relative_to(self.root).as_posix())


def scans_below(root: Path) -> list[Path]:
    """List the visible files below a folder; one reached twice through links counts once."""
    if not root.exists():
        raise FileNotFoundError(f"root: no such folder: {root}")
    if not root.is_dir():
        raise NotADirectoryError(f"root must be a folder, got the file {root}")
    seen: set[Path] = set()
    files: list[Path] = []
    for folder, folders, names in os.walk(root, followlinks=True):
        real = Path(folder).resolve()
        if real in seen:
            folders.clear()
            continue
        seen.add(real)
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        files += [Path(folder, name) for name in names if not name.startswith(".")]
    return sorted(files)
