"""Images a second of the phantom, and near-duplicate search: python benchmarks/data.py [--rounds 5] [--threads 1]."""

from __future__ import annotations

import argparse

import torch

from measure import interleaved, report, settle, write
from sslmed.data import Phantom, splits

IMAGES = 100


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
        f"phantom, {size} px": lambda p=phantom: [p[i] for i in range(IMAGES)]
        for size, phantom in phantoms.items()
    }
    rows = interleaved(contenders, args.rounds, "cpu", calls=IMAGES, warm_up=1)
    for name, row in rows.items():
        row["images_per_s"] = 1e3 / row["median_ms"]
        print(f"{name:34s} {row['images_per_s']:8.0f} images/s")
    content["jobs"]["one phantom image"] = rows

    images = torch.rand(2000, 1, 64, 64)
    rows = interleaved(
        {"2000 images of 64 px": lambda: splits.near_duplicates(images)}, args.rounds, "cpu", warm_up=1
    )
    content["jobs"]["near duplicates"] = rows
    print(f"near duplicates of 2000 images     {rows['2000 images of 64 px']['median_ms'] / 1e3:8.2f} s")
    write("data-cpu", content)


if __name__ == "__main__":
    main()
