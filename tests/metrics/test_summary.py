"""The table of per-case values: statistics against numpy, pooled values against one large image, nothing lost."""

from __future__ import annotations

import csv
import io
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sslmed import metrics
from sslmed.metrics import dice, hausdorff, pixel_counts, summarize

OVERLAPS = ("dice", "jaccard", "precision", "recall", "pixel_accuracy", "balanced_pixel_accuracy")


def masks(count: int, *, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Lesions of all sizes, the small ones found worse; the first case is empty in both, the second was missed."""
    generator = torch.Generator().manual_seed(seed)
    share = torch.rand(count, 1, 1, generator=generator) ** 3
    target = torch.rand(count, 12, 10, generator=generator) < share
    pred = target & (torch.rand(count, 12, 10, generator=generator) < 0.4 + 0.6 * share)
    target[:, 5, 5] = pred[:, 5, 5] = True
    target[0] = pred[:2] = False
    return pred, target


def overlaps(pred: torch.Tensor, target: torch.Tensor) -> dict[str, torch.Tensor]:
    return {name: getattr(metrics, name)(pred, target) for name in OVERLAPS}


@pytest.mark.parametrize("count", [2, 3, 4, 41])
def test_statistics_equal_numpy(count: int) -> None:
    pred, target = masks(count)
    values = overlaps(pred, target)
    for row in summarize(values).rows:
        column = values[row.metric].double().numpy()
        assert (row.cases, row.undefined, row.infinite, row.pooled) == (count, 0, 0, None)
        assert (row.mean, row.sd) == (column.mean(), column.std(ddof=1))
        assert [row.q1, row.median, row.q3] == pytest.approx(np.quantile(column, [0.25, 0.5, 0.75]))


def test_pooled_is_the_value_of_one_image_of_all_pixels(device: torch.device) -> None:
    pred, target = (mask.to(device) for mask in masks(30))
    summary = summarize(overlaps(pred, target), counts=pixel_counts(pred, target))
    whole = overlaps(pred.flatten(0, 1)[None], target.flatten(0, 1)[None])
    for name in OVERLAPS:
        assert summary[name].pooled == pytest.approx(float(whole[name]), abs=1e-6)
    assert summary["dice"].pooled != pytest.approx(summary["dice"].mean, abs=0.01)  # large lesions decide


def test_jaccard_follows_from_dice_per_case_and_pooled_but_not_for_means() -> None:
    pred, target = masks(30)
    values = overlaps(pred, target)
    summary = summarize(values, counts=pixel_counts(pred, target))
    d, j = summary["dice"], summary["jaccard"]
    assert j.pooled == pytest.approx(d.pooled / (2 - d.pooled), abs=1e-12)
    torch.testing.assert_close(values["jaccard"], values["dice"] / (2 - values["dice"]))
    assert j.mean != pytest.approx(d.mean / (2 - d.mean), abs=0.01)
    # x / (2 - x) is convex, and what a table of means cannot break: mean(D - J) >= (m - m^2 - s^2) / 2
    variance = d.sd**2 * (d.cases - 1) / d.cases
    assert d.mean - j.mean >= (d.mean - d.mean**2 - variance) / 2


@pytest.mark.parametrize(
    ("pred", "target", "expected"),
    [
        ("00", "00", {"dice": 1, "jaccard": 1, "precision": 1, "recall": 1, "balanced_pixel_accuracy": 1}),
        ("00", "01", {"dice": 0, "jaccard": 0, "precision": 0, "recall": 0, "balanced_pixel_accuracy": 0.5}),
        ("11", "00", {"dice": 0, "jaccard": 0, "precision": 0, "recall": 0, "balanced_pixel_accuracy": 0}),
        ("11", "11", {"dice": 1, "jaccard": 1, "precision": 1, "recall": 1, "balanced_pixel_accuracy": 1}),
    ],
)
def test_pooled_values_follow_the_policy_for_empty_masks(pred: str, target: str, expected: dict[str, float]) -> None:
    p, t = (torch.tensor([[[c == "1" for c in bits]]]) for bits in (pred, target))
    summary = summarize(overlaps(p, t), counts=pixel_counts(p, t))
    for row in summary.rows:
        assert row.pooled == row.mean
        assert row.pooled == expected.get(row.metric, row.pooled)


def test_counts_of_batches_of_different_sizes_are_joined() -> None:
    parts = [(p[:, :rows], t[:, :rows]) for rows, (p, t) in zip((12, 5), (masks(6), masks(4, seed=1)), strict=True)]
    values = torch.cat([dice(p, t) for p, t in parts])
    summary = summarize({"dice": values}, counts=torch.cat([pixel_counts(p, t) for p, t in parts]))
    both = sum(int((p & t).sum()) for p, t in parts)
    assert summary["dice"].pooled == 2 * both / sum(int(p.sum() + t.sum()) for p, t in parts)


def test_empty_masks_are_counted() -> None:
    pred, target = (torch.zeros(6, 4, 4, dtype=torch.bool) for _ in range(2))
    pred[:3, 0, 0] = target[2:5, 0, 0] = True
    summary = summarize({"dice": dice(pred, target)}, counts=pixel_counts(pred, target))
    assert summary.empty == {"target": 3, "pred": 3, "both": 1}
    assert str(summary).endswith("Empty masks: 3 in the target, 3 in the prediction, 1 in both.")
    assert summarize({"dice": dice(pred, target)}).empty is None


def test_nothing_drops_out_unseen() -> None:
    pred, target = masks(8)
    distances = {word: hausdorff(pred, target, empty=word) for word in ("worst", "inf", "nan")}
    summary = summarize(distances)
    assert [row.undefined for row in summary.rows] == [0, 0, 2]
    assert [row.infinite for row in summary.rows] == [0, 1, 0]
    assert summary["inf"].mean == math.inf
    assert summary["inf"].sd is None
    assert summary["inf"].median == pytest.approx(float(distances["worst"].median()), abs=1)
    assert summary["nan"].mean == pytest.approx(float(distances["nan"].nanmean()))
    text = str(summary)
    assert "6 of 8" in text
    assert "nan: of 8 cases 2 undefined (NaN) and left out." in text
    assert "inf: of 8 cases 1 infinite." in text
    lost = summarize({"distance": [math.nan, math.nan]})["distance"]
    assert (lost.cases, lost.undefined, lost.mean, lost.sd, lost.median, lost.q1) == (2, 2, *[None] * 4)
    assert "of 2 cases 2 undefined" in str(summarize({"distance": [math.nan, math.nan]}))


@given(st.lists(st.one_of(st.floats(0, 9), st.just(math.inf)), min_size=1, max_size=9))
@settings(deadline=None)
def test_quartiles_with_infinite_values(values: list[float]) -> None:
    row = summarize({"distance": values})["distance"]
    far = [1e12 if math.isinf(v) else v for v in values]  # a large number instead shows where infinity reaches
    for found, expected in zip((row.q1, row.median, row.q3), np.quantile(far, [0.25, 0.5, 0.75]), strict=True):
        assert found == (math.inf if expected > 1e10 else pytest.approx(expected))


def test_text_is_an_aligned_markdown_table() -> None:
    lines = str(summarize({"dice": [0.5, 1.0], "hd95": [3.0, 127.25]})).splitlines()
    assert [cell.strip() for cell in lines[0].split("|")[1:-1]] == [
        "metric",
        "cases",
        "mean",
        "SD",
        "median",
        "IQR",
        "pooled",
    ]
    assert len({len(line) for line in lines}) == 1
    assert set(lines[1]) == {"|", "-", ":"}
    assert "0.625 to 0.875" in lines[2]
    assert [cell.strip() for cell in lines[3].split("|")[1:4]] == ["hd95", "2", "65.125"]
    assert len(lines) == 4


def test_csv_keeps_every_digit() -> None:
    pred, target = masks(7)
    summary = summarize({"dice": dice(pred, target), "far": [math.inf] * 7}, counts=pixel_counts(pred, target))
    first, second = csv.DictReader(io.StringIO(summary.to_csv()))
    assert float(first["mean"]) == summary["dice"].mean
    assert float(first["pooled"]) == summary["dice"].pooled
    assert (first["metric"], first["cases"], first["empty_both"]) == ("dice", "7", str(summary.empty["both"]))
    assert (second["mean"], second["sd"], second["pooled"], second["infinite"]) == ("inf", "", "", "7")
    (row,) = csv.DictReader(io.StringIO(summarize({"dice": [1.0]}).to_csv()))
    assert (row["sd"], row["empty_target"]) == ("", "")


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda c: summarize({}), ValueError, "values must hold at least one metric"),
        (
            lambda c: summarize({"dice": []}),
            ValueError,
            r"values\['dice'\] must hold at least 1 values, got 0",
        ),
        (lambda c: summarize({"dice": ["a"]}), TypeError, r"values\['dice'\] must be numbers"),
        (
            lambda c: summarize({"dice": torch.rand(2, 1)}),
            ValueError,
            r"values\['dice'\] must have shape \(N,\)",
        ),
        (
            lambda c: summarize({"dice": [1.0], "hd": [1.0, 2.0]}),
            ValueError,
            r"must be of the same cases, got \{'dice': 1, 'hd': 2\}",
        ),
        (lambda c: summarize({"dice": [1.0]}, counts=c), ValueError, r"got \{'dice': 1, 'counts': 2\}"),
        (
            lambda c: summarize({"dice": [1.0, 1.0]}, counts=c[:, :3]),
            ValueError,
            r"counts must have shape \(N, 4\)",
        ),
        (
            lambda c: summarize({"dice": [1.0, 1.0]}, counts=c.double()),
            TypeError,
            "counts must be .* of integers",
        ),
    ],
)
def test_bad_input(call, error: type[Exception], message: str) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(error, match=message):
        call(torch.zeros(2, 4, dtype=torch.int64))


def test_an_unknown_row() -> None:
    with pytest.raises(KeyError, match="'hd95' is none of 'dice', 'jaccard'"):
        summarize({"dice": [1.0], "jaccard": [1.0]})["hd95"]
