"""`sslmed pretrain` and `sslmed report` as users meet them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("lightning")

import torch
from PIL import Image

from sslmed.methods import COMMANDS, SyntheticLesions
from sslmed.models import ResNetEncoder, ResUNet, UNet, load_encoder, pooled_features
from sslmed.studies import commands, pretraining
from sslmed.studies.learned import encoder_of, verdict
from sslmed.studies.pretraining import Pretraining, held_out
from sslmed.studies.pretraining_settings import Settings, build

TINY = ("--preset", "smoke", "--width", "4", "--epochs", "1", "--batch-size", "4")


def folder_of_images(root: Path, count: int = 12) -> Path:
    rng = np.random.default_rng(0)
    root.mkdir()
    for i in range(count):
        size = (40 + i, 50)  # of mixed sizes
        Image.fromarray(rng.integers(0, 255, size, dtype=np.uint8)).save(root / f"scan {i}.png")
    return root


def outcome(command: str, *arguments: object) -> int:
    with pytest.raises(SystemExit) as exit_:
        getattr(commands, command)([str(a) for a in arguments])
    return int(exit_.value.code or 0)


FAST = ("simclr", "masked")  # an encoder, and a whole network


@pytest.mark.parametrize(
    "method", [name if name in FAST else pytest.param(name, marks=pytest.mark.slow) for name in COMMANDS]
)
def test_every_method_learns_from_a_folder(method: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    data, run = folder_of_images(tmp_path / "scans"), tmp_path / "run"
    assert outcome("pretrain", "--data", data, "--method", method, "--out", run, *TINY) == 0
    shown = capfd.readouterr().out
    assert "unlabelled images: 10 images to learn from, 2 held out" in shown
    page = (run / "report.html").read_text()
    for words in ("Did it learn?", "Of 2 held-out images", "Nearest neighbours", "What the method sees"):
        assert words in page
    assert str(tmp_path) not in page
    if method in ("masked", "synthetic-lesions"):
        network = UNet(width=4) if method == "masked" else ResUNet("resnet18", width=4)
        network.load_state_dict(torch.load(run / "network.pt", weights_only=True))
    else:
        encoder = ResNetEncoder("resnet18", width=4)
        assert load_encoder(encoder, run / "encoder.pt", minimum=1.0).fraction == 1.0
    before = (run / "curves.csv").read_text()
    assert outcome("pretrain", "--data", data, "--method", method, "--out", run, *TINY) == 0  # nothing is left to do
    assert "done before" in capfd.readouterr().out
    assert (run / "curves.csv").read_text() == before
    (run / "report.html").unlink()
    assert outcome("report", run) == 0
    assert (run / "report.html").read_text() == page


@pytest.mark.parametrize("network", [UNet(width=4), ResUNet("resnet18", width=4)])
def test_a_test_of_the_encoder_leaves_the_decoder_learning(network: UNet | ResUNet) -> None:
    method = SyntheticLesions(network)
    encoder = encoder_of(method)
    assert len(pooled_features(encoder, torch.rand(3, 1, 32, 32))) == 3
    assert all(p.requires_grad for p in network.parameters())


def test_other_settings_need_another_folder(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    data, run = folder_of_images(tmp_path / "scans"), tmp_path / "run"
    assert outcome("pretrain", "--data", data, "--out", run, *TINY, "--set", "temperature=0.2") == 0
    assert json.loads((run / "config.json").read_text())["settings"]["temperature"] == 0.2
    assert outcome("pretrain", "--data", data, "--out", run, *TINY) == 2
    assert "settings.temperature: 0.2 there, 0.5 now" in capfd.readouterr().err


def test_other_images_need_another_folder(tmp_path: Path) -> None:
    data, run = folder_of_images(tmp_path / "scans"), tmp_path / "run"

    def prepare() -> None:
        Pretraining(Settings(width=4), data=str(data), out=run, cache=tmp_path / "cache", skip_broken=False, workers=0)

    prepare()
    prepare()  # the same images
    before = {path.name: path.read_bytes() for path in run.iterdir()}
    assert sum("held out" in line for line in before["contents.json"].decode().splitlines()) == 2
    kept = {name: (data / name).read_bytes() for name in ("scan 3.png", "scan 5.png")}
    (data / "scan 3.png").write_bytes(kept["scan 5.png"])
    with pytest.raises(ValueError, match=r"run holds a run of other images: file scan 3.png has changed since"):
        prepare()
    (data / "scan 3.png").rename(data / "scan 30.png")  # as many images
    (data / "scan 30.png").write_bytes(kept["scan 3.png"])
    with pytest.raises(ValueError, match=r"run holds a run of other images: file scan 30?.png has changed since"):
        prepare()
    assert before == {path.name: path.read_bytes() for path in run.iterdir()}


def test_broken_files_are_named_or_left_out(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    data, run = folder_of_images(tmp_path / "scans"), tmp_path / "run"
    whole = (data / "scan 3.png").read_bytes()
    (data / "scan 3.png").write_bytes(whole[: len(whole) // 2])
    assert outcome("pretrain", "--data", data, "--out", run, *TINY) == 2
    assert "scan 3.png" in capfd.readouterr().err
    assert not (run / "config.json").exists()
    assert outcome("pretrain", "--data", data, "--out", run, *TINY, "--skip-broken") == 0
    assert "left out: scan 3.png" in capfd.readouterr().out
    assert "scan 3.png" in (run / "report.html").read_text()


def test_settings_are_listed(capfd: pytest.CaptureFixture[str]) -> None:
    arguments = ("--data", "x", "--out", "y", "--method", "moco", "--set", "momentum=0.9", "--show-settings")
    assert outcome("pretrain", *arguments) == 0
    shown = capfd.readouterr().out.splitlines()
    assert {"method = moco", "momentum = 0.9", "queue_size = 4096", "size = 96", "lr = 0.001"} <= set(shown)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--data", "nowhere"), "--data nowhere: no such folder"),
        (("--data", "nowhere", "--skip-broken"), "--data nowhere: no such folder"),
        (("--data", "phantom", "--method", "vae"), "invalid choice: 'vae'"),
        (("--data", "phantom", "--lr", "0"), "--lr must be above 0, got 0.0"),
        (
            ("--data", "phantom", "--modality", "ct"),
            "--modality: unknown 'ct'; give ultrasound, mr, mammography",
        ),
        (("--data", "phantom", "--method", "pirl", "--size", "64"), "multiple of 6 for a jigsaw, got 64"),
        (
            ("--data", "phantom", "--set", "tau=1"),
            "--set tau: simclr has no such setting; it has temperature",
        ),
        (
            ("--data", "phantom", "--set", "temperature=warm"),
            "temperature=warm: a value like 0.5 was expected",
        ),
        (("--data", "phantom", "--set", "temperature=-1"), "temperature must be"),
        (("--data", "phantom", "--encoder", "vgg"), "vgg"),
        (("--data", "phantom", "--workers", "-1"), "--workers: '-1' is not a non-negative integer"),
        (("--data", "phantom", "--out", "/proc/run"), "--out /proc/run: cannot write there"),
    ],
)
def test_a_mistake_is_one_line_before_images_are_read(
    arguments: tuple[str, ...],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(pretraining, "cached", lambda *_, **__: pytest.fail("images were read"))
    monkeypatch.chdir(tmp_path)
    assert outcome("pretrain", "--out", "run", "--preset", "smoke", *arguments) == 2
    error = capfd.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert not (tmp_path / "run").exists()


def test_report_names_what_is_no_run_folder(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert outcome("report", tmp_path) == 2
    assert "is not a run folder: it has no config.json" in capfd.readouterr().err


def test_report_refuses_a_study_of_an_older_version(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "config.json").write_text('{"methods": ["supervised"]}')
    assert outcome("report", tmp_path) == 2
    assert "was written by an older version of sslmed; run the study again in a new folder" in capfd.readouterr().err


def test_the_verdict_is_mcnemars_exact_test() -> None:
    # Eight gained and none lost: 2 / 2^8.
    better = verdict([False] * 10, [True] * 8 + [False] * 2)
    assert better["p"] == pytest.approx(2 / 2**8)
    assert better["sentence"].startswith("The encoder learned")
    assert verdict([True] * 10, [False] * 10)["sentence"].startswith("The encoder became worse")
    same = verdict([True, False] * 5, [True, False] * 5)
    assert (same["p"], same["matched"]) == (1.0, 0.5)
    assert same["sentence"].startswith("No learning is shown")
    assert verdict([False] * 5, [True] * 5)["p"] == pytest.approx(2 / 2**5)  # five of five may be chance


def test_held_out_images_share_no_group_with_the_others() -> None:
    groups = [f"video {i // 7}" for i in range(140)]

    class Grouped(list[int]):
        groups: list[str]

    data = Grouped(range(140))
    data.groups = groups
    train, kept = held_out(data, seed=0)
    assert sorted(train + kept) == list(range(140))
    assert not {groups[i] for i in train} & {groups[i] for i in kept}
    assert 20 <= len(kept) <= 27
    assert held_out(data, seed=0) == (train, kept)
    assert held_out(data, seed=1) != (train, kept)
    data.groups = ["one"] * 140
    assert [len(part) for part in held_out(data, seed=0)] == [120, 20]


def test_a_start_depends_on_the_seed_alone() -> None:
    settings = Settings(width=4, size=48)
    torch.manual_seed(1)
    one = build(settings, 8)
    torch.manual_seed(2)
    two = build(settings, 8)
    for a, b in zip(one.parameters(), two.parameters(), strict=True):
        assert torch.equal(a, b)
