"""Any folder of scans, for pretext learning."""

from __future__ import annotations

import operator
import os
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import Dataset

from .. import _checks
from ._cases import shown
from ._reading import frame_of
from ._scans import SUPPORTED, count_frames, read_frames, scan_kind
from ._sizes import Sizing

_TEXTS = {"LICENSE", "README", "COPYING", "CHANGES", "DICOMDIR"}


class UnlabelledImages(Dataset[dict[str, Any]]):
    """All scans below a folder, in the order of their paths: images, DICOM frames, NIfTI slices.

    Hidden files and folders are skipped, and so are texts, tables and other files that hold no scan; scans in formats
    that cannot be read are an error, so that none is left out unseen. Links are followed, each folder once. Headers are
    read at once, pixels when they are asked for. A clip or volume is decoded anew for each frame asked for out of
    order: keep such sets in a `DiskCache`, which decodes each file once.

    Args:
        root: the folder.
        size: side in pixels of the square that images are resized to; None keeps them as they are.
        fit: how images become square: "stretch" does not keep the aspect, "pad" adds black to the shorter side.
        window: what becomes [0, 1] in DICOM files, as in `read_dicom`. Each channel of a NIfTI volume is scaled from
            its least to its greatest value.
        broken: "error", or "skip" to decode every file once now and leave out those that fail, listed in `skipped`.

    Items:
        image (1, H, W) float32 in [0, 1]; id, the path below `root` with "/", and "#" and the frame's number in files
        of several; group, the file's path, where some file has several frames.

    Attributes:
        skipped: the reason for each file left out, by its path below `root`; empty with "error".

    Raises:
        FileNotFoundError, NotADirectoryError: `root` is no folder.
        ImportError: a DICOM or NIfTI file is there and pydicom or nibabel is not.
        ValueError: there is no scan below it, one in an unsupported format, or one with a damaged header; on reading, a
            file is broken.

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
        self.root = Path(root)
        self._sizing = Sizing(size, fit)
        self.size, self.fit = self._sizing.size, self._sizing.fit
        self.window = _checks.choice("window", window, ("full", "header", "own"))
        skip = _checks.choice("broken", broken, ("error", "skip")) == "skip"
        kinds = {path: scan_kind(path) for path in scans_below(self.root)}
        unsupported = [self._name(path) for path, kind in kinds.items() if kind == "unsupported"]
        if unsupported and not skip:
            raise ValueError(
                f"{self.root}: unsupported scans {shown(unsupported)}; supported are {', '.join(SUPPORTED)}"
            )
        self.skipped = dict.fromkeys(unsupported, "unsupported format")
        self._last: tuple[Path, torch.Tensor] | None = None
        self.files: list[Path] = []
        self._frames: list[tuple[Path, str, int]] = []
        self.ids: list[str] = []
        for path, kind in kinds.items():
            if kind is None or kind == "unsupported":
                continue
            try:
                count = len(read_frames(path, kind, window=window)) if skip else count_frames(path, kind)
            except (ValueError, OSError) as error:
                if not skip:
                    raise
                self.skipped[self._name(path)] = str(error)
                continue
            self.files.append(path)
            self._frames += [(path, kind, k) for k in range(count)]
            self.ids += [self._name(path) + (f"#{k}" if count > 1 else "") for k in range(count)]
        if not self.ids:
            raise ValueError(
                f"{self.root} holds no images; looked for {', '.join(SUPPORTED)} in all its folders"
            )
        several = len(self.files) < len(self.ids)
        self.groups = [self._name(path) for path, _, _ in self._frames] if several else None

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, index: int) -> dict[str, Any]:
        i = range(len(self.ids))[operator.index(index)]
        path, kind, frame = self._frames[i]
        if self._last is None or self._last[0] != path:
            self._last = path, read_frames(path, kind, window=self.window)
        item = {"image": self._sizing.image(frame_of(self._last[1], frame, path)), "id": self.ids[i]}
        return item if self.groups is None else item | {"group": self.groups[i]}

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_last": None}  # workers decode for themselves

    def _name(self, path: Path) -> str:
        return path.relative_to(self.root).as_posix()


def scans_below(root: Path) -> list[Path]:
    """List the visible files below a folder that may hold a scan; one reached twice through links counts once."""
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
        files += [Path(folder, name) for name in names if not name.startswith(".") and name not in _TEXTS]
    return sorted(files)
