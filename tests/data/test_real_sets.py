"""The readers on the public sets themselves, where SSLMED_DATA names a folder that holds them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

from sslmed.data import BUSBRA, BUSI, CovidLUS, splits

DATA = os.environ.get("SSLMED_DATA")
pytestmark = pytest.mark.skipif(not DATA, reason="SSLMED_DATA is not set (a folder with busi/ and bus_bra/)")


@pytest.fixture(scope="module")
def root() -> Path:
    return Path(DATA or "")


def test_busi(root: Path) -> None:
    data = BUSI(root / "busi", size=64, allow_partial=True)
    items = list(data)
    assert len(items) == sum(data.counts.values())
    for item in items:
        assert item["image"].std() > 0.01
        assert item["mask"].any() == (item["label"] != 2)
    if data.groups is not None:
        # These groups are of plain correlation, which also joins views of one lesion and misses cropped copies.
        found = splits.near_duplicates(torch.stack([item["image"] for item in items])).tolist()
        known: dict[str, list[int]] = {}
        for group, first in zip(data.groups, found, strict=True):
            known.setdefault(group, []).append(first)
        several = [firsts for firsts in known.values() if len(firsts) > 1]
        assert sum(len(set(firsts)) < len(firsts) for firsts in several) >= 0.95 * len(several)
        assert found[data.ids.index("benign (433)")] == found[data.ids.index("malignant (145)")]


def test_busbra(root: Path) -> None:
    data = BUSBRA(root / "bus_bra", size=64, allow_partial=True)
    assert all(item["mask"].any() for item in data)
    parts = splits.group_split(data.groups, (0.7, 0.1, 0.2), labels=data.labels, seed=0)
    splits.assert_disjoint(*([data[i] for i in part] for part in (parts[0], parts[2])))


def test_covid_lus(root: Path) -> None:
    data = CovidLUS(root / "covid_lus", size=64)
    assert all(item["image"].std() > 0.01 for item in data)
    assert set(CovidLUS(root / "covid_lus", licences=("CC BY 2.0",)).licences) == {"CC BY 2.0"}
    parts = splits.group_split(data.groups, (0.8, 0.2), labels=data.labels, seed=0)
    splits.assert_disjoint(*([data[i] for i in part] for part in parts))
