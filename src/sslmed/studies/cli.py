"""Command lines whose users see one line when they err."""

from __future__ import annotations

import argparse
import ast
import io
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

from . import processes

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


def assigned(text: str) -> tuple[str, Any]:
    """Argument type: NAME=VALUE, the value a number, a list of numbers, True, False, or a word."""
    name, _, value = text.partition("=")
    if not name or not value:
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=VALUE")
    try:
        return name, ast.literal_eval(value)
    except (ValueError, SyntaxError):
        return name, value


def filled(text: str) -> str:
    """Argument type: any text but the empty one, which an unset shell variable leaves and which would mean `.`."""
    if not text.strip():
        raise argparse.ArgumentTypeError("the name is empty")
    return text


def path(text: str) -> Path:
    """Argument type: a path."""
    return Path(filled(text))


def add_study(
    parser: Parser,
    presets: Mapping[str, Any],
    *,
    methods: Sequence[str],
    usual: Sequence[str],
    out: str,
    words: str = "",
    labels: Callable[[str], float] = fraction,
    amounts: str = "shares of the training cases whose labels may be used",
) -> None:
    """Add the options that all studies have.

    Args:
        parser: to add them to.
        presets: name -> preset, `small` among them.
        methods: all of them.
        usual: those that run where none is named.
        out: the default run folder.
        words: how a method's name is made, where the list is long.
        labels: argument type of --labels.
        amounts: what --labels are.
    """
    listed = words or ", ".join(m for m in methods if m != "supervised")
    parser.add_argument("--methods", nargs="+", metavar="METHOD", default=list(usual),
                        help=f"`all`, `supervised`, or {listed} (default: {' '.join(usual)})")  # fmt: skip
    parser.add_argument("--labels", nargs="+", type=labels, metavar="AMOUNT",
                        help=f"{amounts} (default: the preset's)")  # fmt: skip
    parser.add_argument("--preset", choices=presets, default="small", help="smoke: to see it run, about a "
                        "minute on the phantom; small (default): for CPUs; paper: the paper's own numbers")  # fmt: skip
    parser.add_argument("--seeds", nargs="+", type=seed, default=[0], metavar="N", help="splits and runs (0)")
    parser.add_argument(
        "--out", type=path, metavar="FOLDER", default=Path(out), help=f"the run folder ({out})"
    )
    parser.add_argument("--precision", choices=("32-true", "bf16-mixed", "16-mixed"),
                        help="of the training (default: the preset's)")  # fmt: skip
    parser.add_argument("--accumulate", type=count, metavar="N",
                        help="batches whose gradients are added up before each step (1)")  # fmt: skip
    parser.add_argument("--shard", type=shard, default=(0, 1), metavar="I/N",
                        help="do the share I of N of the study, so that N machines do the whole")  # fmt: skip
    parser.add_argument("--merge", nargs="+", type=path, default=[], metavar="FOLDER",
                        help="train nothing: copy the finished cells of these run folders, then tabulate")  # fmt: skip


def parsed(
    parser: Parser, arguments: list[str] | None, presets: Mapping[str, Any], methods: Sequence[str]
) -> argparse.Namespace:
    """The arguments, with `all` spelled out and the preset's labels filled in; unknown methods are refused."""
    args = parser.parse_args(arguments)
    if args.methods == ["all"]:
        args.methods = list(methods)
    if "all" in args.methods:
        parser.error("argument --methods: `all` stands alone")
    unknown = [m for m in args.methods if m not in methods]
    if unknown:
        shown = ", ".join(methods) if len(methods) < 10 else f"supervised, or one like {methods[-1]}"
        parser.error(f"argument --methods: unknown {unknown[0]!r}; give all, {shown}")
    args.labels = args.labels or list(presets[args.preset].labels)
    return args


def unique(name: str, values: list[float] | list[int] | list[str]) -> None:
    """Raise ValueError for a value given twice."""
    twice = sorted({str(v) for v in values if values.count(v) > 1})  # type: ignore[arg-type]
    if twice:
        raise ValueError(f"{name} lists {', '.join(twice)} twice")


def run_as_program(prepare: Callable[[], Callable[[], int]], *, prog: str) -> NoReturn:
    """Exit with what a program returns; a mistake found while preparing is one line on standard error, status 2.

    Args:
        prepare: reads and checks all input and returns the work. Its ValueError, TypeError and OSError are the
            user's to mend; those of the work itself are ours and keep their traceback.
        prog: name to put before the message.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # names that it cannot show must not end a run
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
        print(
            f"{prog}: interrupted; rerun the same command to resume from the last checkpoint", file=sys.stderr
        )
        sys.exit(130)


def _say(line: str) -> int:
    print(line, file=sys.stderr)
    return MISTAKE
