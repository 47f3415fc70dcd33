"""Classification metrics against a thesis' golden matrices, closed forms and scikit-learn."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sslmed.metrics import (
    average_precision,
    balanced_accuracy,
    confusion_matrix,
    mcc,
    roc_auc,
    sensitivity,
    specificity,
    weighted_f1,
)

# Confusion matrices (rows truth: benign, malignant, normal) of a thesis' test sets, with the MCC, balanced accuracy and
# weighted F1 that it prints.
GOLDEN = {
    "M1": ([[32, 9, 0], [13, 20, 0], [6, 1, 0]], 0.33423, 0.46218, 0.61079),
    "M2": ([[36, 5, 0], [21, 12, 0], [7, 0, 0]], 0.24636, 0.41390, 0.54265),
    "M3": ([[39, 1, 0], [26, 6, 0], [4, 2, 0]], 0.22403, 0.38750, 0.48705),
    "M5": ([[37, 4, 0], [14, 19, 0], [6, 1, 0]], 0.43973, 0.49273, 0.65382),
    "M6": ([[25, 15, 0], [14, 18, 0], [6, 0, 0]], 0.15617, 0.39583, 0.52888),
    "M7": ([[35, 6, 0], [8, 25, 0], [6, 1, 0]], 0.52399, 0.53708, 0.70708),
    "M9": ([[30, 10, 0], [14, 18, 0], [4, 2, 0]], 0.27514, 0.43750, 0.58786),
}

# Sensitivity and specificity of each class that the thesis prints beside these matrices.
GOLDEN_RATES = {
    "M1": ([0.78049, 0.60606, 0], [0.525, 0.79167, 1]),
    "M2": ([0.87805, 0.36364, 0], [0.3, 0.89583, 1]),
    "M3": ([0.975, 0.1875, 0], [0.21053, 0.93478, 1]),
    "M5": ([0.90244, 0.57576, 0], [0.5, 0.89583, 1]),
    "M6": ([0.625, 0.5625, 0], [0.47368, 0.67391, 1]),
    "M7": ([0.85366, 0.75758, 0], [0.65, 0.85417, 1]),
    "M9": ([0.75, 0.5625, 0], [0.52632, 0.73913, 1]),
}


def cases(matrix: list[list[int]]) -> tuple[torch.Tensor, torch.Tensor]:
    """Predictions and truths that give a confusion matrix."""
    pairs = [(p, t) for t, row in enumerate(matrix) for p, n in enumerate(row) for _ in range(n)]
    pred, target = torch.tensor(pairs).T
    return pred, target


@pytest.mark.parametrize("name", GOLDEN)
def test_the_golden_matrices(name: str, device: torch.device) -> None:
    matrix, *expected = GOLDEN[name]
    pred, target = (labels.to(device) for labels in cases(matrix))
    assert confusion_matrix(pred, target, classes=3).tolist() == matrix
    for metric, value in zip((mcc, balanced_accuracy, weighted_f1), expected, strict=True):
        assert float(metric(pred, target, classes=3)) == pytest.approx(value, abs=6e-6)


@pytest.mark.parametrize("name", GOLDEN)
def test_the_golden_rates(name: str, device: torch.device) -> None:
    pred, target = (labels.to(device) for labels in cases(GOLDEN[name][0]))
    for metric, expected in zip((sensitivity, specificity), GOLDEN_RATES[name], strict=True):
        value = metric(pred, target, classes=3)
        assert value.device.type == device.type
        assert value.tolist() == pytest.approx(expected, abs=6e-6)
    found = sensitivity(pred, target, classes=3)
    assert float(balanced_accuracy(pred, target, classes=3)) == pytest.approx(float(found.mean()))


def test_rates_of_two_classes_mirror_each_other() -> None:
    pred, target = torch.tensor([1, 1, 1, 0, 0, 1, 0]), torch.tensor([1, 1, 1, 1, 0, 0, 0])
    found, kept_out = sensitivity(pred, target, classes=2), specificity(pred, target, classes=2)
    assert found.tolist() == pytest.approx([2 / 3, 3 / 4])
    assert kept_out.tolist() == pytest.approx([3 / 4, 2 / 3])


def test_a_rate_without_cases_is_an_error() -> None:
    pred = torch.tensor([0, 1, 2, 3])
    with pytest.raises(ValueError, match=r"target must have cases in every class, got none in \[1, 3\]"):
        sensitivity(pred, torch.tensor([0, 0, 2, 2]), classes=4)
    with pytest.raises(ValueError, match="target must have cases outside every class, got none outside 2"):
        specificity(pred, torch.tensor([2, 2, 2, 2]), classes=4)
    assert specificity(pred, torch.tensor([0, 0, 2, 2]), classes=4).tolist() == [1, 0.75, 1, 0.75]


def test_closed_forms() -> None:
    target = torch.tensor([0, 0, 1, 1, 2])
    for metric in (mcc, balanced_accuracy, weighted_f1):
        assert float(metric(target, target, classes=3)) == 1
    constant = torch.zeros(5, dtype=torch.long)
    assert float(mcc(constant, target, classes=3)) == 0
    assert float(mcc(target, constant, classes=3)) == 0
    assert float(balanced_accuracy(constant, target, classes=3)) == pytest.approx(1 / 3)
    assert float(balanced_accuracy(constant, target, classes=9)) == pytest.approx(1 / 3)  # absent classes do not count
    flipped = 1 - torch.tensor([0, 1, 1])
    assert float(mcc(flipped, torch.tensor([0, 1, 1]), classes=2)) == -1


def test_auc_of_hard_labels_is_balanced_accuracy_and_of_soft_scores_is_not() -> None:
    target = torch.tensor([0] * 5 + [1] * 7)
    scores = torch.tensor([0.1, 0.2, 0.3, 0.6, 0.7, 0.4, 0.55, 0.65, 0.8, 0.9, 0.95, 0.99])
    hard = (scores > 0.5).float()
    assert float(roc_auc(hard, target)) == pytest.approx(float(balanced_accuracy(hard.long(), target, classes=2)))
    pairs = [(p > n) + 0.5 * (p == n) for p in scores[target == 1] for n in scores[target == 0]]
    assert float(roc_auc(scores, target)) == pytest.approx(float(sum(pairs)) / len(pairs))
    assert float(roc_auc(scores, target)) != pytest.approx(float(roc_auc(hard, target)), abs=0.01)


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 1)), min_size=2, max_size=30))
def test_auc_is_the_share_of_ordered_pairs(rows: list[tuple[int, int]]) -> None:
    scores, target = torch.tensor([float(s) for s, _ in rows]), torch.tensor([t for _, t in rows])
    positive, negative = scores[target == 1], scores[target == 0]
    if not len(positive) or not len(negative):
        with pytest.raises(ValueError, match="cases in class 1 and out of it"):
            roc_auc(scores, target)
        return
    wins = (positive[:, None] > negative).double() + 0.5 * (positive[:, None] == negative)
    assert float(roc_auc(scores, target)) == pytest.approx(float(wins.mean()))
    assert float(roc_auc(-scores, target)) == pytest.approx(1 - float(wins.mean()))


def step_sum(scores: list[float], target: list[int]) -> float:
    """Average precision as it is written, threshold by threshold."""
    total, before = 0.0, 0.0
    for threshold in sorted(set(scores), reverse=True):
        chosen = [t for s, t in zip(scores, target, strict=True) if s >= threshold]
        recall, precision = sum(chosen) / sum(target), sum(chosen) / len(chosen)
        total += (recall - before) * precision
        before = recall
    return total


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 1)), min_size=1, max_size=30))
def test_average_precision_is_the_step_sum(rows: list[tuple[int, int]]) -> None:
    scores, target = [float(s) for s, _ in rows], [t for _, t in rows]
    if not sum(target):
        with pytest.raises(ValueError, match="target must have cases in class 1, got none"):
            average_precision(torch.tensor(scores), torch.tensor(target))
        return
    area = float(average_precision(torch.tensor(scores), torch.tensor(target)))
    assert area == pytest.approx(step_sum(scores, target))
    if len(set(scores)) == 1:
        assert area == pytest.approx(sum(target) / len(target))


@pytest.mark.parametrize("metric", [roc_auc, average_precision])
def test_areas(metric: Callable[[torch.Tensor, torch.Tensor], torch.Tensor], device: torch.device) -> None:
    target = torch.tensor([0, 1, 2, 0, 1, 2, 2], device=device)
    scores = torch.nn.functional.one_hot(target, 3).float()
    assert metric(scores, target).tolist() == [1, 1, 1]
    assert metric(scores, target).device.type == device.type
    noise = torch.rand(7, 3, generator=torch.Generator().manual_seed(0)).to(device)
    areas = metric(noise, target)
    assert areas.dtype == torch.float64
    for k, area in enumerate(areas):  # a column for each class is each class against the rest
        assert float(area) == float(metric(noise[:, k], (target == k).long()))
    logits = torch.tensor([-torch.inf, -0.0, 0.0, torch.inf], device=device)
    positive = torch.tensor([0, 0, 1, 1], device=device)
    assert float(metric(logits, positive)) == pytest.approx({roc_auc: 7 / 8, average_precision: 5 / 6}[metric])
    for dtype in (torch.float16, torch.bfloat16, torch.float64):  # dyadic scores: every type holds them
        coarse = (noise[:, 0] * 8).round() / 8
        assert float(metric(coarse.to(dtype), target.clamp(max=1))) == float(metric(coarse, target.clamp(max=1)))


@pytest.mark.parametrize("dtype", [torch.uint8, torch.uint16, torch.int32])
def test_labels_of_any_integer_type(dtype: torch.dtype) -> None:
    target, scores = torch.tensor([0, 1, 2, 1]), torch.rand(4, 3)
    labels = target.to(dtype)
    assert float(mcc(labels, labels, classes=3)) == 1
    assert torch.equal(roc_auc(scores, labels), roc_auc(scores, target))
    assert torch.equal(average_precision(scores, labels), average_precision(scores, target))


def test_areas_of_many_cases_stay_exact() -> None:
    # every score is shared by 1000 positive and 1000 negative cases: chance, whatever the order
    scores = torch.arange(1000.0).repeat(2000)
    target = torch.arange(2).repeat_interleave(1_000_000)
    assert float(roc_auc(scores, target)) == 0.5
    assert float(average_precision(scores, target)) == pytest.approx(0.5, abs=1e-12)


@pytest.mark.parametrize(
    ("pred", "target", "error", "message"),
    [
        (torch.tensor([0.0]), torch.tensor([0]), TypeError, "pred must be a tensor of integers"),
        (torch.tensor([0]), torch.tensor([True]), TypeError, "target must be a tensor of integers"),
        (torch.tensor([0, 1]), torch.tensor([0]), ValueError, "same shape"),
        (torch.tensor([[0]]), torch.tensor([[0]]), ValueError, r"pred must have shape \(N,\)"),
        (
            torch.tensor([3]),
            torch.tensor([0]),
            ValueError,
            r"pred must hold classes 0..2, got values from 3 to 3",
        ),
        (torch.tensor([0]), torch.tensor([-1]), ValueError, "target must hold classes 0..2"),
        (
            torch.tensor([], dtype=torch.long),
            torch.tensor([], dtype=torch.long),
            ValueError,
            "at least one case",
        ),
    ],
)
def test_bad_labels(pred: torch.Tensor, target: torch.Tensor, error: type[Exception], message: str) -> None:
    for metric in (confusion_matrix, mcc, balanced_accuracy, weighted_f1, sensitivity, specificity):
        with pytest.raises(error, match=message):
            metric(pred, target, classes=3)


@pytest.mark.parametrize("metric", [roc_auc, average_precision])
def test_scores_of_one_class_against_a_bool_target(
    metric: Callable[[torch.Tensor, torch.Tensor], torch.Tensor],
) -> None:
    scores, label = torch.tensor([0.1, 0.7, 0.35, 0.8, 0.6]), torch.tensor([0, 2, 1, 1, 0])
    assert float(metric(scores, label == 1)) == float(metric(scores, (label == 1).long()))
    with pytest.raises(TypeError, match="target must be a tensor of integers"):
        metric(torch.rand(5, 2), label == 1)


@pytest.mark.parametrize("metric", [roc_auc, average_precision])
def test_bad_scores(metric: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]) -> None:
    with pytest.raises(ValueError, match="scores must be numbers, got NaN"):
        metric(torch.tensor([0.5, float("nan")]), torch.tensor([0, 1]))
    with pytest.raises(ValueError, match="one row for each of 2 cases"):
        metric(torch.rand(3), torch.tensor([0, 1]))
    with pytest.raises(TypeError, match="scores must be a floating point tensor"):
        metric(torch.tensor([0, 1]), torch.tensor([0, 1]))
    with pytest.raises(ValueError, match=r"got \(2, 1\); for two classes drop the column"):
        metric(torch.rand(2, 1), torch.tensor([0, 1]))
    with pytest.raises(ValueError, match=r"target must have cases in class 2.*, got"):
        metric(torch.rand(4, 3), torch.tensor([0, 1, 0, 1]))
    with pytest.raises(ValueError, match=r"target must hold classes 0..1, got values from 0 to 2"):
        metric(torch.rand(2), torch.tensor([0, 2]))


@pytest.mark.peers
@pytest.mark.parametrize("classes", [2, 3, 5])
def test_equal_to_scikit_learn(classes: int) -> None:
    sklearn = pytest.importorskip("sklearn.metrics")
    generator = torch.Generator().manual_seed(classes)
    target = torch.randint(classes, (200,), generator=generator)
    scores = (torch.rand(200, classes, generator=generator) + torch.nn.functional.one_hot(target, classes)) / 3
    scores = (scores * 20).round() / 20  # ties
    pred = scores.argmax(1)
    t, p = target.numpy(), pred.numpy()
    assert confusion_matrix(pred, target, classes=classes).tolist() == sklearn.confusion_matrix(t, p).tolist()
    assert float(mcc(pred, target, classes=classes)) == pytest.approx(sklearn.matthews_corrcoef(t, p))
    assert float(balanced_accuracy(pred, target, classes=classes)) == pytest.approx(
        sklearn.balanced_accuracy_score(t, p)
    )
    assert float(weighted_f1(pred, target, classes=classes)) == pytest.approx(
        sklearn.f1_score(t, p, average="weighted", zero_division=0)
    )
    for k, area in enumerate(roc_auc(scores, target).tolist()):
        assert area == pytest.approx(sklearn.roc_auc_score(t == k, scores[:, k].numpy()))
    for k, area in enumerate(average_precision(scores, target).tolist()):
        assert area == pytest.approx(sklearn.average_precision_score(t == k, scores[:, k].numpy()))
    rates = sensitivity(pred, target, classes=classes), specificity(pred, target, classes=classes)
    for k, (found, kept_out) in enumerate(zip(*(rate.tolist() for rate in rates), strict=True)):
        assert found == pytest.approx(sklearn.recall_score(t == k, p == k))
        assert kept_out == pytest.approx(sklearn.recall_score(t != k, p != k))


@pytest.mark.peers
@pytest.mark.parametrize("levels", [2, 50, None])
def test_areas_equal_scikit_learn_over_many_thresholds(levels: int | None) -> None:
    sklearn = pytest.importorskip("sklearn.metrics")
    generator = torch.Generator().manual_seed(7)
    target = (torch.rand(20_000, generator=generator) < 0.03).long()
    scores = torch.randn(20_000, generator=generator, dtype=torch.float64) + target
    scores = scores if levels is None else (scores * levels / 8).round()
    t, s = target.numpy(), scores.numpy()
    assert float(roc_auc(scores, target)) == pytest.approx(sklearn.roc_auc_score(t, s), rel=1e-12)
    assert float(average_precision(scores, target)) == pytest.approx(sklearn.average_precision_score(t, s), rel=1e-12)
