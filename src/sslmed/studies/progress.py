"""Progress of long work: a bar with the time left on a terminal, elsewhere a line a minute.

Of several processes only the first shows it.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from types import TracebackType
from typing import TypeVar

from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from .processes import rank

T = TypeVar("T")
MINUTE = 60.0


def track(iterable: Iterable[T], title: str, total: int, *, unit: str = "images") -> Iterator[T]:
    """Iterate over `iterable`, and show the progress once it takes more than a second.

    Args:
        iterable: the items.
        title: the name of the work, as "reading".
        total: length of `iterable`.
        unit: what is counted.
    """
    began = said = time.monotonic()
    bar: _Bar | None = None
    try:
        for done, item in enumerate(iterable, 1):
            yield item
            now = time.monotonic()
            if on_terminal():
                if bar is None and now - began > 1:  # short work shows nothing
                    bar = _Bar(title, total)
                if bar is not None:
                    bar.show(done, f"{done} of {total} {unit}")
            elif rank() == 0 and now - said >= MINUTE and done < total:
                said = now
                left = duration((now - began) / done * (total - done))
                print(f"    {title}: {done} of {total} {unit}, {left} left", flush=True)
    finally:
        if bar is not None:
            bar.stop()


class FitProgress:
    """Progress of a training, in a `with` block.

    Without a terminal, a line is printed after the first and the last epoch, and once a minute in between.

    Args:
        title: of the training.
        epochs: the largest number of epochs.
        first: the epoch it begins with.
        steps: of an epoch.
    """

    def __init__(self, title: str, epochs: int, first: int, *, steps: int) -> None:
        self.title: str = title
        self.epochs: int = epochs
        self.first: int = first
        self.steps: int = steps
        self._said = -MINUTE
        self._began = time.monotonic()
        self._steps = first * steps
        self._words = ""
        self._bar = _Bar(title, epochs * steps) if on_terminal() and first < epochs else None

    def __enter__(self) -> FitProgress:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def step(self) -> None:
        """Count a step."""
        self._steps += 1
        if self._bar is not None:
            self._bar.show(self._steps, self._words)

    def epoch(self, epoch: int, row: Mapping[str, float], *, ends: bool = False) -> None:
        """Show the values of an epoch; `ends` says that it is the last one."""
        done, now, count = epoch + 1 - self.first, time.monotonic(), epoch + 1
        ends = ends or count == self.epochs
        validated = [key for key in row if key.startswith("val_")]
        silent = {"epoch", "lr", *validated[2:]}  # the loss and the first metric fit into a line
        values = "  ".join(f"{key} {value:.4f}" for key, value in row.items() if key not in silent)
        self._words = f"epoch {count}/{self.epochs}  {values}"
        minute = self._bar is None and (done == 1 or now - self._said >= MINUTE)
        if rank() == 0 and (ends or minute):
            self._said = now
            each = (now - self._began) / done
            left = "" if ends else f", {duration(each * (self.epochs - count))} left"
            print(f"    {self.title}: {self._words}  ({each:.1f} s/epoch{left})", flush=True)


def on_terminal() -> bool:
    """Whether this is the first process and its output is a terminal."""
    return rank() == 0 and sys.stdout.isatty()


def duration(seconds: float) -> str:
    """Seconds as "40 s", "12 min" or "3.5 h"."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"


class _Bar:
    """A bar that is removed when it is complete."""

    def __init__(self, title: str, total: int) -> None:
        columns = (
            TextColumn("    {task.description}", markup=False),
            BarColumn(bar_width=20),
            TimeRemainingColumn(),
            TextColumn("{task.fields[words]}", markup=False),
        )
        self._progress = Progress(*columns, transient=True)
        self._task = self._progress.add_task(title, total=total, words="")
        self._progress.start()

    def show(self, done: int, words: str) -> None:
        self._progress.update(self._task, completed=done, words=words)

    def stop(self) -> None:
        self._progress.stop()
