"""The command line that all programs share: settings reach the preset, and long runs say how long they take."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

pytest.importorskip("lightning")

import torch
from PIL import Image

import mr_masked_vs_contrastive
import multi_organ
import multimodal_breast
import ultrasound_relation
from programs import prepared
from sslmed.data import Phantom
from sslmed.studies.estimate import estimate
from sslmed.studies.program import chosen, parse
from sslmed.studies.settings import listed

PROGRAMS = [ultrasound_relation, multi_organ, multimodal_breast, mr_masked_vs_contrastive]


def settings(program: ModuleType, *arguments: str) -> dict[str, object]:
    args = parse(program.make_parser(), program.METHODS, arguments)
    return listed(chosen(args, program.PRESETS[args.preset]))


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda p: p.__name__)
def test_options_set_what_they_name_and_nothing_else(program: ModuleType) -> None:
    before = settings(program)
    given = ("--epochs", "7", "--width", "12", "--lr", "0.5", "--set", "finetune.epochs=9")
    changed = {name: value for name, value in settings(program, *given).items() if before[name] != value}
    rates = {name for name in changed if name not in ("pretext.epochs", "width", "finetune.epochs")}
    assert (changed["pretext.epochs"], changed["width"], changed["finetune.epochs"]) == (7, 12, 9)
    assert rates
    assert all(name.startswith(("lr", "pretext_lr.", "constants.adam.", "constants.rate.")) for name in rates)
    assert {changed[name] for name in rates} == {0.5}
    assert settings(program, "--precision", "32-true")["finetune.precision"] == "32-true"


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda p: p.__name__)
def test_a_preset_for_one_gpu_stands_between_small_and_paper(program: ModuleType) -> None:
    found = settings(program, "--preset", "gpu")
    assert (found["size"], found["pretext.epochs"]) == (224, 200)


def test_the_size_takes_the_crops_along() -> None:
    found = settings(ultrasound_relation, "--preset", "paper", "--size", "112")
    assert (found["size"], found["crop"]) == (112, 108)
    found = settings(multimodal_breast, "--preset", "paper", "--size", "128")
    assert (found["size"], found["crop"]) == (128, 220)
    assert settings(multi_organ, "--preset", "paper", "--size", "64")["batch.moco"] == 64


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda p: p.__name__)
def test_the_size_is_the_same_setting_by_either_option(program: ModuleType) -> None:
    own = settings(program, "--preset", "paper", "--size", "64")
    assert own["size"] == 64
    assert settings(program, "--preset", "paper", "--set", "size=64") == own


def test_settings_are_shown_without_reading_anything(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    given = ["--show-settings", "--set", "constants.lam_rcl=0.3", "--data", "nowhere", "--out", str(tmp_path / "run")]
    monkeypatch.setattr(sys, "argv", ["ultrasound_relation.py", *given])
    with pytest.raises(SystemExit) as stop:
        ultrasound_relation.main()
    assert stop.value.code == 0
    assert "constants.lam_rcl = 0.3\n" in capsys.readouterr().out
    assert not (tmp_path / "run").exists()


def test_the_time_is_estimated_without_touching_the_random_state(tmp_path: Path) -> None:
    run = prepared(ultrasound_relation, tmp_path / "run", "--set", "phantoms=20")
    torch.manual_seed(3)
    state = torch.get_rng_state()
    sentence = estimate(run)
    assert torch.equal(state, torch.get_rng_state())
    assert sentence.startswith("On this CPU the run takes about ")
    assert not list((tmp_path / "run").glob("pretext"))


def test_the_time_of_pretexts_alone_is_estimated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "scans").mkdir()
    for i, item in enumerate(Phantom(6, size=48)):
        Image.fromarray((item["image"][0].numpy() * 255).astype(np.uint8)).save(tmp_path / "scans" / f"{i}.png")
    run = prepared(ultrasound_relation, tmp_path / "run", "--data", tmp_path / "scans", "--methods", "jig/rcl")
    assert not run.trains
    assert estimate(run).startswith("On this CPU the run takes about ")
