"""Training sanity: on the phantom each loss, with its own head, makes features better than random ones.

Scores are balanced accuracies of benign / malignant / normal without fine-tuning, the mean of a
nearest-neighbour vote and a linear probe; for the local loss, how well a linear probe of each location
predicts the lesion's share of it. A collapse monitor shows that features keep their spread, and that it sees
a collapse where one is provoked.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from typing import NamedTuple

import pytest
import torch
import torch.nn.functional as F
from kornia.augmentation import RandomHorizontalFlip, RandomResizedCrop
from torch import Tensor, nn

from sslmed.augment import GrayJitter
from sslmed.augment.functional import split_patches
from sslmed.data import Phantom
from sslmed.losses import (
    RelationContrastive,
    byol,
    info_nce,
    local_contrastive,
    masked_l1,
    nce,
    negative_cosine,
    nt_xent,
    perceptual,
)
from sslmed.memory import MemoryBank, MomentumQueue, update_ema
from sslmed.metrics import alignment, feature_std, uniformity

COUNT, SIZE, STEPS, BATCH = 512, 32, 60, 96
pytestmark = pytest.mark.slow


class Images(NamedTuple):
    x: Tensor
    label: Tensor
    lesion: Tensor  # (COUNT, 8 * 8), the lesion's share of each location of the encoder's middle map


@pytest.fixture(scope="module")
def images() -> Images:
    items = [Phantom(COUNT, size=SIZE, seed=0)[i] for i in range(COUNT)]
    x = torch.stack([item["image"] for item in items])
    lesion = F.avg_pool2d(torch.stack([item["mask"].float() for item in items]), 4)
    return Images((x - x.mean()) / x.std(), torch.tensor([item["label"] for item in items]), lesion.flatten(1))


def encoder() -> nn.Sequential:
    layers, channels = [], 1
    for width in (16, 32, 64, 64):
        layers += [nn.Conv2d(channels, width, 3, 2, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU()]
        channels = width
    return nn.Sequential(*layers)


def head(inside: int = 64) -> nn.Sequential:
    return nn.Sequential(nn.Linear(inside, 64), nn.BatchNorm1d(64), nn.ReLU(), nn.Linear(64, 32))


@torch.no_grad()
def features(net: nn.Sequential, x: Tensor) -> Tensor:
    return net(x).mean(dim=(2, 3))


def balanced(predicted: Tensor, label: Tensor) -> float:
    return torch.stack([(predicted[label == c] == c).float().mean() for c in range(3)]).mean().item()


def ridge(f: Tensor, y: Tensor) -> Tensor:
    """Predictions of the odd rows by a linear fit of the even ones."""
    f = torch.cat([(f - f.mean(0)) / (f.std(0) + 1e-6), torch.ones(len(f), 1)], dim=1)
    fit = f[::2]
    return f[1::2] @ torch.linalg.solve(fit.T @ fit + 10 * torch.eye(f.shape[1]), fit.T @ y[::2])


def image_score(net: nn.Sequential, images: Images) -> float:
    f = features(net, images.x)
    centred = F.normalize(f - f.mean(0), dim=1)
    nearest = (centred @ centred.T).fill_diagonal_(-2).topk(10, dim=1).indices
    votes = F.one_hot(images.label[nearest], 3).sum(dim=1).argmax(dim=1)
    probe = ridge(f, F.one_hot(images.label, 3).float()).argmax(dim=1)
    return (balanced(votes, images.label) + balanced(probe, images.label[1::2])) / 2


@torch.no_grad()
def local_score(net: nn.Sequential, images: Images) -> float:
    """Correlation of a linear probe of each location with the lesion's share of it."""
    f = net[:6](images.x).flatten(2).transpose(1, 2)
    share = images.lesion
    predicted = ridge(f.flatten(0, 1), share.flatten()[:, None])[:, 0]
    return torch.corrcoef(torch.stack([predicted, share.flatten()[1::2]]))[0, 1].item()


