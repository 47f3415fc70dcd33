"""One pretext on one folder of images: settings, the run, and whether the encoder learned anything."""

from __future__ import annotations

import dataclasses
import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from .. import methods
from ..augment import MultiView, RandomPatchMask, views
from ..data import DiskCache, Phantom, UnlabelledImages
from ..metrics import effective_rank
from ..models import ResNetEncoder, UNet, UNetFeatures, pooled_features
from .galleries import pair_gallery
from .locks import hold
from .optimisers import Optimiser
from .pretext import Pretext, pretrain
from .processes import barrier, rank
from .report import write_report
from .runs import RunFolder, environment, read_csv, read_json, write_json, write_npz
from .seeding import derived_seed
from .sets import PHANTOM, Source, open_set
from .training import Fit

METHODS = ("simclr", "moco", "byol", "simsiam", "pirl", "relation", "masked")
MODALITIES = ("ultrasound", "mr", "mammography")
SHOWN = 6  # images of a picture
COMPARED = 2000  # training images among which neighbours are looked for


def _setting(help: str, default: Any) -> Any:
    return dataclasses.field(default=default, metadata={"help": help})


@dataclasses.dataclass(frozen=True)
class Settings:
    """Settings of a pretraining run; those of its method stand in `options`.

    Raises:
        ValueError: a setting out of range.
    """

    method: str = "simclr"
    modality: str = _setting(f"of the views' strengths: {', '.join(MODALITIES)}", "ultrasound")
    epochs: int = _setting("epochs", 50)
    size: int = _setting("pixels a side of a view", 64)
    batch_size: int = _setting("images of a step", 64)
    lr: float = _setting("learning rate of AdamW at the start; it follows a cosine to 0", 1e-3)
    encoder: str = _setting("a ResNet: resnet18, resnet34, resnet50, ...", "resnet18")
    width: int = _setting("channels of its first stage; 64 is the usual network", 32)
    precision: str = _setting("32-true, bf16-mixed or 16-mixed", "32-true")
    seed: int = _setting("of the start, the order of images and the views", 0)
    options: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        for name, known in (
            ("method", METHODS),
            ("modality", MODALITIES),
            ("precision", ("32-true", "bf16-mixed", "16-mixed")),
        ):
            if getattr(self, name) not in known:
                raise ValueError(f"--{name}: unknown {getattr(self, name)!r}; give {', '.join(known)}")
        if not (math.isfinite(self.lr) and self.lr > 0):
            raise ValueError(f"--lr must be above 0, got {self.lr}")
        if self.batch_size < 2:
            raise ValueError(f"--batch-size must be at least 2, got {self.batch_size}")
        if self.size < 32 or (self.method in ("pirl", "relation") and self.size % 6):
            raise ValueError(
                f"--size must be at least 32{', and a multiple of 6 for a jigsaw' if self.size >= 32 else ''}, "
                f"got {self.size}"
            )

    def with_options(self, given: Sequence[tuple[str, Any]]) -> Settings:
        """These settings with options of the method, each a name and a value.

        Raises:
            ValueError: the method has no such option.
        """
        known = _options(self.method)
        for name, value in given:
            if name not in known:
                raise ValueError(
                    f"--set {name}: {self.method} has no such setting; it has {', '.join(known) or 'none'}"
                )
            if isinstance(value, str) != isinstance(known[name], str):
                raise ValueError(f"--set {name}={value}: a value like {known[name]} was expected")
        return dataclasses.replace(self, options=dict(given))

    def listed(self) -> dict[str, Any]:
        """All settings by name, those of the method with what they are unless set."""
        own = {f.name: getattr(self, f.name) for f in dataclasses.fields(self) if f.name != "options"}
        return own | _options(self.method) | dict(self.options)


PRESETS = {
    "smoke": Settings(epochs=2, size=48, batch_size=16, width=8),
    "small": Settings(size=96, precision="bf16-mixed"),
    "gpu": Settings(
        epochs=200, size=216, batch_size=128, encoder="resnet50", width=64, precision="bf16-mixed"
    ),
}

