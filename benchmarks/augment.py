"""Augmentations beside their floors and the usual code, interleaved in one run.

    python benchmarks/augment.py [--rounds 30] [--device cpu] [--threads 1]

Each round calls every contender once, in an order drawn anew, so that drift of the machine falls on all.
The figures are medians with quartiles in milliseconds; only ratios within one run mean anything. On CPU, page
faults move the Fourier transforms by a factor of two: set MALLOC_MMAP_THRESHOLD_ and MALLOC_TRIM_THRESHOLD_
to 1000000000 to keep them out. Results go to benchmarks/results/augment-<device>.json.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import time
from collections.abc import Callable
from pathlib import Path

import kornia
import torch
from kornia.augmentation import RandomJigsaw
from torch import Tensor

import sslmed
from sslmed.augment import CrossPatchJigsaw, FrequencyBandStop, GrayJitter

Contenders = dict[str, Callable[[], object]]


def band_stop(shape: tuple[int, ...], device: str) -> Contenders:
    x = torch.rand(shape, device=device)
    half, whole = FrequencyBandStop(p=0.5), FrequencyBandStop()
    real = FrequencyBandStop(unit="nyquist")

    def usual() -> Tensor:
        height, width = shape[-2:]
        params = whole.forward_parameters(shape)
        inner, outer, cross = (params[k].to(device).view(-1, 1, 1, 1) for k in ("inner", "outer", "cross"))
        u = torch.arange(height, device=device)[:, None] - height // 2
        v = torch.arange(width, device=device) - width // 2
        r2 = u**2 + v**2
        ring = (r2 >= inner**2) & (r2 <= outer**2)
        arm = (r2 > outer**2) & (2 * (u.abs() - v.abs()).abs() <= cross) & (cross > 0) & (outer > 20)
        spectrum = torch.fft.fftshift(torch.fft.fft2(x), dim=(-2, -1)) * ~(ring | arm)
        return torch.fft.ifft2(torch.fft.ifftshift(spectrum, dim=(-2, -1))).real

    return {
        "floor: rfft2 + irfft2": lambda: torch.fft.irfft2(torch.fft.rfft2(x), s=shape[-2:]),
        "sslmed": lambda: whole(x),
        "sslmed, p = 0.5": lambda: half(x),
        "sslmed, unit = nyquist": lambda: real(x),
        "torch: fft2 + shift": usual,
    }


def jigsaw(shape: tuple[int, ...], device: str) -> Contenders:
    x = torch.rand(shape, device=device)
    ours, theirs = CrossPatchJigsaw(), RandomJigsaw((6, 6), p=1.0)

    def loop() -> Tensor:
        out, tall, wide = torch.empty_like(x), shape[2] // 6, shape[3] // 6
        for i in range(shape[0]):
            for slot, source in enumerate(torch.randperm(36).tolist()):
                (r, s), (j, k) = divmod(slot, 6), divmod(source, 6)
                out[i, :, r * tall : (r + 1) * tall, s * wide : (s + 1) * wide] = x[
                    i, :, j * tall : (j + 1) * tall, k * wide : (k + 1) * wide
                ]
        return out

    return {
        "floor: clone": x.clone,
        "sslmed": lambda: ours(x),
        "kornia: RandomJigsaw": lambda: theirs(x),
        "torch: loop over patches": loop,
    }


def jitter(shape: tuple[int, ...], device: str) -> Contenders:
    x, ours = torch.rand(shape, device=device), GrayJitter(p=1.0)
    return {
        "floor: mean, multiply, add": lambda: (x * 1.1).add_(x.mean((1, 2, 3), keepdim=True)),
        "sslmed": lambda: ours(x),
    }


JOBS = {
    "band-stop 32x1x224x224": (band_stop, (32, 1, 224, 224)),
    "band-stop 32x3x224x224": (band_stop, (32, 3, 224, 224)),
    "band-stop 256x1x64x64": (band_stop, (256, 1, 64, 64)),
    "cross-patch jigsaw 32x1x216x216": (jigsaw, (32, 1, 216, 216)),
    "cross-patch jigsaw 32x3x216x216": (jigsaw, (32, 3, 216, 216)),
    "gray jitter 32x1x224x224": (jitter, (32, 1, 224, 224)),
}


def measure(contenders: Contenders, rounds: int, device: str) -> dict[str, dict[str, float]]:
    """Median and quartiles in ms, the order of the contenders drawn anew each round."""
    times: dict[str, list[float]] = {name: [] for name in contenders}
    order, synchronize = list(contenders), torch.cuda.synchronize if device == "cuda" else lambda: None
    for turn in range(rounds + 3):
        random.shuffle(order)
        for name in order:
            synchronize()
            start = time.perf_counter()
            contenders[name]()
            synchronize()
            if turn >= 3:  # the first rounds fill caches
                times[name].append((time.perf_counter() - start) * 1e3)
    at = torch.tensor([0.25, 0.5, 0.75])
    quartiles = {name: torch.tensor(t).quantile(at).tolist() for name, t in times.items()}
    return {name: {"median_ms": m, "q1_ms": a, "q3_ms": b} for name, (a, m, b) in quartiles.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    random.seed(0)
    report: dict[str, object] = {
        "versions": {"sslmed": sslmed.__version__, "torch": torch.__version__, "kornia": kornia.__version__},
        "machine": torch.cuda.get_device_name() if args.device == "cuda" else platform.machine(),
        "device": args.device,
        "threads": args.threads,
        "rounds": args.rounds,
        "malloc": {k: os.environ.get(k) for k in ("MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_")},
        "jobs": {},
    }
    for title, (job, shape) in JOBS.items():
        with torch.no_grad():
            figures = measure(job(shape, args.device), args.rounds, args.device)
        report["jobs"][title] = figures  # type: ignore[index]
        print(title)
        for name, figure in figures.items():
            spread = f"{figure['q1_ms']:8.2f} to {figure['q3_ms']:8.2f}"
            print(f"  {name:28s} {figure['median_ms']:8.2f} ms   {spread}")
    args.out.mkdir(parents=True, exist_ok=True)
    path = args.out / f"augment-{args.device}.json"
    path.write_text(json.dumps(report, indent=2) + "\n")
    print(path)


if __name__ == "__main__":
    main()