def monitor(net: nn.Sequential, images: Images) -> dict[str, float]:
    """Spread of unit features (1 if isotropic, 0 if collapsed), alignment of two views, uniformity."""
    z0, z1 = features(net, images.x), features(net, views()(images.x))
    return {
        "std": feature_std(z0).item() * z0.shape[1] ** 0.5,
        "alignment": alignment(z0, z1).item(),
        "uniformity": uniformity(z0).item(),
    }


def views() -> nn.Sequential:
    return nn.Sequential(RandomResizedCrop((SIZE, SIZE), scale=(0.5, 1.0)), RandomHorizontalFlip(), GrayJitter())


def train(
    images: Images,
    net: nn.Sequential,
    parts: list[nn.Module],
    loss: Callable[[Tensor], Tensor],
    *,
    steps: int = STEPS,
) -> None:
    optimizer = torch.optim.Adam([p for part in (net, *parts) for p in part.parameters()], lr=2e-3)
    for _ in range(steps):
        value = loss(torch.randperm(COUNT)[:BATCH])
        optimizer.zero_grad()
        value.backward()
        optimizer.step()


class Pair(nn.Module):
    """An encoder and its head."""

    def __init__(self, net: nn.Sequential, top: nn.Sequential) -> None:
        super().__init__()
        self.net, self.top = net, top

    def forward(self, x: Tensor) -> Tensor:
        return self.top(self.net(x).mean(dim=(2, 3)))


def with_nt_xent(images: Images, net: nn.Sequential) -> None:
    model, view = Pair(net, head()), views()
    train(
        images,
        net,
        [model.top],
        lambda b: nt_xent(*(model(view(images.x[b])) for _ in range(2)), temperature=0.2),
    )


def with_info_nce(images: Images, net: nn.Sequential) -> None:
    model, view = Pair(net, head()), views()
    train(
        images,
        net,
        [model.top],
        lambda b: info_nce(*(model(view(images.x[b])) for _ in range(2)), temperature=0.2),
    )


def with_a_queue(images: Images, net: nn.Sequential) -> None:
    model, view, queue = Pair(net, head()), views(), MomentumQueue(1024, 32, with_ids=True)
    target = copy.deepcopy(model)

    def loss(b: Tensor) -> Tensor:
        update_ema(target, model, decay=0.97)
        query = model(view(images.x[b]))
        with torch.no_grad():
            keys = target(view(images.x[b]))
        held = (queue.negatives(), queue.ids()) if len(queue) else (None, None)
        value = info_nce(query, keys, held[0], ids=b, negative_ids=held[1], temperature=0.2)
        queue.enqueue(keys, b)
        return value

    train(images, net, [model.top], loss)


def with_nce(images: Images, net: nn.Sequential) -> None:
    model, view, bank = Pair(net, head()), views(), MemoryBank(COUNT, 32)

    def loss(b: Tensor) -> Tensor:
        v = model(view(images.x[b]))
        value = nce(v, bank[b], bank.negatives(b, 64), population=COUNT, temperature=0.2)
        bank.update(b, v)
        return value

    train(images, net, [model.top], loss)


def with_relation(images: Images, net: nn.Sequential) -> None:
    model, view, bank = Pair(net, head()), views(), MemoryBank(COUNT, 32)
    relation = RelationContrastive(32, input_scale=32.0)

    def loss(b: Tensor) -> Tensor:
        v0, v1 = (F.normalize(model(view(images.x[b])), dim=1) for _ in range(2))
        value = relation(v0, bank[b], bank.negatives(b, 64)) + relation(v1, v0, bank.negatives(b, 64))
        bank.update(b, v0)
        return value

    train(images, net, [model.top, relation], loss)


def with_perceptual(images: Images, net: nn.Sequential) -> None:
    """Beside a contrastive loss, as published: alone it has nothing against a collapse."""
    model, view = Pair(net, head()), views()

    def loss(b: Tensor) -> Tensor:
        v0, v1 = view(images.x[b]), view(images.x[b])
        patches = split_patches(v1, (2, 2))
        maps = net(patches.flatten(0, 1)).unflatten(0, patches.shape[:2])
        return nt_xent(model(v0), model(v1), temperature=0.2) + perceptual(net(v0), maps)

    train(images, net, [model.top], loss)


