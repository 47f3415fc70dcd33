"""The indexes of the papers' pages: complete, and every command runs as they say, shortened and on synthetic images."""

from __future__ import annotations

import importlib
import re
import sys
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("lightning")

import torch
from PIL import Image

import sslmed
from documents import PAPERS, commands_in, index_of
from sslmed.data import Phantom
from sslmed.models import ResNetEncoder
from sslmed.studies.runs import read_csv

# Every table and figure of each paper, as its index names them.
COMPLETE = {
    "ultrasound_relation": "Fig. 1 to 4; Table I to VII",
    "multi_organ": "Fig. 1, 2, B.3 to B.6; Table 1 to 4, A.5 to A.8",
    "multimodal_breast": "Fig. 2.1 to 2.5, 4.1 to 4.5, 5.1, A.1, A.2, B.1 to B.26, C.1 to C.30; "
    "Table 5.1 to 5.3, 6.1, 6.2, A.1, B.2",
    "mr_masked_vs_contrastive": "Fig. 1 to 6",
}
ROMAN = ["", "I", "II", "III", "IV", "V", "VI", "VII"]


def items_of(text: str) -> set[tuple[str, str]]:
    """Kind and number of each table and figure in a text as "Fig. 1, B.3 to B.6; Tables I, II"."""
    found = set()
    for kind, numbers in re.findall(r"(Fig|Table)\w*\.? ((?:[A-C]?\.?\d[\d.A-C]*|[IVX]+|, (?=[A-C\d])| to )+)", text):
        for part in numbers.split(", "):
            first, _, last = (one.strip() for one in part.partition(" to "))
            if first in ROMAN:
                count = range(ROMAN.index(first), ROMAN.index(last or first) + 1)
                found |= {(kind, ROMAN[k]) for k in count}
            else:
                chapter, _, number = re.sub("[AB]$", "", first).rpartition(".")
                end = int(re.sub("[AB]$", "", last or first).rpartition(".")[2])
                found |= {(kind, f"{chapter}.{k}".removeprefix(".")) for k in range(int(number), end + 1)}
    return found


@pytest.mark.parametrize("page", PAPERS, ids=lambda page: page.stem)
def test_an_index_holds_every_table_and_figure(page: Path) -> None:
    listed = set().union(*(items_of(item.partition(":")[0]) for item, *_ in index_of(page)[1]))
    assert listed == items_of(COMPLETE[page.stem])


def test_items_are_read_from_text() -> None:
    assert items_of("Fig. 3A, 3B") == {("Fig", "3")}
    assert items_of("Tables A.5 to A.7") == {("Table", "A.5"), ("Table", "A.6"), ("Table", "A.7")}
    assert items_of("Table 6.1, test columns") == {("Table", "6.1")}
    assert items_of("Table II to IV; Fig. 2") == {("Table", "II"), ("Table", "III"), ("Table", "IV"), ("Fig", "2")}
    assert items_of("all labels of Fig. 3 and 5") == {("Fig", "3")}


@pytest.mark.parametrize("page", PAPERS, ids=lambda page: page.stem)
def test_an_index_uses_each_of_its_commands(page: Path) -> None:
    text, rows = index_of(page)
    names = re.findall(r"^# (\w+)", text, flags=re.MULTILINE)
    programs = [name for name, _ in commands_in(text)]
    assert programs == [page.stem] * len(names)
    used = {name for _, command, _ in rows for name in command.split(", ")} - {"", "any"}
    assert used == set(names)
    for item, command, place in rows:
        assert command or place.startswith(("not reproduced", "the paper has none")), item


@pytest.mark.parametrize("page", PAPERS, ids=lambda page: page.stem)
def test_an_index_names_headings_of_the_report(page: Path) -> None:
    package = Path(sslmed.__file__).parent
    sources = [
        *package.glob("studies/report/**/*.j2"),
        *package.glob("studies/report/*.py"),
        *package.glob("tasks/*.py"),
    ]
    report = "".join(source.read_text(encoding="utf-8") for source in sources)
    headings = [name for *_, place in index_of(page)[1] for name in re.findall('"(.*?)"', place)]
    assert headings
    assert not [name for name in headings if name not in report]


def options_of(words: list[str]) -> dict[str, list[str]]:
    """The options of a command with their values; --set may come several times, the others once."""
    found: dict[str, list[str]] = {}
    for word in words:
        if word.startswith("--"):
            found.setdefault(word, [])
        else:
            found[list(found)[-1]].append(word)
    return found


