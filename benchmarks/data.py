"""Images a second of the phantom and of a cache on disk, and near-duplicate search.

    python benchmarks/data.py [--rounds 5] [--threads 1]

The cache's job reads 2,000 PNG images of 500 x 600 speckled pixels, written for the run, at two sizes: through the
plain data set, which decodes and resizes, and through DiskCache on its second epoch; the floor copies as many tensors.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from measure import interleaved, report, settle, write
from sslmed.data import DiskCache, Phantom, UnlabelledImages, splits

IMAGES, SCANS = 100, 2000


def second_epoch(folder: Path, size: int) -> dict[str, Any]:
    """Median ms of one image by way of reading."""
    plain = UnlabelledImages(folder / "scans", size=size)
    cached = DiskCache(plain, folder / "cache")
    kept = [torch.rand(1, size, size) for _ in range(SCANS)]
    contenders = {
        "floor: clone of tensors": lambda: [{"image": x.clone()} for x in kept],
        "sslmed: DiskCache": lambda: [cached[i] for i in range(SCANS)],
        "sslmed: UnlabelledImages": lambda: [plain[i] for i in range(SCANS)],
    }
    return interleaved(contenders, 3, "cpu", calls=SCANS, warm_up=1)


def write_scans(folder: Path) -> None:
    """Write the images: noise smoothed to speckle, so that they compress as scans do."""
    folder.mkdir()
    generator = torch.Generator().manual_seed(0)
    for k in range(SCANS):
        noise = torch.rand(1, 1, 250, 300, generator=generator)
        pixels = torch.nn.functional.interpolate(noise, (500, 600), mode="bilinear")[0, 0]
        Image.fromarray((pixels * 255).byte().numpy()).save(folder / f"{k:04d}.png", compress_level=1)


def main() -> None:
    """Measure and write results/data-cpu.json."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    settle(args.threads)
    content = report("cpu", args.threads, args.rounds)

    phantoms = {size: Phantom(IMAGES, size=size) for size in (64, 128, 224)}
    contenders = {
        f"phantom, {size} px": lambda p=phantom: [p[i] for i in range(IMAGES)] for size, phantom in phantoms.items()
    }
    rows = interleaved(contenders, args.rounds, "cpu", calls=IMAGES, warm_up=1)
    for name, row in rows.items():
        row["images_per_s"] = 1e3 / row["median_ms"]
        print(f"{name:34s} {row['images_per_s']:8.0f} images/s")
    content["jobs"]["one phantom image"] = rows

    images = torch.rand(2000, 1, 64, 64)
    rows = interleaved({"2000 images of 64 px": lambda: splits.near_duplicates(images)}, args.rounds, "cpu", warm_up=1)
    content["jobs"]["near duplicates"] = rows
    print(f"near duplicates of 2000 images     {rows['2000 images of 64 px']['median_ms'] / 1e3:8.2f} s")

    with tempfile.TemporaryDirectory() as folder:
        write_scans(Path(folder) / "scans")
        for size in (64, 224):
            rows = second_epoch(Path(folder), size)
            content["jobs"][f"one of {SCANS} images at {size} px"] = rows
            for name, row in rows.items():
                print(f"{name:26s} {size:4d} px {row['median_ms']:8.3f} ms an image")
    write("data-cpu", content)


if __name__ == "__main__":
    main()
