"""Joined labelled sets, and external test sets: what they are tested on, and everything that is refused."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

pytest.importorskip("lightning")

from PIL import Image

import mr_masked_vs_contrastive
import multi_organ
import multimodal_breast
import ultrasound_relation
from programs import prepared
from sslmed.data import MammogramPhantom, MRPhantom, Phantom
from sslmed.studies.data_spec import DataSpec
from sslmed.studies.external import in_classes_of, read_test_sets
from sslmed.studies.reading import joined, read
from sslmed.studies.runs import read_csv, read_json
from sslmed.studies.sources import Source
from sslmed.studies.study_data import StudyData
from sslmed.tasks import Classification, Segmentation, Volumes, dice_bce


@pytest.fixture(autouse=True)
def elsewhere(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """The cache of each test lies in a folder of its own, outside the images."""
    monkeypatch.chdir(tmp_path_factory.mktemp("elsewhere"))


def phantom(seed: int, count: int = 20, option: str = "--test-data") -> Source:
    return Source(option, "phantom", lambda size: Phantom(count, size=size, seed=seed))


def spec(labelled: Source | None = None, **settings: object) -> DataSpec:
    usual: dict[str, object] = {"fractions": (0.7, 0.1, 0.2), "labels": [0.5], "seeds": [0]}
    usual |= {"size": 48, "cache": Path("cache")}
    return DataSpec(labelled or phantom(0, 40, "--data"), **(usual | settings))  # type: ignore[arg-type]


def own_set(root: Path, items: Sequence[Any], *, mirrored: bool = False, patients: str = "", label: str = "") -> Path:
    """A folder with images/ and masks/, and a cases.csv where patients or a class are given."""
    for name in ("images", "masks"):
        (root / name).mkdir(parents=True)
    for i, item in enumerate(items):
        for folder, pixels in (("images", item["image"][0].numpy() * 255), ("masks", item["mask"][0].numpy() * 255)):
            values = pixels.astype(np.uint8)
            Image.fromarray(values[:, ::-1].copy() if mirrored else values).save(root / folder / f"scan {i}.png")
    columns = {"group": patients, "class": label}
    if patients or label:
        with open(root / "cases.csv", "w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["image", *(name for name, value in columns.items() if value)])
            for i in range(len(items)):
                own = [f"{patients} {i}"] * bool(patients) + [label if i % 2 else "benign"] * bool(label)
                writer.writerow([f"scan {i}", *own])
    return root


def test_a_test_set_is_read_whole_beside_the_usual_parts() -> None:
    data = StudyData(spec(test_sets=(phantom(2), phantom(3))))
    first, second = data.test_sets
    assert first == "Phantom (synthetic B-mode, seed 2)"
    assert data.test_sets[second].ids == Phantom(20, seed=3).ids
    assert sum(map(len, (data.splits[0].train, data.splits[0].val, data.splits[0].test))) == 40
    assert any(f"the 20 test images of {first} share no picture" in line for line in data.checks)
    assert data.test_sets_at(32)[first].size == 32
    recorded = data.grown_splits({}, Path("run"))["0"]
    assert recorded["test_sets"] == {name: one.ids for name, one in data.test_sets.items()}
    assert f"test set {first}, class and group of phantom-2-000000" in data.contents()
    assert data.description()["test_sets"] == dict.fromkeys(data.test_sets, 20)
    alone = StudyData(spec())
    assert alone.splits == data.splits
    assert "test_sets" not in alone.grown_splits({}, Path("run"))["0"]


def test_patients_and_pictures_of_the_training_side_are_refused_by_name() -> None:
    with pytest.raises(ValueError, match=r"--test-data: Phantom .* shares with --data Phantom 20 patients or groups, "
                       r"as phantom-0-000000 and 20 pictures, exactly or nearly, as phantom-0-000000; "
                       r"--leave-out-copies"):  # fmt: skip
        StudyData(spec(test_sets=(phantom(0),)))
    data = StudyData(spec(test_sets=(phantom(0),), leave_out_copies=True))
    assert len(data.data) == 20
    assert not set(data.data.ids) & set(Phantom(20).ids)
    assert any("20 images of Phantom were left out, since Phantom" in note for note in data.notes)
    with pytest.raises(ValueError, match=r"--data leaves 0 images of Phantom without those that Phantom .* shares"):
        StudyData(spec(test_sets=(phantom(0, 40),), leave_out_copies=True))


def test_near_copies_are_found_without_any_name_in_common(tmp_path: Path) -> None:
    items = [Phantom(40, size=64)[i] for i in range(6)]
    mirrored = Source("--test-data", str(own_set(tmp_path / "other", items, mirrored=True)))
    with pytest.raises(ValueError, match=r"--test-data: labelled images shares with --data Phantom \d pictures"):
        StudyData(spec(test_sets=(mirrored,)))


def test_pictures_of_a_pool_are_refused_or_left_out() -> None:
    settings = {"pools": {"more": phantom(2, 30, "--pretext-data")}, "mixes": {"": ("more",)}}
    with pytest.raises(ValueError, match=r"shares with --pretext-data Phantom 20 patients or groups"):
        StudyData(spec(test_sets=(phantom(2),), **settings))
    data = StudyData(spec(test_sets=(phantom(2),), leave_out_copies=True, **settings))
    assert data.pretext_ids(0) == [f"more/{name}" for name in Phantom(30, seed=2).ids[20:]]


def test_patients_are_compared_where_they_are_given_and_file_names_are_not(tmp_path: Path) -> None:
    def study(patients: tuple[str, str]) -> StudyData:
        folders = [
            own_set(tmp_path / f"{name} {k}", Phantom(20, size=48, seed=k), patients=name)
            for k, name in enumerate(patients)
        ]
        return StudyData(
            spec(Source("--data", str(folders[0])), test_sets=(Source("--test-data", str(folders[1])),), seeds=[])
        )

    assert study(("", "")).test_sets.keys() == {"labelled images ( 1)"}
    assert study(("anna", "bea")).test_sets.keys() == {"labelled images (bea 1)"}
    with pytest.raises(ValueError, match=r"shares with --data labelled images 20 patients or groups, as carla 0;"):
        study(("carla", "carla"))


def test_a_folder_is_one_test_set() -> None:
    source = Source("--test-data", "somewhere")
    with pytest.raises(ValueError, match="--test-data lists somewhere twice"):
        read_test_sets([source, source], [], lambda _: pytest.fail("nothing is read"))


def test_joined_sets_need_the_same_annotations(tmp_path: Path) -> None:
    scans = tmp_path / "scans"
    scans.mkdir()
    for i, item in enumerate(Phantom(4, size=48, seed=7)):
        Image.fromarray((item["image"][0].numpy() * 255).astype(np.uint8)).save(scans / f"{i}.png")
    with pytest.raises(ValueError, match=r"--data joins sets with masks and without: unlabelled images \(scans\)"):
        StudyData(spec(joined=(Source("--data", str(scans)),)))
    with pytest.raises(ValueError, match=r"--test-data would not be used, since --data .*scans has no masks"):
        StudyData(spec(Source("--data", str(scans)), test_sets=(phantom(2),)))
    volumes = read(Source("--data", "phantom", lambda size: MRPhantom(3, size=size)), size=48, cache=Path("cache"))
    with pytest.raises(ValueError, match=r"MRPhantom 1 and MRPhantom 2 have different structures: .* and core"):
        joined([volumes, replace(volumes, structures=("core",))], share=1.0, seed=0)
    assert joined([volumes, volumes], share=1.0, seed=0).structures == volumes.structures


def test_cases_know_the_set_or_scanner_that_they_come_from() -> None:
    data = StudyData(spec(joined=(Source("--data", "phantom", lambda size: MammogramPhantom(20, size=size)),)))
    assert set(data.data.origins) == {"Phantom", "MammogramPhantom"}
    assert all(i.startswith(f"{o}/") for i, o in zip(data.data.ids, data.data.origins, strict=True))
    scans = Phantom(20, size=32, seed=2)
    scans.devices = [f"Scanner {i % 2}" for i in range(20)]  # type: ignore[attr-defined]
    one = read(Source("--data", "phantom", lambda size: scans), size=32, cache=Path("cache"))
    assert one.origins == ("Scanner 0", "Scanner 1") * 10
    assert joined([one, data.data.at(32)], share=1.0, seed=0).origins[0] == "Phantom, Scanner 0"
    part = replace(data.data, origins=("A",) * 30 + ("",) * 30).only([0, 59])
    assert part.origins == ("A", "")


def test_classes_and_structures_must_be_those_that_were_learned() -> None:
    cache = Path("cache")
    breast = read(phantom(0), size=32, cache=cache)
    names = {"network": lambda *_: None, "name": "x", "title": "X", "metric": "mcc"}
    task = Classification(**names)  # type: ignore[arg-type]
    benign = breast.only([i for i, label in enumerate(breast.labels or ()) if label != "normal"])
    fewer = replace(benign, classes=("malignant", "benign"))
    assert in_classes_of(fewer, breast).classes == breast.classes  # their order decides what outputs mean
    task.check_test_set(in_classes_of(fewer, breast), breast, option="--test-data a")
    other = replace(benign, labels=[f"{label}!" for label in benign.labels or ()])
    assert in_classes_of(other, breast) is other
    with pytest.raises(ValueError, match=r"--test-data a, read as Phantom, has classes that Phantom lacks: benign!"):
        task.check_test_set(other, breast, option="--test-data a")
    with pytest.raises(ValueError, match="has fewer than two classes"):
        task.check_test_set(replace(breast, labels=None), breast, option="--test-data a")
    outlines = Segmentation(network=lambda *_: None, loss=dice_bce)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"--test-data a, read as Phantom, shows no lesion in any of its 20 masks"):
        outlines.check_test_set(replace(breast, outlined=(False,) * 20), breast, option="--test-data a")
    brain = read(Source("--data", "phantom", lambda size: MRPhantom(3, size=size)), size=32, cache=cache)
    volumes = Volumes(network=lambda *_: None, loss=dice_bce)  # type: ignore[arg-type]
    volumes.check_test_set(brain, brain, option="--test-data a")
    with pytest.raises(ValueError, match=r"--test-data a, read as MRPhantom, has the structures core; MRPhantom has"):
        volumes.check_test_set(replace(brain, structures=("core",)), brain, option="--test-data a")


PROGRAMS = {
    ultrasound_relation: ["--test-data", "phantom"],
    multi_organ: ["--test-data", "phantom"],
    mr_masked_vs_contrastive: ["--test-data", "phantom"],
    multimodal_breast: ["--domains", "us", "usmg", "--test-data", "us=phantom", "mg=phantom"],
}


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda program: program.__name__)
def test_every_program_takes_test_sets(tmp_path: Path, program: ModuleType) -> None:
    run = prepared(program, tmp_path / "run", *PROGRAMS[program])
    counts = {domain: len(found) for domain, found in run.test_sets.items()}
    assert counts == ({"us": 1, "usmg": 2} if program is multimodal_breast else {"": 1})
    entries = json.loads((tmp_path / "run" / "manifest.json").read_text())["cells"]
    assert all(len(entry["test_sets"]) == counts[entry["domain"]] for entry in entries)
    with pytest.raises(ValueError, match=r"another configuration \(arguments\..*test set .*; choose another folder"):
        prepared(program, tmp_path / "run", *PROGRAMS[program][: -3 if program is multimodal_breast else -2])


def test_test_sets_whose_names_are_alike_have_folders_of_their_own(tmp_path: Path) -> None:
    folders = [own_set(tmp_path / name, Phantom(6, size=48, seed=k)) for k, name in enumerate(("a b", "a_b"), 2)]
    run = prepared(ultrasound_relation, tmp_path / "run", "--methods", "supervised", "--test-data", *folders)
    (entry,) = json.loads((tmp_path / "run" / "manifest.json").read_text())["cells"]
    assert entry["test_sets"] == {
        "labelled images (a b)": "test_sets/labelled_images_(a_b)",
        "labelled images (a_b)": "test_sets/labelled_images_(a_b)-2",
    }
    assert list(run.test_sets[""]) == list(entry["test_sets"])


def test_mistakes_of_the_command_line_are_named(tmp_path: Path) -> None:
    out, own = tmp_path / "run", own_set(tmp_path / "own", Phantom(6, size=48, seed=4), label="cyst")
    bare = tmp_path / "bare"
    bare.mkdir()
    for file in (own / "images").iterdir():
        (bare / file.name).write_bytes(file.read_bytes())
    relation = [
        (["--data", "phantom", own], "--data phantom cannot be combined with other sets"),
        (["--data", own, own], "--data lists .* twice"),
        (["--test-data", own, own], "--test-data lists .* twice"),
        (
            ["--test-data", bare],
            r"--test-data .*bare, read as unlabelled images, has no masks, which segmentation needs",
        ),
        (["--test-data", "nowhere"], "--test-data nowhere: no such folder"),
        (["--leave-out-copies"], "--leave-out-copies needs --test-data or --pretext-data"),
    ]
    for arguments, message in relation:
        with pytest.raises((ValueError, OSError), match=message):
            prepared(ultrasound_relation, out, *arguments)
    domains = ["--domains", "us", "--test-data"]
    for arguments, message in (
        ([*domains, f"us={own}"], "has classes that Phantom lacks: cyst; Phantom has benign, malignant, normal"),
        ([*domains, "mg=phantom"], "--test-data mg= would not be used with --domains us"),
        ([*domains, "ct=phantom"], "--test-data: unknown 'ct'"),
        (["--data", "us=phantom", f"us={own}"], "--data us=phantom cannot be combined with other sets of us"),
    ):
        with pytest.raises(ValueError, match=message):
            prepared(multimodal_breast, out, *arguments)
    assert not (out / "config.json").exists()


@pytest.mark.slow
def test_a_run_on_joined_sets_and_test_sets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second, third = (
        own_set(tmp_path / name, Phantom(count, size=48, seed=seed), patients=name)
        for name, count, seed in (("clinic a", 30, 4), ("clinic b", 20, 5), ("clinic c", 12, 6))
    )
    out = tmp_path / "run"
    arguments = ["x", "--preset", "smoke", "--data", first, second, "--test-data", third, "--out", out]
    monkeypatch.setattr(sys, "argv", [*map(str, arguments)])
    for _ in range(2):  # the second command finds everything done
        with pytest.raises(SystemExit) as stop:
            ultrasound_relation.main()
        assert stop.value.code == 0
    name = "labelled images (clinic c)"
    cases = read_csv(out / "metrics.csv")
    split = read_json(out / "splits.json")["0"]
    assert {row["id"] for row in cases if row["test_set"] == name} == {f"scan {i}" for i in range(12)}
    assert {row["id"] for row in cases if not row["test_set"]} == set(split["test"])
    assert {row["origin"] for row in cases if not row["test_set"]} == {"labelled images 1", "labelled images 2"}
    for row in read_csv(out / "table.csv"):
        own = [c for c in cases if (c["test_set"], c["method"]) == (row["test_set"], row["method"])]
        assert int(row["cases"]) == len(own)
        if row["metric"] == "dice":
            assert float(row["mean"]) == pytest.approx(np.mean([float(c["dice"]) for c in own]), abs=6e-4)
        if row["test_set"] and row["paper"]:
            assert row["paper_set"] == "Table VI, BUSI+BrEaST->UDIAT"
            assert "tested on UDIAT, ours were trained on labelled images 1 and labelled images 2" in " ".join(
                row["why_not_comparable"].split()
            )
    assert [row["test_set"] for row in read_csv(out / "tests.csv")] == ["", name]
    assert any(row["test_set"] and row["paper"] for row in read_csv(out / "table.csv"))
    page = (out / "report.html").read_text()
    assert "In and out of distribution" in page
    assert f"Paired tests on {name}" in page
    assert "Dice by scanner or set, test part of labelled images 1 and labelled images 2" in page
