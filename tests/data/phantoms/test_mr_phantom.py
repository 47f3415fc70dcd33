"""Synthetic MR: replay, Decathlon's items, and zones that lie and look as they should."""

from __future__ import annotations

import math
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch

from sslmed.data import DiskCache, MRPhantom
from sslmed.data.phantoms._pelvis import rician
from sslmed.data.phantoms._prostate import Axes, draw_prostate
from sslmed.metrics import dice


@pytest.fixture(scope="module")
def volumes() -> MRPhantom:
    return MRPhantom(6, size=64, slices=False, seed=1)


def test_volumes_depend_on_seed_and_number_alone() -> None:
    few, many = MRPhantom(2, size=40, slices=False, seed=7), MRPhantom(9, size=40, slices=False, seed=7)
    for v in (1, 0):
        for name in ("image", "mask", "label_map"):
            assert torch.equal(few[v][name], pickle.loads(pickle.dumps(many))[v][name])
    assert not torch.equal(few[0]["image"], MRPhantom(1, size=40, slices=False, seed=8)[0]["image"])
    assert not torch.equal(few[0]["image"], few[1]["image"])


def test_slices_are_the_volumes_slices() -> None:
    slices, volumes = MRPhantom(3, depth=5, size=32), MRPhantom(3, depth=5, size=32, slices=False)
    assert (len(slices), len(volumes)) == (15, 3)
    assert slices.ids[:6] == [*(f"mr-0-000000#{k}" for k in range(5)), "mr-0-000001#0"]
    assert slices.groups == [name for name in slices.volumes for _ in range(5)]
    assert volumes.ids == volumes.groups == volumes.volumes == slices.volumes
    for i in (14, 0, 7, 6, -1):
        item, whole = slices[i], volumes[range(15)[i] // 5]
        assert set(item) == {"image", "mask", "label_map", "id", "group"}
        for name in ("image", "mask", "label_map"):
            assert torch.equal(item[name], whole[name][:, range(15)[i] % 5])
        assert (item["id"], item["group"]) == (slices.ids[i], whole["id"])


def test_an_item_changed_by_its_user_stays_whole_in_the_set() -> None:
    data = MRPhantom(1, depth=3, size=32)
    first = data[0]["image"].clone()
    data[0]["image"].zero_()
    assert torch.equal(data[0]["image"], first)


@pytest.mark.parametrize("size", [32, 47, 64, 130])
def test_items_at_any_size(size: int) -> None:
    item = MRPhantom(1, depth=4, size=size, slices=False)[0]
    assert set(item) == {"image", "mask", "label_map", "spacing_mm", "id", "group"}
    assert item["image"].shape == item["mask"].shape == item["label_map"].shape == (1, 4, size, size)
    types = (item["image"].dtype, item["mask"].dtype, item["label_map"].dtype)
    assert types == (torch.float32, torch.bool, torch.int64)
    assert (item["image"].min(), item["image"].max()) == (0, 1)
    assert torch.equal(item["mask"], item["label_map"] > 0)
    assert item["spacing_mm"] == pytest.approx((54 / 4, 150 / size, 150 / size))


def test_attributes_are_those_of_a_decathlon_task(volumes: MRPhantom) -> None:
    assert volumes.structures == {0: "background", 1: "peripheral zone", 2: "transition zone"}
    assert volumes.sequences == ["T2"]
    assert volumes.labels is None
    assert volumes.size == 64


def test_the_anatomy_is_the_same_at_every_size_and_depth() -> None:
    small, large = (MRPhantom(4, depth=6, size=s, slices=False) for s in (48, 144))
    for a, b in zip(small, large, strict=True):
        for zone in (1, 2):
            up = (a["label_map"] == zone).repeat_interleave(3, 2).repeat_interleave(3, 3)
            assert dice(up, b["label_map"] == zone).item() > 0.8
    for few, many in zip(MRPhantom(4, depth=4, slices=False), MRPhantom(4, depth=12, slices=False), strict=True):
        middles = many["label_map"][:, 1::3]
        assert torch.equal(few["label_map"], middles)


def test_both_zones_are_in_every_volume_and_change_smoothly(volumes: MRPhantom) -> None:
    for item in volumes:
        labels = item["label_map"][0]
        for zone in (1, 2):
            rows = (labels == zone).flatten(1).sum(1)
            assert (rows > 0).sum() >= 4
        shown = [k for k in range(len(labels)) if (labels[k] > 0).sum() > 150]
        assert shown == list(range(shown[0], shown[-1] + 1))
        for k in shown[:-1]:
            assert dice(labels[k : k + 1] > 0, labels[k + 1 : k + 2] > 0).item() > 0.5
        assert 0.01 < item["mask"].float().mean() < 0.12


def test_the_peripheral_zone_is_bright_and_behind(volumes: MRPhantom) -> None:
    for item in volumes:
        image, labels = item["image"], item["label_map"]
        assert image[labels == 1].mean() > image[labels == 2].mean() + 0.05
        rows = torch.arange(64).view(1, 1, 64, 1).expand_as(labels)
        assert rows[labels == 1].float().mean() > rows[labels == 2].float().mean()


def test_the_transition_zone_lies_inside_the_gland() -> None:
    at = Axes.of(12, 100)
    for seed in range(10):
        prostate = draw_prostate(np.random.default_rng(seed))
        gland, inner = prostate.gland(at), prostate.inner(at)
        assert (inner < 0).any()
        assert (gland[inner < 0] < 0).all()


def test_noise_is_rician() -> None:
    """Rayleigh without signal, near Gaussian with much, and E[m^2] = a^2 + 2 sigma^2 always."""
    rng = np.random.default_rng(0)
    for level in (0.0, 0.1, 1.0):
        values = rician(np.full((4, 200, 200), level, dtype=np.float32), 0.1, rng)
        assert np.square(values).mean() == pytest.approx(level**2 + 2 * 0.01, rel=0.02)
        if level == 0:
            assert values.mean() == pytest.approx(0.1 * math.sqrt(math.pi / 2), rel=0.01)
    assert values.std() == pytest.approx(0.1, rel=0.02)


def test_a_cache_takes_the_slices(tmp_path: Path) -> None:
    data = MRPhantom(1, depth=3, size=32)
    cached = DiskCache(data, tmp_path, key="mr")
    for name in ("image", "mask", "label_map"):
        assert torch.equal(cached[1][name], data[1][name])


def test_bad_settings() -> None:
    with pytest.raises(IndexError):
        MRPhantom(2, depth=3)[6]
    with pytest.raises(ValueError, match="count must be at least 1, got 0"):
        MRPhantom(0)
    with pytest.raises(ValueError, match="depth must be at least 3, got 2"):
        MRPhantom(1, depth=2)
    with pytest.raises(ValueError, match="size must be at least 32, got 31"):
        MRPhantom(1, size=31)
    with pytest.raises(ValueError, match="seed must be at least 0, got -1"):
        MRPhantom(1, seed=-1)