_CLASSES: dict[str, Callable[..., methods.Method]] = {
    "simclr": methods.SimCLR,
    "moco": methods.MoCo,
    "byol": methods.BYOL,
    "simsiam": methods.SimSiam,
    "pirl": methods.PIRL,
    "relation": methods.RelationContrast,
}


def _options(method: str) -> dict[str, Any]:
    """Settings of a method that are plain values, with their defaults."""
    if method == "masked":
        return {"ratio": 0.5, "patch": 8}
    parameters = inspect.signature(_CLASSES[method]).parameters.values()
    found = {
        p.name: p.default
        for p in parameters
        if isinstance(p.default, int | float | str) and not isinstance(p.default, bool)
    }
    return found | ({"queue_size": 4096} if method == "moco" else {})


def build(settings: Settings, count: int) -> methods.Method:
    """The method, its network at the start of `settings.seed`, for `count` images."""
    s, options = settings, dict(settings.options)
    torch.manual_seed(derived_seed(s.seed, "pretext model"))
    if s.method == "masked":
        settings_of_mask: dict[str, Any] = _options("masked") | options
        mask = RandomPatchMask(**settings_of_mask)
        return methods.MaskedPixels(UNet(width=s.width), mask=mask)
    encoder = ResNetEncoder(s.encoder, width=s.width)
    if s.method in ("pirl", "relation"):
        pair = views.pirl(
            s.size,
            modality=s.modality,
            frequency=s.method == "relation",
            cross_patch=s.method == "relation",
            radius=(10 / 112, 100 / 112),  # the paper's bins on 224 pixels, as fractions of Nyquist
            unit="nyquist",
        )
        return _CLASSES[s.method](encoder, count, views=pair, **options)
    if s.method == "moco":
        options["queue_size"] = min(int(options.get("queue_size", 4096)), count)
    pair = (views.byol if s.method == "byol" else views.moco_v2)(s.size, modality=s.modality)
    return _CLASSES[s.method](encoder, views=pair, **options)


class _Numbered(Dataset[tuple[Tensor, int]]):
    """Pairs (image, position) of some items of a set."""

    def __init__(self, items: Dataset[Any], index: Sequence[int]) -> None:
        self.items, self.index = items, index

    def __len__(self) -> int:
        return len(self.index)

    def __getitem__(self, i: int) -> tuple[Tensor, int]:
        return self.items[self.index[i]]["image"][:1], i


