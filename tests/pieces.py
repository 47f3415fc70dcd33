"""How to call every public piece on small inputs, for the tests that sweep over all of them.

Inputs follow the thread: `begin` says where they are made and from which seed, whatever torch's global generator,
default dtype and default device are. A name that a room makes public and that has no entry here fails
tests/test_ambient.py.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import torch
from kornia.augmentation import RandomResizedCrop, RandomVerticalFlip
from torch import Tensor, nn

import collected
import pretexts
from sslmed import augment, distributed, losses, memory, metrics, models, tasks
from sslmed.augment import functional as F
from sslmed.augment import views
from sslmed.augment._base import _OneDraw
from sslmed.augment.pairs import LocalPair
from sslmed.metrics import compare

# Inputs


class _Inputs(threading.local):
    device: str = "cpu"
    kind: type[Tensor] = Tensor
    generator: torch.Generator | None = None


_inputs = _Inputs()


def begin(*, device: str = "cpu", kind: type[Tensor] = Tensor, seed: int = 0) -> None:
    """Make this thread's next inputs on `device`, as tensors of the class `kind`, anew from `seed`."""
    _inputs.device, _inputs.kind, _inputs.generator = device, kind, torch.Generator().manual_seed(seed)


def _placed(x: Tensor) -> Tensor:
    x = x.to(_inputs.device, non_blocking=_inputs.device == "cuda")
    return x if _inputs.kind is Tensor else x.as_subclass(_inputs.kind)


