"""Image sets of a test's own tensors, kept in a cache as those of studies are."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import Tensor
from torch.utils.data import Dataset

from sslmed.data import DiskCache
from sslmed.studies.image_set import ImageSet


class _Items(Dataset[dict[str, Any]]):
    def __init__(self, pixels: dict[str, Tensor]) -> None:
        self.pixels = pixels

    def __len__(self) -> int:
        return len(self.pixels["image"])

    def __getitem__(self, i: int) -> dict[str, Any]:
        return {name: values[i] for name, values in self.pixels.items()}


def image_set(folder: Path, *, ids: list[str], groups: list[str], **settings: Any) -> ImageSet:
    """A set whose pixels `image`, `mask` and `label_map` (N, 1, S, S) are given among the settings."""
    pixels = {name: settings.pop(name) for name in ("image", "mask", "label_map") if name in settings}
    cache = DiskCache(_Items(pixels), folder, key="test")
    usual: dict[str, Any] = {"name": "set", "source": "", "labels": None, "counts": {"images": len(ids)}}
    return ImageSet(
        **(usual | settings),
        ids=ids,
        groups=groups,
        caches=(cache,),
        rows=[(0, i) for i in range(len(ids))],
        size=pixels["image"].shape[-1],
    )
