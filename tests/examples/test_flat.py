"""The flat examples: each learns from a folder of images, resumes, and leaves an encoder that loads."""

from __future__ import annotations

import importlib
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from sslmed.models import ResNetEncoder, load_encoder

EXAMPLES = ("simclr", "moco", "byol", "simsiam", "pirl")
ROOT = Path(__file__).parents[2] / "examples"


@pytest.mark.parametrize("name", ["simclr", *(pytest.param(name, marks=pytest.mark.slow) for name in EXAMPLES[1:])])
def test_a_flat_example_learns_from_a_folder_and_resumes(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    rng = np.random.default_rng(0)
    scans = tmp_path / "scans"
    scans.mkdir()
    for i in range(8):
        Image.fromarray(rng.integers(0, 255, (50, 60), dtype=np.uint8)).save(scans / f"{i}.png")
    main = importlib.import_module(name).main

    def run(out: str, epochs: int) -> str:
        settings = ["--size", "48", "--batch-size", "4", "--epochs", str(epochs)]
        monkeypatch.setattr(sys, "argv", [name, "--data", str(scans), "--out", str(tmp_path / out), *settings])
        main()
        return capfd.readouterr().out

    assert run("run", 2).count("epoch") == 2
    encoder = ResNetEncoder("resnet18", width=32)
    assert load_encoder(encoder, tmp_path / "run" / "encoder.pt", minimum=1.0).fraction == 1.0
    resumed = run("run", 3)
    assert "epoch 3" in resumed
    assert "epoch 2" not in resumed
    assert all(torch.isfinite(p).all() for p in encoder.parameters())


def test_flat_examples_are_short() -> None:
    for name in EXAMPLES:
        assert len((ROOT / f"{name}.py").read_text().splitlines()) <= 100, name


def test_a_method_learns_in_lightnings_trainer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("lightning")
    example = importlib.import_module("lightning_trainer")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["lightning_trainer", "--epochs", "1"])
    monkeypatch.setattr(example, "Phantom", lambda count, size: _Few(count, size))
    with warnings.catch_warnings(action="ignore"):  # Lightning's, on loaders without workers and on few steps
        example.main()
    encoder = ResNetEncoder("resnet18", width=32)
    assert load_encoder(encoder, tmp_path / "encoder.pt", minimum=1.0).fraction == 1.0


class _Few(torch.utils.data.Dataset[dict[str, torch.Tensor]]):
    def __init__(self, count: int, size: int) -> None:
        self.size = size

    def __len__(self) -> int:
        return 8

    def __getitem__(self, i: int) -> dict[str, torch.Tensor]:
        return {"image": torch.rand(1, self.size, self.size)}
