"""The options that all programs share."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from . import cli
from .engine import PRECISIONS
from .settings import listed
from .sources import PHANTOM, Source
from .study import SUPERVISED

# Options for the settings that are asked for most, and the settings of a preset that each of them sets.
SETTINGS: dict[str, tuple[tuple[str, ...], Callable[[str], Any], str]] = {
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
    "demo": "20 outlines of synthetic images, some minutes",
    "small": "for CPUs (default)",
    "gpu": "for one GPU, 224 px, 200 epochs",
    "paper": "the paper's own numbers",
}


def matching(known: Iterable[str], names: Sequence[str]) -> list[str]:
    """The settings that are named, and those within named mappings."""
    return [one for one in known if any(one == name or one.startswith(f"{name}.") for name in names)]


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
    add_reading(parser, cache="FOLDER/cache in the run folder")
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
        if matching(known, names):
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


def add_reading(parser: argparse.ArgumentParser, *, cache: str) -> None:
    """Add the options on how images are read; `cache` says where they are kept by default."""
    parser.add_argument(
        "--cache",
        type=cli.path,
        metavar="FOLDER",
        help=f"where decoded images are kept, for later runs too (default: {cache})",
    )
    add_skip_broken(parser)
    parser.add_argument("--workers", type=cli.seed, default=0, metavar="N", help="processes that load images (0)")


def add_skip_broken(parser: argparse.ArgumentParser) -> None:
    """Add the option to leave out broken files."""
    parser.add_argument(
        "--skip-broken",
        action="store_true",
        help="leave out files that cannot be read, and list them, instead of stopping",
    )


def add_sets(
    parser: argparse.ArgumentParser,
    words: str,
    *,
    pools: Sequence[str],
    kind: Callable[[str], Any] = cli.filled,
    metavar: str = "FOLDER",
    default: Sequence[Any] = (PHANTOM,),
) -> None:
    """Add the options for labelled sets and external test sets, and for images that copy theirs.

    Args:
        parser: to add them to.
        words: what --data may be.
        pools: the program's own options for more pretext images.
        kind: argument type of --data and --test-data.
        metavar: of both.
        default: of --data.
    """
    several: dict[str, Any] = {"nargs": "+", "type": kind, "metavar": metavar}
    help = f"{words}; several labelled sets are joined"
    parser.add_argument("--data", **several, default=list(default), help=help)
    help = "also test every cell on all images of these labelled sets; no training may use them"
    parser.add_argument("--test-data", **several, default=[], help=help)
    parser.add_argument(
        "--leave-out-copies",
        action="store_true",
        help="instead of refusing a folder, train without its copies of held-out images: images of --data that copy "
        "one of --test-data" + "".join(f", images of {pool} that copy a validation or test image" for pool in pools),
    )
    parser.set_defaults(pools=list(pools))


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


def reading(args: argparse.Namespace) -> dict[str, Any]:
    """What `DataSpec` needs of --cache, --skip-broken and --leave-out-copies.

    Raises:
        ValueError: --leave-out-copies without an option that it acts on.
    """
    options = ["--test-data", *args.pools]
    if args.leave_out_copies and not any(getattr(args, o.removeprefix("--").replace("-", "_")) for o in options):
        raise ValueError(f"--leave-out-copies needs {' or '.join(options)}")
    return {
        "cache": args.cache or args.out / "cache",
        "skip_broken": args.skip_broken,
        "leave_out_copies": args.leave_out_copies,
    }
