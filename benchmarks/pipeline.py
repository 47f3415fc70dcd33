"""Images per second of a pretext step and of its parts, and what the training loop of the studies costs.

    python benchmarks/pipeline.py [--size 96] [--batch 32] [--rounds 5] [--device cpu] [--threads 1]

For each method: reading a batch from a DiskCache, the views, the network's forward passes, loss and memory, the
backward pass, and the optimiser. Ours are reading, views, loss and memory, and what follows a step; the network and its
gradients cost the same in any library. Then the same training by `sslmed.studies.engine.fit` and by a plain loop of
torch: SimCLR, and fine-tuning with a validation and a checkpoint in each epoch, as in `sslmed few-labels`.
Results go to benchmarks/results/pipeline-<device>.json.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from measure import Contenders, interleaved, report, settle, write
from sslmed.augment import views
from sslmed.data import DiskCache, Phantom
from sslmed.methods import COMMANDS, Method, SimCLR
from sslmed.models import ResNetEncoder, ResUNet
from sslmed.studies.engine import Fit, fit
from sslmed.studies.optimisers import Optimiser
from sslmed.tasks import dice_bce
from sslmed.tasks.segmentation import Segmenter

IMAGES, EPOCHS = 256, 2
ENCODER = {"encoder": "resnet18", "width": 32}
PARTS = ("read", "views", "network", "loss and memory", "backward", "optimiser", "after the step")
OURS = ("read", "views", "loss and memory", "after the step")


class Pairs(Dataset[Any]):
    """Image and position, or image and mask, of a cached set."""

    def __init__(self, cache: DiskCache, second: str) -> None:
        self.cache, self.second = cache, second

    def __len__(self) -> int:
        return len(self.cache)

    def __getitem__(self, index: int) -> tuple[Tensor, Any]:
        item = self.cache[index]
        return item["image"], index if self.second == "index" else item["mask"]


class Clock:
    """Adds up the time of parts, in ms. A part within another is not counted twice."""

    def __init__(self, device: str) -> None:
        self.total: dict[str, float] = defaultdict(float)
        self.open: list[str] = []
        self.last = 0.0
        self.wait: Callable[[], object] = torch.cuda.synchronize if device == "cuda" else lambda: None

    def turn(self) -> None:
        """Give the time since the last turn to the part that is open."""
        self.wait()
        now = time.perf_counter()
        if self.open:
            self.total[self.open[-1]] += (now - self.last) * 1e3
        self.last = now

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Measure a block."""
        self.turn()
        self.open.append(name)
        yield
        self.turn()
        self.open.pop()

    def watch(self, module: Any, name: str) -> None:
        """Measure the forward pass of a module within a part."""
        forward = module.forward

        def measured(*args: Any, **kwargs: Any) -> Any:
            with self.part(name):
                return forward(*args, **kwargs)

        module.forward = measured


def step_parts(method: Method, data: Dataset[Any], batch: int, rounds: int, device: str) -> dict[str, Any]:
    """The median time of each part of a step."""
    method.to(device)
    loader = DataLoader(data, batch, shuffle=True, drop_last=True)
    method.start((images.to(device), index.to(device)) for images, index in loader)
    optimiser = torch.optim.AdamW(method.parameter_groups(), lr=1e-3)
    clock, found = Clock(device), defaultdict[str, list[float]](list)
    for name, module in method.named_children():
        if name in ("views", "mask", "lesions", "view"):
            clock.watch(module, "views")
        elif any(True for _ in module.parameters()):
            clock.watch(module, "network")
    batches: Iterator[Any] = iter(())
    for turn in range(rounds + 2):
        clock.total.clear()
        with clock.part("read"):
            if (pair := next(batches, None)) is None:
                batches = iter(loader)
                pair = next(batches)
            images, index = (part.to(device) for part in pair)
        with clock.part("loss and memory"):  # what is left of the forward pass
            loss = method(images, index).loss
        with clock.part("backward"):
            loss.backward()
        with clock.part("optimiser"):
            optimiser.step()
            optimiser.zero_grad()
        with clock.part("after the step"):
            method.after_step()
        if turn >= 2:
            for part in PARTS:
                found[part].append(clock.total[part])
    medians = {part: statistics.median(times) for part, times in found.items()}
    total = sum(medians.values())
    ours = sum(medians[part] for part in OURS)
    return {"parts_ms": medians, "images_per_s": batch / total * 1e3, "share_of_sslmed": ours / total}


