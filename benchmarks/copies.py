"""Share of copies that `splits.near_duplicates` finds, by what was done to them.

    python benchmarks/copies.py [FOLDER ...] [--count 200] [--threshold 0.95]

Of each folder (any images; the phantom where none is given) up to `--count` images are altered, each in every way, and
put beside the whole folder; a copy counts as found if it lands in the group of its original. "Joined" are originals
that fall into one group only beside the copies, as neighbouring frames of a clip may.
"""

from __future__ import annotations

import argparse
import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from sslmed.data import Phantom, UnlabelledImages, splits

Change = Callable[[Tensor, np.random.Generator], Tensor]


def resized(image: Tensor, rng: np.random.Generator) -> Tensor:
    """Reduce an image to 60 %."""
    size = [max(8, round(0.6 * n)) for n in image.shape[1:]]
    return F.interpolate(image[None], size, mode="bilinear", antialias=True)[0].clamp(0, 1)


def compressed(image: Tensor, rng: np.random.Generator) -> Tensor:
    """Save an image as JPEG of quality 50."""
    buffer = io.BytesIO()
    Image.fromarray((image[0] * 255).byte().numpy()).save(buffer, "JPEG", quality=50)
    return torch.from_numpy(np.array(Image.open(buffer), dtype=np.float32))[None] / 255


def cropped(image: Tensor, rng: np.random.Generator, *, most: float = 0.04) -> Tensor:
    """Cut up to `most` of the height and width off each border."""
    _, height, width = image.shape
    top, bottom = (round(height * rng.uniform(0, most)) for _ in range(2))
    left, right = (round(width * rng.uniform(0, most)) for _ in range(2))
    return image[:, top : height - bottom, left : width - right]


CHANGES: dict[str, Change] = {
    "as it is": lambda x, rng: x.clone(),
    "resized to 60 %": resized,
    "JPEG, quality 50": compressed,
    "contrast 0.6, brightness 0.2": lambda x, rng: 0.2 + 0.6 * x,
    "gamma 0.7": lambda x, rng: x**0.7,
    "mirrored left to right": lambda x, rng: x.flip(2),
    "mirrored top to bottom": lambda x, rng: x.flip(1),
    "turned by 90": lambda x, rng: x.rot90(1, (1, 2)),
    "turned by 180": lambda x, rng: x.rot90(2, (1, 2)),
    "turned by 270": lambda x, rng: x.rot90(3, (1, 2)),
    "mirrored and turned by 90": lambda x, rng: x.flip(2).rot90(1, (1, 2)),
    "2 % off each border": lambda x, rng: cropped_evenly(x, 0.02),
    "4 % off each border": lambda x, rng: cropped_evenly(x, 0.04),
    "0 to 4 % off each border": cropped,
    "0 to 4 % off, mirrored": lambda x, rng: cropped(x, rng).flip(2),
    "0 to 8 % off each border": lambda x, rng: cropped(x, rng, most=0.08),
}


def cropped_evenly(image: Tensor, share: float) -> Tensor:
    """Cut the same share off each border."""
    top, left = (round(share * n) for n in image.shape[1:])
    return image[:, top : image.shape[1] - top, left : image.shape[2] - left]


def measure(images: list[Tensor], count: int, threshold: float) -> None:
    """Print the share found of each kind of copy."""
    rng = np.random.default_rng(0)
    originals = rng.permutation(len(images))[:count].tolist()
    alone = splits.near_duplicates(images, threshold=threshold)
    print(f"  {len(images)} images in {len(set(alone.tolist()))} groups of near duplicates")
    for name, change in CHANGES.items():
        copies = [change(images[i], rng) for i in originals]
        groups = splits.near_duplicates([*images, *copies], threshold=threshold)
        found = groups[len(images) :] == groups[originals]
        more = len(set(alone.tolist())) - len(set(groups[: len(images)].tolist()))
        print(f"  {name:30s} {found.mean():6.1%} found, {more} originals joined", flush=True)


def main() -> None:
    """Measure each folder."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folders", nargs="*", type=Path, metavar="FOLDER")
    parser.add_argument("--count", type=int, default=200)
    parser.add_argument("--threshold", type=float, default=0.95)
    args = parser.parse_args()
    sets = {str(folder): UnlabelledImages(folder) for folder in args.folders}
    for name, data in (sets or {"Phantom(400, size=128)": Phantom(400, size=128)}).items():
        print(name)
        measure([data[i]["image"] for i in range(len(data))], args.count, args.threshold)


if __name__ == "__main__":
    main()
