"""The declaration of a study's images: which sets it reads, and how it divides them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from .sources import Source

TRAIN = "train"  # in a mix: the training part of the labelled set
ALONE: Mapping[str, tuple[str, ...]] = {"": (TRAIN,)}


@dataclass(frozen=True)
class DataSpec:
    """Which sets a study reads, and how it divides them.

    Attributes:
        labelled: the set that is fine-tuned and tested on, or images for pretext learning only.
        pools: more images to learn a pretext from, by name.
        mixes: name -> the pools that it joins; `train` is the training part of `labelled`.
        size: pixels a side of the images as they are read; smaller ones are resized from these.
        fit: how images become square, "stretch" or "pad".
        fractions: of training, validation and test cases.
        cache: the folder where decoded images are kept.
        labels: shares of the training cases, or numbers of volumes.
        unit: which of the two, "%" or "volumes".
        seeds: of the splits.
        everything: whether all methods, and supervised training, are fine-tuned on all training volumes too.
        volumes: numbers of training, validation and test volumes, instead of `fractions`.
        parts_seed: one seed for the parts of all seeds; the seeds then draw the labelled cases only.
        folds: number of folds of a cross-validation; the seeds are then their numbers, from 0, and pool images copy no
            labelled image at all. None splits by `fractions`.
        leave_out_copies: leave out pool images that copy a held-out one, and images of the training side that a test
            set shares, instead of refusing them.
        name: of the domain, where a run has several.
        outlined: whether fine-tuning needs masks; else it needs classes.
        joined: more labelled sets to join with `labelled`.
        test_sets: whole sets to test every cell on, which must not be used in training.
        share: the share to read of each of them, of `labelled` and of the pools.
        modality: of the images, "ultrasound", "mr" or "mammography": of the views by which a pretext is watched.
        skip_broken: leave out images that cannot be decoded, and unlabelled files with damaged headers, instead of
            refusing the set.
    """

    labelled: Source
    size: int
    fractions: tuple[float, float, float]
    cache: Path
    labels: Sequence[float]
    seeds: Sequence[int]
    pools: Mapping[str, Source] = field(default_factory=dict)
    mixes: Mapping[str, tuple[str, ...]] = field(default_factory=lambda: ALONE)
    fit: str = "stretch"
    unit: str = "%"
    everything: bool = False
    volumes: tuple[int, int, int] | None = None
    parts_seed: int | None = None
    folds: int | None = None
    leave_out_copies: bool = False
    name: str = ""
    outlined: bool = True
    joined: tuple[Source, ...] = ()
    test_sets: tuple[Source, ...] = ()
    share: float = 1.0
    skip_broken: bool = False
    modality: str = "ultrasound"
