"""Clips stored as GIF: their frames as gray values."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

from ._reading import reading


def gif_shape(path: Path) -> tuple[int, int, int]:
    """Return (frames, H, W); raise ValueError naming a file that is no GIF."""
    with reading(path, "GIF"), _opened(path) as clip:
        return clip.n_frames, clip.height, clip.width


def gif_frames(path: Path) -> torch.Tensor:
    """Decode all frames, each laid over those before it as a viewer does: (F, 1, H, W) float32 in [0, 1], luma."""
    with reading(path, "GIF"), _opened(path) as clip:
        frames = []
        for index in range(clip.n_frames):
            clip.seek(index)
            frames.append(np.asarray(clip.convert("RGB").convert("L"), dtype=np.float32))
        return torch.from_numpy(np.stack(frames)[:, None] / np.float32(255))


def _opened(path: Path) -> Any:
    from PIL import Image as pillow

    clip: Any = pillow.open(path, formats=("GIF",))
    clip.n_frames  # noqa: B018 counted by reading all blocks, which finds damage
    return clip
