"""Progress: a line a minute where no one watches, a bar on a terminal, and nothing for short work."""

from __future__ import annotations

import io
import sys
from types import SimpleNamespace

import pytest

pytest.importorskip("lightning")

from sslmed.studies import progress
from sslmed.studies.progress import FitProgress, duration, track


class Clock:
    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 0.0
        monkeypatch.setattr(progress, "time", SimpleNamespace(monotonic=lambda: self.now))


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


def test_long_work_is_a_line_a_minute(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    done = []
    for item in track(range(200), "reading", 200):
        done.append(item)
        clock.now += 1.0
    assert done == list(range(200))
    assert capsys.readouterr().out.splitlines() == [
        "    reading: 60 of 200 images, 2 min left",
        "    reading: 120 of 200 images, 80 s left",
        "    reading: 180 of 200 images, 20 s left",
    ]


def test_short_work_says_nothing(
    clock: Clock, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert list(track("abc", "testing", 3, unit="cases")) == ["a", "b", "c"]
    assert capsys.readouterr().out == ""
    screen = Terminal()
    monkeypatch.setattr(sys, "stdout", screen)
    assert list(track("abc", "testing", 3, unit="cases")) == ["a", "b", "c"]
    assert screen.getvalue() == ""


def test_a_terminal_shows_a_bar_that_vanishes(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    screen = Terminal()
    monkeypatch.setattr(sys, "stdout", screen)
    monkeypatch.setenv("TERM", "xterm")
    items = track(range(100), "reading", 100)
    for _ in range(100):
        next(items)
        clock.now += 1.0
    assert list(items) == []
    assert "reading" in screen.getvalue()
    assert "images left" not in screen.getvalue()
    assert screen.getvalue().endswith("\x1b[2K")  # its line is cleared


def test_a_training_on_a_terminal_leaves_its_last_line(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    screen = Terminal()
    monkeypatch.setattr(sys, "stdout", screen)
    with FitProgress("toy", 2, 0, steps=3) as shown:
        for epoch in range(2):
            for _ in range(3):
                shown.step()
                clock.now += 10.0
            shown.epoch(epoch, {"epoch": epoch, "loss": 0.5, "lr": 0.1})
    assert screen.getvalue().count("toy: epoch 2/2  loss 0.5000  (30.0 s/epoch)") == 1
    assert "s/epoch, " not in screen.getvalue()


def test_of_many_validation_metrics_the_line_has_the_first(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    row = {"epoch": 0, "val_loss": 0.5, "val_dice": 0.25, "val_recall": 0.75, "train_loss": 1.0, "lr": 0.1}
    with FitProgress("toy", 1, 0, steps=1) as shown:
        shown.epoch(0, row)
    assert "toy: epoch 1/1  val_loss 0.5000  val_dice 0.2500  train_loss 1.0000  (" in capsys.readouterr().out


def test_durations_are_short_words() -> None:
    assert [duration(s) for s in (40, 720, 12600)] == ["40 s", "12 min", "3.5 h"]