class Pretraining:
    """A run, its input read and checked; `run` does the work.

    Args:
        settings: of the run.
        data: a folder of images, or `phantom`.
        out: the run folder.
        cache: the folder where decoded images are kept.
        skip_broken: leave out files that cannot be read.
        workers: processes that load images.

    Raises:
        ValueError, OSError: anything in the input that would stop the run later.
    """

    def __init__(
        self, settings: Settings, *, data: str, out: Path, cache: Path, skip_broken: bool, workers: int
    ) -> None:
        self.settings, self.workers = settings, workers
        if workers < 0:
            raise ValueError(f"--workers must be at least 0, got {workers}")
        self.folder = RunFolder(out)
        try:
            self._prepare(data, cache, skip_broken)
        except BaseException:
            self.folder.discard()
            raise

    def _prepare(self, data: str, cache: Path, skip_broken: bool) -> None:
        s = self.settings
        self.folder.check()
        # Larger than a view, so that crops keep their detail.
        self.side = s.size * 3 // 2 if s.method != "masked" else s.size
        if data == PHANTOM:
            images: Any = Phantom(64 if s == PRESETS["smoke"] else 400, size=self.side)
            name, source, key = "Phantom", "synthetic B-mode, seed 0", f"phantom, {len(images)}, {self.side}"
        elif skip_broken:
            if not Path(data).is_dir():
                raise FileNotFoundError(f"--data {data}: no such folder")
            images, key = UnlabelledImages(data, size=self.side, broken="skip"), None
            name, source = "unlabelled images", Path(data).resolve().name
        else:
            name, source, images = open_set(Source("--data", data), size=self.side)
            key = None
        self.skipped: dict[str, str] = dict(getattr(images, "skipped", {}))
        if len(images) < 4:
            raise ValueError(f"--data {data} holds {len(images)} images; at least 4 are needed")
        self.parts = held_out(images, seed=s.seed)
        build(s, len(self.parts[0]))  # what does not fit is found before images are decoded
        self.config: dict[str, Any] = {
            "kind": "pretraining",
            "title": f"Pretraining by {_CLASSES[s.method].__name__ if s.method in _CLASSES else 'masked pixels'}",
            "settings": s.listed(),
            "data": {
                "name": name,
                "source": source,
                "images": len(images),
                "held_out": len(self.parts[1]),
                "skipped": self.skipped,
            },
        }
        self.folder.join(self.config, growing=())
        if rank() == 0:
            DiskCache(images, cache, key=key)  # decoded once, by one process
        barrier()
        self.items = DiskCache(images, cache, key=key)
        with hold(self.folder.path, wait=True):
            write_json(self.folder.path / "config.json", self.config)

    def run(self) -> int:
        """Train, compare with the start, and write encoder.pt and report.html; returns the exit status."""
        s, path = self.settings, self.folder.path
        train = _Numbered(self.items, self.parts[0])
        data: dict[str, Any] = self.config["data"]
        print(f"{data['name']}: {len(train)} images to learn from, {data['held_out']} held out", flush=True)
        for name, reason in list(self.skipped.items())[:5]:
            print(f"  left out: {name}: {reason}")
        if len(self.skipped) > 5:
            print(f"  and {len(self.skipped) - 5} more, listed in {path / 'config.json'}")
        with hold(path):
            method = build(s, len(train))
            before = self._compared(method)
            adam = Optimiser("adamw", lr=s.lr, weight_decay=0.01, schedule="cosine", epochs=s.epochs)
            fit = Fit(epochs=s.epochs, batch_size=s.batch_size, precision=s.precision)
            weights = pretrain(
                Pretext(method, adam),
                train,
                fit,
                folder=path,
                seed=s.seed,
                title=s.method,
                workers=self.workers,
            )
            method.trained.load_state_dict(torch.load(weights, map_location="cpu", weights_only=True))
            method.to("cpu")
            after = self._compared(method)
            if rank() == 0:
                self._write(method, before, after, read_csv(path / "curves.csv"))
        barrier()
        print(f"encoder: {weights}\nreport: {path / 'report.html'}")
        return 0

    def _compared(self, method: methods.Method) -> dict[str, Any]:
        """How well a network finds the other view of each held-out image, and the rank of its features."""
        images = torch.stack([_Numbered(self.items, self.parts[1])[i][0] for i in range(len(self.parts[1]))])
        encoder = encoder_of(method)
        found = matched(encoder, images, self._pair())
        return {"matched": found, "effective_rank": float(effective_rank(embedded(encoder, images)))}

    def _pair(self) -> MultiView:
        return views.simclr(self.settings.size, modality=self.settings.modality)

    def _write(
        self,
        method: methods.Method,
        before: dict[str, Any],
        after: dict[str, Any],
        curves: list[dict[str, str]],
    ) -> None:
        path = self.folder.path
        held = torch.stack([self.items[i]["image"][:1] for i in self.parts[1][:SHOWN]])
        rng = np.random.default_rng(0)
        candidates = sorted(rng.permutation(len(self.parts[0]))[:COMPARED].tolist())
        others = [self.parts[0][i] for i in candidates]
        encoder = encoder_of(method)
        rows = torch.cat(
            [
                embedded(encoder, torch.stack([self.items[i]["image"][:1] for i in others[k : k + 64]]))
                for k in range(0, len(others), 64)
            ]
        )
        near = (embedded(encoder, held) @ rows.T).topk(min(4, len(others)), dim=1).indices
        neighbours = torch.stack(
            [torch.stack([self.items[others[j]]["image"][0] for j in row]) for row in near]
        )
        pair = method.views if isinstance(getattr(method, "views", None), MultiView) else self._pair()
        write_npz(
            path / "galleries.npz",
            **pair_gallery(held[:4], pair),  # type: ignore[arg-type]
            queries=held[:, 0].numpy(),
            neighbours=neighbours.numpy(),
        )
        check = verdict(before["matched"], after["matched"])
        check |= {"rank_before": before["effective_rank"], "rank_after": after["effective_rank"]}
        if "feature_std" in curves[-1]:
            check["feature_std"] = float(curves[-1]["feature_std"])
        network = method.trained
        check["network"] = f"{type(network).__name__}({network.extra_repr()})"
        write_json(path / "check.json", check)
        write_json(path / "environment.json", environment())
        print(check["sentence"])
        write_report(path)


