"""Cells (a method, fine-tuned with some labels and a seed), the targets they are tested on, and amounts of labels."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

SUPERVISED = "supervised"
SEGMENTATION = "segmentation"  # the target of a study that has no other


@dataclass(frozen=True)
class Cell:
    """One fine-tuning: a method, what it is tuned to, how many labels it may use, a seed, and which of its repeats.

    The seed sets the split, the pretext and the labelled cases. Repeats share these and differ in the random start of
    the decoder and in the order of the cases.
    """

    method: str
    labels: float
    seed: int
    target: str = SEGMENTATION
    repeat: int = 0

    def training(self, seed_word: str = "seed") -> str:
        """Its seed and repeat in words: "seed 0", or "seed 0, repeat 3" from the second one on."""
        return f"{seed_word} {self.seed}" + (f", repeat {self.repeat + 1}" if self.repeat else "")

    @property
    def name(self) -> str:
        """Folder name, as "cp-jig+freq_rcl+percep-l20-s0", with the target where it is not segmentation."""
        target = "" if self.target == SEGMENTATION else f"-{slug(self.target)}"
        # A share is a float, a number of volumes an int: 1.0 is all labels, 1 is one volume.
        labels = f"v{self.labels}" if isinstance(self.labels, int) else f"l{percent(self.labels)}"
        repeat = f"-r{self.repeat}" if self.repeat else ""
        return f"{slug(self.method)}{target}-{labels}-s{self.seed}{repeat}"


@dataclass(frozen=True)
class Target:
    """A task as config.json records it.

    Attributes:
        name: as in the cells.
        title: as in the report.
        kind: of the task, as "segmentation".
        metric: the one that methods are compared by.
        metrics: those of the table.
    """

    name: str
    title: str
    kind: str
    metric: str
    metrics: tuple[str, ...]


def seed_word(folds: int | None) -> str:
    """What a seed is called: a fold where the seeds are the numbers of a cross-validation's folds."""
    return "seed" if folds is None else "fold"


def slug(name: str) -> str:
    """A name as part of a file name."""
    return name.replace("/", "_").replace(" ", "_")


def slugs(names: Iterable[str]) -> dict[str, str]:
    """Each name as part of a file name; names that would become the same get a number."""
    found: dict[str, str] = {}
    for name in names:
        free, number = slug(name), 1
        while free in found.values():
            number += 1
            free = f"{slug(name)}-{number}"
        found[name] = free
    return found


def percent(fraction: float) -> str:
    """A fraction as a percentage without trailing zeros: 0.2 -> "20", 0.125 -> "12.5"."""
    return f"{fraction * 100:.6g}"


def amount(labels: float, unit: str) -> str:
    """An amount of labels as the tables print it: "20 %", "4 volumes"."""
    if unit == "volumes":
        return f"{labels:g} volume" + "s" * (labels != 1)
    return f"{percent(labels)} %"


def amount_as_number(labels: float | str, unit: str) -> float:
    """An amount of labels in percent or volumes: 0.2, "0.2" and "20 %" are 20; 4 and "4 volumes" are 4."""
    number, _, named = str(labels).partition(" ")
    value = float(number.rstrip("%")) * (100 if unit == "%" and not named and "%" not in number else 1)
    return round(value, 9)  # 0.07 * 100 is 7.000000000000001
