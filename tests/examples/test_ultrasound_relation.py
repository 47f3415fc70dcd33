"""The ultrasound pipeline as a user meets it: runs, mistakes, leaks, and a run that is killed."""

from __future__ import annotations

import csv
import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("lightning")

import torch
from PIL import Image

import ultrasound_relation
from sslmed.data import Phantom
from sslmed.models import ResNetEncoder, load_encoder
from sslmed.studies.runs import read_csv
from sslmed.studies.settings import changed

SCRIPT = Path(ultrasound_relation.__file__)
SMOKE = ultrasound_relation.PRESETS["smoke"]


def run(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(SCRIPT), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def outcome(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    monkeypatch.setattr(sys, "argv", [str(SCRIPT), *map(str, arguments)])
    with pytest.raises(SystemExit) as stop:
        ultrasound_relation.main()
    return stop.value.code  # type: ignore[return-value]


def write_busi(root: Path, *, each: int = 6, size: int = 48) -> Path:
    """A small BUSI in its official layout, of phantoms."""
    phantom = Phantom(40 * each, size=size, seed=11)
    for label, name in enumerate(("benign", "malignant", "normal")):
        folder = root / "Dataset_BUSI_with_GT" / name
        folder.mkdir(parents=True)
        members = [i for i, of in enumerate(phantom.labels) if of == label][:each]
        for k, i in enumerate(members, 1):
            item = phantom[i]
            pixels = (item["image"][0].numpy() * 255).round().astype(np.uint8)
            Image.fromarray(pixels).save(folder / f"{name} ({k}).png")
            Image.fromarray(item["mask"][0].numpy().astype(np.uint8) * 255).save(folder / f"{name} ({k})_mask.png")
    return root


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    folder = tmp_path_factory.mktemp("unbroken") / "run"
    done = run("--preset", "smoke", "--out", folder)
    assert done.returncode == 0, done.stderr
    return folder, done.stdout


def test_a_smoke_run_leaves_a_whole_run_folder(unbroken: tuple[Path, str]) -> None:
    folder, printed = unbroken
    assert printed.rstrip().splitlines()[-1] == f"report: {folder / 'report.html'}"
    for name in ("config", "environment", "data", "splits"):
        json.loads((folder / f"{name}.json").read_text())
    table = read_csv(folder / "table.csv")
    dice = [row for row in table if row["metric"] == "dice"]
    assert [(row["labels"], row["method"]) for row in dice] == [
        ("50 %", "supervised"),
        ("50 %", "cp-jig+freq/rcl+percep"),
    ]
    assert [row["paper"] for row in dice] == ["0.860", "0.883"]
    tests = read_csv(folder / "tests.csv")
    assert [(row["method"], row["against"]) for row in tests] == [("cp-jig+freq/rcl+percep", "supervised")]
    cases = read_csv(folder / "metrics.csv")
    split = json.loads((folder / "splits.json").read_text())["0"]
    assert len(cases) == 2 * len(split["test"])
    for row in dice:
        mine = [float(c["dice"]) for c in cases if c["method"] == row["method"]]
        assert float(row["mean"]) == pytest.approx(np.mean(mine), abs=6e-4)
    assert not set(split["pretext"]) & set(split["test"] + split["val"])
    assert set(split["labelled"]["0.5"]) <= set(split["train"])
    load_encoder(
        ResNetEncoder(SMOKE.encoder, width=SMOKE.width),
        folder / "pretext/cp-jig+freq_rcl+percep-s0/encoder.pt",
    )


@pytest.mark.slow
@pytest.mark.parametrize("moment", ["pretext/*/last.ckpt", "cells/cp-jig*/last.ckpt"])
def test_a_killed_run_ends_with_the_same_numbers(tmp_path: Path, unbroken: tuple[Path, str], moment: str) -> None:
    folder = tmp_path / "run"
    with open(tmp_path / "log", "w") as log:
        process = subprocess.Popen(
            [sys.executable, str(SCRIPT), "--preset", "smoke", "--out", str(folder)], stdout=log, stderr=log
        )
        deadline = time.monotonic() + 120
        while not list(folder.glob(moment)) and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
    done = run("--preset", "smoke", "--out", folder)
    assert done.returncode == 0, done.stderr
    whole = unbroken[0]
    for file in (
        "metrics.csv",
        "table.csv",
        "tests.csv",
        "splits.json",
        *(str(p.relative_to(whole)) for p in whole.rglob("curves.csv")),
    ):
        assert (folder / file).read_text() == (whole / file).read_text(), file


@pytest.mark.slow
def test_more_methods_join_a_finished_run_and_other_constants_do_not(
    tmp_path: Path,
    unbroken: tuple[Path, str],
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    folder = tmp_path / "run"
    shutil.copytree(unbroken[0], folder)
    before = (folder / "cells/supervised-l50-s0/metrics.csv").stat().st_mtime_ns
    assert outcome(monkeypatch, "--preset", "smoke", "--methods", "supervised", "jig/pirl", "--out", folder) == 0
    assert list(dict.fromkeys(row["method"] for row in read_csv(folder / "table.csv"))) == [
        "supervised",
        "cp-jig+freq/rcl+percep",
        "jig/pirl",
    ]
    tests = [(row["method"], row["against"]) for row in read_csv(folder / "tests.csv")]
    assert ("cp-jig+freq/rcl+percep", "jig/pirl") in tests
    assert (folder / "cells/supervised-l50-s0/metrics.csv").stat().st_mtime_ns == before
    assert outcome(monkeypatch, "--preset", "small", "--out", folder) == 2
    assert "holds a run with another configuration" in capfd.readouterr().err


@pytest.mark.parametrize("method", [m for m in ultrasound_relation.METHODS if m != "supervised"])
def test_every_cell_of_the_grid_learns_from_a_batch(method: str) -> None:
    torch.manual_seed(0)
    module = ultrasound_relation.make_method(method, SMOKE, None, 6)
    bank = module.bank[torch.arange(6)]
    loss, logged = module(torch.rand(4, 1, SMOKE.crop, SMOKE.crop), torch.arange(4))
    loss.backward()
    assert torch.isfinite(loss)
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in module.encoder.parameters())
    assert ("perceptual" in logged) == method.endswith("percep")
    after = module.bank[torch.arange(6)]
    assert (after[:4] != bank[:4]).any(1).all()
    assert torch.equal(after[4:], bank[4:])
    w, lam = 0.5, {"pirl": 1, "rcl": 1, "pirl+percep": 0.75, "rcl+percep": 0.1}[method.split("/")[1]]
    levels = w * logged["image_level"] + (1 - w) * logged["patch_level"]
    expected = lam * levels + (1 - lam) * logged.get("perceptual", torch.tensor(0.0))
    torch.testing.assert_close(loss, expected)


@pytest.mark.parametrize("method", ["jig/rcl", "jig/pirl"])
def test_batch_norm_of_the_heads_can_be_set(method: str) -> None:
    assert not any(preset.constants.batch_norm for preset in ultrasound_relation.PRESETS.values())
    preset = changed(SMOKE, [("constants.batch_norm", "true")])
    for heads, setting in ((torch.nn.Identity, SMOKE), (torch.nn.BatchNorm1d, preset)):
        module = ultrasound_relation.make_method(method, setting, None, 6)
        assert {type(module.image_head.norm), type(module.patch_head.norm)} == {heads}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--data", "nowhere"], "--data nowhere: no such folder"),
        (["--methods", "jig/simclr"], "unknown 'jig/simclr'"),
        (["--methods", "supervised", "supervised"], "--methods lists supervised twice"),
        (["--labels", "0"], "'0' is not a fraction in (0, 1]"),
        (["--labels", "20"], "'20' is not a fraction in (0, 1]"),
        (["--labels", "0.01"], "fraction 0.01 of 28 cases leaves no case"),
        (["--labels", "0.04"], "--labels 0.04 leaves 1 labelled case of 28"),
        (["--seeds", "-1"], "'-1' is not a non-negative integer"),
        (["--seeds", "1", "1"], "--seeds lists 1 twice"),
        (["--weights", "nowhere.pt"], "no weights file at nowhere.pt"),
        (["--out", "/proc/run"], "--out /proc/run: cannot write there"),
        (["--preset", "huge"], "invalid choice: 'huge'"),
    ],
)
def test_a_mistake_is_one_line_and_status_2(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    arguments: list[str],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert outcome(monkeypatch, "--preset", "smoke", "--out", tmp_path / "run", *arguments) == 2
    error = capfd.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert not (tmp_path / "run" / "config.json").exists()


def test_a_broken_image_is_named_before_any_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    root = write_busi(tmp_path / "set")
    victim = root / "Dataset_BUSI_with_GT" / "benign" / "benign (3).png"
    victim.write_bytes(victim.read_bytes()[:200])
    assert outcome(monkeypatch, "--preset", "smoke", "--data", root, "--out", tmp_path / "run") == 2
    error = capfd.readouterr().err
    assert "benign (3).png" in error
    assert error.count("\n") == 1


def test_an_empty_folder_and_a_missing_mask_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "empty").mkdir()
    assert outcome(monkeypatch, "--preset", "smoke", "--data", tmp_path / "empty", "--out", tmp_path / "run") == 2
    assert "empty" in capfd.readouterr().err
    root = write_busi(tmp_path / "set")
    (root / "Dataset_BUSI_with_GT" / "malignant" / "malignant (2)_mask.png").unlink()
    assert outcome(monkeypatch, "--preset", "smoke", "--data", root, "--out", tmp_path / "run") == 2
    assert "malignant (2).png" in capfd.readouterr().err


