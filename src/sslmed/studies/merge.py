"""Merge the run folders of several machines, each with a share of a study's cells."""

from __future__ import annotations

import shutil
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from . import manifest
from .cells import Cell
from .results import results
from .runs import CONTENTS, RunFolder, first_changed, read_json

PARTS = {
    "pretext": "pretext",
    "train": "training part",
    "val": "validation part",
    "test": "test part",
    "test_sets": "test sets",
}


def check_sources(
    sources: Sequence[Path],
    config: Mapping[str, Any],
    splits: Mapping[str, Any],
    contents: Mapping[str, str],
    cells: Collection[Cell],
    *,
    growing: Sequence[str],
) -> None:
    """Raise unless all folders belong to one study, and all that they finished is asked for.

    Args:
        sources: run folders.
        config: the configuration of the study.
        splits: the parts of its seeds, as in splits.json.
        contents: the hashes of its images, as in contents.json.
        cells: those of the command.
        growing: lists of the configuration that may differ.

    Raises:
        ValueError: a folder is not a run folder, or was run with another configuration or on other images.
    """
    for source in sources:
        if not (source / "config.json").is_file():
            raise ValueError(f"--merge {source} is not a run folder: it has no config.json")
        manifest.check(source, option="--merge")
        folder = RunFolder(source, writes=False)
        folder.check()
        try:
            folder.join(dict(config), growing=growing)
        except ValueError as error:
            raise ValueError(str(error).replace("--out", "--merge")) from error
        if not (source / CONTENTS).is_file():
            raise ValueError(
                f"--merge {source} has no {CONTENTS}, by which its images are compared with these; run it again"
            )
        if changed := first_changed(contents, read_json(source / CONTENTS)):
            raise ValueError(f"--merge {source} was run on other images: {changed} differs there")
        theirs = read_json(source / "splits.json")
        for seed in splits.keys() & theirs.keys():
            ours, others = splits[seed], theirs[seed]
            differing = [words for name, words in PARTS.items() if ours.get(name) != others.get(name)]
            # Of amounts that both have: a later command may add more.
            labelled, there = ours.get("labelled", {}), others.get("labelled", {})
            if any(labelled[amount] != there[amount] for amount in labelled.keys() & there.keys()):
                differing.append("labelled part")
            if differing:
                raise ValueError(f"--merge {source} has other images in the {differing[0]} of seed {seed}")
        lost = [cell.cell.name for cell in results(source) if cell.cell not in cells]
        if lost:
            raise ValueError(
                f"--merge {source} has {len(lost)} finished cells that this command does not ask for, as {lost[0]}; "
                "give it all methods, labels, seeds and repeats of the merged folders"
            )


def merge(sources: Sequence[Path], into: Path, cells: Sequence[Cell]) -> list[str]:
    """Copy finished cells and pretexts of other run folders into one.

    A cell is copied to a temporary name and then renamed, its result included, so a merge that is killed leaves none
    half copied. Finished cells of `into` are kept; unfinished ones are replaced.

    Args:
        sources: run folders that `check_sources` let pass, with shares of the cells.
        into: the run folder to fill, whose manifest lists the cells.
        cells: all cells of the study.

    Returns:
        Names of the cells that no folder has.
    """
    for source in sources:
        theirs = manifest.read(source)
        done = [source / e.folder / "result.json" for e in theirs.cells if e.cell in cells]
        weights = [file for e in theirs.pretexts for file in sorted((source / e.folder).glob("*.pt"))]
        for file in (*filter(Path.exists, done), *weights):
            target = into / file.parent.relative_to(source)
            if not (target / file.name).exists():
                partial = target.with_name(f".{target.name}.part")
                shutil.rmtree(partial, ignore_errors=True)
                shutil.copytree(file.parent, partial, ignore=shutil.ignore_patterns(".lock", ".*.part"))
                shutil.rmtree(target, ignore_errors=True)
                partial.rename(target)
        manifest.record(into, pretexts=theirs.pretexts)
    return [e.cell.name for e in manifest.read(into).of(cells) if not (into / e.folder / "result.json").exists()]
