"""The phantom: replay, classes, masks, and lesions that are neither trivial nor invisible."""

from __future__ import annotations

import math
import pickle
from typing import Any

import pytest
import torch
from torch.utils.data import DataLoader

from sslmed.data import Phantom
from sslmed.metrics import dice


@pytest.fixture(scope="module")
def lesions() -> list[dict[str, Any]]:
    """The lesions of 240 items."""
    return [item for item in Phantom(240, size=64, seed=3) if item["label"] != 2]


def same(a: dict[str, Any], b: dict[str, Any]) -> bool:
    return a.keys() == b.keys() and all(
        torch.equal(v, b[k]) if isinstance(v, torch.Tensor) else v == b[k] for k, v in a.items()
    )


def test_items_depend_on_seed_and_index_alone() -> None:
    few, many = Phantom(5, size=48, seed=7), Phantom(500, size=48, seed=7)
    backwards = [many[i] for i in reversed(range(5))][::-1]
    assert all(same(a, b) for a, b in zip(few, backwards, strict=True))
    assert same(pickle.loads(pickle.dumps(many))[123], many[123])
    assert same(many[-1], many[499])
    state = torch.get_rng_state()
    torch.manual_seed(0)
    assert same(few[0], backwards[0])
    torch.set_rng_state(state)


def test_other_seeds_and_indices_give_other_images() -> None:
    images = [Phantom(3, size=32, seed=s)[i]["image"] for s in (0, 1) for i in range(3)]
    images = [image.numpy().tobytes() for image in images]
    assert len(set(images)) == 6
    assert set(Phantom(3, seed=0).ids).isdisjoint(Phantom(3, seed=1).ids)


@pytest.mark.parametrize("size", [32, 33, 47, 64, 100, 224])
def test_items_at_any_size(size: int) -> None:
    data = Phantom(12, size=size, seed=2)
    for i, item in enumerate(data):
        image, mask = item["image"], item["mask"]
        assert image.shape == mask.shape == (1, size, size)
        assert image.dtype == torch.float32
        assert mask.dtype == torch.bool
        assert 0 <= image.min() < image.max() <= 1
        torch.testing.assert_close((image * 255).round() / 255, image, atol=1e-6, rtol=0)
        assert (item["id"], item["label"], item["group"]) == (data.ids[i], data.labels[i], data.groups[i])
        assert mask.any() == (item["label"] != 2)


def test_the_anatomy_is_the_same_at_every_size() -> None:
    small, large = Phantom(20, size=32), Phantom(20, size=128)
    overlaps = []
    for a, b in zip(small, large, strict=True):
        if a["label"] < 2:
            up = a["mask"].repeat_interleave(4, 1).repeat_interleave(4, 2)
            overlaps.append(dice(up, b["mask"]).item())
    assert sum(overlaps) / len(overlaps) > 0.85


def test_classes_come_in_busis_proportions() -> None:
    for seed in range(4):
        data = Phantom(780, seed=seed)
        for name, n in (("benign", 437), ("malignant", 210), ("normal", 133)):
            assert abs(data.counts[name] - n) <= 2
        assert set(Phantom(12, seed=seed).labels) == {0, 1, 2}
    assert len(set(data.groups)) == 780


def test_every_lesion_has_a_mask_and_no_mask_fills_the_image(lesions: list[dict[str, Any]]) -> None:
    areas = torch.tensor([item["mask"].float().mean() for item in lesions])
    assert areas.min() > 0.003
    assert areas.max() < 0.5
    assert 0.03 < areas.mean() < 0.12


def test_shape_tells_the_classes_apart_on_average(lesions: list[dict[str, Any]]) -> None:
    ratio: dict[int, list[float]] = {0: [], 1: []}
    rough: dict[int, list[float]] = {0: [], 1: []}
    for item in lesions:
        mask = item["mask"][0]
        rows, columns = mask.any(1).sum().item(), mask.any(0).sum().item()
        ratio[item["label"]].append(columns / rows)
        edge = (mask[:, 1:] != mask[:, :-1]).sum() + (mask[1:] != mask[:-1]).sum()
        rough[item["label"]].append(edge.item() / math.sqrt(mask.sum().item()))
    mean = {k: sum(v) / len(v) for k, v in ratio.items()}
    assert mean[0] > 1.25 > mean[1]
    assert sum(rough[1]) / len(rough[1]) > 1.05 * sum(rough[0]) / len(rough[0])
    assert min(ratio[0]) < sorted(ratio[1])[-len(ratio[1]) // 4]  # the classes overlap


def test_a_threshold_does_not_segment_the_lesions(lesions: list[dict[str, Any]]) -> None:
    images, masks = torch.cat([i["image"] for i in lesions]), torch.cat([i["mask"] for i in lesions])
    levels = torch.arange(0.02, 0.6, 0.02)
    scores = torch.stack([dice(images < level, masks) for level in levels])
    assert scores.mean(dim=1).max() < 0.35  # one level for all
    assert scores.max(dim=0).values.mean() < 0.5  # the best level of each image, which none knows


def test_lesions_differ_from_their_surroundings(lesions: list[dict[str, Any]]) -> None:
    """Most are darker than the ring around them, some are not: brightness helps, and does not suffice."""
    darker = []
    for item in lesions:
        mask, image = item["mask"].float(), item["image"]
        ring = (torch.nn.functional.max_pool2d(mask, 9, 1, 4) - mask).bool()
        darker.append((image[ring].mean() - image[item["mask"]].mean()).item())
    values = torch.tensor(darker)
    assert values.median() > 0.08
    assert (values > 0).float().mean() > 0.7
    assert (values < 0.02).float().mean() > 0.03


def test_batches_load() -> None:
    batch = next(iter(DataLoader(Phantom(6, size=32), batch_size=6)))
    assert batch["image"].shape == (6, 1, 32, 32)
    assert batch["mask"].dtype == torch.bool
    assert len(batch["id"]) == 6


def test_bad_settings() -> None:
    for index in (4, -5):
        with pytest.raises(IndexError):
            Phantom(4)[index]
    with pytest.raises(TypeError, match="object cannot be interpreted as an integer"):
        Phantom(4)[1.0]
    with pytest.raises(ValueError, match="count must be at least 1, got 0"):
        Phantom(0)
    with pytest.raises(ValueError, match="size must be at least 32, got 31"):
        Phantom(4, size=31)
    with pytest.raises(ValueError, match="seed must be at least 0, got -1"):
        Phantom(4, seed=-1)
    with pytest.raises(ValueError, match="organ must be one of 'breast', 'heart', 'lung', got 'liver'"):
        Phantom(4, organ="liver")
