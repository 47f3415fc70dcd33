"""Nearest neighbours and the linear probe: loops, closed forms, determinism, bad input."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

import reference
from sslmed.metrics import knn_predictions, linear_probe_predictions, probes

BOTH = [knn_predictions, linear_probe_predictions]


def cases(n: int, d: int, classes: int, seed: int = 0, noise: float = 1.0) -> tuple[torch.Tensor, torch.Tensor]:
    """Features around a centre for each class."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(classes, (n,), generator=generator)
    centres = torch.randn(classes, d, generator=torch.Generator().manual_seed(9), dtype=torch.float64)
    return centres[labels] + noise * torch.randn(n, d, generator=generator, dtype=torch.float64), labels


@pytest.mark.parametrize("held", [1, 256])
@pytest.mark.parametrize(("k", "temperature"), [(1, 0.07), (7, 0.07), (7, 10.0), (40, 0.5)])
def test_neighbours_vote_as_in_the_loop(k: int, temperature: float, held: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probes, "_ROWS", held)
    train, labels = cases(40, 5, 3)
    test, _ = cases(25, 5, 3, seed=1)
    expected = reference.knn_predictions(train, labels.tolist(), test, 3, k, temperature)
    assert knn_predictions(train, labels, test, classes=3, k=k, temperature=temperature).tolist() == expected
    assert len(set(expected)) == 3


@pytest.mark.parametrize(("n", "d"), [(40, 5), (12, 30)])  # more rows than features, and fewer
@pytest.mark.parametrize("ridge", [1e-3, 1.0, 30.0])
def test_the_linear_probe_is_least_squares_with_a_penalty(n: int, d: int, ridge: float) -> None:
    train, labels = cases(n, d, 3)
    test, _ = cases(50, d, 3, seed=1)
    expected = reference.linear_probe_predictions(train, labels.tolist(), test, 3, ridge)
    assert linear_probe_predictions(train, labels, test, classes=3, ridge=ridge).tolist() == expected
    assert len(set(expected)) > 1


@pytest.mark.parametrize("probe", BOTH)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.float64])
def test_classes_that_lie_apart_are_found(probe: Any, dtype: torch.dtype, device: torch.device) -> None:
    train, labels = cases(60, 8, 3, noise=0.1)
    test, expected = cases(30, 8, 3, seed=1, noise=0.1)
    found = probe(train.to(device, dtype), labels.to(device), test.to(device, dtype), classes=3)
    assert found.dtype == torch.int64
    assert found.device.type == device.type
    assert torch.equal(found.cpu(), expected)


def test_lengths_do_not_matter_to_neighbours_and_scales_not_to_the_probe() -> None:
    train, labels = cases(40, 6, 3)
    test, _ = cases(25, 6, 3, seed=1)
    long = 3.0 ** torch.arange(40, dtype=torch.float64)[:, None] % 1e3 + 1
    assert torch.equal(
        knn_predictions(train * long, labels, test / 7, classes=3), knn_predictions(train, labels, test, classes=3)
    )
    scales, offset = 10.0 ** torch.arange(-3, 3, dtype=torch.float64), torch.arange(6.0, dtype=torch.float64)
    assert torch.equal(
        linear_probe_predictions(train * scales + offset, labels, test * scales + offset, classes=3),
        linear_probe_predictions(train, labels, test, classes=3),
    )


def test_features_that_are_constant_in_training_are_not_used() -> None:
    train, labels = cases(40, 4, 2)
    test, _ = cases(25, 4, 2, seed=1)
    expected = linear_probe_predictions(train, labels, test, classes=2)
    wide = torch.cat([train, torch.full((40, 3), 0.1, dtype=torch.float64)], 1)
    other = torch.cat([test, 1e6 * torch.ones(25, 3, dtype=torch.float64)], 1)
    assert torch.equal(linear_probe_predictions(wide, labels, other, classes=2), expected)


@pytest.mark.parametrize("probe", BOTH)
def test_a_collapse_gives_one_class(probe: Any) -> None:
    labels = torch.tensor([0, 1, 1, 2, 1, 0] * 4)
    found = probe(torch.ones(24, 5), labels, torch.ones(7, 5), classes=3)
    assert len(found.unique()) == 1
    if probe is linear_probe_predictions:  # all training rows decide, so it is the most frequent one
        assert found[0] == 1


def test_of_equally_similar_rows_the_first_ones_vote() -> None:
    train = torch.tensor([[1.0, 0.0]]).repeat(5, 1)
    labels = torch.tensor([1, 1, 0, 0, 0])
    assert knn_predictions(train, labels, train[:1], classes=2, k=3).item() == 1
    assert knn_predictions(train, labels, train[:1], classes=2, k=4).item() == 0  # two votes each: the lower number


@pytest.mark.parametrize("probe", BOTH)
@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"train": [[1.0]]}, TypeError, r"train must be a torch\.Tensor, got list"),
        ({"test": torch.ones(2, 3, dtype=torch.int64)}, TypeError, "test must be a floating point tensor"),
        ({"train": torch.rand(4)}, ValueError, r"train must have shape \(N, D\), got \(4,\)"),
        ({"test": torch.rand(0, 3)}, ValueError, "test must have at least one row and one feature, got"),
        ({"test": torch.rand(2, 5)}, ValueError, "the same number of features, got 3 and 5"),
        ({"labels": torch.tensor([0, 1])}, ValueError, "one class for each of the 4 rows of train, got 2"),
        ({"labels": torch.tensor([0, 1, 2, 0])}, ValueError, "labels"),
        ({"labels": torch.rand(4)}, TypeError, "labels"),
        ({"classes": 1}, ValueError, "classes must be at least 2, got 1"),
        ({"test": torch.rand(2, 3, device="meta")}, ValueError, "same device"),
    ],
)
def test_bad_input(probe: Callable[..., Any], change: dict[str, Any], error: type[Exception], message: str) -> None:
    given: dict[str, Any] = {
        "train": torch.rand(4, 3),
        "labels": torch.tensor([0, 1, 0, 1]),
        "test": torch.rand(2, 3),
        "classes": 2,
    } | change
    own = {"k": 2} if probe is knn_predictions else {}
    with pytest.raises(error, match=message):
        probe(given["train"], given["labels"], given["test"], classes=given["classes"], **own)


def test_bad_settings() -> None:
    train, labels = torch.rand(4, 3), torch.tensor([0, 1, 0, 1])
    with pytest.raises(ValueError, match=r"k must be in 1\.\.4, got 20"):
        knn_predictions(train, labels, train, classes=2)
    with pytest.raises(ValueError, match="temperature must be a finite number"):
        knn_predictions(train, labels, train, classes=2, k=2, temperature=0)
    with pytest.raises(ValueError, match="ridge must be a finite number"):
        linear_probe_predictions(train, labels, train, classes=2, ridge=0)
