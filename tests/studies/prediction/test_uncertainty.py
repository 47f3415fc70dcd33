"""Measures of disagreement and uncertainty against slow loops, and their closed forms."""

from __future__ import annotations

import pytest

pytest.importorskip("lightning")

import torch

from sslmed.studies.prediction.uncertainty import disagreement, uncertainty


def dice(a: set[int], b: set[int]) -> float:
    return 2 * len(a & b) / (len(a) + len(b)) if a or b else 1.0


def test_disagreement_is_one_minus_the_mean_dice_of_pairs() -> None:
    masks = torch.rand(4, 5, 6, 7, generator=torch.Generator().manual_seed(0)) > 0.6
    masks[:, 0] = False
    masks[1:, 1] = False
    found = disagreement(masks)
    for b in range(5):
        sets = [set(mask.flatten().nonzero().flatten().tolist()) for mask in masks[:, b]]
        pairs = [dice(sets[i], sets[j]) for i in range(4) for j in range(i)]
        assert found[b].item() == pytest.approx(1 - sum(pairs) / len(pairs), abs=1e-6)
    assert found[0] == 0
    assert found[1] == 0.5  # half of the six pairs have an empty mask and another


def test_one_network_agrees_with_itself() -> None:
    assert disagreement(torch.ones(1, 3, 4, 4, dtype=torch.bool)).tolist() == [0, 0, 0]


def test_uncertainty_against_a_loop() -> None:
    probabilities = torch.rand(3, 4, 5, 6, generator=torch.Generator().manual_seed(1))
    found = uncertainty(probabilities)
    for b in range(4):
        total = 0.0
        outline = [float(v > 0.5) for v in probabilities[:, b].mean(0).flatten()]
        for k in range(3):
            values = probabilities[k, b].flatten().tolist()
            overlap = sum(v * m for v, m in zip(values, outline, strict=True))
            total += (2 * overlap + 0.3) / (sum(values) + sum(outline) + 0.3)
        assert found[b].item() == pytest.approx(1 - total / 3, abs=1e-5)


def test_uncertainty_is_zero_for_networks_that_are_sure_of_one_outline() -> None:
    mask = torch.zeros(3, 1, 10, 10)
    assert uncertainty(mask).item() == 0
    mask[:, :, 2:5, 2:5] = 1
    assert uncertainty(mask).item() == pytest.approx(0, abs=1e-6)
    apart = mask.clone()
    apart[2] = 0
    faint = mask * 0.7
    assert uncertainty(apart).item() > 0.2
    assert uncertainty(faint).item() > 0.1
    assert uncertainty(torch.full((3, 1, 100, 100), 1e-4)).item() < 0.02  # faint probabilities all over an empty image
