"""What a user may get wrong, each told in one line before any training; nothing is trained here."""

from __future__ import annotations

import json
import os
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("lightning")

import torch
from PIL import Image

import ultrasound_relation
from sslmed import metrics
from sslmed.data import Phantom
from sslmed.models import ResNetEncoder
from sslmed.studies import outputs, run
from sslmed.studies.reading import read
from sslmed.studies.run import Run
from sslmed.studies.sources import Source
from sslmed.studies.study_data import StudyData

SMOKE = ultrasound_relation.PRESETS["smoke"]


class Command:
    """Runs the program as far as its first training."""

    def __init__(self, out: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
        self.out, self.capfd, self.monkeypatch = out, capfd, monkeypatch
        monkeypatch.setattr(Run, "run", lambda run: outputs.describe(run) or 0)

    def __call__(self, *arguments: object) -> int:
        words = ["x", "--preset", "smoke", "--out", str(self.out), *map(str, arguments)]
        self.monkeypatch.setattr(sys, "argv", words)
        with pytest.raises(SystemExit) as stop:
            ultrasound_relation.main()
        return stop.value.code  # type: ignore[return-value]

    def refuses(self, *arguments: object) -> str:
        self.capfd.readouterr()
        assert self(*arguments) == 2
        error = self.capfd.readouterr().err
        assert error.count("\n") == 1, error
        return error


@pytest.fixture
def command(tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Command:
    return Command(tmp_path / "run", capfd, monkeypatch)


def write_images(folder: Path, count: int, *, label: str = "benign", lesions: bool = True) -> Path:
    """One class of a BUSI, of noise with a square lesion."""
    folder = folder / label
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    for k in range(1, count + 1):
        mask = np.zeros((40, 40), np.uint8)
        mask[10:25, 10:25] = 255 * lesions
        Image.fromarray(rng.integers(0, 255, (40, 40), np.uint8)).save(folder / f"{label} ({k}).png")
        Image.fromarray(mask).save(folder / f"{label} ({k})_mask.png")
    return folder


def write_scans(folder: Path, count: int) -> Path:
    folder.mkdir()
    for i, item in enumerate(Phantom(count, size=48, seed=5)):
        Image.fromarray((item["image"][0].numpy() * 255).astype(np.uint8)).save(folder / f"scan {i}.png")
    return folder


def test_a_set_without_lesions_is_refused(command: Command, tmp_path: Path) -> None:
    write_images(tmp_path / "set", 12, lesions=False)
    assert "shows no lesion in any of its 12 masks" in command.refuses("--data", tmp_path / "set")


def test_labelled_cases_without_lesions_are_refused(command: Command, tmp_path: Path) -> None:
    write_images(tmp_path / "set", 2)
    write_images(tmp_path / "set", 40, label="normal", lesions=False)
    error = command.refuses("--data", tmp_path / "set", "--labels", "0.07")
    assert "--labels 0.07 leaves 2 labelled cases of 29 without any lesion" in error


def test_too_few_images_to_split_or_to_compare(command: Command, tmp_path: Path) -> None:
    write_images(tmp_path / "set", 3)
    assert "--data holds too few images to split 70/10/20 %: 3 in 3 groups" in command.refuses(
        "--data", tmp_path / "set"
    )
    assert "holds one image; pretext learning needs at least two" in command.refuses(
        "--data", write_scans(tmp_path / "scans", 1)
    )


def test_masks_are_not_taken_for_scans(command: Command, tmp_path: Path) -> None:
    inner = write_images(tmp_path / "set", 4)
    assert "holds 4 masks, as benign (1)_mask.png" in command.refuses("--data", inner)
    error = command.refuses("--data", "phantom", "--pretext-data", inner)
    assert "--pretext-data" in error
    scans = tmp_path / "scans"
    for folder in ("imagesTr", "labelsTr"):
        shutil.copytree(inner, scans / folder, ignore=shutil.ignore_patterns("*_mask*"))
    error = command.refuses("--data", scans)
    assert "holds 4 masks, as labelsTr/benign (1).png; name the whole folder of a known set, one with images/" in error


def test_masks_are_told_by_their_folder_and_in_volumes(command: Command, tmp_path: Path) -> None:
    nibabel = pytest.importorskip("nibabel")
    labels = write_scans(tmp_path / "labelsTr", 3)
    assert "holds 3 masks, as scan 0.png" in command.refuses("--data", labels)
    scans = write_scans(tmp_path / "scans", 3)
    volume = nibabel.Nifti1Image(np.zeros((8, 8, 2), np.int16), np.eye(4))
    nibabel.save(volume, scans / "brain_label.nii.gz")
    assert "holds 1 mask, as brain_label.nii.gz" in command.refuses("--data", scans)


def test_a_folder_is_the_same_by_any_path(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    write_images(tmp_path / "parent" / "set", 30)
    assert command("--data", tmp_path / "parent") == 0
    assert "reading 30 images of BUSI in set at" in capfd.readouterr().out
    monkeypatch.chdir(tmp_path)
    assert command("--data", "parent") == 0
    assert "reading 30 images of BUSI in set at" in capfd.readouterr().out
    monkeypatch.chdir(tmp_path / "parent")
    assert command("--data", ".") == 0


def test_own_images_with_masks_are_a_set(command: Command, tmp_path: Path) -> None:
    scans, set_ = write_scans(tmp_path / "scans", 20), tmp_path / "sets" / "clinic"
    shutil.copytree(scans, set_ / "images" / "benign")  # as in BUSI
    shutil.copytree(scans, set_ / "masks" / "benign")
    lines = [f"benign/scan {i},{i // 2}" for i in range(20)]
    (set_ / "cases.csv").write_text("\n".join(["image,group", *lines]))
    assert command("--data", set_) == 0
    described = json.loads((command.out / "data.json").read_text())
    assert (described["name"], described["counts"]["images"], described["groups"]) == (
        "labelled images",
        20,
        10,
    )
    (set_ / "masks" / "benign" / "scan 3.png").unlink()
    assert "masks: no mask for benign/scan 3, as benign/scan 3.png" in command.refuses("--data", set_.parent)
    write_images(set_.parent / "busi", 4)
    assert "holds several sets, BUSI and labelled images; name one" in command.refuses("--data", set_.parent)


def test_names_that_are_no_utf8_make_a_run_folder(command: Command, tmp_path: Path) -> None:
    set_ = tmp_path / os.fsdecode(b"Universit\xe4t")
    shutil.copytree(write_scans(tmp_path / "scans", 20), set_ / "images")
    os.rename(set_ / "images" / "scan 0.png", os.fsencode(set_ / "images") + b'/K\xf6ln, "0"\n.png')
    shutil.copytree(set_ / "images", set_ / "masks")
    assert command("--data", set_) == 0
    described = json.loads((command.out / "data.json").read_text(encoding="utf-8"))
    assert os.fsencode(described["source"]) == b"Universit\xe4t"
    config = json.loads((command.out / "config.json").read_text(encoding="utf-8"))
    split = json.loads((command.out / "splits.json").read_text(encoding="utf-8"))["0"]
    assert 'K\\xf6ln, "0"\\x0a' in {*split["train"], *split["val"], *split["test"]}
    assert command("--data", set_) == 0  # what was written is read back as the same run
    assert json.loads((command.out / "config.json").read_text(encoding="utf-8")) == config
    command.out = tmp_path / os.fsdecode(b"r\xe9sultats")
    assert r"r\udce9sultats: the path is not UTF-8; choose another folder" in command.refuses("--data", set_)
    assert not command.out.exists()


def test_options_without_effect_are_refused(command: Command, tmp_path: Path) -> None:
    scans = write_scans(tmp_path / "scans", 3)
    assert "would not be used" in command.refuses("--data", scans, "--pretext-data", scans)
    assert "--leave-out-copies needs --test-data or --pretext-data" in command.refuses("--leave-out-copies")
    command("--data", scans)
    assert "there are no cells to --merge" in command.refuses("--data", scans, "--merge", command.out)
    assert "--merge joins all shares of a study" in command.refuses("--merge", command.out, "--shard", "0/2")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--pretext-data", "nowhere"], "--pretext-data nowhere: no such folder"),
        (["--labels", "0.01"], "--labels 0.01: fraction 0.01 of 28 cases"),
        (["--labels", "0.3333333", "0.33333334"], "--labels lists 33.3333 % twice"),
        (["--methods", "all", "supervised"], "`all` cannot be combined"),
        (["--data", ""], "argument --data: the name is empty"),
        (["--out", ""], "argument --out: the name is empty"),
    ],
)
def test_the_option_at_fault_is_named(command: Command, arguments: list[str], message: str) -> None:
    assert message in command.refuses(*arguments)


def test_settings_that_a_method_refuses_are_told_before_images_are_read(
    command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run, "StudyData", lambda _: pytest.fail("images were read"))
    for setting, message in (
        ("constants.temperature=-1", "the settings of jig/pirl do not fit: temperature must be"),
        ("pretext_lr.pirl=-1", "lr must be above 0, got -1.0"),
        ("constants.sgd_momentum=1.5", "momentum must be at least 0 and below 1, got 1.5"),
        ("tuning.lr=1e-9", "end must be from 0 to the lr 1e-09, got 1e-06"),
    ):
        assert message in command.refuses("--methods", "supervised", "jig/pirl", "--set", setting)
    assert not command.out.exists()


def test_a_network_that_cannot_be_built_is_told_before_any_training(command: Command) -> None:
    error = command.refuses("--methods", "supervised", "--encoder", "vgg16")
    assert "the settings of segmentation do not fit: " in error
    assert "vgg16" in error
    assert not command.out.exists()


def test_a_table_that_is_no_text_is_named(command: Command, tmp_path: Path) -> None:
    (tmp_path / "bra").mkdir()
    (tmp_path / "bra" / "bus_data.csv").write_bytes(b"\xff\xfe\x00")
    message = command.refuses("--data", tmp_path / "bra")
    assert f"{tmp_path / 'bra' / 'bus_data.csv'}: not a readable CSV table of UTF-8 text" in message


def test_weights_that_do_not_serve_are_named(command: Command, tmp_path: Path) -> None:
    encoder = ResNetEncoder(SMOKE.encoder, width=SMOKE.width).state_dict()
    files = {
        "wide": ResNetEncoder(SMOKE.encoder, width=2 * SMOKE.width).state_dict(),
        "nan": {k: v * float("nan") if v.is_floating_point() else v for k, v in encoder.items()},
    }
    for name, state in files.items():
        torch.save(state, tmp_path / f"{name}.pt")
        error = command.refuses("--weights", tmp_path / f"{name}.pt")
        assert f"--weights {tmp_path / name}.pt for a resnet18 of width 8" in error


def test_the_papers_preset_asks_for_its_weights(command: Command) -> None:
    error = command.refuses("--preset", "paper")
    assert "--preset paper starts the encoder from ImageNet weights" in error
    assert "torchvision.models.resnet50(weights='DEFAULT').state_dict(), 'resnet50.pth')" in error
    assert "--weights none" in error
    args = ultrasound_relation.make_parser().parse_args(["--preset", "paper", "--weights", "none"])
    assert ultrasound_relation.start_weights(args, ultrasound_relation.PRESETS["paper"]) is None


def test_other_weights_of_the_same_name_are_another_configuration(command: Command, tmp_path: Path) -> None:
    for seed in (0, 1):
        torch.manual_seed(seed)
        torch.save(ResNetEncoder(SMOKE.encoder, width=SMOKE.width).state_dict(), tmp_path / "w.pt")
        if seed == 0:
            assert command("--weights", tmp_path / "w.pt") == 0
    assert "arguments.weights_sha256" in command.refuses("--weights", tmp_path / "w.pt")


@pytest.mark.parametrize("content", ['{"paper": ', "[]", "{}", "\xff"])
def test_a_damaged_configuration_is_named_and_kept(command: Command, content: str) -> None:
    command.out.mkdir()
    file = command.out / "config.json"
    file.write_text(content, encoding="latin-1")
    assert str(file) in command.refuses()
    assert file.read_text(encoding="latin-1") == content


@pytest.mark.parametrize(
    "name",
    [
        "splits.json",
        "cells/supervised-l50-s0/result.json",
        "cells/supervised-l50-s0/last.ckpt",
        "pretext/cp-jig+freq_rcl+percep-s0/last.ckpt",
        "pretext/cp-jig+freq_rcl+percep-s0/encoder.pt",
    ],
)
def test_what_an_earlier_run_left_cut_short_is_named(command: Command, tmp_path: Path, name: str) -> None:
    whole = tmp_path / "whole"
    if name.endswith(".json"):
        whole.write_text(json.dumps({"mean": 1}))
    else:
        torch.save({"a": torch.zeros(100)}, whole)
    file = command.out / name
    file.parent.mkdir(parents=True)
    cut = whole.read_bytes()[:-5]
    file.write_bytes(cut)
    error = command.refuses()
    assert f"{file} is damaged" in error
    assert file.read_bytes() == cut
    if name.startswith(("cells", "pretext")):
        assert "delete it to" in error


def test_images_that_changed_since_are_not_mixed_with_what_was_done(command: Command, tmp_path: Path) -> None:
    folder = write_images(tmp_path / "set", 12)
    assert command("--data", tmp_path / "set", "--labels", "0.5") == 0
    before = (command.out / "splits.json").read_text()
    assert command("--data", tmp_path / "set", "--labels", "1", "--seeds", "0", "1") == 0
    grown = json.loads((command.out / "splits.json").read_text())
    config = (command.out / "config.json").read_text()
    assert grown["0"]["labelled"].keys() == {"0.5", "1"}
    assert grown["0"]["test"] == json.loads(before)["0"]["test"]
    for name in ("benign (1).png", "benign (1)_mask.png"):
        shutil.copy(folder / name, folder / name.replace("1", "99"))
    error = command.refuses("--data", tmp_path / "set", "--methods", "jig/rcl")
    assert "seed 0 had other images in its parts" in error
    assert json.loads((command.out / "splits.json").read_text()) == grown
    assert (command.out / "config.json").read_text() == config


def test_other_contents_under_the_same_names_are_not_mixed_with_what_was_done(command: Command, tmp_path: Path) -> None:
    scans, clinic = write_scans(tmp_path / "scans", 20), tmp_path / "clinic"
    for part in ("images", "masks"):
        shutil.copytree(scans, clinic / part)
    lines = ["image,class,group", *(f"scan {i},{'ab'[i % 2]},{i // 2}" for i in range(20))]
    (clinic / "cases.csv").write_text("\n".join(lines))
    pool = write_images(tmp_path / "pool", 6)
    for path in pool.glob("*_mask.png"):
        path.unlink()
    data = ("--data", clinic, "--pretext-data", pool)
    assert command(*data) == 0
    (clinic / "cases.csv").write_text("\n".join([*lines, ""]))  # says the same
    assert command(*data, "--seeds", "0", "1") == 0
    before = {path.name: path.read_bytes() for path in command.out.iterdir() if path.is_file()}
    for file, name in (
        (clinic / "images" / "scan 3.png", "file images/scan 3.png"),
        (clinic / "masks" / "scan 7.png", "file masks/scan 7.png"),
        (pool / "benign (2).png", "pretext-data, file benign (2).png"),
    ):
        content = file.read_bytes()
        pixels = np.asarray(Image.open(file)).copy()
        pixels[5, 5] ^= 1
        Image.fromarray(pixels).save(file)
        assert f"holds a run of other images: {name} has changed since" in command.refuses(*data)
        file.write_bytes(content)
    for k, cells in ((1, "a,99"), (4, "a,1")):  # another class, another group
        row = lines[k + 1].split(",")[0]
        (clinic / "cases.csv").write_text("\n".join([*lines[: k + 1], f"{row},{cells}", *lines[k + 2 :]]))
        assert f"other images: class and group of scan {k} has changed since" in command.refuses(*data)
    assert before == {path.name: path.read_bytes() for path in command.out.iterdir() if path.is_file()}


def test_lesions_smaller_than_a_pixel_are_told_and_finding_nothing_scores_0(command: Command, tmp_path: Path) -> None:
    folder = write_images(tmp_path / "set", 20)
    mask = np.zeros((640, 640), np.uint8)
    mask[320, 323:326] = 255
    Image.fromarray(np.random.default_rng(9).integers(0, 255, mask.shape, np.uint8)).save(folder / "benign (3).png")
    Image.fromarray(mask).save(folder / "benign (3)_mask.png")
    assert command("--data", tmp_path / "set") == 0
    notes = json.loads((command.out / "data.json").read_text())["notes"]
    told = [note for note in notes if "smaller than a pixel" in note]
    assert len(told) == 1
    assert told[0].startswith("1 masks show a structure smaller than a pixel at")
    assert "benign (3): one pixel of it is kept, so finding nothing there scores 0" in told[0]
    data = read(Source("--data", str(tmp_path / "set")), size=32, cache=tmp_path / "cache")
    target = data.masks([data.ids.index("benign (3)")])[0]
    assert target.sum() == 1
    for metric in (metrics.dice, metrics.jaccard, metrics.recall):
        assert metric(torch.zeros_like(target), target) == 0


def test_an_interrupt_while_reading_is_no_traceback(
    command: Command, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(StudyData, "_divide", interrupted)
    assert command() == 130
    assert capfd.readouterr().err.count("\n") == 1


def test_words_of_another_version_are_no_other_configuration(command: Command) -> None:
    assert command() == 0
    file = command.out / "config.json"
    config = json.loads(file.read_text())
    file.write_text(json.dumps(config | {"title": "another title", "words": {}}))
    assert command() == 0
    assert json.loads(file.read_text())["title"] == config["title"]
    file.write_text(json.dumps(config | {"labels_unit": "volumes"}))
    assert "labels_unit" in command.refuses()
