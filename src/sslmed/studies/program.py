"""From the command line of a program to its run: settings, declaration, sweep."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

import torch

from . import cli
from .estimate import estimate
from .options import SETTINGS, matching
from .run import Run
from .settings import changed, listed
from .study import Study
from .sweep import Sweep, folders


def chosen(args: argparse.Namespace, preset: Any) -> Any:
    """The preset with the settings of the command line; its labels become `args.labels` where none were given.

    Raises:
        ValueError: an unknown setting, or a value that is refused.
    """
    if args.size is not None:
        preset = _set(preset, "size", str(args.size))
    for option in SETTINGS:
        value = getattr(args, option.replace("-", "_"), None)
        if value is not None:
            preset = _set(preset, option, str(value))
    for name, text in args.set:
        preset = _set(preset, name, text) if name == "size" else changed(preset, [(name, text)])
    args.labels = args.labels or list(preset.labels)
    return preset


def _set(preset: Any, name: str, value: str) -> Any:
    """The preset with another value of one of its settings, or of those that an option of `SETTINGS` sets."""
    if name == "size":  # crops and batches follow
        return preset.at(changed(preset, [(name, value)]).size)
    names = matching(listed(preset), SETTINGS[name][0]) if name in SETTINGS else ()
    return changed(preset, [(one, value) for one in names or (name,)])


def _sweep(args: argparse.Namespace, declare: Callable[[argparse.Namespace, Any], Study], preset: Any) -> Sweep:
    """A run for each value of --sweep, all input read and checked."""
    if args.merge or args.shard != (0, 1):
        raise ValueError("--sweep cannot be combined with --shard or --merge: share its values among machines instead")
    name, values = args.sweep
    presets = {value: _set(preset, name, value) for value in values}
    same = [value for k, value in enumerate(values) if any(presets[value] == presets[v] for v in values[:k])]
    if same:
        raise ValueError(f"--sweep {name}: {same[0]} is given twice")
    if any(one.labels != preset.labels for one in presets.values()):
        raise ValueError(
            f"--sweep {name}: give several amounts of labels to --labels; validation cases cannot choose one"
        )
    cache = args.cache or args.out / "cache"  # one for all runs
    runs = {}
    for value, folder in folders(args.out, name, values).items():
        own = argparse.Namespace(**vars(args) | {"out": folder, "cache": cache})
        runs[value] = Run(declare(own, presets[value]), own)
    return Sweep(args.out, name, runs)


def parse(parser: cli.Parser, methods: Sequence[str], arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The arguments, with `all` spelled out; unknown methods are refused."""
    args = parser.parse_args(arguments)
    if args.methods == ["all"]:
        args.methods = list(methods)
    if "all" in args.methods:
        parser.error("argument --methods: `all` cannot be combined with other methods")
    unknown = [m for m in args.methods if m not in methods]
    if unknown:
        shown = ", ".join(methods) if len(methods) < 10 else f"supervised, or one like {methods[-1]}"
        parser.error(f"argument --methods: unknown {unknown[0]!r}; give all, {shown}")
    return args


def run_study(
    parser: cli.Parser,
    declare: Callable[[argparse.Namespace, Any], Study],
    *,
    presets: Mapping[str, Any],
    methods: Sequence[str],
    arguments: Sequence[str] | None = None,
    finish: Callable[[Path], Any] | None = None,
) -> NoReturn:
    """Parse the command line, declare the study, and run it.

    Args:
        parser: with the options of `options.add_study` and the paper's own.
        declare: (arguments, preset) -> the study; it raises ValueError for a mistake of the user.
        presets: by name.
        methods: all of them.
        arguments: of the command line; None for those of the process.
        finish: what to do with the run folder once every cell of the command is finished.
    """
    args = parse(parser, methods, arguments)

    def prepare() -> Callable[[], int]:
        preset = chosen(args, presets[args.preset])
        if args.show_settings:
            return lambda: show(listed(preset))
        if args.sweep is not None:
            sweep = _sweep(args, declare, preset)
            runs, work = list(sweep.runs.values()), sweep.run
        else:
            run = Run(declare(args, preset), args)
            runs, work = [run], run.run
        if args.preset in ("gpu", "paper") and not torch.cuda.is_available():
            for one in runs:
                print(estimate(one), flush=True)
        if finish is None or args.sweep is not None:
            return work

        def complete() -> int:
            status = work()
            if status == 0:
                finish(args.out)
            return status

        return complete

    cli.run_as_program(prepare, prog=parser.prog)


def show(settings: Mapping[str, Any]) -> int:
    """Print settings, a line each."""
    for name, value in settings.items():
        print(f"{name} = {value}")
    return 0
