"""Settings of a pretraining run, its presets, and the method that they build."""

from __future__ import annotations

import dataclasses
import inspect
import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from ..methods import COMMANDS, Method
from .seeding import derived_seed

MODALITIES = ("ultrasound", "mr", "mammography")


def _setting(help: str, default: Any) -> Any:
    return dataclasses.field(default=default, metadata={"help": help})


@dataclasses.dataclass(frozen=True)
class Settings:
    """Settings of a pretraining run; those of its method are in `options`.

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
            ("method", COMMANDS),
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

    def with_options(self, given: Sequence[tuple[str, str]]) -> Settings:
        """These settings with options of the method, each a name and a value as text.

        Raises:
            ValueError: the method has no such option, or one of another type.
        """
        known, options = _options(self.method), dict[str, Any]()
        for name, text in given:
            if name not in known:
                raise ValueError(
                    f"--set {name}: {self.method} has no such setting; it has {', '.join(known) or 'none'}"
                )
            kind = type(known[name])
            try:
                options[name] = kind(text)
            except ValueError:
                raise ValueError(f"--set {name}={text}: a value like {known[name]} was expected") from None
        return dataclasses.replace(self, options=options)

    def listed(self) -> dict[str, Any]:
        """All settings by name, those of the method with their defaults unless set."""
        own = {f.name: getattr(self, f.name) for f in dataclasses.fields(self) if f.name != "options"}
        return own | _options(self.method) | dict(self.options)


PRESETS = {
    "smoke": Settings(epochs=2, size=48, batch_size=16, width=8),
    "small": Settings(size=96, precision="bf16-mixed"),
    "gpu": Settings(epochs=200, size=216, batch_size=128, encoder="resnet50", width=64, precision="bf16-mixed"),
}


def _options(method: str) -> dict[str, Any]:
    """Settings of a method that are plain values, with their defaults."""
    made_by = (COMMANDS[method], COMMANDS[method].for_images)
    return {
        p.name: p.default
        for make in made_by
        for p in inspect.signature(make).parameters.values()
        if isinstance(p.default, int | float | str) and not isinstance(p.default, bool)
    }


def build(settings: Settings, count: int) -> Method:
    """The method, its network at the start of `settings.seed`, for `count` images."""
    s = settings
    torch.manual_seed(derived_seed(s.seed, "pretext model"))
    return COMMANDS[s.method].for_images(
        count, encoder=s.encoder, width=s.width, size=s.size, modality=s.modality, **s.options
    )
