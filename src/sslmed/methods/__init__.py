"""Pretext methods: views, networks, loss and memories joined to one module that any training loop can train.

Each is a plain `torch.nn.Module`. A training loop has four lines of its own:

    >>> import torch
    >>> from sslmed.augment import views
    >>> from sslmed.models import ResNetEncoder
    >>> method = SimCLR(ResNetEncoder("resnet18", width=8), views=views.simclr(32))
    >>> optimizer = torch.optim.Adam(method.parameter_groups(), lr=1e-3)
    >>> images, index = torch.rand(4, 1, 48, 48), torch.arange(4)  # a batch, and its positions in the data set
    >>> step = method(images, index)
    >>> step.loss.backward()
    >>> optimizer.step()
    >>> method.after_step()  # moving averages
    >>> sorted(step.terms)
    ['feature_std', 'loss']

`method.start(loader)` goes before the first step: it fills the memory bank of those methods that have one.
`method.trained` is the network to keep.
"""

from __future__ import annotations

from .._step import Step
from ._base import COMMANDS, Method
from .byol import BYOL
from .lesions import SyntheticLesions
from .local import LocalContrast
from .masked import MaskedPixels
from .mean_teacher import MeanTeacher
from .moco import MoCo
from .pirl import PIRL
from .relation import RelationContrast
from .self_training import SelfTraining
from .simclr import SimCLR
from .simsiam import SimSiam

__all__ = [
    "BYOL",
    "COMMANDS",
    "PIRL",
    "LocalContrast",
    "MaskedPixels",
    "MeanTeacher",
    "Method",
    "MoCo",
    "RelationContrast",
    "SelfTraining",
    "SimCLR",
    "SimSiam",
    "Step",
    "SyntheticLesions",
]
