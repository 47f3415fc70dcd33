"""Augmentations beside their floors and the usual code, interleaved in one run.

    python benchmarks/augment.py [--rounds 30] [--device cpu] [--threads 1]

The figures are medians with quartiles in milliseconds; `measure.py` says how they come about. Results go to
benchmarks/results/augment-<device>.json.
"""

from __future__ import annotations

import argparse

import torch
from kornia.augmentation import RandomJigsaw
from torch import Tensor

from measure import Contenders, interleaved, report, settle, write
from sslmed.augment import CrossPatchJigsaw, FrequencyBandStop, GrayJitter


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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    settle(args.threads)
    content = report(args.device, args.threads, args.rounds, "kornia")
    for title, (job, shape) in JOBS.items():
        with torch.no_grad():
            figures = interleaved(job(shape, args.device), args.rounds, args.device)
        content["jobs"][title] = figures
        print(title)
        for name, figure in figures.items():
            spread = f"{figure['q1_ms']:8.2f} to {figure['q3_ms']:8.2f}"
            print(f"  {name:28s} {figure['median_ms']:8.2f} ms   {spread}")
    write(f"augment-{args.device}", content)


if __name__ == "__main__":
    main()
