"""The choice of scans to outline next."""

from __future__ import annotations

import math

import pytest

pytest.importorskip("lightning")

import torch

from sslmed.studies.prediction.label_next import choose_next


def reference(features: list[list[float]], uncertainty: list[float], count: int) -> list[int]:
    """Each time all distances anew."""
    chosen = [max(range(len(features)), key=lambda i: uncertainty[i])]
    while len(chosen) < count:
        others = [i for i in range(len(features)) if i not in chosen]
        chosen.append(
            max(others, key=lambda i: uncertainty[i] * min(math.dist(features[i], features[j]) for j in chosen))
        )
    return chosen


@pytest.mark.parametrize("seed", range(5))
def test_against_the_reference(seed: int) -> None:
    draw = torch.Generator().manual_seed(seed)
    features, uncertainty = torch.rand(30, 4, generator=draw).double(), torch.rand(30, generator=draw).double()
    found = choose_next(features, uncertainty, 12)
    assert found == reference(features.tolist(), uncertainty.tolist(), 12)
    assert choose_next(features.float(), uncertainty.float(), 5) == found[:5]


def test_copies_and_certain_scans_come_last() -> None:
    features = torch.tensor([[0.0], [0.0], [3.0], [1.0]])
    assert choose_next(features, torch.tensor([1.0, 0.9, 0.0, 0.2]), 10) == [0, 3, 1, 2]
    assert choose_next(features, torch.tensor([1.0, 0.9, 0.0, 0.2]), 2) == [0, 3]
    assert choose_next(features, torch.zeros(4), 4) == [0, 1, 2, 3]
    assert choose_next(features[:0], torch.zeros(0), 4) == []


def test_wrong_shapes_are_refused() -> None:
    with pytest.raises(ValueError, match="of the same scans, got 3, 2"):
        choose_next(torch.rand(3, 2), torch.rand(2), 1)
    with pytest.raises(ValueError, match="count"):
        choose_next(torch.rand(3, 2), torch.rand(3), -1)


def test_preferred_scans_come_first_and_count_for_the_distance_of_the_others() -> None:
    features = torch.tensor([[0.0], [0.1], [5.0], [9.0]])
    uncertainty = torch.tensor([1.0, 0.9, 0.8, 0.1])
    assert choose_next(features, uncertainty, 4) == [0, 2, 3, 1]
    shown = torch.tensor([False, True, False, True])
    assert choose_next(features, uncertainty, 4, preferred=shown) == [1, 3, 2, 0]
    assert choose_next(features, uncertainty, 1, preferred=shown) == [1]
    assert choose_next(features, uncertainty, 4, preferred=torch.zeros(4, dtype=torch.bool)) == [0, 2, 3, 1]
    with pytest.raises(ValueError, match="preferred must be of the same scans"):
        choose_next(features, uncertainty, 4, preferred=shown[:2])
