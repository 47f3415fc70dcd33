"""One pretext on one folder of images: the run and its results."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from .. import methods
from ..augment import MultiView, views
from ..data import Phantom
from ..data.cache import BrokenItems, DiskCache
from .cached import cached
from .engine import Fit
from .galleries import pair_gallery
from .locks import folder_lock
from .monitor import ROWS, statement, verdict_of
from .optimisers import Optimiser
from .pretext import pretrain
from .pretraining_settings import PRESETS, Settings, build
from .processes import barrier, rank
from .report import write_report
from .results import columns
from .runs import CONTENTS, RunFolder, environment, read_json, write_json, write_npz
from .sample import Sample, sample_size
from .sources import Source, open_set

SHOWN = 4  # images of a picture


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
        self.settings: Settings = settings
        self.workers: int = workers
        self.folder: RunFolder = RunFolder(out)
        try:
            self._prepare(data, cache, skip_broken)
        except BaseException:
            self.folder.discard()
            raise

    def _prepare(self, data: str, cache: Path, skip_broken: bool) -> None:
        s = self.settings
        self.folder.check()
        if (self.folder.path / "start.json").exists():
            raise ValueError(
                f"--out {self.folder.path} was written by an older version of sslmed; choose another folder"
            )
        # Larger than a view, so that crops keep their detail.
        self.side: int = s.size * 3 // 2 if s.method != "masked" else s.size
        phantoms = 64 if s == PRESETS["smoke"] else 400
        opened = Source("--data", data, lambda size: Phantom(phantoms, size=size))
        name, source, images = open_set(opened, size=self.side, skip_broken=skip_broken)
        skipped: dict[str, str] = dict(getattr(images, "skipped", {}))
        self._divide(name, source, images, skipped)
        if not skip_broken:  # else the remaining images are known once all are decoded
            self.folder.join(self.config, growing=())
        print(f"reading {len(images)} images of {source} at {self.side} px", flush=True)
        try:
            self.items: DiskCache = cached(images, cache, title="reading images", skip_broken=skip_broken)
        except BrokenItems as error:
            raise ValueError(f"{error}; --skip-broken leaves out what cannot be read") from error
        self._divide(name, source, self.items, skipped | self.items.skipped)
        self.folder.join(self.config, growing=())
        contents = self._contents()
        with folder_lock(self.folder.path, wait=True):
            write_json(self.folder.path / "config.json", self.config)
            write_json(self.folder.path / CONTENTS, contents)

    def _contents(self) -> dict[str, str]:
        """The hash of each file, and the part of each image; raise where the run was begun with others."""
        part = {i: name for name, index in zip(("training", "held out"), self.parts, strict=True) for i in index}
        found = {f"file {name}": digest for name, digest in self.items.hashes.items()}
        found |= {f"image {row['id']}": part[i] for i, row in enumerate(self.items.rows)}
        file = self.folder.path / CONTENTS
        recorded = read_json(file) if file.exists() else found
        changed = sorted(name for name in recorded.keys() | found.keys() if recorded.get(name) != found.get(name))
        if changed:
            raise ValueError(
                f"--out {self.folder.path} holds a run of other images: {changed[0]} has changed since; choose another "
                "folder"
            )
        return found

    def _divide(self, name: str, source: str, images: Any, skipped: dict[str, str]) -> None:
        """Choose the held-out images, and prepare the content of config.json."""
        s = self.settings
        if len(images) < 4:
            raise ValueError(f"--data {source} holds {len(images)} images; at least 4 are needed")
        self.skipped = skipped
        self.parts: tuple[list[int], list[int]] = held_out(images, seed=s.seed)
        build(s, len(self.parts[0]))  # settings that do not fit are found before images are decoded
        self.config: dict[str, Any] = {
            "kind": "pretraining",
            "title": f"Pretraining by {methods.COMMANDS[s.method].__name__}",
            "settings": s.listed(),
            "data": {
                "name": name,
                "source": source,
                "images": len(images),
                "held_out": len(self.parts[1]),
                "skipped": skipped,
            },
        }

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
        with folder_lock(path):
            method = build(s, len(train))
            adam = Optimiser("adamw", lr=s.lr, weight_decay=0.01, schedule="cosine")
            fit = Fit(epochs=s.epochs, batch_size=s.batch_size, precision=s.precision)
            weights = pretrain(
                method,
                train,
                fit,
                optimiser=adam,
                folder=path,
                seed=s.seed,
                title=s.method,
                workers=self.workers,
                sample=self._sample(),
            )
            if rank() == 0:
                self._write(method)
        barrier()
        print(f"encoder: {weights}\nreport: {path / 'report.html'}")
        return 0

    def _sample(self) -> Sample:
        """The held-out images, and more of the others, to measure the encoder on before and after."""
        s, (train, held) = self.settings, self.parts
        more = np.random.default_rng(0).permutation(len(train))[: max(0, sample_size(len(train), s.epochs) - len(held))]
        chosen = [*held, *(train[i] for i in more.tolist())]
        labels = None if self.items.labels is None else [int(self.items.labels[i]) for i in chosen]
        return Sample.of(
            torch.stack([self.items[i]["image"][:1] for i in chosen]),
            self._pair(),
            [self.items.groups[i] for i in chosen] if self.items.groups else chosen,
            labels,
            classes=1 + max(labels, default=-1) if labels else 0,
            held_out=len(held),
        )

    def _pair(self) -> MultiView:
        return views.simclr(self.settings.size, modality=self.settings.modality)

    def _write(self, method: methods.Method) -> None:
        path = self.folder.path
        held = torch.stack([self.items[i]["image"][:1] for i in self.parts[1][:SHOWN]])
        pair = method.views if isinstance(getattr(method, "views", None), MultiView) else self._pair()
        write_npz(path / "galleries.npz", **pair_gallery(held, pair))  # type: ignore[arg-type]
        ranks = columns(path / ROWS)["effective_rank"]
        check = verdict_of(path) | {"rank_before": ranks[0], "rank_after": ranks[-1]}
        curves = columns(path / "curves.csv")
        if "feature_std" in curves:
            check["feature_std"] = curves["feature_std"][-1]
        network = method.trained
        check["network"] = f"{type(network).__name__}({network.extra_repr()})"
        learned = statement(path)  # of the classes, where there are enough images of them
        check["with_labels"] = learned if learned != check["sentence"] else ""
        write_json(path / "check.json", check)
        write_json(path / "environment.json", environment())
        if check["with_labels"]:  # else it was printed after the training
            print(check["sentence"])
        write_report(path)


def held_out(images: Any, *, seed: int) -> tuple[list[int], list[int]]:
    """Positions of the images to learn from, and of those that are kept apart: a twentieth, at most 256.

    Of fewer than 400 images it is 20, and of fewer than 100 a fifth, since the test needs enough images.
    Frames of one file, and images of one patient where patients are known, stay together.
    """
    groups = getattr(images, "groups", None)
    names = [str(group) for group in groups] if groups else [str(i) for i in range(len(images))]
    order = sorted(set(names))
    np.random.default_rng(seed).shuffle(order)
    wanted = min(256, max(2, len(images) // 20, min(20, len(images) // 5)))
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
        return list(range(len(names) - wanted)), list(range(len(names) - wanted, len(names)))
    return (
        [i for i, name in enumerate(names) if name not in chosen],
        [i for i, name in enumerate(names) if name in chosen][: 2 * wanted],
    )