def cpu_rand(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    if _inputs.generator is None:
        begin(device=_inputs.device)
    return torch.rand(*shape, dtype=dtype, device="cpu", generator=_inputs.generator)


def rand(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    return _placed(cpu_rand(*shape, dtype=dtype))


def whole(n: int, classes: int) -> Tensor:
    return _placed(torch.arange(n, device="cpu") % classes)


def masks(*shape: int) -> Tensor:
    return rand(*shape) < 0.5


def public(room: ModuleType, kind: type) -> set[str]:
    return {name for name in room.__all__ if isinstance(getattr(room, name), kind)}


# Calls, by room

AUGMENTATIONS: dict[str, Callable[..., _OneDraw]] = {
    name: getattr(augment, name)
    for name in sorted(augment.__all__)
    if isinstance(getattr(augment, name), type) and issubclass(getattr(augment, name), _OneDraw)
} | {
    "FrequencyBandStop": lambda **s: augment.FrequencyBandStop(radius=(2, 15), **s),
    "FrequencyBandStop, nyquist": lambda **s: augment.FrequencyBandStop(unit="nyquist", **s),
    "CrossPatchJigsaw, random focal": lambda **s: augment.CrossPatchJigsaw(focal="random", **s),
    "GrayJitter, gamma": lambda **s: augment.GrayJitter(gamma=0.5, **s),
    "Speckle, add": lambda **s: augment.Speckle(mode="add", **s),
    "RandomPixelMask, many": lambda **s: augment.RandomPixelMask(ratio=0.5, **s),
    "AcousticShadow, sector": lambda **s: augment.AcousticShadow(apex=(0.4, -0.3), **s),
    "DepthAttenuation, sector": lambda **s: augment.DepthAttenuation(apex=(0.5, 0.1), **s),
    "Haze, sector": lambda **s: augment.Haze(apex=(0.5, -0.2), **s),
    "Reverberation, sector": lambda **s: augment.Reverberation(apex=(0.5, -0.2), **s),
}

RECIPES: dict[str, Callable[..., nn.Module]] = {
    name: functools.partial(getattr(views, name), 24)
    for name in sorted(set(views.__all__) - {"correspond", "segmentation"})
} | {
    "pirl": lambda **s: views.pirl(24, unit="nyquist", **s),
    "MultiView": lambda **s: augment.MultiView(augment.Haze(), nn.Sequential(augment.PatchJigsaw()), **s),
    "PatchWise": lambda **s: augment.MultiView(augment.PatchWise(augment.GrayJitter(), (3, 2)), **s),
    "LocalPair": lambda **s: LocalPair([augment.GrayJitter()], [augment.BiasField()], **s),
    "SyntheticLesions": lambda **s: augment.SyntheticLesions(p=0.6, **s),
}
# kornia draws in the default dtype, which is its own matter.
OF_KORNIA: dict[str, Callable[..., nn.Module]] = {
    "MultiView, kornia": lambda **s: augment.MultiView(
        RandomResizedCrop((24, 24)), nn.Sequential(RandomVerticalFlip(), augment.GrayJitter()), **s
    ),
    "LocalPair, kornia": lambda **s: LocalPair([RandomResizedCrop((24, 24))], [RandomVerticalFlip()], **s),
}

FUNCTIONS: dict[str, Callable[[Tensor], Tensor | tuple[Tensor, ...]]] = {
    "acoustic_shadow": lambda x: F.acoustic_shadow(x, x > 0.9, rand(2), apex=(0.5, -0.2)),
    "acquired_matrix": lambda x: F.acquired_matrix((12, 18), rand(2), rand(2)),
    "add_power": lambda x: F.add_power(x, rand(2, 1, 12, 18)),
    "add_spikes": lambda x: F.add_spikes(x, whole(4, 3).view(2, 1, 2), rand(2, 1), rand(2, 1)),
    "apply_bias_field": lambda x: F.apply_bias_field(x, rand(2, 1, 12, 18)),
    "apply_gain": lambda x: F.apply_gain(x, rand(2, 1, 12, 1)),
    "apply_spectral_mask": lambda x: F.apply_spectral_mask(x, masks(2, 1, 12, 10)),
    "band_stop_mask": lambda x: F.band_stop_mask((12, 18), whole(2, 2), whole(2, 2) + 4, whole(2, 2)),
    "beams": lambda x: F.beams((12, 18), apex=(0.5, -0.2), device=x.device),
    "bias_field": lambda x: F.bias_field((12, 18), rand(2, 5)),
    "correspond": lambda x: F.correspond(rand(2, 3, 2), rand(2, 3, 3), rand(2, 3, 3), size=(12, 18)),
    "echo_power": lambda x: F.echo_power(x),
    "gray_jitter": lambda x: F.gray_jitter(x, cpu_rand(2), cpu_rand(2), cpu_rand(2)),
    "join_patches": lambda x: F.join_patches(F.split_patches(x, (3, 2)), (3, 2)),
    "mask_pixels": lambda x: F.mask_pixels(x, masks(2, 1, 12, 18), 0.5),
    "permute_patches": lambda x: F.permute_patches(x, cpu_rand(2, 6).argsort(1), (3, 2)),
    "reduce_speckle": lambda x: F.reduce_speckle(x, rand(2)),
    "shadow_profile": lambda x: F.shadow_profile((12, 18), *cpu_rand(3, 2), device=x.device),
    "speckle_intensity": lambda x: F.speckle_intensity(
        torch.ones(2, 2, dtype=torch.int32, device="cpu"),
        cpu_rand(2) + 1,
        cpu_rand(2) + 1,
        (12, 18),
        device=x.device,
    ),
    "split_patches": lambda x: F.split_patches(x, (3, 2)),
}


def seeded() -> torch.Generator:
    return torch.Generator().manual_seed(1)


Z, QUEUE = (150, 6), (300, 6)  # beyond the plain expressions
LOSSES: dict[str, list[tuple[Callable[..., Tensor], tuple[tuple[int, ...], ...]]]] = {
    "nt_xent": [
        (lambda a, b, s=s: losses.nt_xent(a, b, **s), (Z, Z))
        for s in ({}, {"block_size": 40}, {"block_size": 1000}, {"block_size": 40, "temperature": 0.01})
    ]
    + [(losses.nt_xent, ((n, 6), (n, 6))) for n in (8, 64, 65)],
    "info_nce": [
        (lambda a, b, n, s=s: losses.info_nce(a, b, n, **s), (Z, Z, QUEUE))
        for s in ({}, {"block_size": 40}, {"block_size": 40, "temperature": 0.01})
    ]
    + [(lambda a, b, s=s: losses.info_nce(a, b, rand(*QUEUE), **s), (Z, Z)) for s in ({}, {"block_size": 40})]
    + [
        (lambda a, b: losses.info_nce(a, b, None, ids=whole(150, 9), block_size=40), (Z, Z)),
        (lambda a, b, n: losses.info_nce(a, b, n), ((8, 6), (8, 6), (8, 5, 6))),
        (
            lambda a, b, n: losses.info_nce(a, b, n, ids=whole(150, 9), negative_ids=whole(300, 9), block_size=40),
            (Z, Z, QUEUE),
        ),
    ],
    "nce": [(lambda *z: losses.nce(*z, population=50), ((8, 6), (8, 6), (8, 5, 6)))],
    "byol": [(losses.byol, ((8, 6), (8, 6)))],
    "negative_cosine": [(losses.negative_cosine, ((8, 6), (8, 6)))],
    "relation_contrastive": [(losses.relation_contrastive, ((8,), (8, 5)))],
    "masked_l1": [
        (
            lambda a, b, r=r: losses.masked_l1(a, b, masks(2, 1, 8, 8), reduction=r),
            ((2, 1, 8, 8), (2, 1, 8, 8)),
        )
        for r in ("sum", "mean_all")
    ],
    "perceptual": [
        (lambda a, b, m=m: losses.perceptual(a, b, match=m), ((2, 4, 8, 8), (2, 3, 4, 3, 3)))
        for m in ("pool", "adaptive")
    ],
    "local_contrastive": [
        (
            lambda a, b, g=g: losses.local_contrastive(a, b, generator=seeded() if g else None),
            ((2, 4, 12, 12), (2, 4, 12, 12)),
        )
        for g in (True, False)
    ],
}
# Of outlines: the shape of the logits.
OUTLINE_LOSSES = {"dice_bce": (2, 1, 12, 12), "soft_dice": (2, 3, 12, 12)}
# The modules, each with what its function above takes.
LOSS_MODULES: dict[str, tuple[Callable[[], nn.Module], Callable[[Any], Tensor]]] = {
    "BYOL": (losses.BYOL, lambda loss: loss(rand(8, 6), rand(8, 6))),
    "NCE": (losses.NCE, lambda loss: loss(rand(8, 6), rand(8, 6), rand(8, 5, 6), population=50)),
    "InfoNCE": (losses.InfoNCE, lambda loss: loss(rand(*Z), rand(*Z), rand(*QUEUE))),
    "LocalContrastive": (
        losses.LocalContrastive,
        lambda loss: loss(rand(2, 4, 12, 12), rand(2, 4, 12, 12), generator=seeded()),
    ),
    "MaskedL1": (losses.MaskedL1, lambda loss: loss(rand(2, 1, 8, 8), rand(2, 1, 8, 8), masks(2, 1, 8, 8))),
    "NTXent": (losses.NTXent, lambda loss: loss(rand(*Z), rand(*Z))),
    "NegativeCosine": (losses.NegativeCosine, lambda loss: loss(rand(8, 6), rand(8, 6))),
    "Perceptual": (losses.Perceptual, lambda loss: loss(rand(2, 4, 8, 8), rand(2, 3, 4, 3, 3))),
    "RelationContrastive": (
        lambda: losses.RelationContrastive(6),
        lambda loss: loss(rand(8, 6), rand(8, 6), rand(9, 6)),
    ),
    "RelationHead": (lambda: losses.RelationHead(6), lambda head: head(rand(8, 6), rand(8, 6))),
}


def banked(bank: memory.MemoryBank) -> tuple[Tensor, ...]:
    index = torch.tensor([3, 7, 0], device="cpu")
    bank.fill(torch.arange(20, device="cpu"), rand(20, 4) - 0.5)
    bank.update(index, rand(3, 4) - 0.5)
    return (
        bank[index],
        bank.negatives(index),
        bank.negatives(index, 5, generator=seeded()),
        bank.vectors.clone(),
    )


def queued(queue: memory.MomentumQueue) -> tuple[Tensor, ...]:
    for n in (4, 9):
        queue.enqueue(rand(n, 4), whole(n, 5))
    return queue.negatives().clone(), queue.ids().clone()


def averaged(networks: nn.ModuleList) -> tuple[Tensor, ...]:
    memory.update_ema(networks[0], networks[1], decay=0.7)
    return tuple(x.clone() for x in networks[0].state_dict().values())


def two_networks() -> nn.ModuleList:
    return nn.ModuleList([nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4)) for _ in "01"])


