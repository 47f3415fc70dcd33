"""Regions that OsiriX writes as XML property lists, as label maps."""

from __future__ import annotations

import plistlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from ._reading import reading

Contour = tuple[str, list[tuple[float, float]]]


def read_contours(path: Path) -> list[Contour]:
    """Read name and points, (x, y) in pixels, of each region.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is no such list, or a point no pair of numbers.
    """
    with reading(path, "list of regions"), path.open("rb") as file:
        content = plistlib.load(file, fmt=plistlib.FMT_XML)
        regions = [region for image in content["Images"] for region in image["ROIs"]]
        return [(str(region.get("Name", "")), [_point(text) for text in region["Point_px"]]) for region in regions]


def draw_contours(contours: Sequence[tuple[int, Sequence[tuple[float, float]]]], size: tuple[int, int]) -> torch.Tensor:
    """Fill contours, each with its number, on a map of `size` (H, W), later ones over earlier ones.

    A contour of one or two points is these pixels. What lies outside the map is cut.

    Returns:
        (1, H, W) uint8.
    """
    from PIL import Image, ImageDraw

    canvas = Image.new("L", (size[1], size[0]))
    draw = ImageDraw.Draw(canvas)
    for number, points in contours:
        if len(points) > 2:
            draw.polygon(list(points), fill=number)
        elif points:
            draw.point([(int(x), int(y)) for x, y in points], fill=number)
    return torch.from_numpy(np.array(canvas))[None]


def _point(text: str) -> tuple[float, float]:
    x, y = (float(number) for number in text.strip().removeprefix("(").removesuffix(")").split(","))
    if not (np.isfinite(x) and np.isfinite(y)):
        raise ValueError(f"the point {text}")
    return x, y
