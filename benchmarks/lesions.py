"""What augmentations leave of a lesion, on real images with masks.

    python benchmarks/lesions.py [--busi FOLDER] [--bus-bra FOLDER] [--decathlon TASK_FOLDER]

Crops: the share of views that show less than half of the lesion, for kornia's RandomResizedCrop with sides 3/4 to 4/3
and areas from a smallest one to 1; 20 draws an image. Contrast: mean gray in a ring of 15 pixels around the lesion less
that inside, after an augmentation of ultrasound at its defaults, as a share of that before; on 117 images of BUSI, four
draws each, values clamped to [0, 1] as a display would. Partial sets are taken. Results go to
benchmarks/results/lesions.json; the tables of docs/explanations/augment.md are these.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from kornia.augmentation import RandomResizedCrop
from torch import Tensor
from torch.nn.functional import max_pool2d

from measure import report, write
from sslmed import augment
from sslmed.data import BUSBRA, BUSI, Decathlon

AREAS = (0.08, 0.2, 0.3, 0.4, 0.5, 0.6)
DRAWS, SIZE, RING, CASES = 20, 224, 15, 117
PHYSICS = {
    "Speckle, adding": lambda: augment.Speckle(mode="add"),
    "Speckle, reducing": lambda: augment.Speckle(mode="reduce"),
    "AcousticShadow": augment.AcousticShadow,
    "DepthAttenuation": augment.DepthAttenuation,
    "Haze": augment.Haze,
    "Reverberation": augment.Reverberation,
}


def crops(masks: Iterator[Tensor]) -> dict[str, Any]:
    """Share of views with less than half of the mask, and the number of images."""
    lost, images = dict.fromkeys(AREAS, 0), 0
    for mask in masks:
        if not mask.any():
            continue
        images += 1
        batch = mask.float().expand(DRAWS, -1, -1, -1)
        for area in AREAS:
            crop = RandomResizedCrop((SIZE, SIZE), scale=(area, 1.0), ratio=(3 / 4, 4 / 3))
            view = crop(batch)
            # Pixels of the view, brought back to pixels of the image by the crop's own enlargement.
            scale = torch.linalg.det(crop.transform_matrix[:, :2, :2]).abs()
            shown = view.sum((1, 2, 3)) / scale
            lost[area] += int((shown < mask.sum() / 2).sum())
    return {"images": images} | {f"from {area}": lost[area] / (images * DRAWS) for area in AREAS}


def contrasts(data: BUSI) -> dict[str, Any]:
    """Quantiles of the contrast that is left."""
    chosen = [i for i in range(len(data)) if data.labels[i] != 2]
    picked = [data[chosen[i * len(chosen) // CASES]] for i in range(CASES)]
    images, masks = (torch.stack([item[key] for item in picked]) for key in ("image", "mask"))
    around = max_pool2d(masks.float(), 2 * RING + 1, 1, RING).bool() & ~masks

    def contrast(x: Tensor) -> Tensor:
        outside = (x * around).sum((1, 2, 3)) / around.sum((1, 2, 3))
        return outside - (x * masks).sum((1, 2, 3)) / masks.sum((1, 2, 3))

    before, rows = contrast(images), {}
    for name, make in PHYSICS.items():
        change = make()
        left = torch.cat([contrast(change(images).clamp(0, 1)) / before for _ in range(4)])
        rows[name] = {
            "median": left.median().item(),
            "5th percentile": left.quantile(0.05).item(),
            "below half": (left < 0.5).float().mean().item(),
        }
    return rows


def main() -> None:
    """Measure what is given."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--busi", type=Path)
    parser.add_argument("--bus-bra", type=Path)
    parser.add_argument("--decathlon", type=Path)
    args = parser.parse_args()
    torch.manual_seed(0)
    content = report("cpu", torch.get_num_threads(), DRAWS, "kornia")
    if args.busi:
        data = BUSI(args.busi, allow_partial=True)
        content["jobs"]["crops, BUSI"] = crops(item["mask"] for item in (data[i] for i in range(len(data))))
        content["jobs"]["contrast left, BUSI"] = contrasts(BUSI(args.busi, size=SIZE, allow_partial=True))
    if args.bus_bra:
        breasts = BUSBRA(args.bus_bra, allow_partial=True)
        content["jobs"]["crops, BUS-BRA"] = crops(breasts[i]["mask"] for i in range(len(breasts)))
    if args.decathlon:
        slices = Decathlon(args.decathlon, allow_partial=True)
        # Every tenth slice that shows enough of a structure.
        masks = (slices[i]["mask"] for i in range(0, len(slices), 10))
        content["jobs"]["crops, Decathlon"] = crops(mask for mask in masks if mask.sum() >= 20)
    for title, rows in content["jobs"].items():
        print(title)
        for name, value in rows.items():
            shown = {k: round(v, 2) for k, v in value.items()} if isinstance(value, dict) else round(value, 3)
            print(f"  {name:20s} {shown}")
    write("lesions", content)


if __name__ == "__main__":
    main()