def test_pretext_images_that_copy_test_images_are_refused_or_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    root = write_busi(tmp_path / "set")
    mine = tmp_path / "mine"
    mine.mkdir()
    for i, item in enumerate(Phantom(8, size=64, seed=5)):
        Image.fromarray((item["image"][0].numpy() * 255).astype(np.uint8)).save(mine / f"scan {i}.png")
    for image in (root / "Dataset_BUSI_with_GT" / "benign").glob("*).png"):
        with Image.open(image) as opened:  # saved again at another size: no pixel is the same
            opened.resize((60, 60)).save(mine / f"copy of {image.name}")
    arguments = [
        "--preset",
        "smoke",
        "--data",
        root,
        "--pretext-data",
        mine,
        "--methods",
        "jig/rcl",
        "--out",
        tmp_path / "run",
    ]
    assert outcome(monkeypatch, *arguments) == 2
    error = capfd.readouterr().err
    assert "copy of benign" in error
    assert "--leave-out-copies" in error
    assert outcome(monkeypatch, *arguments, "--leave-out-copies") == 0
    split = json.loads((tmp_path / "run" / "splits.json").read_text())["0"]
    held_out = {f"pretext-data/copy of {name}.png" for name in split["test"] + split["val"]}
    assert {f"pretext-data/scan {i}.png" for i in range(8)} <= set(split["pretext"])
    assert not held_out & set(split["pretext"])


