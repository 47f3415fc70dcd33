"""Every number of a preset may be set on the command line, and no other."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest

pytest.importorskip("jsonargparse")

from sslmed.studies.settings import changed, listed


@dataclass(frozen=True)
class Part:
    epochs: int = 3
    patience: int | None = None
    grid: tuple[int, int] = (6, 6)
    unit: str = "bin"

    def __post_init__(self) -> None:
        if self.epochs < 1:
            raise ValueError(f"epochs must be at least 1, got {self.epochs}")


@dataclass(frozen=True)
class Preset:
    size: int
    part: Part = Part()
    rates: dict[str, float] = field(default_factory=lambda: {"a+b": 0.1, "c": 0.2})


PRESET = Preset(size=64)


def test_all_settings_are_listed_by_their_place() -> None:
    assert listed(PRESET) == {
        "size": 64,
        "part.epochs": 3,
        "part.patience": None,
        "part.grid": (6, 6),
        "part.unit": "bin",
        "rates.a+b": 0.1,
        "rates.c": 0.2,
    }


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("size", "32", 32),
        ("part.epochs", "7", 7),
        ("part.patience", "5", 5),
        ("part.grid", "[3, 3]", (3, 3)),
        ("part.unit", "nyquist", "nyquist"),
        ("rates.a+b", "1e-3", 1e-3),
    ],
)
def test_each_can_be_set_alone(name: str, text: str, value: object) -> None:
    assert listed(changed(PRESET, [(name, text)])) == listed(PRESET) | {name: value}


def test_several_and_null() -> None:
    more = changed(PRESET, [("part.patience", "5"), ("part.epochs", "9")])
    assert changed(more, [("part.patience", "null")]).part == Part(epochs=9)
    assert changed(PRESET, []) == PRESET


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("sizes", "32", "--set sizes: no such setting; --show-settings lists them all"),
        ("rates.d", "1", "--set rates.d: no such setting"),
        ("part", "1", "--set part: no such setting"),
        ("size", "1.5", "--set size=1.5: Expected a <class 'int'>.*now 64"),
        ("part.grid", "[3]", "--set part.grid=.*now \\(6, 6\\)"),
        ("part.epochs", "0", "--set part.epochs=0: epochs must be at least 1, got 0"),
    ],
)
def test_a_mistake_names_the_setting_and_what_was_expected(name: str, text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        changed(PRESET, [(name, text)])
