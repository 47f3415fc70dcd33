"""What the programs of all studies have in common: their options, and the way from arguments to a run."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

import torch

from . import cli
from .engine import PRECISIONS
from .estimate import estimate
from .run import Run
from .settings import changed, listed
from .sources import PHANTOM, Source
from .study import SUPERVISED, Study
from .sweep import Sweep, folders

# Options for the settings that are asked for most, and the settings of a preset that each of them sets.
SETTINGS = {
    "epochs": (("pretext.epochs",), cli.count, "epochs of the pretext"),
    "batch-size": (("pretext.batch_size", "batch"), cli.count, "images of a step of the pretext"),
    "lr": (("lr", "pretext_lr", "constants.adam", "constants.rate"), cli.positive, "learning rate of the pretext"),
    "encoder": (("encoder", "network"), cli.filled, "the network, as resnet18 or resnet50"),
    "width": (("width",), cli.count, "channels of the network's first stage"),
    "precision": (("pretext.precision", "finetune.precision"), cli.precision, ", ".join(PRECISIONS)),
    "accumulate": (("pretext.accumulate", "finetune.accumulate"), cli.count, "batches of an optimiser step"),
}
PURPOSES = {
    "smoke": "checks the installation, about a minute",
    "small": "for CPUs (default)",
    "gpu": "for one GPU, 224 px, 200 epochs",
    "paper": "the paper's own numbers",
}


def add_study(
    parser: cli.Parser,
    presets: Mapping[str, Any],
    *,
    methods: Sequence[str],
    usual: Sequence[str],
    out: str,
    words: str = "",
    labels: Callable[[str], float] = cli.fraction,
    amounts: str = "shares of the training cases whose labels may be used",
) -> None:
    """Add the options that all studies have.

    Args:
        parser: to add them to.
        presets: name -> preset, `small` among them.
        methods: all of them.
        usual: the methods that run by default.
        out: the default run folder.
        words: how a method's name is formed, if the list is long.
        labels: argument type of --labels.
        amounts: what --labels are.
    """
    add, listing = parser.add_argument, words or ", ".join(m for m in methods if m != SUPERVISED)
    add(
        "--methods",
        nargs="+",
        metavar="METHOD",
        default=list(usual),
        help=f"`all`, `supervised`, or {listing} (default: {' '.join(usual)})",
    )
    add("--labels", nargs="+", type=labels, metavar="AMOUNT", help=f"{amounts} (default: the preset's)")
    add(
        "--preset",
        choices=presets,
        default="small",
        help="; ".join(f"{name}: {PURPOSES[name]}" for name in presets if name in PURPOSES),
    )
    add("--seeds", nargs="+", type=cli.seed, default=[0], metavar="N", help="splits and runs (0)")
    add(
        "--repeats",
        type=cli.count,
        default=1,
        metavar="N",
        help="fine-tunings of each cell, on one split and one pretext, that differ in their random start and in the "
        "order of the cases (1)",
    )
    add("--out", type=cli.path, metavar="FOLDER", default=Path(out), help=f"the run folder ({out})")
    add(
        "--cache",
        type=cli.path,
        metavar="FOLDER",
        help="where decoded images are kept, for later runs too (default: FOLDER/cache in the run folder)",
    )
    add(
        "--skip-broken",
        action="store_true",
        help="leave out files that cannot be read, and list them, instead of stopping",
    )
    add("--workers", type=cli.seed, default=0, metavar="N", help="processes that load images (0)")
    add(
        "--shard",
        type=cli.shard,
        default=(0, 1),
        metavar="I/N",
        help="run share I of N of the study, so that N machines run all of it",
    )
    add(
        "--merge",
        nargs="+",
        type=cli.path,
        default=[],
        metavar="FOLDER",
        help="train nothing: copy the finished cells of these run folders, then tabulate",
    )
    group = parser.add_argument_group("settings of the preset")
    known = listed(presets["small"])
    for option, (names, kind, text) in SETTINGS.items():
        if _matching(known, names):
            group.add_argument(f"--{option}", type=kind, metavar="VALUE", help=f"{text} (default: the preset's)")
    group.add_argument("--size", type=cli.count, metavar="PIXELS", help="side of the images (default: the preset's)")
    group.add_argument(
        "--set",
        nargs="+",
        action="extend",
        type=cli.assigned,
        default=[],
        metavar="NAME=VALUE",
        help="any other setting, as finetune.epochs=50; --show-settings lists them",
    )
    group.add_argument(
        "--sweep",
        type=cli.swept,
        metavar="NAME=V1,V2,...",
        help="run the study once for each value of a setting, as lr=1e-3,1e-2 or constants.lam_rcl=0.1,0.3, each in "
        "its own folder, and compare them on the validation cases",
    )
    group.add_argument("--show-settings", action="store_true", help="print all settings and stop")


def add_sets(parser: argparse.ArgumentParser, words: str) -> None:
    """Add the options for labelled sets and for external test sets.

    Args:
        parser: to add them to.
        words: what --data may be.
    """
    parser.add_argument(
        "--data",
        nargs="+",
        type=cli.filled,
        default=[PHANTOM],
        metavar="FOLDER",
        help=f"{words}; several labelled sets are joined",
    )
    parser.add_argument(
        "--test-data",
        nargs="+",
        type=cli.filled,
        default=[],
        metavar="FOLDER",
        help="also test every cell on all images of these labelled sets, not used in training",
    )


def sets(args: argparse.Namespace, phantom: Callable[[int], Any], test_phantom: Callable[[int], Any]) -> dict[str, Any]:
    """What `DataSpec` needs of --data and --test-data.

    Args:
        args: of the command line.
        phantom: (size) -> the synthetic set of `--data phantom`.
        test_phantom: (size) -> the synthetic set of `--test-data phantom`.
    """
    cli.unique("--data", args.data)
    cli.unique("--test-data", args.test_data)
    if PHANTOM in args.data and len(args.data) > 1:
        raise ValueError("--data phantom cannot be combined with other sets")
    labelled, *more = (Source("--data", place, phantom) for place in args.data)
    tests = tuple(Source("--test-data", place, test_phantom) for place in args.test_data)
    return {"labelled": labelled, "joined": tuple(more), "test_sets": tests}


def _matching(known: Iterable[str], names: Sequence[str]) -> list[str]:
    """The settings that are named, and those within named mappings."""
    return [one for one in known if any(one == name or one.startswith(f"{name}.") for name in names)]


def chosen(args: argparse.Namespace, preset: Any) -> Any:
    """The preset with the settings of the command line; its labels become `args.labels` where none were given.

    Raises:
        ValueError: an unknown setting, or a value that is refused.
    """
    if args.size is not None:
        preset = preset.at(args.size)
    for option in SETTINGS:
        value = getattr(args, option.replace("-", "_"), None)
        if value is not None:
            preset = _set(preset, option, str(value))
    preset = changed(preset, args.set)
    args.labels = args.labels or list(preset.labels)
    return preset


def _set(preset: Any, name: str, value: str) -> Any:
    """The preset with another value of one of its settings, or of those that an option of `SETTINGS` sets."""
    names = _matching(listed(preset), SETTINGS[name][0]) if name in SETTINGS else ()
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


def reading(args: argparse.Namespace) -> dict[str, Any]:
    """What `DataSpec` needs of the options that all studies have."""
    return {"cache": args.cache or args.out / "cache", "skip_broken": args.skip_broken}


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
) -> NoReturn:
    """Parse the command line, declare the study, and run it.

    Args:
        parser: with the options of `add_study` and the paper's own.
        declare: (arguments, preset) -> the study; it raises ValueError for a mistake of the user.
        presets: by name.
        methods: all of them.
    """
    args = parse(parser, methods)

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
        return work

    cli.run_as_program(prepare, prog=parser.prog)


def show(settings: Mapping[str, Any]) -> int:
    """Print settings, a line each."""
    for name, value in settings.items():
        print(f"{name} = {value}")
    return 0