def with_byol(images: Images, net: nn.Sequential) -> None:
    model, predictor, view = Pair(net, head()), head(32), views()
    target = copy.deepcopy(model)

    def loss(b: Tensor) -> Tensor:
        update_ema(target, model, decay=0.97)
        v0, v1 = view(images.x[b]), view(images.x[b])
        return byol(predictor(model(v0)), target(v1)) + byol(predictor(model(v1)), target(v0))

    train(images, net, [model.top, predictor], loss)


def with_negative_cosine(images: Images, net: nn.Sequential) -> None:
    model, predictor, view = Pair(net, head()), head(32), views()

    def loss(b: Tensor) -> Tensor:
        z0, z1 = (model(view(images.x[b])) for _ in range(2))
        return negative_cosine(predictor(z0), z1) + negative_cosine(predictor(z1), z0)

    train(images, net, [model.top, predictor], loss)


def with_masked_l1(images: Images, net: nn.Sequential) -> None:
    layers = nn.Conv2d(64, 256, 1), nn.PixelShuffle(4), nn.Conv2d(16, 64, 3, padding=1), nn.ReLU()
    decoder = nn.Sequential(*layers, nn.Conv2d(64, 16, 1), nn.PixelShuffle(4))

    def loss(b: Tensor) -> Tensor:
        x = views()(images.x[b])
        mask = (torch.rand(len(b), 1, 8, 8) < 0.5).repeat_interleave(4, dim=2).repeat_interleave(4, dim=3)
        return masked_l1(decoder(net(x.masked_fill(mask, 0))), x, mask)

    train(images, net, [decoder], loss)


def with_local_contrastive(images: Images, net: nn.Sequential) -> None:
    """Two views of one crop that differ in intensity and noise only."""
    top, jitter = nn.Sequential(nn.Conv2d(32, 32, 1), nn.ReLU(), nn.Conv2d(32, 32, 1)), GrayJitter(p=1.0)
    crop = nn.Sequential(RandomResizedCrop((SIZE, SIZE), scale=(0.3, 1.0)), RandomHorizontalFlip())

    def loss(b: Tensor) -> Tensor:
        x = crop(images.x[b])
        f0, f1 = (top(net[:6](jitter(x) + 0.2 * torch.randn_like(x))) for _ in range(2))
        return local_contrastive(f0, f1, region=2)

    train(images, net, [top], loss, steps=150)


@pytest.fixture(autouse=True)
def seeded() -> Iterator[None]:
    with torch.random.fork_rng():
        torch.manual_seed(1)
        yield


WAYS = [
    with_nt_xent,
    with_info_nce,
    with_a_queue,
    with_nce,
    with_relation,
    with_perceptual,
    with_byol,
    with_negative_cosine,
    with_masked_l1,
    with_local_contrastive,
]


@pytest.mark.parametrize("way", WAYS)
def test_training_beats_random_features(way: Callable[[Images, nn.Sequential], None], images: Images) -> None:
    score = local_score if way is with_local_contrastive else image_score
    net = encoder()
    before = score(net, images)
    way(images, net)
    after, spread = score(net, images), monitor(net, images)
    assert after > before + (0.01 if way is with_local_contrastive else 0.02), spread
    assert spread["std"] > 0.3
    assert spread["alignment"] < 2
    assert spread["uniformity"] < -0.5


def test_the_monitor_sees_a_collapse(images: Images) -> None:
    net, view = encoder(), views()
    healthy = monitor(net, images)

    def loss(b: Tensor) -> Tensor:
        z0, z1 = (net(view(images.x[b])).mean(dim=(2, 3)) for _ in range(2))
        return -F.cosine_similarity(z0, z1).mean() + F.mse_loss(z0, z1)  # no negatives, no predictor, no stop

    train(images, net, [], loss)
    collapsed = monitor(net, images)
    assert collapsed["std"] < 0.5 * healthy["std"]
    assert collapsed["uniformity"] > 0.5 * healthy["uniformity"]
