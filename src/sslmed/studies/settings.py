"""Presets whose numbers can be set on the command line: checked, listed, and recorded in the run."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

P = TypeVar("P")


def changed(preset: P, assignments: Iterable[tuple[str, str]]) -> P:
    """A preset with other values of some of its settings.

    Args:
        preset: a dataclass, perhaps of dataclasses and mappings.
        assignments: names as `listed` gives them, and values as text: a number, a word, `[3, 3]`, `true` or `null`.

    Raises:
        ValueError: an unknown name, a value of another type, or one that the dataclass refuses.
    """
    from jsonargparse import ArgumentError, ArgumentParser

    known = listed(preset)
    for name, value in assignments:
        if name not in known:
            raise ValueError(f"--set {name}: no such setting; --show-settings lists them all")
        parser = ArgumentParser(exit_on_error=False)
        parser.add_argument("--preset", type=type(preset), default=preset)
        try:
            parsed = parser.parse_args([f"--preset.{name}={value}"])
            preset = parser.instantiate(parsed).preset
        except ArgumentError as error:
            reason = " ".join(str(error).split()).removeprefix(f'Parser key "preset.{name}":').strip()
            raise ValueError(f"--set {name}={value}: {reason} (now {known[name]!r})") from error
        except (ValueError, TypeError) as error:
            raise ValueError(f"--set {name}={value}: {error}") from error
    return preset


def listed(settings: Any, prefix: str = "") -> dict[str, Any]:
    """All settings of a dataclass by their dotted names, as `pretext.epochs`."""
    if dataclasses.is_dataclass(settings) and not isinstance(settings, type):
        inner: Mapping[str, Any] = {f.name: getattr(settings, f.name) for f in dataclasses.fields(settings)}
    elif isinstance(settings, Mapping) and settings:
        inner = settings
    else:
        return {prefix.removesuffix("."): settings}
    return {key: value for name, part in inner.items() for key, value in listed(part, f"{prefix}{name}.").items()}
