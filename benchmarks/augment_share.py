"""The share of a ResNet-50 pretext step that augmentation takes.

    python benchmarks/augment_share.py [--batch 32] [--rounds 3] [--device cpu] [--threads 1]

A step is one forward and backward pass of the encoder on one view of gray 224 x 224 images, without head, loss,
optimizer and second view, which would only lower the share: augmentation / (augmentation + step), medians of one
interleaved run. Results go to benchmarks/results/augment-share-<device>.json.
"""

from __future__ import annotations

import argparse

import torch
from torch import nn

from measure import Contenders, interleaved, report, settle, write
from sslmed.augment import CrossPatchJigsaw, FrequencyBandStop, GrayJitter, views
from sslmed.models import ResNetEncoder


def contenders(batch: int, device: str) -> Contenders:
    """The step, and the augmentations that feed it."""
    x = torch.rand(batch, 1, 224, 224, device=device)
    encoder = ResNetEncoder("resnet50").to(device)
    three = nn.Sequential(FrequencyBandStop(), CrossPatchJigsaw(), GrayJitter(p=1.0))
    pairs = {"views.pirl, both views": views.pirl(216), "views.simclr, both views": views.simclr(224)}

    def step() -> None:
        encoder.zero_grad(set_to_none=True)
        encoder(x)[-1].mean().backward()

    return {
        "forward and backward": step,
        "band-stop, cross-patch jigsaw, jitter": lambda: three(x),
        **{name: (lambda pair=pair: pair(x)) for name, pair in pairs.items()},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    settle(args.threads)
    content = report(args.device, args.threads, args.rounds, "kornia")
    rows = interleaved(contenders(args.batch, args.device), args.rounds, args.device, warm_up=1)
    step = rows["forward and backward"]["median_ms"]
    for name, row in rows.items():
        if name != "forward and backward":
            row["share"] = row["median_ms"] / (row["median_ms"] + step)
        print(f"{name:40s} {row['median_ms']:10.2f} ms   {100 * row.get('share', 1):6.2f} %")
    content["jobs"][f"ResNet-50, batch of {args.batch}, 224 x 224"] = rows
    write(f"augment-share-{args.device}", content)


if __name__ == "__main__":
    main()
