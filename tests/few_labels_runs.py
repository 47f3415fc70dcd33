"""Folders of few-labels runs made without training, and a model that outlines what is bright."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.functional import adaptive_avg_pool2d

from sslmed.studies import manifest
from sslmed.studies.cells import Cell
from sslmed.studies.encoders import make_unet
from sslmed.studies.prediction.ensemble import Description, Ensemble

METHOD = "lesions+teacher"


def write_run(
    folder: Path,
    *,
    least: Sequence[float] = (0.25, 0.75),
    encoder: str = "resnet18",
    dice: Sequence[float] = (),
    mirrored: bool = False,
) -> list[nn.Module]:
    """A finished run of one fold for each least confidence, with random weights; returns the networks of the recipe.

    There are a fold with fewer labels, which is not to be used, and of each fold a baseline. The recipe has a Dice of
    `dice` (0.6) on the validation part, the baseline of 0.5.
    """
    preset = {"encoder": encoder, "width": 4, "size": 32, "constants": {"mirrored": mirrored}}
    config = {"methods": ["supervised", METHOD], "labels": [0.5, 1.0], "seeds": list(range(len(least)))}
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(config | {"preset": preset, "choice": "chosen"}))
    others = [Cell(METHOD, 0.5, 0), *(Cell("supervised", 1.0, seed) for seed in range(len(least)))]
    cells = [*others, *(Cell(METHOD, 1.0, seed) for seed in range(len(least)))]
    manifest.record(folder, [manifest.CellEntry(f"cells/{cell.name}", cell) for cell in cells])
    networks = []
    values = [*[0.0] * len(others), *least]
    for cell, value, found in zip(cells, values, [*[0.5] * len(others), *(dice or [0.6] * len(least))], strict=True):
        torch.manual_seed(len(networks))
        networks.append(make_unet(encoder, width=4).eval())
        place = folder / "cells" / cell.name
        place.mkdir(parents=True)
        torch.save(networks[-1].state_dict(), place / "model.pt")
        result = {"mean": {"dice": 0.5, "least_confidence": value}, "validation": found}
        (place / "result.json").write_text(json.dumps(result))
    return networks[len(others) :]


class Bright(nn.Module):
    """Outlines pixels above a level."""

    def __init__(self, level: float) -> None:
        super().__init__()
        self.level = nn.Parameter(torch.tensor(level))

    def forward(self, x: Tensor) -> Tensor:
        return (x - self.level) * 100

    def encoder_maps(self, x: Tensor) -> list[Tensor]:
        return [adaptive_avg_pool2d(x, 2).flatten(1)[:, :, None, None]]


def bright(*levels: float, least: float = 0.0, size: int = 32) -> Ensemble:
    """Networks that outline pixels above their levels, as one."""
    about = Description("none", 4, size, "stretch", (least,) * len(levels), METHOD, ("fold",) * len(levels))
    return Ensemble([Bright(level) for level in levels], about).eval()
