"""Example images and views of pretexts, as arrays for the report."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from ..augment import MultiView, RandomPixelMask

CAPTIONS = ("image", "first view", "second view")


def pair_gallery(images: Tensor, views: MultiView, captions: tuple[str, str, str] = CAPTIONS) -> dict[str, np.ndarray]:
    """Images (N, 1, H, W) and one draw of the two views of each, from a fixed seed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        view0, view1 = views(images)
    return {
        "original": images[:, 0].numpy(),
        "view0": view0[:, 0].numpy(),
        "view1": view1[:, 0].numpy(),
        "captions": np.array(captions, dtype=str),
    }


def masked_gallery(images: Tensor, mask: RandomPixelMask, views: MultiView) -> dict[str, np.ndarray]:
    """Images (N, 1, H, W), the same with pixels hidden, and a view, from a fixed seed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        hidden, (view, _) = mask(images), views(images)
    return {
        "original": images[:, 0].numpy(),
        "view0": hidden[:, 0].numpy(),
        "view1": view[:, 0].numpy(),
        "captions": np.array(("image", "pixels hidden", "contrastive view"), dtype=str),
    }
