"""Outlines of the frames of files, batch by batch: in memory are one batch and the file that is being read."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, TypeVar

import torch
from torch import Tensor

from ..progress import track
from .ensemble import Ensemble
from .scan_files import ScanFile, as_square, at_size
from .uncertainty import disagreement, uncertainty

BATCH = 32  # frames of a forward pass
T = TypeVar("T")


@dataclass(frozen=True)
class Outline:
    """What an ensemble outlined in a frame.

    Attributes:
        scan: the file.
        frame: the number of the frame.
        mask: (H, W) bool, of the frame's size; empty where the ensemble decided that it shows no lesion.
        confidence: that there is a lesion.
        disagreement: of the networks' outlines, before the decision.
        uncertainty: of the outline, before the decision.
    """

    scan: ScanFile
    frame: int
    mask: Tensor
    confidence: float
    disagreement: float
    uncertainty: float

    def row(self) -> dict[str, Any]:
        """Its row of the table, without the content of the file."""
        area = int(self.mask.sum())
        return {
            "file": self.scan.name,
            "slice": self.frame if self.scan.frames > 1 else "",
            "lesion": "yes" if area else "no",
            "confidence": f"{self.confidence:.4f}",
            "area_pixels": area,
            "area_share": f"{area / self.mask.numel():.6f}",
            "disagreement": f"{self.disagreement:.4f}",
            "uncertainty": f"{self.uncertainty:.4f}",
        }


def outlines(files: Sequence[ScanFile], model: Ensemble) -> Iterator[Outline]:
    """Outline each frame of some files, in their order.

    Args:
        files: with frames of any size.
        model: in evaluation mode, on the device to compute on.

    Raises:
        ValueError, OSError: a file cannot be read.
    """
    about, device = model.description, next(model.parameters()).device
    frames = track(_frames(files, about.size, about.fit), "outlining", sum(scan.frames for scan in files))
    for batch in batches(frames, BATCH):
        with torch.inference_mode():
            images = torch.stack([square for *_, square in batch]).to(device)
            logits = model.logits(images)
            probabilities, confidence = (values.cpu() for values in model.joined(logits, images))
            each = torch.stack(logits).sigmoid()[:, :, 0]
            differ, unsure = disagreement(each > 0.5).tolist(), uncertainty(each).tolist()
        for k, (scan, frame, shape, _) in enumerate(batch):
            sure = float(confidence[k])
            mask = (at_size(probabilities[k], shape, about.fit)[0] > 0.5) & (sure >= model.least_confidence)
            yield Outline(scan, frame, mask, sure, differ[k], unsure[k])


def batches(items: Iterable[T], size: int) -> Iterator[list[T]]:
    """Lists of `size` items; the last one may be shorter."""
    source = iter(items)
    while batch := list(islice(source, size)):
        yield batch


def _frames(files: Iterable[ScanFile], size: int, fit: str) -> Iterator[tuple[ScanFile, int, tuple[int, int], Tensor]]:
    """Each frame's file, number, size, and pixels as the networks see them."""
    for scan in files:
        for k, frame in enumerate(scan.read()):
            yield scan, k, (frame.shape[1], frame.shape[2]), as_square(frame, size, fit)
