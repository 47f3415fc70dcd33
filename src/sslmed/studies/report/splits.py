"""Sizes of the parts of each split and what they share, counted from the ids, whatever the run itself says."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

from .cell import amount
from .run import Run

PARTS = ("pretext", "train", "val", "test")
ALLOWED = "pretext and val"  # no leak into the test, though the choice of the epoch has seen these images


@dataclass(frozen=True)
class Split:
    """One split: of a seed, and of a domain where the run has several."""

    domain: str
    seed: str
    sizes: dict[str, int]
    labelled: dict[float, int]
    shared: dict[str, int]
    test: frozenset[str]

    @property
    def leaks(self) -> dict[str, int]:
        """What should not be shared and is."""
        return {name: count for name, count in self.shared.items() if count and name != ALLOWED}


def splits(run: Run) -> list[Split]:
    """Every split of splits.json."""
    found = []
    for key, parts in run.splits.items():
        domain, _, seed = key.rpartition("/")
        ids = {name: frozenset(parts.get(name) or ()) for name in PARTS}
        labelled = {
            amount(text, run.unit): set(items) for text, items in (parts.get("labelled") or {}).items()
        }
        shared = {f"{a} and {b}": len(ids[a] & ids[b]) for a, b in itertools.combinations(PARTS, 2)}
        del shared["pretext and train"]  # learning without labels from the training images is the method
        outside = len(set().union(*labelled.values()) - ids["train"]) if labelled else 0
        found.append(
            Split(
                domain=domain,
                seed=seed,
                sizes={name: len(items) for name, items in ids.items()},
                labelled={labels: len(labelled[labels]) for labels in sorted(labelled, reverse=True)},
                shared=shared | {"labelled, outside train": outside},
                test=ids["test"],
            )
        )
    return found


def leaking(run: Run, found: list[Split]) -> list[str]:
    """The warnings of the page's head."""
    return [
        (f"{run.display(split.domain)}, " if split.domain else "") + f"seed {split.seed}: {count} in {name}"
        for split in found
        for name, count in split.leaks.items()
    ]