MEMORIES: dict[str, tuple[Callable[[], Any], Callable[[Any], tuple[Any, ...]]]] = {
    "MemoryBank": (lambda: memory.MemoryBank(20, 4, generator=seeded()), banked),
    "MomentumQueue": (lambda: memory.MomentumQueue(10, 4, with_ids=True), queued),
    "update_ema": (two_networks, averaged),
    "cosine_decay": (lambda: memory.cosine_decay, lambda decay: (decay(3, 10),)),
}

SCORES: dict[str, Callable[[Callable[..., Tensor]], Tensor]] = {
    **dict.fromkeys(
        (
            "average_surface_distance",
            "balanced_pixel_accuracy",
            "dice",
            "hausdorff",
            "jaccard",
            "pixel_accuracy",
            "pixel_counts",
            "precision",
            "recall",
        ),
        lambda score: score(masks(3, 12, 12), masks(3, 12, 12)),
    ),
    **dict.fromkeys(
        ("balanced_accuracy", "confusion_matrix", "mcc", "sensitivity", "specificity", "weighted_f1"),
        lambda score: score(whole(9, 3), whole(9, 3).flip(0), classes=3),
    ),
    "alignment": lambda score: score(rand(9, 3), rand(9, 3)),
    "average_precision": lambda score: score(rand(9, 3), whole(9, 3)),
    "effective_rank": lambda score: score(rand(9, 3)),
    "feature_std": lambda score: score(rand(9, 3)),
    **dict.fromkeys(
        ("knn_predictions", "linear_probe_predictions"),
        lambda score: score(rand(30, 4), whole(30, 3), rand(9, 4), classes=3),
    ),
    "lidar": lambda score: score(rand(9, 4, 3)),
    "per_class": lambda score: score(metrics.hausdorff, masks(3, 2, 12, 12), masks(3, 2, 12, 12)),
    "roc_auc": lambda score: score(rand(9), whole(9, 2)),
    "surface_dice": lambda score: score(
        masks(3, 12, 12), masks(3, 12, 12), tolerance_mm=1.0, spacing_mm=rand(3, 2) + 0.5
    ),
    "uniformity": lambda score: score(rand(9, 3)),
}

