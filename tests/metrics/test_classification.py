"""Classification metrics against a thesis' golden matrices, closed forms and scikit-learn."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sslmed.metrics import balanced_accuracy, confusion_matrix, mcc, roc_auc, weighted_f1

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


def test_closed_forms() -> None:
    target = torch.tensor([0, 0, 1, 1, 2])
    for metric in (mcc, balanced_accuracy, weighted_f1):
        assert float(metric(target, target, classes=3)) == 1
    constant = torch.zeros(5, dtype=torch.long)
    assert float(mcc(constant, target, classes=3)) == 0
    assert float(mcc(target, constant, classes=3)) == 0
    assert float(balanced_accuracy(constant, target, classes=3)) == pytest.approx(1 / 3)
    assert float(balanced_accuracy(constant, target, classes=9)) == pytest.approx(
        1 / 3
    )  # absent classes do not count
    flipped = 1 - torch.tensor([0, 1, 1])
    assert float(mcc(flipped, torch.tensor([0, 1, 1]), classes=2)) == -1


def test_auc_of_hard_labels_is_balanced_accuracy_and_of_soft_scores_is_not() -> None:
    target = torch.tensor([0] * 5 + [1] * 7)
    scores = torch.tensor([0.1, 0.2, 0.3, 0.6, 0.7, 0.4, 0.55, 0.65, 0.8, 0.9, 0.95, 0.99])
    hard = (scores > 0.5).float()
    assert float(roc_auc(hard, target)) == pytest.approx(
        float(balanced_accuracy(hard.long(), target, classes=2))
    )
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
    for metric in (confusion_matrix, mcc, balanced_accuracy, weighted_f1):
        with pytest.raises(error, match=message):
            metric(pred, target, classes=3)


def test_bad_scores() -> None:
    with pytest.raises(ValueError, match="scores must be numbers, got NaN"):
        roc_auc(torch.tensor([0.5, float("nan")]), torch.tensor([0, 1]))
    with pytest.raises(ValueError, match="one row for each of 2 cases"):
        roc_auc(torch.rand(3), torch.tensor([0, 1]))
    with pytest.raises(TypeError, match="scores must be a floating point tensor"):
        roc_auc(torch.tensor([0, 1]), torch.tensor([0, 1]))
    with pytest.raises(ValueError, match="cases in class 2 and out of it, got 0"):
        roc_auc(torch.rand(4, 3), torch.tensor([0, 1, 0, 1]))


@pytest.mark.peers
@pytest.mark.parametrize("classes", [2, 3, 5])
def test_equal_to_scikit_learn(classes: int) -> None:
    sklearn = pytest.importorskip("sklearn.metrics")
    generator = torch.Generator().manual_seed(classes)
    target = torch.randint(classes, (200,), generator=generator)
    scores = (
        torch.rand(200, classes, generator=generator) + torch.nn.functional.one_hot(target, classes)
    ) / 3
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
