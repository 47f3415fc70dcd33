"""Synthetic mammograms: replay, shares, the texture's spectrum, and masses that show."""

from __future__ import annotations

import math
import pickle

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from sslmed.data import MammogramPhantom, Phantom
from sslmed.data.phantoms._mammogram import power_law
from sslmed.metrics import dice


def test_items_depend_on_seed_and_index_alone() -> None:
    few, many = MammogramPhantom(4, size=48, seed=7), MammogramPhantom(100, size=48, seed=7)
    for i in reversed(range(4)):
        a, b = few[i], pickle.loads(pickle.dumps(many))[i]
        assert torch.equal(a["image"], b["image"])
        assert torch.equal(a["mask"], b["mask"])
        assert (a["id"], a["label"], a["group"]) == (b["id"], b["label"], b["group"])
    assert not torch.equal(few[0]["image"], MammogramPhantom(1, size=48, seed=8)[0]["image"])


@pytest.mark.parametrize("size", [32, 47, 64, 130])
def test_items_at_any_size(size: int) -> None:
    data = MammogramPhantom(8, size=size, seed=2)
    for i, item in enumerate(data):
        image, mask = item["image"], item["mask"]
        assert set(item) == {"image", "mask", "label", "id", "group"}
        assert image.shape == mask.shape == (1, size, size)
        assert (image.dtype, mask.dtype) == (torch.float32, torch.bool)
        assert 0 == image.min() < 0.5 < image.max() <= 1
        torch.testing.assert_close((image * 255).round() / 255, image, atol=1e-6, rtol=0)
        assert mask.any() == (item["label"] != 2)
        assert (item["id"], item["label"], item["group"]) == (data.ids[i], data.labels[i], data.groups[i])


def test_the_anatomy_is_the_same_at_every_size() -> None:
    small, large = MammogramPhantom(12, size=32), MammogramPhantom(12, size=128)
    for a, b in zip(small, large, strict=True):
        if a["mask"].any():
            up = a["mask"].repeat_interleave(4, 1).repeat_interleave(4, 2)
            assert dice(up, b["mask"]).item() > 0.7
        coarse = torch.nn.functional.avg_pool2d(b["image"], 4)
        assert torch.corrcoef(torch.stack([a["image"].flatten(), coarse.flatten()]))[0, 1] > 0.97


def test_classes_come_as_in_the_ultrasound_phantom() -> None:
    assert MammogramPhantom(300, seed=3).labels == Phantom(300, seed=3).labels
    assert MammogramPhantom(780).counts == Phantom(780).counts
    assert MammogramPhantom.classes == Phantom.classes


def test_the_texture_has_the_stated_spectrum() -> None:
    """Power falls with the third power of frequency, up to the highest that is drawn."""
    fields = np.stack([power_law(np.random.default_rng(k), 128) for k in range(8)]).reshape(-1, 128, 128)
    assert fields.var(axis=(1, 2)).mean() == pytest.approx(1, abs=0.2)
    power = np.square(np.abs(np.fft.fft2(fields))).mean(axis=0)
    f = np.hypot(*np.meshgrid(np.fft.fftfreq(128, 1 / 128), np.fft.fftfreq(128, 1 / 128)))
    bands = [(3, 5), (6, 9), (12, 17), (25, 35)]
    levels = [math.log(power[(f >= low) & (f < high)].mean()) for low, high in bands]
    centres = [math.log(f[(f >= low) & (f < high)].mean()) for low, high in bands]
    assert np.polyfit(centres, levels, 1)[0] == pytest.approx(-3, abs=0.2)


@pytest.mark.parametrize("steps", [32, 33, 96])
def test_the_texture_is_one_field_at_every_resolution(steps: int) -> None:
    fine = power_law(np.random.default_rng(0), 4 * steps)[0]
    coarse = power_law(np.random.default_rng(0), steps)[0]
    means = fine.reshape(steps, 4, steps, 4).mean(axis=(1, 3))
    assert np.corrcoef(means.ravel(), coarse.ravel())[0, 1] > 0.99


def test_masses_are_brighter_than_their_surroundings() -> None:
    contrast, areas = [], []
    for item in MammogramPhantom(80, seed=3):
        if item["label"] < 2:
            image, mask = item["image"], item["mask"]
            ring = torch.nn.functional.max_pool2d(mask.float(), 9, 1, 4).bool() & ~mask
            contrast.append((image[mask].mean() - image[ring].mean()).item())
            areas.append(mask.float().mean().item())
    values = torch.tensor(contrast)
    assert values.median() > 0.1
    assert (values > 0).float().mean() > 0.85
    assert min(areas) > 0.002
    assert 0.008 < sum(areas) / len(areas) < 0.04


def test_malignant_outlines_are_rougher_on_average() -> None:
    rough: dict[int, list[float]] = {0: [], 1: [], 2: []}
    for item in MammogramPhantom(80, size=128, seed=1):
        mask = item["mask"][0]
        edge = (mask[:, 1:] != mask[:, :-1]).sum() + (mask[1:] != mask[:-1]).sum()
        rough[item["label"]].append(edge.item() / math.sqrt(max(mask.sum().item(), 1)))
    means = [sum(values) / len(values) for values in rough.values()]
    assert means[1] > 1.05 * means[0]
    assert max(rough[0]) > min(rough[1])  # the classes overlap


def test_the_breast_stands_on_either_side_of_a_black_field() -> None:
    sides = []
    for item in MammogramPhantom(24, seed=0):
        image = item["image"][0]
        left, right = image[:, 0].mean(), image[:, -1].mean()
        assert min(left, right) < 0.02 < 0.1 < max(left, right)
        sides.append(bool(left > right))
    assert set(sides) == {False, True}


def test_batches_load() -> None:
    batch = next(iter(DataLoader(MammogramPhantom(4, size=32), batch_size=4)))
    assert batch["image"].shape == (4, 1, 32, 32)
    assert batch["mask"].dtype == torch.bool


def test_bad_settings() -> None:
    with pytest.raises(IndexError):
        MammogramPhantom(4)[4]
    with pytest.raises(ValueError, match="count must be at least 1, got 0"):
        MammogramPhantom(0)
    with pytest.raises(ValueError, match="size must be at least 32, got 31"):
        MammogramPhantom(4, size=31)
    with pytest.raises(ValueError, match="seed must be at least 0, got -1"):
        MammogramPhantom(4, seed=-1)
    with pytest.raises(TypeError, match="size must be an integer"):
        MammogramPhantom(4, size=64.0)  # type: ignore[arg-type]