def pictures(folder: Path, seed: int) -> Path:
    """A folder of synthetic scans without labels."""
    folder.mkdir()
    for k, item in enumerate(Phantom(6, size=48, seed=seed)):
        Image.fromarray((item["image"][0].numpy() * 255).astype(np.uint8)).save(folder / f"{k}.png")
    return folder


def shortened(program: str, words: list[str], folder: Path, *, first: bool) -> list[str]:
    """A command of an index with the smoke preset, synthetic images and one epoch.

    The first command of an index has two seeds or repeats and two amounts of labels, and at most every fourth of many
    methods. The others have one of each, and two methods. Sweeps have two values.
    """
    options = options_of(words)
    for option in ("--data", "--unlabelled", "--test-data"):
        if option in options:
            options[option] = ["phantom"]
    if program == "multimodal_breast":
        del options["--data"]  # for all domains
    options.pop("--organs", None)  # the phantom's
    for option in ("--natural", "--pretext-data"):
        for k, given in enumerate(options.get(option, [])):
            domain, _, place = given.rpartition("=")
            made = pictures(folder / place, 100 + k)
            options[option][k] = f"{domain}={made}" if domain else str(made)
    if "--weights" in options:
        options["--weights"] = [str(folder / "weights.pth")]
        torch.save(ResNetEncoder("resnet18", width=8).state_dict(), folder / "weights.pth")
    if "--split" in options:
        options.setdefault("--set", []).append("phantoms=32")  # as many as the set has
    if options.get("--methods", ["all"]) == ["all"]:
        methods = importlib.import_module(program).METHODS
        options["--methods"] = list(
            (methods[::4] if len(methods) > 4 else methods) if first else methods[:: len(methods) - 1]
        )
        if program != "mr_masked_vs_contrastive":  # its smoke preset has two amounts
            options["--labels"] = ["1.0", "0.5"] if first else ["1.0"]
    if "--repeats" in options:
        options["--repeats"] = ["2" if first else "1"]
    if "--seeds" in options:
        options["--seeds"] = options["--seeds"][: 2 if first else 1]
    if "--sweep" in options:
        name, _, values = options["--sweep"][0].partition("=")
        options["--sweep"] = [f"{name}={','.join(values.split(',')[:2])}"]
    options["--set"] = [*options.get("--set", []), "pretext.epochs=1", "finetune.epochs=1"]
    options |= {"--preset": ["smoke"], "--out": [str(folder / "run")]}
    given = [word for name, values in options.items() if name != "--set" for word in (name, *values)]
    return [*given, *(word for value in options["--set"] for word in ("--set", value))]


def known_words(run: Path) -> set[str]:
    """The columns and metrics of the tables and curves of a run folder, and the names of its arrays."""
    found = set[str]()
    for file in run.rglob("*.csv"):
        for row in read_csv(file)[:1]:
            found |= {*row}
    for file in (*run.glob("table.csv"), *run.glob("*/table.csv")):
        found |= {value for row in read_csv(file) for value in (row["metric"], row["method"])}
    for file in run.glob("*.npz"):
        with np.load(file) as arrays:
            found |= {*arrays}
    return found


@pytest.mark.slow
@pytest.mark.parametrize("page", PAPERS, ids=lambda page: page.stem)
def test_the_commands_of_an_index_run_and_leave_what_it_names(
    page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text, rows = index_of(page)
    names = re.findall(r"^# (\w+)", text, flags=re.MULTILINE)
    runs = {}
    for name, (program, arguments) in zip(names, commands_in(text), strict=True):
        folder = tmp_path / name
        folder.mkdir()
        monkeypatch.chdir(folder)
        monkeypatch.setattr(sys, "argv", [program, *shortened(program, arguments, folder, first=not runs)])
        with pytest.raises(SystemExit) as stop:
            importlib.import_module(program).main()
        assert stop.value.code == 0, name
        runs[name] = folder / "run"
    reports = {
        name: "".join(file.read_text(encoding="utf-8") for file in run.rglob("*.html")) for name, run in runs.items()
    }
    words = {name: known_words(run) for name, run in runs.items()}
    for item, command, place in rows:
        for name in command.split(", ") if command and command != "any" else names[:1] * bool(command):
            run, known = runs[name], words[name]
            assert not [heading for heading in re.findall('"(.*?)"', place) if heading not in reports[name]], item
            for token in re.findall("`(.*?)`", place):
                if re.search(r"\.(csv|json|npz|html)$", token):
                    assert token.startswith("examples/") or list(run.glob(token)), (item, token)
                elif re.fullmatch(r"[a-z_]+", token):
                    assert token in known, (item, token)
