"""Command lines that report a mistake in one line: argument types, and the exit status of a program."""

from __future__ import annotations

import argparse
import io
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

from . import processes
from .engine import PRECISIONS

MISTAKE = 2  # exit status of a user's mistake; 1 is a failure of the run itself


class Parser(argparse.ArgumentParser):
    """An ArgumentParser whose errors are one line, without the usage before it."""

    def error(self, message: str) -> NoReturn:
        """Exit with status 2."""
        self.exit(MISTAKE, f"{self.prog}: error: {message} (see --help)\n")


def fraction(text: str) -> float:
    """Argument type: a number in (0, 1]."""
    try:
        value = float(text)
    except ValueError:
        value = float("nan")
    if not 0 < value <= 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a fraction in (0, 1], as 0.2 for 20 %")
    return value


def seed(text: str) -> int:
    """Argument type: a non-negative integer."""
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is not a non-negative integer")
    return int(text)


def split(text: str) -> tuple[int, int, int]:
    """Argument type: TRAIN/VAL/TEST, three positive numbers of volumes."""
    parts = text.split("/")
    if len(parts) != 3 or not all(part.isdecimal() and int(part) for part in parts):
        raise argparse.ArgumentTypeError(
            f"{text!r} is not TRAIN/VAL/TEST, three numbers of volumes of at least 1, as 15/2/15"
        )
    train, val, test = map(int, parts)
    return train, val, test


def shard(text: str) -> tuple[int, int]:
    """Argument type: i/n with i in 0..n - 1."""
    first, _, last = text.partition("/")
    if not (first.isdecimal() and last.isdecimal() and int(first) < int(last)):
        raise argparse.ArgumentTypeError(f"{text!r} is not i/n with i from 0 to n - 1, as 0/4")
    return int(first), int(last)


def count(text: str) -> int:
    """Argument type: a positive integer."""
    if not text.isdecimal() or not int(text):
        raise argparse.ArgumentTypeError(f"{text!r} is not a positive integer")
    return int(text)


def named(text: str) -> tuple[str, str]:
    """Argument type: NAME=FOLDER."""
    name, _, folder = text.partition("=")
    if not name or not folder:
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=FOLDER")
    return name, folder


def assigned(text: str) -> tuple[str, str]:
    """Argument type: NAME=VALUE."""
    name, _, value = text.partition("=")
    if not name or not value:
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=VALUE")
    return name, value


def swept(text: str) -> tuple[str, list[str]]:
    """Argument type: NAME=V1,V2,...; commas inside brackets do not separate values."""
    name, _, listed = text.partition("=")
    values = [value.strip() for value in re.split(r",(?![^\[]*\])", listed)]
    if not name or len(values) < 2 or not all(values):
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=V1,V2,... with two values or more")
    return name, values


def positive(text: str) -> float:
    """Argument type: a finite number above 0."""
    try:
        value = float(text)
    except ValueError:
        value = float("nan")
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number above 0")
    return value


def precision(text: str) -> str:
    """Argument type: a precision of the engine."""
    if text not in PRECISIONS:
        raise argparse.ArgumentTypeError(f"{text!r} is not one of {', '.join(PRECISIONS)}")
    return text


def filled(text: str) -> str:
    """Argument type: any text except the empty one, which comes from an unset shell variable and would mean `.`."""
    if not text.strip():
        raise argparse.ArgumentTypeError("the name is empty")
    return text


def path(text: str) -> Path:
    """Argument type: a path."""
    return Path(filled(text))


def unique(name: str, values: list[float] | list[int] | list[str]) -> None:
    """Raise ValueError for a value given twice."""
    twice = sorted({str(v) for v in values if values.count(v) > 1})  # type: ignore[arg-type]
    if twice:
        raise ValueError(f"{name} lists {', '.join(twice)} twice")


def run_as_program(prepare: Callable[[], Callable[[], int]], *, prog: str) -> NoReturn:
    """Exit with what a program returns; a mistake found while preparing is one line on standard error, status 2.

    Args:
        prepare: reads and checks all input and returns the work. Its ValueError, TypeError and OSError are the
            user's to fix; those of the work itself are bugs and keep their traceback.
        prog: name to put before the message.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # names that it cannot print must not end a run
            stream.reconfigure(errors="backslashreplace")
    processes.start()
    try:
        try:
            work = prepare()
        except (ValueError, TypeError, OSError, ImportError) as error:
            line = " ".join(str(error).split())
            sys.exit(_say(f"{prog}: error: {line}"))
        sys.exit(work())
    except KeyboardInterrupt:
        print(f"{prog}: interrupted; rerun the same command to resume from the last checkpoint", file=sys.stderr)
        sys.exit(130)


def _say(line: str) -> int:
    print(line, file=sys.stderr)
    return MISTAKE
