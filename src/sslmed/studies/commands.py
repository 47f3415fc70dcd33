"""The commands `sslmed pretrain`, `sslmed few-labels`, `sslmed predict` and `sslmed report`."""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from ..methods import COMMANDS
from . import cli, manifest, options
from .few_labels import run as run_few_labels
from .prediction import Prediction
from .pretraining import Pretraining
from .pretraining_settings import PRESETS, Settings
from .report import write_report


def pretrain(arguments: Sequence[str]) -> None:
    """Learn an encoder from a folder of images without labels."""
    parser = cli.Parser(prog="sslmed pretrain", description=pretrain.__doc__)
    parser.add_argument(
        "--data",
        type=cli.filled,
        required=True,
        metavar="FOLDER",
        help="images: PNG, JPEG, BMP, TIFF, DICOM, NIfTI, in any folders below; `phantom` for synthetic ultrasound",
    )
    parser.add_argument("--out", type=cli.path, required=True, metavar="RUN", help="the run folder")
    parser.add_argument("--method", choices=COMMANDS, default="simclr", help="(default: simclr)")
    parser.add_argument(
        "--preset",
        choices=PRESETS,
        default="small",
        help="smoke: checks the installation; small (default): for CPUs; gpu: for one GPU",
    )
    options.add_reading(parser, cache="RUN/cache")
    for field in dataclasses.fields(Settings):
        if field.name not in ("method", "options"):
            kinds: dict[str, Callable[[str], Any]] = {"int": cli.count, "float": float, "str": cli.filled}
            kind = kinds[str(field.type)]
            parser.add_argument(
                f"--{field.name.replace('_', '-')}",
                type=kind,
                metavar="VALUE",
                help=f"{field.metadata['help']} (default: the preset's)",
            )
    parser.add_argument(
        "--set",
        nargs="+",
        action="extend",
        type=cli.assigned,
        default=[],
        metavar="NAME=VALUE",
        help="settings of the method, as temperature=0.2; --show-settings lists them",
    )
    parser.add_argument("--show-settings", action="store_true", help="print all settings and stop")
    args = parser.parse_args(list(arguments))
    cli.run_as_program(lambda: _prepared(args), prog=parser.prog)


def _prepared(args: argparse.Namespace) -> Any:
    given = {
        field.name: getattr(args, field.name)
        for field in dataclasses.fields(Settings)
        if field.name not in ("method", "options") and getattr(args, field.name) is not None
    }
    settings = dataclasses.replace(PRESETS[args.preset], method=args.method, **given).with_options(args.set)
    if args.show_settings:
        return lambda: _show(settings)
    return Pretraining(
        settings,
        data=args.data,
        out=args.out,
        cache=args.cache or args.out / "cache",
        skip_broken=args.skip_broken,
        workers=args.workers,
    ).run


def _show(settings: Settings) -> int:
    for name, value in settings.listed().items():
        print(f"{name} = {value}")
    return 0


def few_labels(arguments: Sequence[str]) -> None:
    """Learn a segmentation from few outlines and many scans without outlines."""
    run_few_labels(arguments)


def predict(arguments: Sequence[str]) -> None:
    """Outline the scans of a folder with the networks of a few-labels run."""
    parser = cli.Parser(prog="sslmed predict", description=predict.__doc__)
    parser.add_argument("run", type=cli.path, metavar="RUN", help="the folder of a few-labels run, or its model.pt")
    parser.add_argument(
        "--data",
        type=cli.filled,
        required=True,
        metavar="FOLDER",
        help="scans: PNG, JPEG, BMP, TIFF, GIF, DICOM, NIfTI, MetaImage, in any folders below",
    )
    parser.add_argument(
        "--out",
        type=cli.path,
        required=True,
        metavar="FOLDER",
        help="a new folder for the masks, the table and the page to review them, or one of the same model, where what "
        "is done is kept",
    )
    options.add_skip_broken(parser)
    args = parser.parse_args(list(arguments))
    cli.run_as_program(
        lambda: Prediction(args.run, data=args.data, out=args.out, skip_broken=args.skip_broken).run, prog=parser.prog
    )


def report(arguments: Sequence[str]) -> None:
    """Write the report of a run folder again."""
    parser = cli.Parser(prog="sslmed report", description=report.__doc__)
    parser.add_argument("run", type=cli.path, metavar="RUN", help="a run folder")
    args = parser.parse_args(list(arguments))

    def prepare() -> Any:
        folder: Path = args.run
        if not (folder / "config.json").is_file():
            raise FileNotFoundError(f"{folder} is not a run folder: it has no config.json")
        manifest.check(folder)
        return lambda: print(f"report: {write_report(folder)}") or 0

    cli.run_as_program(prepare, prog=parser.prog)