# Those that give other things than tensors.
STATISTICS: dict[str, Callable[[Any], tuple[Any, ...]]] = {
    "summarize": lambda summarize: (
        summarize(
            {"dice": metrics.dice(masks(3, 12, 12), masks(3, 12, 12))},
            counts=metrics.pixel_counts(masks(3, 12, 12), masks(3, 12, 12)),
        ),
    ),
    "compare.paired": lambda paired: (paired(rand(9), rand(9)),),
    "compare.holm": lambda holm: (holm([0.01, 0.04, 0.03]),),
}


def two_convolutions() -> nn.Module:
    first, second = (nn.Conv2d(before, 4, 3, stride=2, padding=1) for before in (1, 4))
    return nn.Sequential(first, nn.ReLU(), second)


NETWORKS: dict[str, Callable[[], list[tuple[nn.Module, tuple[int, ...]]]]] = {
    "FeatureEncoder": lambda: [(models.FeatureEncoder(two_convolutions()), (2, 1, 36, 40))],
    "ImageHead": lambda: [(models.ImageHead(8), (4, 8, 2, 2))],
    "PatchHead": lambda: [
        (models.PatchHead(8, patches=9, style=style), (4, 9, 8)) for style in ("concat_linear", "two_stage")
    ],
    "PredictionHead": lambda: [(models.PredictionHead(8, 8), (4, 8))],
    "ProjectionHead": lambda: [(models.ProjectionHead(8, 8, 4, batch_norm=True), (4, 8))],
    "ResNetEncoder": lambda: [
        (models.ResNetEncoder(name, width=4), (2, 1, 36, 40)) for name in ("resnet18", "resnet50")
    ],
    "ResUNet": lambda: [(models.ResUNet(width=4), (2, 1, 36, 40))],
    "UNet": lambda: [(models.UNet(width=4), (2, 1, 36, 40))],
    "UNetFeatures": lambda: [
        (models.UNetFeatures(models.UNet(width=4), at=at), (2, 1, 36, 40)) for at in ("bottom", "decoder")
    ],
}

# The names that tests/pretexts.py gives them.
METHODS = {
    "BYOL": "byol",
    "LocalContrast": "local",
    "MaskedPixels": "masked",
    "MeanTeacher": "teacher",
    "MoCo": "moco",
    "PIRL": "pirl",
    "RelationContrast": "relation",
    "SelfTraining": "self-training",
    "SimCLR": "simclr",
    "SimSiam": "simsiam",
    "SyntheticLesions": "lesions",
}


def stepped(method: nn.Module) -> tuple[Any, ...]:
    step = method(rand(4, 1, pretexts.SIDE, pretexts.SIDE), whole(4, 4))
    method.after_step()
    return step.loss, step.terms


# All of it in one list


@dataclass(frozen=True)
class Piece:
    """A public piece.

    Attributes:
        room: "augment", "losses", "memory", "methods", "metrics", "models" or "distributed"; "collected" of metrics
            that collect cases.
        make: gives the object, a module or a function; for pieces with weights always the same.
        call: calls it and gives what it returns; `params` replay what draws.
        draws: whether the object has `forward_parameters`.
        weights: whether it has parameters or buffers.
    """

    room: str
    make: Callable[[], Any]
    call: Callable[..., Any]
    draws: bool = False
    weights: bool = False


