"""`sslmed predict` as users meet it, with networks that outline what is bright."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("lightning")

import torch
from PIL import Image

from few_labels_runs import bright, write_run
from scans import write_dicom, write_nifti
from small_sets import CLIP, gif, metaimage
from sslmed.data import read_mask
from sslmed.studies import commands
from sslmed.studies.prediction import Ensemble, outlines, prediction
from sslmed.studies.prediction.scan_files import ScanFile

SIDE = 32  # of the networks: scans of this size are not resized


def noise(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).random(shape).astype(np.float32)


def picture(path: Path, values: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray((values * 255).astype(np.uint8)).save(path)


def predict(*arguments: object) -> int:
    with pytest.raises(SystemExit) as exit_:
        commands.predict([str(a) for a in arguments])
    return int(exit_.value.code or 0)


def rows_of(file: Path) -> list[dict[str, str]]:
    with open(file, newline="") as lines:
        return list(csv.DictReader(lines))


@pytest.fixture
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A path of a model.pt; loading it gives two simple networks, or those that the test chose with `use`."""
    use(monkeypatch, bright(0.5, 0.5))
    (tmp_path / "model.pt").write_text("a model")
    return tmp_path / "model.pt"


def use(monkeypatch: pytest.MonkeyPatch, ensemble: Ensemble) -> None:
    monkeypatch.setattr(prediction, "load_model", lambda path: ensemble)


def few_scans(root: Path, count: int = 3) -> Path:
    for k in range(count):
        picture(root / f"scan {k}.png", noise(SIDE, SIDE, seed=k))
    return root


def mixed_scans(root: Path) -> Path:
    few_scans(root / "a")
    picture(root / "a" / "scan 0_mask.png", noise(SIDE, SIDE))
    picture(root / "wide.jpg", np.tile(np.linspace(0, 1, 90, dtype=np.float32), (40, 1)))
    write_dicom(root / "1.2.3", (noise(2, SIDE, SIDE, seed=5) * 4095).astype(np.uint16))
    write_nifti(root / "volume.nii.gz", noise(SIDE, SIDE, 3, seed=6), np.diag([-0.5, 0.6, 2, 1]))
    gif(root / "clip.gif")
    metaimage(root / "meta.mhd", CLIP)
    (root / "notes.txt").write_text("no scan")
    return root


