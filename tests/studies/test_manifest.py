"""The manifest of a run folder: what it holds, how it grows, and folders that lack it."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest

pytest.importorskip("lightning")

from sslmed.studies import manifest
from sslmed.studies.cells import Cell
from sslmed.studies.manifest import CellEntry, Manifest, PretextEntry
from sslmed.studies.merge import check_sources
from sslmed.studies.runs import write_json

CELL = CellEntry("cells/a", Cell("simclr/BUS", 0.5, 0, "us/segmentation"), "us", "pretext/p")
VOLUMES = CellEntry("cells/b", Cell("supervised", 1, 0))
PRETEXT = PretextEntry("pretext/p", "simclr/BUS", 0, "SimCLR, global")
OLDER = "was written by an older version of sslmed; run the study again in a new folder"


def test_what_is_recorded_is_read(tmp_path: Path) -> None:
    manifest.record(tmp_path, [CELL, VOLUMES], [PRETEXT])
    assert manifest.read(tmp_path) == Manifest([CELL, VOLUMES], [PRETEXT])
    assert isinstance(manifest.read(tmp_path).cells[1].cell.labels, int)  # one volume, not all labels
    content = json.loads((tmp_path / "manifest.json").read_text())
    assert content["format"] == 1
    assert content["cells"][0] == {
        "folder": "cells/a",
        "method": "simclr/BUS",
        "labels": 0.5,
        "seed": 0,
        "target": "us/segmentation",
        "domain": "us",
        "pretext": "pretext/p",
    }
    assert content["pretexts"][0] == {
        "folder": "pretext/p",
        "method": "simclr/BUS",
        "seed": 0,
        "title": "SimCLR, global",
    }


def test_the_folders_of_external_test_sets_are_recorded(tmp_path: Path) -> None:
    entry = dataclasses.replace(VOLUMES, test_sets={"BUS-BRA": "test_sets/BUS-BRA"})
    manifest.record(tmp_path, [CELL, entry])
    assert manifest.read(tmp_path).cells == [CELL, entry]


def test_later_commands_add_their_cells_once(tmp_path: Path) -> None:
    manifest.record(tmp_path, [CELL], [PRETEXT])
    manifest.record(tmp_path, [VOLUMES, CELL])
    assert manifest.read(tmp_path) == Manifest([CELL, VOLUMES], [PRETEXT])
    assert manifest.read(tmp_path).of([VOLUMES.cell]) == [VOLUMES]


@pytest.mark.parametrize("content", ['{"format": 2}', "[]"])
def test_another_format_is_named(tmp_path: Path, content: str) -> None:
    (tmp_path / "manifest.json").write_text(content)
    with pytest.raises(ValueError, match=r"manifest\.json must be a manifest of format 1"):
        manifest.read(tmp_path)


def test_a_study_without_a_manifest_is_of_an_older_version(tmp_path: Path) -> None:
    write_json(tmp_path / "config.json", {"methods": ["supervised"]})
    with pytest.raises(ValueError, match=f"^--out {tmp_path} {OLDER}"):
        manifest.check(tmp_path, option="--out")
    with pytest.raises(ValueError, match=f"^--merge {tmp_path} {OLDER}"):
        check_sources([tmp_path], {}, {}, {}, [], growing=())


def test_an_empty_folder_and_a_pretraining_need_no_manifest(tmp_path: Path) -> None:
    manifest.check(tmp_path)
    write_json(tmp_path / "config.json", {"kind": "pretraining"})
    manifest.check(tmp_path)


def test_folders_that_were_tested_on_other_sets_are_not_merged(tmp_path: Path) -> None:
    config = {"methods": ["supervised"], "labels": [1.0], "seeds": [0]}
    parts = {"train": ["a"], "val": ["b"], "test": ["c"]}
    write_json(tmp_path / "config.json", config)
    manifest.record(tmp_path, [VOLUMES])
    write_json(tmp_path / "contents.json", {})
    write_json(tmp_path / "splits.json", {"0": parts | {"test_sets": {"UDIAT": ["x"]}}})
    with pytest.raises(ValueError, match="has other images in the test sets of seed 0"):
        check_sources([tmp_path], config, {"0": parts}, {}, [], growing=("methods", "labels", "seeds"))