def test_a_folder_of_scans_gives_an_encoder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mine = tmp_path / "mine"
    mine.mkdir()
    for i, item in enumerate(Phantom(8, size=64, seed=5)):
        Image.fromarray((item["image"][0].numpy() * 255).astype(np.uint8)).save(mine / f"scan {i}.png")
    assert outcome(monkeypatch, "--preset", "smoke", "--data", mine, "--out", tmp_path / "run") == 0
    encoder = tmp_path / "run/pretext/cp-jig+freq_rcl+percep-s0/encoder.pt"
    report = load_encoder(ResNetEncoder(SMOKE.encoder, width=SMOKE.width), encoder, minimum=1.0)
    assert not report.missing
    assert (tmp_path / "run" / "report.html").stat().st_size > 1000


def test_paper_results_hold_what_the_report_prints() -> None:
    with open(ultrasound_relation.RESULTS, newline="") as file:
        rows = list(csv.DictReader(file))
    assert {row["method"] for row in rows} == set(ultrasound_relation.METHODS)
    best = next(r for r in rows if (r["dataset"], r["method"], r["labels_percent"]) == ("BUSI", "jig+freq/pirl", "100"))
    assert (best["dsc"], best["hd"]) == ("0.910", "17.09")


def test_the_paper_preset_has_the_papers_numbers() -> None:
    paper = ultrasound_relation.PRESETS["paper"]
    assert (paper.size, paper.encoder, paper.pretext.epochs, paper.finetune.epochs) == (
        224,
        "resnet50",
        2000,
        500,
    )
    assert (paper.finetune.patience, paper.finetune.patience_from) == (50, 100)
    assert (paper.tuning.lr, paper.tuning.end, paper.tuning.power) == (1e-3, 1e-6, 0.9)
    assert paper.pretext_lr == {"pirl": 1e-4, "pirl+percep": 1e-3, "rcl": 1e-2, "rcl+percep": 1e-3}
    assert (paper.whole, paper.crop) == (224, 216)
    assert paper.crop % paper.constants.grid[0] == 0


def test_the_paper_preset_shows_whole_images_and_crops_that_the_grid_divides() -> None:
    paper = ultrasound_relation.PRESETS["paper"]
    images = torch.rand(2, 1, paper.whole, paper.whole)
    t1, t2 = ultrasound_relation.make_views("cp-jig+freq", paper)(images)
    assert (t1.shape, t2.shape) == ((2, 1, 224, 224), (2, 1, 216, 216))
    shown = ultrasound_relation.gallery(paper, images)
    np.testing.assert_array_equal(shown["original"], images[:, 0, 4:220, 4:220].numpy())
    assert shown["filtered"].shape == shown["jigsaw"].shape == shown["original"].shape
    assert shown["kept"].shape == (2, 216, 109)
