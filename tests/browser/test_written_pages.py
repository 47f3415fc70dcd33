"""The pages that sslmed writes: a reader with a small window, or without a mouse, reads and reaches all of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("lightning")

from PIL import Image

import run_folders
from few_labels_runs import write_run
from sslmed.data.audit import main as audit
from sslmed.studies import commands, few_labels
from sslmed.studies.report import write_report
from sslmed.studies.report.sweep import write_page as write_sweep
from web_pages import WIDTHS, Visit


def command(run: Callable[[list[str]], None], *arguments: object) -> None:
    with pytest.raises(SystemExit) as stop:
        run([str(argument) for argument in arguments])
    assert stop.value.code == 0


def scans(folder: Path, count: int = 12) -> Path:
    folder.mkdir()
    rng = np.random.default_rng(0)
    for k in range(count):
        pixels = np.kron(rng.integers(0, 255, (5, 6)), np.ones((8, 8))).astype(np.uint8)
        Image.fromarray(pixels).save(folder / f"scan of a patient with a long name {k}.png")
    return folder


def segmentation(folder: Path) -> Path:
    run = run_folders.segmentation_run(folder, seeds=(0,))
    run_folders.add_test_set(run, "BUS-BRA")
    return write_report(run)


def targets(folder: Path) -> Path:
    return write_report(run_folders.targets_run(folder, methods=("supervised", "simclr"), domains=("us",)))


def volumes(folder: Path) -> Path:
    return write_report(run_folders.volumes_run(folder, labels=(1, 4), seeds=(0,)))


def pretraining(folder: Path) -> Path:
    settings = ("--preset", "smoke", "--width", 4, "--epochs", 2, "--batch-size", 4)
    command(commands.pretrain, "--data", scans(folder / "scans"), "--out", folder / "run", *settings)
    return folder / "run" / "report.html"


def sweep(folder: Path) -> Path:
    row = {"target": "segmentation", "method": "rcl", "fine_tunings": 3, "val_loss": 0.25, "val_dice": 0.7}
    reports = {}
    for value in ("1e-4", "1e-2"):
        reports[value] = f"lr={value}/report.html"
        (folder / f"lr={value}").mkdir()
        (folder / reports[value]).touch()
    rows = [row | {"value": value, "chosen": "yes" if value == "1e-2" else ""} for value in reports]
    shown = {"display": {"rcl": "Relation"}, "targets": {"segmentation": "Segmentation"}, "reports": reports}
    return write_sweep(folder, "lr", rows, title="A study", **shown)


def review(folder: Path) -> Path:
    write_run(folder / "run")
    command(commands.predict, folder / "run", "--data", scans(folder / "scans", 5), "--out", folder / "masks")
    return folder / "masks" / "review.html"


def audited(folder: Path) -> Path:
    for name in ("benign", "malignant"):
        scans(folder / name, 6)  # the same in both
    (folder / "benign" / "broken.png").touch()
    audit([str(folder), "--out", str(folder / "audit.html")])
    return folder / "audit.html"


def few_labels_run(folder: Path) -> Path:
    command(few_labels.run, "--preset", "smoke", "--out", folder / "run")
    return folder / "run" / "report.html"


PAGES: dict[str, Callable[[Path], Path]] = {
    "segmentation": segmentation,
    "targets": targets,
    "volumes": volumes,
    "pretraining": pretraining,
    "sweep": sweep,
    "review": review,
    "audit": audited,
    "few labels": few_labels_run,
}
WHOLE_RUNS = {"few labels"}


VISITS = [
    pytest.param((name, width), id=f"{name}-{width}", marks=pytest.mark.slow if name in WHOLE_RUNS else ())
    for name in PAGES
    for width in WIDTHS
]


@pytest.fixture(scope="module")
def written(browser: Any, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Each page once; none is written without a browser to open it."""
    return cache(lambda name: PAGES[name](tmp_path_factory.mktemp("page")))


@pytest.fixture(scope="module", params=VISITS)
def visit(request: pytest.FixtureRequest, browser: Any, written: Callable[[str], Path]) -> Iterator[Visit]:
    """A page in a window of a width."""
    name, width = request.param
    visit = Visit(browser, written(name), width)
    yield visit
    visit.close()


def test_it_loads_without_an_error(visit: Visit) -> None:
    assert not visit.errors


def test_it_is_not_scrolled_sideways(visit: Visit) -> None:
    assert not visit.too_wide()


def test_links_and_pictures_are_there(visit: Visit) -> None:
    assert not visit.dead_links()
    assert not visit.broken_images()


def test_the_keyboard_reaches_everything(visit: Visit) -> None:
    assert not visit.unreached_by_tab()


def test_it_is_accessible(visit: Visit, axe: Any) -> None:
    if visit.width == min(WIDTHS):  # colours and structure are the same in a large window, where less is scrolled
        assert not visit.violations(axe)
