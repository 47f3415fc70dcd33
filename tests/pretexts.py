"""Small pretext methods for tests/methods and tests/examples, in this process or on the ranks of tests/ranks.py."""

from __future__ import annotations

import os
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from sslmed.augment import MultiView, RandomPixelMask, views
from sslmed.distributed import rank, world_size
from sslmed.methods import (
    BYOL,
    PIRL,
    LocalContrast,
    MaskedPixels,
    MeanTeacher,
    Method,
    MoCo,
    RelationContrast,
    SelfTraining,
    SimCLR,
    SimSiam,
    SyntheticLesions,
)
from sslmed.models import PredictionHead, ProjectionHead, ResNetEncoder, UNet

METHODS = ("simclr", "moco", "simsiam", "byol", "masked", "local", "pirl", "relation")
OUTLINING = ("lesions", "teacher", "self-training")
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
    """An encoder without batch normalisation."""

    channels = (8, 16)

    def __init__(self) -> None:
        super().__init__()
        self.fine = nn.Sequential(nn.Conv2d(1, 8, 3, stride=2, padding=1), nn.Tanh())
        self.coarse = nn.Sequential(nn.Conv2d(8, 16, 3, stride=2, padding=1), nn.Tanh())

    def forward(self, x: Tensor) -> list[Tensor]:
        fine = self.fine(x)
        return [fine, self.coarse(fine)]


def images(count: int) -> TensorDataset:
    """Disks of several places, sizes and grays, and their positions."""
    generator = torch.Generator().manual_seed(1)
    row, column, radius, gray = (torch.rand(count, 1, 1, 1, generator=generator) for _ in range(4))
    y, x = torch.meshgrid(torch.linspace(0, 1, SIDE), torch.linspace(0, 1, SIDE), indexing="ij")
    inside = (y - row) ** 2 + (x - column) ** 2 < (0.1 + 0.3 * radius) ** 2
    return TensorDataset(0.1 + inside * (0.2 + 0.7 * gray), torch.arange(count))


class Puzzle(nn.Module):
    """A jigsaw view that draws nothing: the four quarters change places."""

    def forward(self, x: Tensor) -> Tensor:
        return x.roll((SIDE // 2, SIDE // 2), dims=(2, 3))


def method(
    name: str,
    *,
    views: MultiView | None = None,
    mask: nn.Module | None = None,
    plain: bool = False,
    momentum: float = 0.9,
    queue_size: int = 12,
    blocks: int = 2,
    count: int = 24,
) -> Method:
    """A method with narrow networks of known weights; `plain` ones have no batch normalisation."""
    torch.manual_seed(0)
    found = _built(name, views, mask, plain, momentum, queue_size, blocks, count)
    return without_batch_norm(found) if plain else found


def _built(
    name: str,
    given: MultiView | None,
    mask: nn.Module | None,
    plain: bool,
    momentum: float,
    queue_size: int,
    blocks: int,
    count: int,
) -> Method:
    pair = given or MultiView(Noise(), Noise())
    if name == "masked":
        return MaskedPixels(UNet(width=4), mask=mask or RandomPixelMask(ratio=0.3))  # type: ignore[arg-type]
    if name == "local":
        region = SIDE // 2 ** (4 - blocks) // 2
        return LocalContrast(
            UNet(width=4), views=pair, blocks=blocks, dim=DIM, temperature=0.2, region=region, negatives=3
        )
    encoder = Plain() if plain else ResNetEncoder("resnet18", width=4)
    if name in ("pirl", "relation"):
        kind = PIRL if name == "pirl" else RelationContrast
        puzzles = given or views.pirl(SIDE, grid=(2, 2), unit="nyquist")
        return kind(encoder, count, views=puzzles, grid=(2, 2), dim=DIM, momentum=momentum)
    head = ProjectionHead(encoder.channels[-1], 32, DIM, batch_norm=not plain)
    if name == "simclr":
        return SimCLR(encoder, views=pair, head=head, temperature=0.5)
    if name == "moco":
        return MoCo(encoder, views=pair, head=head, temperature=0.2, momentum=momentum, queue_size=queue_size)
    predictor = PredictionHead(DIM, 16)
    if name == "simsiam":
        return SimSiam(encoder, views=pair, head=head, predictor=predictor)
    return BYOL(encoder, views=pair, head=head, predictor=predictor, momentum=momentum)


def usual(name: str) -> Method:
    """A method of METHODS or OUTLINING with the views that it is meant for."""
    if name in OUTLINING:
        return _outlining(name)
    made = views.simclr(SIDE)
    if name == "local":
        made = views.intensity_only()
    elif name in ("pirl", "relation"):
        made = views.pirl(SIDE, grid=(2, 2), unit="nyquist", radius=(0.1, 0.9))
    return method(name, views=made, plain=name != "local")


def _outlining(name: str) -> Method:
    torch.manual_seed(0)
    network, still = UNet(width=4), views.segmentation(SIDE, degrees=0, zoom=(1, 1), hflip=0)
    if name == "lesions":
        return SyntheticLesions(network, view=still)
    generator = torch.Generator().manual_seed(2)
    labelled = torch.rand(6, 1, SIDE, SIDE, dtype=torch.float32, generator=generator)
    known, strong = (labelled, labelled > 0.5), views.segmentation(SIDE)
    if name == "self-training":
        return SelfTraining(network, *known, augment=strong, labelled=2)
    return MeanTeacher(network, *known, augment=strong, weak=strong, strong=still, steps=100, labelled=2, confidence=0)


def without_batch_norm(module: Method) -> Method:
    """Group norms in place of batch norms, in place."""
    for child in list(module.modules()):
        for key, norm in list(child.named_children()):
            if isinstance(norm, (nn.BatchNorm1d, nn.BatchNorm2d)):
                group = nn.GroupNorm(1, norm.num_features)
                setattr(child, key, group.requires_grad_(norm.weight.requires_grad))
    return module


def fixed_views(name: str) -> MultiView:
    """Views that draw nothing."""
    return MultiView(nn.Identity(), Puzzle() if name in ("pirl", "relation") else Flip())


def validation_loss(name: str, count: int) -> float:
    """The validation loss of a method without batch normalisation; under DDP every rank has all images."""
    module = method(name, plain=True, count=count).eval()
    with torch.no_grad():
        return module.validate(DataLoader(images(count), batch_size=8))["val_loss"]


def steps(name: str, folder: Path, count: int) -> None:
    """Six steps of batches of 7 (uneven for two) or 8, with views and masks that draw nothing, by SGD."""
    from sslmed.studies.engine import Fit
    from sslmed.studies.optimisers import Optimiser
    from sslmed.studies.pretext import pretrain
    from sslmed.studies.sample import Sample

    if (world := world_size()) > 1:
        own = {
            "WORLD_SIZE": world,
            "LOCAL_WORLD_SIZE": world,
            "RANK": rank(),
            "LOCAL_RANK": rank(),
            "MASTER_PORT": 1,
        }
        os.environ |= {key: str(value) for key, value in own.items()} | {"MASTER_ADDR": "127.0.0.1"}
    chosen = method(name, views=fixed_views(name), mask=KnownMask(count // 3), plain=True, count=count)
    pretrain(
        chosen,
        images(count),
        Fit(epochs=2, batch_size=8),
        optimiser=Optimiser("sgd", lr=0.05),
        folder=folder,
        seed=3,
        title=name,
        sample=Sample.of(torch.stack([x for x, _ in images(8)]), MultiView(Noise(), Noise()), range(8)),
    )
