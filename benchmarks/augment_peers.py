"""What `augment.py` measures beside sslmed: the usual code, MONAI and TorchIO.

MONAI and TorchIO take one image at a time. MONAI also runs with the batch in place of the channels, which gives all
images one draw. Neither has a band-stop filter: MONAI's nearest is RandGibbsNoise, a low-pass disc; TorchIO's is
RandomSpike, a change of single frequencies. Both are left out where they are not installed.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from measure import Contenders
from sslmed.augment import FrequencyBandStop

PEERS = [name for name in ("monai", "torchio") if importlib.util.find_spec(name) is not None]


def shifted_mask(size: tuple[int, int], inner: Any, outer: Any, cross: Any, u: Any, v: Any) -> Any:
    """The bins that stay, zero frequency in the centre, as one writes it in NumPy or torch."""
    u, v = u[:, None] - size[0] // 2, v - size[1] // 2
    r2 = u**2 + v**2
    ring = (r2 >= inner**2) & (r2 <= outer**2)
    arm = (r2 > outer**2) & (2 * abs(abs(u) - abs(v)) <= cross) & (cross > 0) & (outer > 20)
    return ~(ring | arm)


def usual_band_stop(x: Tensor) -> Callable[[], Tensor]:
    """Filter in torch through the whole, shifted spectrum."""
    height, width = x.shape[-2:]
    drawn = FrequencyBandStop()

    def call() -> Tensor:
        params = drawn.forward_parameters(x.shape)
        lengths = (params[name].to(x.device).view(-1, 1, 1, 1) for name in drawn.names)
        axes = torch.arange(height, device=x.device), torch.arange(width, device=x.device)
        spectrum = torch.fft.fftshift(torch.fft.fft2(x), dim=(-2, -1))
        spectrum = spectrum * shifted_mask((height, width), *lengths, *axes)
        return torch.fft.ifft2(torch.fft.ifftshift(spectrum, dim=(-2, -1))).real

    return call


def numpy_band_stop(x: Tensor) -> Callable[[], object]:
    """Filter in NumPy, image by image, as a data set's `__getitem__` does."""
    images, (height, width) = x.cpu().numpy(), x.shape[-2:]
    drawn = FrequencyBandStop()

    def call() -> list[np.ndarray]:
        params = drawn.forward_parameters(x.shape)
        out = []
        for image, *lengths in zip(images, *(params[name].tolist() for name in drawn.names), strict=True):
            keep = shifted_mask((height, width), *lengths, np.arange(height), np.arange(width))
            spectrum = np.fft.fftshift(np.fft.fft2(image), axes=(-2, -1)) * keep
            out.append(np.fft.ifft2(np.fft.ifftshift(spectrum, axes=(-2, -1))).real.astype(np.float32))
        return out

    return call


def usual_jigsaw(x: Tensor) -> Callable[[], Tensor]:
    """Copy patch by patch."""
    tall, wide = x.shape[2] // 6, x.shape[3] // 6

    def call() -> Tensor:
        out = torch.empty_like(x)
        for i in range(len(x)):
            for slot, source in enumerate(torch.randperm(36).tolist()):
                (r, s), (j, k) = divmod(slot, 6), divmod(source, 6)
                out[i, :, r * tall : (r + 1) * tall, s * wide : (s + 1) * wide] = x[
                    i, :, j * tall : (j + 1) * tall, k * wide : (k + 1) * wide
                ]
        return out

    return call


def monai(name: str, x: Tensor, **settings: Any) -> Contenders:
    """A MONAI transform on each image, and on the batch taken for channels."""
    if "monai" not in PEERS:
        return {}
    import monai.transforms as T

    transform, planes = getattr(T, name)(prob=1.0, **settings), x.flatten(0, 1)
    return {
        f"MONAI: {name}": lambda: [transform(image) for image in x],
        f"MONAI: {name}, one draw": lambda: transform(planes),
    }


def torchio(name: str, x: Tensor) -> Contenders:
    """A TorchIO transform on each image; it works on the processor."""
    if "torchio" not in PEERS:
        return {}
    import torchio as tio

    transform, volumes = getattr(tio, name)(), x.cpu().unsqueeze(-1)
    return {f"TorchIO: {name}": lambda: [transform(volume) for volume in volumes]}
