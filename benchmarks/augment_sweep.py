"""Time of the augmentations against batch, size, channels, p, layout in memory, dtype and volumes, beside their peers.

    python benchmarks/augment_sweep.py [--rounds 5] [--device cpu] [--threads 1] [--jobs FrequencyBandStop ...]

One setting moves at a time, from 32 gray images of 216 x 216 and p = 1. Sizes include some whose Fourier transform is
slow: 222 and 225 beside 216, 224 and 240, and the prime 223. All augmentations are of images; a volume goes in as its
slices with one draw for all (`same_on_batch`), while MONAI and TorchIO take it as a volume. The floor is a copy, and of
the filter and of Gibbs ringing a Fourier transform there and back. `augment_peers.py` says who the peers are: those of
most augmentations are the nearest that other libraries have, and their models differ. A peer that fails at a point, or
takes longer than two seconds there, is left out of it. `x peer` is the time over that of the quickest peer, `x step`
the time per pixel over that of the point before on an axis of sizes; marked are points slower than a peer, and steps
above 1.5. The peak is of memory beyond the images. Results go to benchmarks/results/augment-sweep-<device>.json and
.png.
"""

from __future__ import annotations

import warnings
from typing import Any

import torch
from torch import Tensor

import sslmed.augment
from augment_peers import PEERS, nearest, usual_band_stop
from measure import Contenders
from sweeps import Axes, Sweep

AXES: Axes = {
    "batch": (1, 8, 32, 128),
    "size": (64, 96, 128, 192, 216, 222, 223, 224, 225, 240, 256, 384),
    "channels": (1, 3),
    "p": (0.0, 0.1, 0.25, 0.5, 0.75, 1.0),
    "layout": ("contiguous", "channels last", "columns first", "expanded"),
    "dtype": ("float32", "float64", "bfloat16"),
    "volume": ((32, 32, 32), (64, 64, 64)),
}
FEWER: Axes = {**AXES, "batch": (1, 32), "size": (64, 216, 223), "p": (0.0, 0.5, 1.0)}
IN_DETAIL = ("FrequencyBandStop", "CrossPatchJigsaw")
NOT_ALONE = {"MultiView", "PatchWise", *IN_DETAIL}
OTHERS = [
    name for name in sslmed.augment.__all__ if isinstance(getattr(sslmed.augment, name), type) and name not in NOT_ALONE
]
WITHOUT_AXES = {"SyntheticLesions": ("channels", "volume")}  # takes gray images alone, and a draw for each
START: dict[str, Any] = {
    "batch": 32,
    "size": 216,
    "channels": 1,
    "p": 1.0,
    "layout": "contiguous",
    "dtype": "float32",
}


def images(device: str, *, batch: int, size: int, channels: int, layout: str, dtype: str) -> Tensor:
    """Random images whose values lie in memory as `layout` says."""
    x = torch.rand(batch, channels, size, size, device=device, dtype=getattr(torch, dtype))
    if layout == "channels last":
        return x.to(memory_format=torch.channels_last)
    if layout == "columns first":
        return x.mT.contiguous().mT
    return x[:1].expand_as(x) if layout == "expanded" else x


def build(job: str, axis: str, value: Any, device: str) -> tuple[Contenders, int]:
    """The floor, ours and the peers at a point, and its pixels."""
    volume = axis == "volume"
    settings = START | ({"batch": value[0], "size": value[1]} if volume else {axis: value})
    if axis == "layout" and job not in WITHOUT_AXES:
        settings["channels"] = 3  # with one channel, channels last is contiguous
    if job.endswith("Jigsaw"):
        settings["size"] = settings["size"] // 6 * 6  # the grid cuts it into equal patches
    p = settings.pop("p")
    x = images(device, **settings)
    ours = getattr(sslmed.augment, job)(p=p, **({"same_on_batch": True} if volume else {}))
    found = floor(job, x) | {"sslmed": lambda: ours(x)} | nearest(job, x, p=p, volume=volume)
    if job == "FrequencyBandStop" and p == 1 and not volume:
        found["torch: fft2 + shift"] = usual_band_stop(_for_fourier(x))
    return {name: torch.no_grad()(call) for name, call in found.items()}, x.numel()


def floor(job: str, x: Tensor) -> Contenders:
    """The work that cannot be left out."""
    if job in ("FrequencyBandStop", "GibbsRinging"):
        plain = _for_fourier(x)
        return {"floor: rfft2 + irfft2": lambda: torch.fft.irfft2(torch.fft.rfft2(plain), s=x.shape[-2:])}
    return {"floor: clone": x.clone}


def _for_fourier(x: Tensor) -> Tensor:
    """Transforms of half precision are not defined on CPUs, nor those of expanded images in torch 2.5."""
    return x.float().contiguous() if x.dtype == torch.bfloat16 else x.contiguous()


def axes_of(job: str) -> Axes:
    """The axes along which an augmentation is measured."""
    axes = AXES if job in IN_DETAIL else FEWER
    return {axis: values for axis, values in axes.items() if axis not in WITHOUT_AXES.get(job, ())}


SWEEP = Sweep(
    name="augment-sweep",
    unit="pixel",
    rounds=5,
    jobs={job: axes_of(job) for job in (*IN_DETAIL, *OTHERS)},
    sizes=frozenset({"batch", "size", "volume"}),
    build=build,
    packages=["kornia", *PEERS],
)

if __name__ == "__main__":
    warnings.filterwarnings("ignore", "FrequencyBandStop leaves")  # of small images, which are measured all the same
    SWEEP.main(__doc__)
