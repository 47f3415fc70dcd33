"""A picture inside the page: a PNG in a data URI with the text that stands for it."""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Picture:
    """A PNG inside the page."""

    uri: str
    alt: str
    caption: str = ""


def picture(figure: Figure, alt: str, *, caption: str = "", dpi: float = 110) -> Picture:
    """Draw `figure` as a PNG in a data URI."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=dpi)
    return Picture("data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode(), alt, caption)
