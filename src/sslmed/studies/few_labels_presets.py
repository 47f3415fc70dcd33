"""How large a few-labels run is, and the numbers of its recipe."""

from __future__ import annotations

import dataclasses
from typing import Any

from .engine import Fit
from .optimisers import Optimiser


@dataclasses.dataclass(frozen=True)
class Constants:
    """Numbers of the recipe, from an early trial on BUSI and BUS-BRA; docs/evidence.md has what they give."""

    fractions: tuple[float, float, float] = (0.7, 0.1, 0.2)  # of training, validation and test cases, without folds
    bias: float = -2.0  # of the last layer: few pixels are of a lesion
    last_layer: float = 10.0  # how many times as fast the last layer learns
    decay: float = 0.98  # of the teacher
    confidence: float = 0.6  # of the mean teacher's outline, for a scan to count
    kept: float = 0.6  # share of the scans that self-training learns from
    smallest: float = 0.003  # share of a scan that the outline covers, for a scan to count
    labelled: int = 8  # labelled images of a step with the teacher
    mirrored: bool = True  # a network's outline is the mean of those of a scan and of its mirror image
    grid: int = 3  # rows and columns of the jigsaw of PIRL and of relation contrast


TUNING = Optimiser("adamw", lr=2e-3, weight_decay=1e-2, schedule="cosine")


@dataclasses.dataclass(frozen=True)
class Preset:
    """How large a run is."""

    size: int
    encoder: str
    width: int
    phantoms: int
    labels: tuple[float, ...]
    folds: int
    pretext: Fit
    baseline: Fit
    finetune: Fit
    teacher: Fit
    tuning: Optimiser = TUNING
    pretext_lr: float = 2e-3
    teacher_lr: float = 1e-3
    constants: Constants = Constants()

    def at(self, size: int) -> Preset:
        """The preset at another size."""
        return dataclasses.replace(self, size=size)


def _steps(epochs: int, batches: int, *, precision: str = "32-true", batch_size: int = 16, **more: Any) -> Fit:
    return Fit(epochs=epochs, batch_size=batch_size, batches=batches, precision=precision, **more)


PRESETS = {
    "smoke": Preset(
        size=32,
        encoder="resnet18",
        width=8,
        phantoms=30,
        labels=(1.0,),
        folds=3,
        pretext=Fit(epochs=1, batch_size=8),
        baseline=_steps(2, 2, batch_size=8),
        finetune=_steps(1, 2, batch_size=8),
        teacher=_steps(1, 2, batch_size=4, clip_norm=5.0),
    ),
    "demo": Preset(
        size=64,
        encoder="resnet18",
        width=16,
        phantoms=100,
        labels=(1.0,),
        folds=1,
        pretext=Fit(epochs=45, batch_size=16, checkpoint_every=10),
        baseline=_steps(20, 30),
        finetune=_steps(5, 20),
        teacher=_steps(12, 30, batch_size=8, clip_norm=5.0),
        constants=Constants(fractions=(0.2, 0.1, 0.7)),
    ),
    "small": Preset(
        size=64,
        encoder="torchvision/resnet18",
        width=32,
        phantoms=60,
        labels=(1.0,),
        folds=4,
        pretext=Fit(epochs=10, batch_size=16, precision="bf16-mixed"),
        baseline=_steps(16, 25, precision="bf16-mixed"),
        finetune=_steps(6, 25, precision="bf16-mixed"),
        teacher=_steps(10, 25, precision="bf16-mixed", batch_size=8, clip_norm=5.0),
    ),
    "gpu": Preset(
        size=224,
        encoder="torchvision/resnet34",
        width=64,
        phantoms=60,
        labels=(1.0,),
        folds=5,
        pretext=Fit(epochs=60, batch_size=32, checkpoint_every=10, precision="bf16-mixed"),
        baseline=_steps(30, 100, precision="bf16-mixed"),
        finetune=_steps(10, 100, precision="bf16-mixed"),
        teacher=_steps(20, 100, precision="bf16-mixed", batch_size=16, clip_norm=5.0),
    ),
}
