"""review.html: scans with their outlines, the most uncertain first."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ... import plots
from ...data.formats._sizes import resize_labels
from ..runs import write_text
from .environment import environment

SIDE = 320  # pixels of a picture's longer side, at most


@dataclass(frozen=True)
class Card:
    """A scan of the page.

    Attributes:
        row: of the table.
        frames: of its file.
        rank: among the scans to outline next, from 1; None for the others.
        scan: its picture as a data URI.
        outlined: the same with the outline.
    """

    row: Mapping[str, str]
    frames: int
    rank: int | None
    scan: str
    outlined: str


def card(row: Mapping[str, str], frames: int, rank: int | None, image: Tensor, mask: Tensor) -> Card:
    """The card of an image (H, W) in [0, 1] and its mask (H, W) bool, of any size."""
    pixels, outline = _small(image, mask)
    gray = np.repeat((pixels * 255).round().astype(np.uint8)[..., None], 3, axis=2)
    return Card(row, frames, rank, _uri(gray), _uri(plots.overlay(pixels, outline, outline, alpha=0.25)))


def write_page(
    path: Path,
    cards: Sequence[Card],
    *,
    files: int,
    images: int,
    lesions: int,
    least_confidence: float,
    networks: int,
    broken: Mapping[str, str],
) -> Path:
    """Render the page.

    Args:
        path: where to.
        cards: in their order.
        files: number of files.
        images: number of their frames and slices.
        lesions: number of those in which a lesion is outlined.
        least_confidence: below which there is none.
        networks: number of networks.
        broken: the reason for each file that was left out.

    Returns:
        The path.
    """
    page = environment().get_template("review.html.j2")
    write_text(
        path,
        page.render(
            cards=cards,
            files=files,
            images=images,
            lesions=lesions,
            least_confidence=least_confidence,
            networks=networks,
            broken=broken,
            ranked=sum(card.rank is not None for card in cards),
        ),
    )
    return path


def _small(image: Tensor, mask: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Both at the size of a picture; a tiny outline keeps at least a pixel."""
    factor = SIDE / max(image.shape)
    if factor < 1:
        height, width = (max(1, round(n * factor)) for n in image.shape)
        image = torch.nn.functional.interpolate(image[None, None], (height, width), mode="bilinear", antialias=True)[
            0, 0
        ].clamp(0, 1)
        mask = resize_labels(mask[None], (height, width))[0][0]
    return image.numpy(), mask.numpy()


def _uri(pixels: np.ndarray) -> str:
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=88)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()
