"""Train a fine-tuned network on with images that have no labels."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch.utils.data import Dataset

from ..tasks import Learner
from .engine import fit, weights_of
from .runs import read_csv
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
) -> None:
    """Train on in a folder inside that of the fine-tuning; keep the result if its best validation loss is lower.

    Args:
        learner: the fine-tuned network, with its best weights; changed in place.
        refinement: how to train on.
        pairs: the labelled images with their targets.
        pool: images without labels.
        val: pairs of the validation part.
        fine_tuned: the folder of the fine-tuning.
        seed: of the fine-tuning.
        workers: processes that load images.
    """
    images, targets = (torch.stack(part) for part in zip(*(pairs[i] for i in range(len(pairs))), strict=True))  # type: ignore[arg-type]
    weights = {name: value.clone() for name, value in learner.model.state_dict().items()}
    method, folder = refinement.build(learner.model, images, targets), fine_tuned / "refinement"
    best = fit(
        method,
        pool,
        refinement.fit,
        optimiser=refinement.optimiser,
        folder=folder,
        seed=derived_seed(seed, "refinement"),
        title="with unlabelled images",
        val=val,
        workers=workers,
    )
    before, after = (
        min(float(row["val_loss"]) for row in read_csv(place / "curves.csv")) for place in (fine_tuned, folder)
    )
    if after < before:
        method.load_state_dict(weights_of(best))
        weights = method.trained.state_dict()
    learner.model.load_state_dict(weights)