def test_masks_of_all_formats_have_the_size_and_orientation_of_their_scans(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    nibabel = pytest.importorskip("nibabel")
    data, out = mixed_scans(tmp_path / "scans"), tmp_path / "out"
    assert predict(model, "--data", data, "--out", out) == 0
    assert "left out 1 masks, by their names: a/scan 0_mask.png" in capsys.readouterr().out
    for k in range(3):
        scan = np.asarray(Image.open(data / "a" / f"scan {k}.png")) / 255
        assert (read_mask(out / "a" / f"scan {k}.png")[0].numpy() == (scan > 0.5)).all()
    wide = read_mask(out / "wide.png")[0]
    assert wide.shape == (40, 90)
    assert not wide[:, :42].any()
    assert wide[:, 48:].all()
    for k in range(2):
        assert read_mask(out / f"1.2.3-000{k}.png").shape == (1, SIDE, SIDE)
    for name in ("clip", "meta"):
        assert [read_mask(out / f"{name}-000{k}.png").shape for k in range(3)] == [(1, 8, 10)] * 3
    scan, mask = nibabel.load(data / "volume.nii.gz"), nibabel.load(out / "volume.nii.gz")
    values = scan.get_fdata(dtype=np.float32)
    share = (values - values.min()) / (values.max() - values.min())
    assert (np.asarray(mask.dataobj) == (share > 0.5)).all()
    assert (mask.affine == scan.affine).all()

    rows = rows_of(out / "predictions.csv")
    assert len(rows) == 3 + 1 + 2 + 3 + 3 + 3
    for row in rows:
        found = read_mask(out / row["mask"]) if row["mask"].endswith(".png") else None
        if found is not None:
            assert int(row["area_pixels"]) == int(found.sum())
            assert float(row["area_share"]) == pytest.approx(found.float().mean().item(), abs=1e-6)
    slices = [row for row in rows if row["file"] == "volume.nii.gz"]
    assert sum(int(row["area_pixels"]) for row in slices) == int((share > 0.5).sum())
    assert {row["disagreement"] for row in rows} == {"0.0000"}

    chosen = rows_of(out / "label_next.csv")
    assert [row["rank"] for row in chosen] == [str(k) for k in range(1, 9)]
    assert {row["file"] for row in chosen} == {row["file"] for row in rows}  # one of each file
    page = (out / "review.html").read_text()
    assert "15 images of 8 files; a lesion is outlined in" in page
    assert page.count("<article") == 15
    assert str(tmp_path) not in page
    assert not re.search(r"(src|href)=\"(?!data:)", page)


def test_networks_that_disagree_come_first(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    use(monkeypatch, bright(0.3, 0.7))
    picture(tmp_path / "scans/clear.png", (np.indices((SIDE, SIDE))[0] > 15).astype(np.float32))
    picture(tmp_path / "scans/vague.png", np.full((SIDE, SIDE), 0.5, dtype=np.float32))
    assert predict(model, "--data", tmp_path / "scans", "--out", tmp_path / "out") == 0
    clear, vague = rows_of(tmp_path / "out/predictions.csv")
    assert (clear["disagreement"], vague["disagreement"]) == ("0.0000", "1.0000")
    assert float(clear["uncertainty"]) < 0.01 < float(vague["uncertainty"])
    page = (tmp_path / "out/review.html").read_text()
    assert page.index("vague.png") < page.index("clear.png")
    assert rows_of(tmp_path / "out/label_next.csv")[0]["file"] == "vague.png"


def test_below_the_least_confidence_nothing_is_outlined(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use(monkeypatch, bright(0.5, least=0.9))
    picture(tmp_path / "scans/bright.png", np.full((SIDE, SIDE), 0.9, dtype=np.float32))
    picture(tmp_path / "scans/faint.png", np.full((SIDE, SIDE), 0.51, dtype=np.float32))
    assert predict(model, "--data", tmp_path / "scans", "--out", tmp_path / "out") == 0
    sure, unsure = rows_of(tmp_path / "out/predictions.csv")
    assert (sure["lesion"], sure["area_share"]) == ("yes", "1.000000")
    assert (unsure["lesion"], unsure["area_share"]) == ("no", "0.000000")
    assert float(unsure["confidence"]) == pytest.approx(torch.sigmoid(torch.tensor(1.0)).item() / 0.9 / 2, abs=5e-3)
    assert not read_mask(tmp_path / "out/faint.png").any()
    assert float(unsure["uncertainty"]) > float(sure["uncertainty"])
    next_ones = [row["file"] for row in rows_of(tmp_path / "out/label_next.csv")]
    assert next_ones == ["bright.png", "faint.png"]  # without a lesion there is nothing to outline


def test_what_is_done_is_kept_and_the_rest_is_outlined(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data, out = few_scans(tmp_path / "scans", 4), tmp_path / "out"
    assert predict(model, "--data", data, "--out", out) == 0
    table = (out / "predictions.csv").read_text()
    picture(out / "scan 0.png", np.zeros((SIDE, SIDE), dtype=np.float32))  # corrected by hand
    lines = table.splitlines(keepends=True)
    (out / "predictions.csv").write_text("".join(lines[:-1]) + lines[-1][:9])  # killed while the last row was written
    (out / "scan 1.png").unlink()
    picture(data / "scan 9.png", noise(SIDE, SIDE, seed=9))
    capsys.readouterr()
    assert predict(model, "--data", data, "--out", out) == 0
    assert "3 files to outline, 2 done before" in capsys.readouterr().out
    assert not read_mask(out / "scan 0.png").any()
    rows = rows_of(out / "predictions.csv")
    assert sorted(row["file"] for row in rows) == [f"scan {k}.png" for k in (0, 1, 2, 3, 9)]
    assert sorted(line for line in (out / "predictions.csv").read_text().splitlines() if "9.png" not in line) == sorted(
        table.splitlines()
    )


def test_no_mask_is_overwritten(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data, out = few_scans(tmp_path / "scans"), tmp_path / "out"
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("mine")
    assert predict(model, "--data", data, "--out", tmp_path / "mine") == 2
    assert "is not an empty folder" in capsys.readouterr().err
    assert predict(model, "--data", data, "--out", data / "masks") == 2
    assert "where masks would be taken for scans" in capsys.readouterr().err
    assert predict(model, "--data", data, "--out", out) == 0
    picture(data / "scan 1.png", noise(SIDE, SIDE, seed=8))
    assert predict(model, "--data", data, "--out", out) == 2
    assert "holds the mask of another scan 1.png" in capsys.readouterr().err
    model.write_text("another model")
    assert predict(model, "--data", data, "--out", out) == 2
    assert "holds the masks of another model" in capsys.readouterr().err


def test_broken_files_stop_before_the_work_or_are_left_out(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data, out = few_scans(tmp_path / "scans"), tmp_path / "out"
    whole = (data / "scan 2.png").read_bytes()
    (data / "scan 2.png").write_bytes(whole[: len(whole) // 2])  # its header is intact
    (data / "scan 3.png").write_text("no image")
    assert predict(model, "--data", data, "--out", out) == 2
    assert "scan 3.png" in capsys.readouterr().err
    (data / "scan 3.png").unlink()
    assert predict(model, "--data", data, "--out", out) == 2
    said = capsys.readouterr().err
    assert "scan 2.png" in said
    assert "--skip-broken" in said
    assert not out.exists()
    (data / "scan 3.png").write_text("no image")
    assert predict(model, "--data", data, "--out", out, "--skip-broken") == 0
    assert "left out 2 files that cannot be read: scan 3.png, scan 2.png" in capsys.readouterr().out
    assert [row["file"] for row in rows_of(out / "skipped.csv")] == ["scan 3.png", "scan 2.png"]
    assert [row["file"] for row in rows_of(out / "predictions.csv")] == ["scan 0.png", "scan 1.png"]
    assert "2 files could not be read and were left out" in (out / "review.html").read_text()
    for name in ("scan 0.png", "scan 1.png"):
        (data / name).write_text("no image")
    (out / "predictions.csv").unlink()
    assert predict(model, "--data", data, "--out", out, "--skip-broken") == 2


def test_files_are_finished_while_others_wait(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data, out = few_scans(tmp_path / "scans", 6), tmp_path / "out"
    monkeypatch.setattr(outlines, "BATCH", 2)
    there: dict[str, int] = {}
    read = ScanFile.read

    def noted(self: ScanFile) -> torch.Tensor:
        if (out / "predictions.csv").exists():
            there.setdefault(self.name, len(list(out.glob("*.png"))))
        return read(self)

    monkeypatch.setattr(ScanFile, "read", noted)
    assert predict(model, "--data", data, "--out", out) == 0
    assert list(there.values()) == [0, 0, 1, 1, 3, 3]  # the last file of a batch is finished with the next one


def test_a_full_disk_is_one_line_and_the_rest_resumes(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    data, out = few_scans(tmp_path / "scans"), tmp_path / "out"
    write = prediction.write_bytes

    def full(path: Path, content: bytes) -> None:
        if path.name == "scan 1.png":
            raise OSError(28, "cannot write, no space left")
        write(path, content)

    monkeypatch.setattr(prediction, "write_bytes", full)
    assert predict(model, "--data", data, "--out", out) == 1
    assert "no space left\nrerun the same command to resume" in capsys.readouterr().out
    monkeypatch.setattr(prediction, "write_bytes", write)
    assert predict(model, "--data", data, "--out", out) == 0
    assert "2 files to outline, 1 done before" in capsys.readouterr().out


def test_the_model_of_a_run_is_written_when_it_is_missing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data, run = few_scans(tmp_path / "scans"), tmp_path / "run"
    write_run(run)
    assert predict(run, "--data", data, "--out", tmp_path / "out") == 0
    assert (run / "model.pt").is_file()
    assert json.loads((tmp_path / "out/predict.json").read_text())["model"] == "run"
    assert len(rows_of(tmp_path / "out/predictions.csv")) == 3
    (run / "model.pt").unlink()
    (run / "cells/lesions+teacher-l100-s0/model.pt").unlink()
    capsys.readouterr()
    assert predict(run, "--data", data, "--out", tmp_path / "out") == 2
    assert "is not finished" in capsys.readouterr().err
    assert predict(tmp_path / "nowhere", "--data", data, "--out", tmp_path / "out") == 2
    assert predict(run, "--data", tmp_path / "nowhere", "--out", tmp_path / "out") == 2
