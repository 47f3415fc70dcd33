"""Augmentations beside their floors, their peers and the usual code, interleaved in one run.

    python benchmarks/augment.py [--rounds 15] [--device cpu] [--threads 1] [--jobs gray ...]

The figures are medians with quartiles in milliseconds for a batch; `measure.py` says how they come about, and
`augment_peers.py` whose code stands beside ours. A floor is the work that cannot be left out: a Fourier transform there
and back, or a copy. Results go to benchmarks/results/augment-<device>.json and .png.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable

import torch
from torch import Tensor

import sslmed.augment
from augment_peers import PEERS, monai, nearest, numpy_band_stop, torchio, usual_band_stop, usual_jigsaw
from measure import RESULTS, Contenders, bars, interleaved, report, settle, write
from sslmed.augment import CrossPatchJigsaw, FrequencyBandStop, PatchJigsaw


def band_stop(x: Tensor) -> Contenders:
    """The filter, whole and half of the batch, by integer and by real radii."""
    whole, real, half = FrequencyBandStop(), FrequencyBandStop(unit="nyquist"), FrequencyBandStop(p=0.5)
    return {
        "floor: rfft2 + irfft2": lambda: torch.fft.irfft2(torch.fft.rfft2(x), s=x.shape[-2:]),
        "sslmed": lambda: whole(x),
        "sslmed, unit = nyquist": lambda: real(x),
        "sslmed, p = 0.5": lambda: half(x),
        "torch: fft2 + shift": usual_band_stop(x),
        "NumPy: image by image": numpy_band_stop(x),
        **monai("RandGibbsNoise", x),
        **torchio("RandomSpike", x),
    }


def jigsaw(x: Tensor) -> Contenders:
    """The cross-patch and the plain jigsaw on one grid."""
    cross, plain, half = CrossPatchJigsaw(), PatchJigsaw(grid=(6, 6)), CrossPatchJigsaw(p=0.5)
    return {
        "floor: clone": x.clone,
        "sslmed": lambda: cross(x),
        "sslmed, PatchJigsaw": lambda: plain(x),
        "sslmed, p = 0.5": lambda: half(x),
        **nearest("CrossPatchJigsaw", x),
        "torch: loop over patches": usual_jigsaw(x),
    }


def intensity(x: Tensor) -> Contenders:
    """Every augmentation that changes values only, at its defaults, and what is like it elsewhere."""
    left_out = ("MultiView", "PatchWise", "CrossPatchJigsaw", "PatchJigsaw")
    kinds = {name: getattr(sslmed.augment, name) for name in sslmed.augment.__all__ if name not in left_out}
    ours = {f"sslmed: {name}": kind(p=1.0) for name, kind in kinds.items() if isinstance(kind, type)}
    return {
        "floor: clone": x.clone,
        **{name: (lambda call=call: call(x)) for name, call in ours.items()},
        **{peer: call for name in kinds for peer, call in nearest(name, x).items()},
        **torchio("RandomGhosting", x),
    }


JOBS: dict[str, tuple[str, Callable[[Tensor], Contenders], tuple[int, ...]]] = {
    "gray": ("band-stop 32x1x224x224", band_stop, (32, 1, 224, 224)),
    "colour": ("band-stop 32x3x224x224", band_stop, (32, 3, 224, 224)),
    "small": ("band-stop 256x1x64x64", band_stop, (256, 1, 64, 64)),
    "jigsaw": ("cross-patch jigsaw 32x1x216x216", jigsaw, (32, 1, 216, 216)),
    "jigsaw-colour": ("cross-patch jigsaw 32x3x216x216", jigsaw, (32, 3, 216, 216)),
    "intensity": ("every change of intensity 32x1x224x224", intensity, (32, 1, 224, 224)),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--jobs", nargs="+", choices=list(JOBS), default=list(JOBS))
    args = parser.parse_args()
    settle(args.threads)
    content = report(args.device, args.threads, args.rounds, "kornia", *PEERS)
    for job in args.jobs:
        title, build, shape = JOBS[job]
        with torch.no_grad():
            rows = interleaved(build(torch.rand(shape, device=args.device)), args.rounds, args.device)
        content["jobs"][title] = rows
        print(title)
        for name, row in rows.items():
            row["images_per_s"] = shape[0] * 1e3 / row["median_ms"]
            row["ns_per_pixel"] = row["median_ms"] * 1e6 / torch.Size(shape).numel()
            spread = f"{row['q1_ms']:8.2f} to {row['q3_ms']:8.2f}"
            print(
                f"  {name:36s} {row['median_ms']:8.2f} ms   {spread}   {row['images_per_s']:9.0f} images/s"
                f"   {row['ns_per_pixel']:7.2f} ns/pixel"
            )
    write(f"augment-{args.device}", content)
    bars(content, RESULTS / f"augment-{args.device}.png")


if __name__ == "__main__":
    main()
