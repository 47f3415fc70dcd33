"""The networks of a run as one model, in a file from which it is rebuilt without the run."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from ...data import Phantom
from ...models import pooled_features
from ...tasks.decision import Presence, confidence, relative
from ...tasks.segmentation import with_mirror_images
from .. import manifest
from ..choice import tabulated, tabulated_methods
from ..encoders import make_unet
from ..processes import rank
from ..results import Result
from ..runs import read_json, write_bytes
from .onnx_file import write_onnx

FORMAT = 3
READ = (1, 2, FORMAT)  # 1 lacks `mirrored`, 2 the presences
MODEL, ONNX, PRESENCE = "model.pt", "model.onnx", "presence.pt"
M = TypeVar("M", bound=nn.Module)
COMPARED = 4  # images on which a written file is compared with what was written


@dataclass(frozen=True)
class Description:
    """What an ensemble is made of; `model.pt` holds it beside the weights.

    Attributes:
        encoder: its name, as `sslmed.studies.encoders` knows it.
        width: of the networks.
        size: pixels a side of their images.
        fit: how images become square, "stretch" or "pad".
        least_confidence: of each network: below it, an image shows no lesion.
        method: that trained them, or the choice between several.
        cells: folder names of the fine-tunings, which begin with the method that trained each.
        mirrored: whether a network's logits are the mean of those of an image and of its mirror image, left to right.
    """

    encoder: str
    width: int
    size: int
    fit: str
    least_confidence: tuple[float, ...]
    method: str
    cells: tuple[str, ...]
    mirrored: bool = False


class Ensemble(nn.Module):
    """Segmentation networks as one: the mean of their probabilities.

    Args:
        networks: each (B, 1, S, S) -> logits (B, 1, S, S).
        description: of them.
        presences: number of a network -> its classifier of images with and without a lesion.

    Attributes:
        least_confidence: 0.5. An image with a lower confidence is classified as showing none.

    Raises:
        ValueError: there is no network, or the description is of another number of them.
    """

    def __init__(
        self, networks: Sequence[nn.Module], description: Description, presences: Mapping[int, Presence] | None = None
    ) -> None:
        super().__init__()
        if not networks or len(networks) != len(description.least_confidence):
            raise ValueError(
                "networks must be at least one, each with its least confidence, got "
                f"{len(networks)} and {len(description.least_confidence)}"
            )
        self.networks: nn.ModuleList = nn.ModuleList(networks)
        self.presences: nn.ModuleDict = nn.ModuleDict({str(k): one for k, one in (presences or {}).items()})
        # Of each presence, the first one with the same encoder, whose features serve all: mostly there is one pretext.
        self._first: dict[str, str] = {
            key: next(k for k, other in self.presences.items() if other.encoder is one.encoder)
            for key, one in self.presences.items()
        }
        self.description = description
        self.least_confidence: float = 0.5

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Outline lesions.

        Args:
            images: (B, 1, S, S) in [0, 1].

        Returns:
            The probability of a lesion at each pixel, (B, 1, S, S), and the confidence that there is one, (B,): both in
            [0, 1], and means over the networks. The least confidence of each network counts as 0.5.
        """
        return self.joined(self.logits(images), images)

    def joined(self, logits: Sequence[Tensor], images: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """What `forward` returns, from the logits of each network, and the images where there are presences.

        Raises:
            ValueError: there are presences, and no images.
        """
        if images is None and self.presences:
            raise ValueError("images must be given: networks of this model judge by them whether there is a lesion")
        probabilities = torch.stack([one.sigmoid() for one in logits]).mean(0)
        features = {key: self._presence(key).features(images) for key in set(self._first.values())}  # type: ignore[arg-type]
        sure = [confidence(one) for one in logits]
        for key, first in self._first.items():
            sure[int(key)] = self._presence(key).joined(features[first], sure[int(key)])
        sure = [relative(one, least) for one, least in zip(sure, self.description.least_confidence, strict=True)]
        return probabilities, torch.stack(sure).mean(0)

    def _presence(self, key: str) -> Presence:
        presence: Presence = self.presences[key]  # type: ignore[assignment]
        return presence

    def logits(self, images: Tensor) -> list[Tensor]:
        """The logits (B, 1, S, S) of each network, in float32."""
        if self.description.mirrored:
            return [with_mirror_images(network, images).float() for network in self.networks]
        return [network(images).float() for network in self.networks]

    def features(self, images: Tensor) -> Tensor:
        """Features (B, F) of images: of each encoder its pooled ones at unit length, side by side."""
        found = [pooled_features(network.encoder_maps, images) for network in self.networks]  # type: ignore[arg-type]
        return torch.cat([nn.functional.normalize(one.float(), dim=1) for one in found], dim=1)


def write_model(run: Path) -> Path:
    """Write `model.pt`, and `model.onnx` where the packages for it are installed, of a finished few-labels run.

    The networks are those with the most labels: of each split, the one that is best on its validation part. Both files
    are loaded again and compared.

    Args:
        run: the run folder.

    Returns:
        Path of model.pt.

    Raises:
        ValueError: the folder holds no few-labels run, or some of its networks are not finished.
        RuntimeError: a written file does not compute what the networks do.
    """
    path = run / MODEL
    if rank() > 0:
        return path
    ensemble = _of_run(run)
    buffer = io.BytesIO()
    torch.save(_content(ensemble), buffer)
    write_bytes(path, buffer.getvalue())
    size = ensemble.description.size
    phantom = Phantom(COMPARED, size=size)
    images = torch.stack([phantom[k]["image"] for k in range(COMPARED)])
    with torch.inference_mode():
        expected, found = ensemble(images), load_model(path)(images)
    if not all(torch.equal(a, b) for a, b in zip(expected, found, strict=True)):
        path.unlink()
        raise RuntimeError(f"{path} was removed: loaded again, it does not compute what the networks do")
    print(f"model: {path}, of {len(ensemble.networks)} networks")
    print(write_onnx(run / ONNX, ensemble, images, _described(ensemble.description)))
    return path


def load_model(path: Path) -> Ensemble:
    """Rebuild an ensemble from its file, on the CPU and in evaluation mode.

    Raises:
        OSError: there is no such file.
        ValueError: it is no such file, or its encoder cannot be built here.

    Example:
        `probabilities, confidence = load_model(Path("RUN/model.pt"))(images)`
    """
    wrong = f"{path} is not a model that `sslmed few-labels` wrote"
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except OSError:
        raise
    except Exception as error:  # what is no such file fails in as many ways as there are files
        raise ValueError(f"{wrong}: {error}") from error
    if not isinstance(content, dict) or not {"format", "sslmed", "description", "networks"} <= content.keys():
        raise ValueError(wrong)
    if content["format"] not in READ:
        raise ValueError(f"{wrong} in format {FORMAT}; sslmed {content['sslmed']} wrote it, use that version")
    about = content["description"]
    description = Description(
        **about | {"least_confidence": tuple(about["least_confidence"]), "cells": tuple(about["cells"])}
    )
    return _built(description, content["networks"], content.get("presences", {}), path)


def _content(ensemble: Ensemble) -> dict[str, Any]:
    """What model.pt holds: plain values and tensors, which `torch.load(weights_only=True)` reads."""
    return {
        "format": FORMAT,
        "sslmed": version("sslmed"),
        "description": _described(ensemble.description),
        "networks": [network.state_dict() for network in ensemble.networks],
        # Presences with the same encoder share its tensors, which are written once.
        "presences": {int(k): presence.state_dict() for k, presence in ensemble.presences.items()},
    }


def _described(description: Description) -> dict[str, Any]:
    return {name: list(v) if isinstance(v, tuple) else v for name, v in vars(description).items()}


def _built(description: Description, states: Sequence[Any], presences: Mapping[int, Any], place: Path) -> Ensemble:
    try:
        networks = [_loaded(make_unet(description.encoder, width=description.width), state) for state in states]
        found: dict[int, Presence] = {}
        for k, state in presences.items():
            encoder = make_unet(description.encoder, width=description.width).encoder
            one = _loaded(Presence(encoder, features=len(state["weights"]) - 1), state)
            same = (other.encoder for other in found.values() if _equal(other.encoder, one.encoder))
            one.encoder = next(same, one.encoder)  # one encoder for all that have the same pretext
            found[k] = one
    except RuntimeError as error:
        raise ValueError(f"{place}: the weights do not fit {description.encoder}: {error}") from error
    return Ensemble(networks, description, found).eval()


def _loaded(module: M, state: Any) -> M:
    module.load_state_dict(state)
    return module


def _equal(one: nn.Module, other: nn.Module) -> bool:
    pairs = zip(one.state_dict().values(), other.state_dict().values(), strict=True)
    return all(torch.equal(a, b) for a, b in pairs)


def _of_run(run: Path) -> Ensemble:
    """The ensemble of the cells of a run."""
    config = read_json(run / "config.json") if (run / "config.json").is_file() else {}
    preset, methods = config.get("preset") or {}, tabulated_methods(config)
    if not {"encoder", "width", "size"} <= preset.keys() or not methods:
        raise ValueError(f"{run} is not the folder of a few-labels run")
    cells = _cells(run, methods[-1])  # the only method, or the choice
    if not all("least_confidence" in cell.mean for cell in cells):
        raise ValueError(f"{run} is not the folder of a few-labels run: its networks have no least confidence")
    description = Description(
        encoder=preset["encoder"],
        width=preset["width"],
        size=preset["size"],
        fit="stretch",  # as few-labels runs read all images
        least_confidence=tuple(float(cell.mean["least_confidence"]) for cell in cells),
        method=methods[-1],
        cells=tuple(cell.folder.name for cell in cells),
        mirrored=bool(preset.get("constants", {}).get("mirrored", False)),
    )

    def state(file: Path) -> Any:
        if not file.is_file():
            raise ValueError(f"{file} is missing; delete result.json beside it, and run that cell again")
        return torch.load(file, map_location="cpu", weights_only=True)

    presences = {k: state(cell.folder / PRESENCE) for k, cell in enumerate(cells) if cell.mean.get("presence")}
    return _built(description, [state(cell.folder / MODEL) for cell in cells], presences, run)


def _cells(run: Path, method: str) -> list[Result]:
    """The results of a method with the most labels, in the order of their seeds.

    Raises:
        ValueError: a cell of the run with the most labels is not finished.
    """
    entries = manifest.read(run).cells
    most = max(entry.cell.labels for entry in entries)
    missing = [
        entry.folder
        for entry in entries
        if entry.cell.labels == most
        and not all((run / entry.folder / name).is_file() for name in ("result.json", MODEL))
    ]
    if missing:
        raise ValueError(
            f"{run}: {missing[0]} is not finished" + (f", nor are {len(missing) - 1} more" if missing[1:] else "")
        )
    found = [one for one in tabulated(run) if one.method == method and one.labels == most]
    return sorted(found, key=lambda one: (one.seed, one.repeat))
