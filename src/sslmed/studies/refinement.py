"""Train a fine-tuned network on with images that have no labels."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import Dataset

from ..metrics import compare
from ..tasks import Learner
from .engine import fit
from .processes import broadcast_rank0
from .seeding import derived_seed
from .study import Refinement


def refine(
    learner: Learner,
    refinement: Refinement,
    pairs: Dataset[Any],
    pool: Dataset[Any],
    *,
    val: Dataset[Any],
    fine_tuned: Path,
    seed: int,
    workers: int,
    scores: Callable[[], Sequence[float]],
) -> None:
    """Train on in a folder inside that of the fine-tuning; keep the result unless validation shows it to be worse.

    The result is the network of the last epoch. Epochs are not chosen by their validation loss: a network that learned
    from its own outlines is surer of them, which raises the loss where it is wrong, while the outlines become better.

    Args:
        learner: the fine-tuned network, with its best weights; changed in place.
        refinement: how to train on.
        pairs: the labelled images with their targets.
        pool: images without labels.
        val: pairs of the validation part.
        fine_tuned: the folder of the fine-tuning.
        seed: of the fine-tuning.
        workers: processes that load images.
        scores: the metric of each validation case, of the learner as it is.
    """
    images, targets = (torch.stack(part) for part in zip(*(pairs[i] for i in range(len(pairs))), strict=True))  # type: ignore[arg-type]
    weights = {name: value.clone() for name, value in learner.model.state_dict().items()}
    before = scores()
    method = refinement.build(learner.model, images, targets)
    fit(
        method,
        pool,
        refinement.fit,
        optimiser=refinement.optimiser,
        folder=fine_tuned / "refinement",
        seed=derived_seed(seed, "refinement"),
        title="with unlabelled images",
        val=val,
        workers=workers,
    )
    learner.model.load_state_dict(method.trained.state_dict())
    if broadcast_rank0(shown_worse(scores(), before)):
        print("    worse on the validation part (p < 0.05): the fine-tuned network is kept", flush=True)
        learner.model.load_state_dict(weights)


def shown_worse(after: Sequence[float], before: Sequence[float]) -> bool:
    """Whether the scores of the same cases fell, with p < 0.05 in a paired test."""
    if len(before) < 2:
        return False
    found = compare.paired(before, after)
    return found.difference > 0 and found.p_value < 0.05
