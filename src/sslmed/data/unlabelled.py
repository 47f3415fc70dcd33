"""Any folder of images, for pretext learning."""

from __future__ import annotations

import operator
import os
from pathlib import Path
from typing import Any

from torch.utils.data import Dataset

from ._cases import shown
from ._sizes import Sizing
from .images import FORMATS, read_image

# Files that hold scans too. DICOM exports often have no ending at all.
_OTHER_SCANS = {
    ".dcm",
    ".dicom",
    ".ima",
    ".nii",
    ".gz",
    ".mha",
    ".mhd",
    ".nrrd",
    ".gif",
    ".webp",
    ".mp4",
    ".avi",
    "",
}
_TEXTS = {"LICENSE", "README", "COPYING", "CHANGES"}


class UnlabelledImages(Dataset[dict[str, Any]]):
    """All images below a folder, in the order of their paths.

    Hidden files and folders are skipped, and so are texts, tables and other files that hold no scan; scans in formats
    that cannot be read are an error, so that none is left out unseen. Links are followed, each folder once. Files are
    opened when they are read: to find the broken ones before a training, read every item once.

    Args:
        root: the folder.
        size: side in pixels of the square that images are resized to; None keeps them as they are.
        fit: how images become square: "stretch" does not keep the aspect, "pad" adds black to the shorter side.

    Items:
        image (1, H, W) float32 in [0, 1], id (the path below `root`, with "/").

    Raises:
        FileNotFoundError, NotADirectoryError: `root` is no folder.
        ValueError: there is no image below it, or a scan in an unsupported format; on reading, a file is broken.

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
    groups: None = None

    def __init__(
        self, root: str | os.PathLike[str], *, size: int | None = None, fit: str = "stretch"
    ) -> None:
        self.root = Path(root)
        if not self.root.exists():
            raise FileNotFoundError(f"root: no such folder: {self.root}")
        if not self.root.is_dir():
            raise NotADirectoryError(f"root must be a folder, got the file {self.root}")
        self._sizing = Sizing(size, fit)
        self.size, self.fit = self._sizing.size, self._sizing.fit
        found = [path for path in _walk(self.root) if path.name not in _TEXTS]
        files = [path for path in found if path.suffix.lower() in FORMATS]
        unsupported = [path for path in found if path.suffix.lower() in _OTHER_SCANS]
        if unsupported:
            names = shown(path.relative_to(self.root).as_posix() for path in unsupported)
            raise ValueError(f"{self.root}: unsupported scans {names}; supported are {', '.join(FORMATS)}")
        if not files:
            raise ValueError(
                f"{self.root} holds no images; looked for {', '.join(FORMATS)} in all its folders"
            )
        self.files = files
        self.ids = [path.relative_to(self.root).as_posix() for path in files]

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, index: int) -> dict[str, Any]:
        i = operator.index(index)
        return {"image": self._sizing.image(read_image(self.files[i])), "id": self.ids[i]}


def _walk(root: Path) -> list[Path]:
    """List the visible files below a folder; one reached twice through links counts once."""
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
