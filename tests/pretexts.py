"""Small pretext methods for tests/examples/test_methods.py, in this process or on the ranks of tests/ranks.py."""

from __future__ import annotations

import os
from pathlib import Path

import lightning as L
import torch
from torch import Tensor, nn
from torch.utils.data import TensorDataset

from pipeline.backbones import PooledEncoder
from pipeline.methods.byol import BYOL
from pipeline.methods.masked import MaskedRegression
from pipeline.methods.moco import MoCo
from pipeline.methods.regional import Regional
from pipeline.methods.simclr import SimCLR
from pipeline.methods.simsiam import SimSiam
from pipeline.optimisers import Optimiser
from pipeline.training import Fit, fit
from sslmed.augment import MultiView, RandomPixelMask
from sslmed.distributed import rank, world_size
from sslmed.models import PredictionHead, ProjectionHead, ResNetEncoder, UNet

METHODS = ("simclr", "moco", "simsiam", "byol", "masked", "regional")
SIDE, DIM = 32, 8


class Noise(nn.Module):
    """A view: brighter or darker, with noise of the global generator."""

    def forward(self, x: Tensor) -> Tensor:
        return x * (0.8 + 0.4 * torch.rand(len(x), 1, 1, 1)) + 0.05 * torch.randn_like(x)


class Flip(nn.Module):
    """A view that draws nothing."""

    def forward(self, x: Tensor) -> Tensor:
        return 0.9 * x.flip(-1)


class KnownMask(nn.Module):
    """Hides 10 to 90 % of the pixels of an image by its place in a batch of `whole`, of which each rank has a slice."""

    def __init__(self, whole: int) -> None:
        super().__init__()
        self.whole = whole

    def forward_parameters(self, shape: torch.Size) -> dict[str, Tensor]:
        generator = torch.Generator().manual_seed(3)
        field = torch.rand(self.whole, 1, *shape[2:], generator=generator)
        mask = field < torch.linspace(0.1, 0.9, self.whole).view(-1, 1, 1, 1)
        start, stop = (self.whole * r // world_size() for r in (rank(), rank() + 1))
        return {"mask": mask[start:stop]}

    def forward(self, x: Tensor, params: dict[str, Tensor]) -> Tensor:
        return x.masked_fill(params["mask"], 0.0)


class Plain(nn.Module):
    """A backbone without batch normalisation."""

    features = 16

    def __init__(self) -> None:
        super().__init__()
        self.network = nn.Sequential(
            nn.Conv2d(1, 8, 3, stride=2, padding=1),
            nn.Tanh(),
            nn.Conv2d(8, 16, 3, stride=2, padding=1),
            nn.Tanh(),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.network(x).mean((2, 3))


def images(count: int) -> TensorDataset:
    """Disks of several places, sizes and grays, and their positions."""
    generator = torch.Generator().manual_seed(1)
    row, column, radius, gray = (torch.rand(count, 1, 1, 1, generator=generator) for _ in range(4))
    y, x = torch.meshgrid(torch.linspace(0, 1, SIDE), torch.linspace(0, 1, SIDE), indexing="ij")
    inside = (y - row) ** 2 + (x - column) ** 2 < (0.1 + 0.3 * radius) ** 2
    return TensorDataset(0.1 + inside * (0.2 + 0.7 * gray), torch.arange(count))


def method(
    name: str,
    *,
    optimiser: Optimiser | None = None,
    views: MultiView | None = None,
    mask: nn.Module | None = None,
    plain: bool = False,
    momentum: float = 0.9,
    queue_size: int = 12,
    blocks: int = 2,
) -> L.LightningModule:
    """A method with narrow networks of known weights; `plain` ones have no batch normalisation."""
    torch.manual_seed(0)
    optimiser = optimiser or Optimiser("adam", lr=3e-3)
    views = views or MultiView(Noise(), Noise())
    if name == "masked":
        module: L.LightningModule = MaskedRegression(
            UNet(width=4), mask=mask or RandomPixelMask(ratio=0.3), optimiser=optimiser
        )
    elif name == "regional":
        side = SIDE // 2 ** (4 - blocks)
        module = Regional(
            UNet(width=4), views=views, blocks=blocks, dim=DIM, temperature=0.2, region=side // 2, negatives=3,
            optimiser=optimiser,
        )  # fmt: skip
    else:
        backbone = Plain() if plain else PooledEncoder(ResNetEncoder("resnet18", width=4))
        head = ProjectionHead(backbone.features, 32, DIM, batch_norm=not plain)
        shared = {"views": views, "head": head, "optimiser": optimiser}
        if name == "simclr":
            module = SimCLR(backbone, temperature=0.5, **shared)
        elif name == "moco":
            module = MoCo(backbone, temperature=0.2, momentum=momentum, queue_size=queue_size, **shared)
        elif name == "simsiam":
            module = SimSiam(backbone, predictor=PredictionHead(DIM, 16), **shared)
        else:
            module = BYOL(backbone, predictor=PredictionHead(DIM, 16), momentum=momentum, **shared)
    return without_batch_norm(module) if plain else module


def without_batch_norm(module: L.LightningModule) -> L.LightningModule:
    """Group norms in place of batch norms, in place."""
    for child in list(module.modules()):
        for key, norm in list(child.named_children()):
            if isinstance(norm, (nn.BatchNorm1d, nn.BatchNorm2d)):
                group = nn.GroupNorm(1, norm.num_features)
                setattr(child, key, group.requires_grad_(norm.weight.requires_grad))
    return module


def steps(name: str, folder: Path, count: int) -> None:
    """Six steps of batches of 7 (uneven for two) or 8, with views and masks that draw nothing, by SGD."""
    if (world := world_size()) > 1:
        own = {
            "WORLD_SIZE": world,
            "LOCAL_WORLD_SIZE": world,
            "RANK": rank(),
            "LOCAL_RANK": rank(),
            "MASTER_PORT": 1,
        }
        os.environ |= {key: str(value) for key, value in own.items()} | {"MASTER_ADDR": "127.0.0.1"}
    module = method(
        name, optimiser=Optimiser("sgd", lr=0.05), views=MultiView(nn.Identity(), Flip()), mask=KnownMask(count // 3),
        plain=True,
    )  # fmt: skip
    fit(module, images(count), Fit(epochs=2, batch_size=8), folder=folder, seed=3, title=name)