def held_out(images: Any, *, seed: int) -> tuple[list[int], list[int]]:
    """Positions of the images to learn from, and of those that are kept apart: a twentieth, at most 256.

    Frames of one file, or images of one patient where the set tells, stay together.
    """
    groups = getattr(images, "groups", None)
    names = [str(group) for group in groups] if groups else [str(i) for i in range(len(images))]
    order = sorted(set(names))
    np.random.default_rng(seed).shuffle(order)
    wanted = min(256, max(2, len(images) // 20))
    chosen: set[str] = set()
    count = 0
    sizes = {name: 0 for name in order}
    for name in names:
        sizes[name] += 1
    for name in order:
        if count >= wanted or len(names) - count - sizes[name] < 2:
            break
        chosen.add(name)
        count += sizes[name]
    if not chosen:  # all images are of one file
        cut = max(2, len(names) // 20)
        return list(range(len(names) - cut)), list(range(len(names) - cut, len(names)))
    return (
        [i for i, name in enumerate(names) if name not in chosen],
        [i for i, name in enumerate(names) if name in chosen][: 2 * wanted],
    )


def encoder_of(method: methods.Method) -> nn.Module:
    """What gives features: the encoder, or the contracting path of a U-Net."""
    network = method.trained
    return UNetFeatures(network) if isinstance(network, UNet) else network


@torch.no_grad()
def embedded(encoder: nn.Module, images: Tensor, *, batch_size: int = 64) -> Tensor:
    """Unit rows (N, F) of images (N, 1, H, W), in evaluation mode."""
    was_training = encoder.training
    encoder.eval()
    rows = torch.cat([pooled_features(encoder, part).float() for part in images.split(batch_size)])
    encoder.train(was_training)
    return nn.functional.normalize(rows, dim=1)


def matched(encoder: nn.Module, images: Tensor, pair: MultiView) -> list[bool]:
    """For each image, whether the nearest second view to its first view is its own, among those of all images."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        first, second = pair(images)
    nearest = (embedded(encoder, first) @ embedded(encoder, second).T).argmax(1)
    return (nearest == torch.arange(len(images))).tolist()


def verdict(before: Sequence[bool], after: Sequence[bool]) -> dict[str, Any]:
    """A sentence on whether the encoder became better at matching views of held-out images than its start was.

    The exact test of McNemar: of the images that only one of the two networks matches, chance gives each half.
    """
    from scipy.stats import binomtest

    gained = sum(b and not a for a, b in zip(before, after, strict=True))
    lost = sum(a and not b for a, b in zip(before, after, strict=True))
    p = float(binomtest(gained, gained + lost).pvalue) if gained + lost else 1.0
    count, was, now = len(before), sum(before) / len(before), sum(after) / len(after)
    numbers = (
        f"Of {count} held-out images, it finds the other view of the same image in {now:.0%}; at its start it did in "
        f"{was:.0%}, and guessing gives {1 / count:.1%} (p = {p:.2g})."
    )
    if p < 0.05 and gained > lost:
        head = "The encoder learned to recognise images."
    elif p < 0.05:
        head = "The encoder became worse than its random start: lower the learning rate, or train longer."
    else:
        head = "No learning is shown: the encoder is not better than its random start, or too few images were held out."
    return {"sentence": f"{head} {numbers}", "matched": now, "matched_before": was, "p": p, "images": count}


def read_check(folder: Path) -> dict[str, Any]:
    """The content of check.json; empty where the run has not ended."""
    file = folder / "check.json"
    return dict(read_json(file)) if file.exists() else {}