def plain(
    module: Any, data: Dataset[Any], val: Dataset[Any] | None, batch: int, epochs: int, folder: Path, device: str
) -> None:
    """What `fit` does, as one would write it by hand."""
    folder.mkdir()
    module.to(device)
    optimiser = torch.optim.AdamW(module.parameter_groups(), lr=1e-3)
    loader = DataLoader(data, batch, shuffle=True)
    best = float("inf")
    for _ in range(epochs):
        module.train()
        for images, second in loader:
            loss = module(images.to(device), second.to(device)).loss
            loss.backward()
            optimiser.step()
            optimiser.zero_grad()
            module.after_step()
        if val is not None:
            module.eval()
            with torch.no_grad():
                checked = ((x.to(device), y.to(device)) for x, y in DataLoader(val, batch))
                loss_now = module.validate(checked)["val_loss"]
            if loss_now < best:
                best = loss_now
                torch.save(module.state_dict(), folder / "best.pt")
        torch.save({"module": module.state_dict(), "optimiser": optimiser.state_dict()}, folder / "last.pt")


def loops(cache: DiskCache, size: int, batch: int, device: str, folder: Path) -> dict[str, Contenders]:
    """Trainings by our loop and by a plain one."""

    def pretext() -> Method:
        return SimCLR(ResNetEncoder("resnet18", width=32), views=views.simclr(size))

    def finetuning() -> Segmenter:
        network = ResUNet(ResNetEncoder("resnet18", width=32), standardise=True)
        return Segmenter(network, loss=dice_bce, augment=views.segmentation(size))

    runs = iter(range(10**9))

    def contenders(make: Callable[[], nn.Module], second: str, validated: bool) -> Contenders:
        data = Pairs(cache, second)
        val = data if validated else None
        settings, optimiser = Fit(epochs=EPOCHS, batch_size=batch), Optimiser("adamw", lr=1e-3)

        def ours() -> None:
            fit(make(), data, settings, optimiser=optimiser, folder=folder / f"{next(runs)}", seed=0, title="", val=val)  # type: ignore[arg-type]

        return {
            "sslmed": ours,
            "plain loop": lambda: plain(make(), data, val, batch, EPOCHS, folder / f"{next(runs)}", device),
        }

    return {
        "SimCLR": contenders(pretext, "index", validated=False),
        "fine-tuning with validation": contenders(finetuning, "mask", validated=True),
    }


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=int, default=96, help="side of a view in pixels (96)")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    settle(args.threads)
    content = report(args.device, args.threads, args.rounds, "kornia", "lightning")
    content |= {"size": args.size, "batch": args.batch, "steps": {}}
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        cache = DiskCache(Phantom(IMAGES, size=args.size * 3 // 2, seed=0), folder / "cache", key="phantom")
        small = DiskCache(Phantom(IMAGES, size=args.size, seed=0), folder / "cache", key="phantom")
        for name, method in COMMANDS.items():
            made = method.for_images(IMAGES, **ENCODER, size=args.size, modality="ultrasound")
            row = step_parts(made, Pairs(cache, "index"), args.batch, args.rounds, args.device)
            content["steps"][name] = row
            parts = "  ".join(f"{part} {row['parts_ms'][part]:.0f}" for part in PARTS)
            share = 100 * row["share_of_sslmed"]
            print(f"{name:17s} {row['images_per_s']:6.1f} images/s, sslmed {share:4.1f} %: {parts}")
        for name, contenders in loops(small, args.size, args.batch, args.device, folder).items():
            rows = interleaved(contenders, args.rounds, args.device, warm_up=1)
            content["jobs"][f"{name}, {EPOCHS} epochs of {IMAGES} images"] = rows
            ratio = rows["sslmed"]["median_ms"] / rows["plain loop"]["median_ms"]
            print(f"{name}: {ratio:.3f} of a plain loop")
    write(f"pipeline-{args.device}", content)


if __name__ == "__main__":
    main()