SHAPE = (5, 1, 24, 36)


def _images(transform: Any, params: Any = None) -> Any:
    x = rand(*SHAPE)
    return transform(x) if params is None else transform(x, params=params)


def _with_masks(transform: Any, params: Any = None) -> Any:
    x = rand(*SHAPE)
    return transform(x, x > 0.5) if params is None else transform(x, x > 0.5, params=params)


def _trained(loss: Callable[..., Tensor], shapes: tuple[tuple[int, ...], ...]) -> tuple[Tensor, ...]:
    """A loss and, where there are gradients, its gradients."""
    inputs = [rand(*shape).detach().requires_grad_() for shape in shapes]
    value = loss(*inputs)
    if not value.requires_grad:
        return (value,)
    with torch.autocast("cpu", enabled=False):  # as torch recommends for every backward pass
        gradients = torch.autograd.grad(value, inputs, allow_unused=True)
    return (value, *(gradient for gradient in gradients if gradient is not None))


def _weighted(make: Callable[[], Any]) -> Callable[[], Any]:
    def remade() -> Any:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(2)
            return make()

    return remade


def _collecting(cases: tuple[Tensor, ...]) -> Callable[[Any], Any]:
    def collect(metric: Any) -> tuple[Any, ...]:
        metric.update(*map(_placed, cases))
        return (metric.compute(),)

    return collect


def pieces() -> dict[str, Piece]:
    """Every public piece by "room.name", and more settings of some as "room.name, setting"."""
    found = {
        f"augment.{name}": Piece("augment", lambda make=make: make(p=0.6), _images, draws=True)
        for name, make in AUGMENTATIONS.items()
    }
    for name, make in RECIPES.items():
        found[f"augment.{name}"] = Piece("augment", make, _images, draws=True)
    found["augment.segmentation"] = Piece("augment", lambda: views.segmentation(24), _with_masks, draws=True)
    for name, call in FUNCTIONS.items():
        found[f"augment.{name}"] = Piece("augment", lambda call=call: call, lambda f: f(rand(2, 1, 12, 18)))
    for name, calls in LOSSES.items():
        for i, (loss, shapes) in enumerate(calls):
            setting = f", {i}" if i else ""
            if name == "local_contrastive" and i:
                continue  # draws from torch's global generator
            found[f"losses.{name}{setting}"] = Piece(
                "losses", lambda loss=loss: loss, lambda f, shapes=shapes: _trained(f, shapes)
            )
    for name, (make, call) in LOSS_MODULES.items():
        learns = name.startswith("Relation")
        found[f"losses.{name}"] = Piece("losses", _weighted(make), call, weights=learns)
    for name, (make, call) in MEMORIES.items():
        found[f"memory.{name}"] = Piece("memory", _weighted(make), call, weights=True)
    for name, score in SCORES.items():
        found[f"metrics.{name}"] = Piece("metrics", lambda name=name: getattr(metrics, name), score)
    for name, call in STATISTICS.items():
        owner, _, short = name.rpartition(".")
        room = compare if owner else metrics
        found[f"metrics.{name}"] = Piece("metrics", lambda r=room, s=short: getattr(r, s), call)
    for name in collected.NAMES:
        found[f"metrics.stateful.{name}"] = Piece(
            "collected", lambda name=name: collected.make(name), _collecting(collected.cases(name))
        )
    for name, networks in NETWORKS.items():
        shape = networks()[0][1]
        found[f"models.{name}"] = Piece(
            "models",
            _weighted(lambda networks=networks: networks()[0][0].eval()),
            lambda network, shape=shape: network(rand(*shape)),
            weights=True,
        )
    found["models.pooled_features"] = Piece(
        "models",
        _weighted(lambda: models.UNet(width=4).eval()),
        lambda network: models.pooled_features(network, rand(2, 1, 36, 40)),
        weights=True,
    )
    for name, short in METHODS.items():
        found[f"methods.{name}"] = Piece(
            "methods", _weighted(lambda short=short: pretexts.usual(short)), stepped, weights=True
        )
    for name, shape in OUTLINE_LOSSES.items():
        loss = getattr(tasks, name)
        found[f"tasks.{name}"] = Piece(
            "losses",
            lambda loss=loss: lambda logits: loss(logits, masks(2, 12, 12).long()),
            lambda f, shape=shape: _trained(f, (shape,)),
        )
    found["distributed.gather"] = Piece("distributed", lambda: distributed.gather, lambda f: f(rand(3, 4)))
    return found
