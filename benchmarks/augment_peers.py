"""What `augment.py` and `augment_sweep.py` measure beside sslmed: the usual code, kornia, MONAI and TorchIO.

MONAI and TorchIO take one image or volume at a time. MONAI also runs with the batch in place of the channels, which
gives all images one draw. Neither has a band-stop filter: MONAI's nearest is RandGibbsNoise, a low-pass disc; TorchIO's
is RandomSpike, a change of single frequencies. Both are left out where they are not installed.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from typing import Any

import kornia.augmentation as K
import numpy as np
import torch
from torch import Tensor, nn

import sslmed.augment
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


def monai(name: str, x: Tensor, *, p: float = 1.0, volume: bool = False, **settings: Any) -> Contenders:
    """A MONAI transform on each image and on the batch taken for channels, or on the slices as one volume."""
    if "monai" not in PEERS:
        return {}
    import monai.transforms as T

    transform, whole = getattr(T, name)(prob=p, **settings), x.movedim(0, 1) if volume else x.flatten(0, 1)
    if volume:
        return {f"MONAI: {name}": lambda: transform(whole)}
    one_draw: Contenders = {f"MONAI: {name}, one draw": lambda: transform(whole)} if p == 1 else {}
    return {f"MONAI: {name}": lambda: [transform(image) for image in x]} | one_draw


def torchio(name: str, x: Tensor, *, p: float = 1.0, volume: bool = False) -> Contenders:
    """A TorchIO transform on each image, or on the slices as one volume; it works on the processor."""
    if "torchio" not in PEERS:
        return {}
    import torchio as tio

    transform = getattr(tio, name)(p=p)
    volumes = [x.movedim(0, 1).cpu()] if volume else x.cpu().unsqueeze(-1)
    return {f"TorchIO: {name}": lambda: [transform(one) for one in volumes]}


def nearest(name: str, x: Tensor, *, p: float = 1.0, volume: bool = False) -> Contenders:
    """What other libraries have that is like an augmentation of ours.

    Args:
        name: of ours.
        x: images (B, C, H, W).
        p: probability that an image is changed.
        volume: whether the images are the slices of one volume, with one draw for all.
    """
    shared: dict[str, Any] = {"p": p, "volume": volume}
    kornias: dict[str, Any] = {"p": p, "same_on_batch": volume}
    if name == "BiasField":
        return monai("RandBiasField", x, **shared) | torchio("RandomBiasField", x, **shared)
    if name == "GibbsRinging":
        return monai("RandGibbsNoise", x, **shared)
    if name == "KSpaceSpike":
        return monai("RandKSpaceSpikeNoise", x, **shared) | torchio("RandomSpike", x, **shared)
    if name == "GrayJitter":
        jitter = nn.Sequential(K.RandomBrightness((0.6, 1.4), **kornias), K.RandomContrast((0.6, 1.4), **kornias))
        return {"kornia: brightness and contrast": lambda: jitter(x)}
    if name == "RandomPatchMask":
        erase = K.RandomErasing(**kornias)
        return {"kornia: RandomErasing": lambda: erase(x)}
    if name in ("CrossPatchJigsaw", "PatchJigsaw"):
        cut = K.RandomJigsaw(getattr(sslmed.augment, name)().grid, **kornias)
        return {"kornia: RandomJigsaw": lambda: cut(x)}
    return {}
