from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sslmed.metrics import (
    balanced_pixel_accuracy,
    dice,
    jaccard,
    pixel_accuracy,
    pixel_counts,
    precision,
    recall,
)

METRICS = [dice, jaccard, precision, recall]


def rows(*bits: str) -> torch.Tensor:
    """Draw one-line masks, as rows("0110", "0000")."""
    return torch.tensor([[[c == "1" for c in row]] for row in bits])


def counted(pred: torch.Tensor, target: torch.Tensor) -> dict[str, float]:
    """The definitions, counted pixel by pixel, for one case in which both masks are filled."""
    tp = fp = fn = 0
    for p, t in zip(pred.flatten().tolist(), target.flatten().tolist(), strict=True):
        tp += p and t
        fp += p and not t
        fn += t and not p
    return {
        "dice": 2 * tp / (2 * tp + fp + fn),
        "jaccard": tp / (tp + fp + fn),
        "precision": tp / (tp + fp),
        "recall": tp / (tp + fn),
    }


def test_hand_drawn_masks(device):
    pred = rows("1100", "1000", "1111", "0110").to(device)
    target = rows("0111", "0001", "0011", "0110").to(device)
    expected = {
        dice: [2 / 5, 0, 4 / 6, 1],
        jaccard: [1 / 4, 0, 2 / 4, 1],
        precision: [1 / 2, 0, 2 / 4, 1],
        recall: [1 / 3, 0, 2 / 2, 1],
    }
    for metric, values in expected.items():
        result = metric(pred, target)
        assert result.device.type == device.type
        torch.testing.assert_close(result.cpu(), torch.tensor(values))


@pytest.mark.parametrize("shape", [(5, 7, 9), (3, 4, 5, 6)])
def test_equals_the_count_of_pixels(shape):
    generator = torch.Generator().manual_seed(0)
    pred, target = (torch.rand(shape, generator=generator) < share for share in (0.3, 0.4))
    for metric in METRICS:
        expected = [counted(p, t)[metric.__name__] for p, t in zip(pred, target, strict=True)]
        torch.testing.assert_close(metric(pred, target), torch.tensor(expected), rtol=1e-6, atol=0)


@pytest.mark.parametrize(
    ("d", "j"), [(0.542, 0.3717), (0.6333, 0.4634), (0.4, 0.25), (0.614, 0.443)], ids=lambda v: f"{v}"
)
def test_the_pairs_of_paper_003(d, j):
    # 100 000 pixels in both masks together, overlapping in the share that gives the printed Dice
    pred, target = torch.zeros(1, 1, 100_000, dtype=torch.bool), torch.zeros(1, 1, 100_000, dtype=torch.bool)
    both = round(d * 50_000)
    pred[..., :50_000] = True
    target[..., 50_000 - both : 100_000 - both] = True
    assert dice(pred, target).item() == pytest.approx(d, abs=1e-4)
    assert jaccard(pred, target).item() == pytest.approx(j, abs=2e-4)


@given(st.integers(0, 2**16 - 1), st.integers(0, 2**16 - 1))
@settings(deadline=None, max_examples=60)
def test_relations_between_the_metrics(a, b):
    pred, target = (torch.tensor([[[bool(n >> k & 1) for k in range(16)]]]) for n in (a, b))
    d, j, p, r = (metric(pred, target).item() for metric in METRICS)
    assert all(0 <= v <= 1 for v in (d, j, p, r))
    assert j == pytest.approx(d / (2 - d), abs=1e-6)
    if p + r:
        assert d == pytest.approx(2 * p * r / (p + r), abs=1e-6)
    assert dice(target, pred).item() == d
    assert jaccard(target, pred).item() == j
    assert recall(target, pred).item() == p
    assert (d == 1) == (a == b)


@pytest.mark.parametrize("metric", METRICS)
def test_empty_masks(metric):
    pred, target = rows("0000", "0000", "0110", "0110"), rows("0000", "0110", "0000", "0110")
    for empty in ("worst", "inf"):
        assert metric(pred, target, empty=empty).tolist() == [1, 0, 0, 1]
    first, second, third, fourth = metric(pred, target, empty="nan").tolist()
    assert math.isnan(first)
    assert math.isnan(third)
    assert [second, fourth] == [0, 1]


@pytest.mark.parametrize("metric", METRICS)
def test_integers_count_as_masks_and_strides_do_not_matter(metric):
    generator = torch.Generator().manual_seed(1)
    pred, target = (torch.rand(4, 6, 5, generator=generator) < 0.5 for _ in range(2))
    expected = metric(pred, target)
    assert expected.dtype == torch.float32
    for dtype in (torch.uint8, torch.uint16, torch.int64):
        assert torch.equal(metric(pred.to(dtype), target.to(dtype)), expected)
    assert torch.equal(metric(pred.mT, target.mT), expected)
    assert metric(pred[:0], target[:0]).shape == (0,)


@pytest.mark.parametrize("shape", [(5, 7, 9), (3, 4, 5, 6)])
def test_counts_of_pixels(shape, device):
    generator = torch.Generator().manual_seed(4)
    pred, target = ((torch.rand(shape, generator=generator) < share).to(device) for share in (0.3, 0.6))
    counts = pixel_counts(pred, target)
    assert counts.dtype == torch.int64
    assert counts.device.type == device.type
    expected = [
        [sum((a, b) == cell for a, b in zip(p, t, strict=True)) for cell in cells]
        for p, t in zip(pred.flatten(1).tolist(), target.flatten(1).tolist(), strict=True)
        for cells in [[(True, True), (True, False), (False, True), (False, False)]]
    ]
    assert counts.tolist() == expected
    assert pixel_counts(pred[:0], target[:0]).shape == (0, 4)
    assert torch.equal(pixel_counts(pred[:, ::2], target[:, ::2].int()), pixel_counts(pred[:, ::2], target[:, ::2]))


def test_pixel_accuracy(device):
    pred = rows("1100", "1000", "0000", "1111", "0000").to(device)
    target = rows("0111", "0001", "0000", "1111", "0011").to(device)
    plain, balanced = pixel_accuracy(pred, target), balanced_pixel_accuracy(pred, target)
    assert plain.dtype == balanced.dtype == torch.float32
    assert plain.device.type == balanced.device.type == device.type
    torch.testing.assert_close(plain.cpu(), torch.tensor([1 / 4, 2 / 4, 1, 1, 2 / 4]))
    torch.testing.assert_close(balanced.cpu(), torch.tensor([1 / 6, 1 / 3, 1, 1, 1 / 2]))


def test_balanced_pixel_accuracy_is_the_mean_of_both_recalls():
    generator = torch.Generator().manual_seed(3)
    pred, target = (torch.rand(5, 8, 9, generator=generator) < share for share in (0.3, 0.4))
    expected = []
    for p, t in zip(pred.flatten(1).tolist(), target.flatten(1).tolist(), strict=True):
        sensitivity = sum(a and b for a, b in zip(p, t, strict=True)) / sum(t)
        specificity = sum(not a and not b for a, b in zip(p, t, strict=True)) / (len(t) - sum(t))
        expected.append((sensitivity + specificity) / 2)
    torch.testing.assert_close(balanced_pixel_accuracy(pred, target), torch.tensor(expected))
    assert torch.equal(pixel_accuracy(pred, target), pixel_accuracy(~pred, ~target))


def test_counts_stay_exact_beyond_float32():
    size = 2**24 + 3
    pred = torch.ones(1, 1, size, dtype=torch.bool)
    target = pred.clone()
    target[..., -1] = False
    assert recall(pred, target).item() == 1.0
    assert precision(pred, target).item() == pytest.approx(1 - 1 / size, abs=6e-8)


@pytest.mark.parametrize("metric", [*METRICS, pixel_accuracy, balanced_pixel_accuracy, pixel_counts])
def test_bad_input(metric):
    mask = torch.zeros(2, 4, 4, dtype=torch.bool)
    with pytest.raises(
        TypeError, match=r"pred must be a bool mask, got torch.float32; threshold first, e.g. logits > 0"
    ):
        metric(mask.float(), mask)
    with pytest.raises(TypeError, match=r"target must be a torch.Tensor of shape .*, got ndarray"):
        metric(mask, mask.numpy())
    with pytest.raises(ValueError, match=r"target must hold 0 and 1 only, got values from 0 to 255; select a label"):
        metric(mask, mask.to(torch.uint8) + torch.tensor([0, 255, 0, 0], dtype=torch.uint8))
    with pytest.raises(ValueError, match=r"must hold 0 and 1 only, got values from -1 to 0"):
        metric(mask.int() - torch.eye(4, dtype=torch.int32), mask)
    with pytest.raises(ValueError, match=r"pred and target must have the same shape, got \(2, 4, 4\) and \(1, 4, 4\)"):
        metric(mask, mask[:1])
    with pytest.raises(ValueError, match=r"pred must have shape \(B, H, W\), \(B, D, H, W\), .*got \(4, 4\)"):
        metric(mask[0], mask[0])
    with pytest.raises(ValueError, match=r"pred must have pixels, got shape \(2, 0, 4\)"):
        metric(mask[:, :0], mask[:, :0])


@pytest.mark.parametrize("metric", METRICS)
def test_unknown_word_for_empty_masks(metric):
    mask = torch.zeros(2, 4, 4, dtype=torch.bool)
    with pytest.raises(ValueError, match=r"empty must be one of 'worst', 'inf', 'nan', got 'skip'"):
        metric(mask, mask, empty="skip")


@pytest.mark.gpu
def test_masks_on_two_devices():
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    mask = torch.zeros(1, 4, 4, dtype=torch.bool)
    with pytest.raises(ValueError, match="must be on the same device, got pred on cpu, target on cuda"):
        dice(mask, mask.cuda())


@pytest.mark.peers
@pytest.mark.parametrize("shape", [(6, 33, 47), (3, 9, 17, 12)])
def test_equals_monai(shape):
    from monai.metrics import compute_confusion_matrix_metric, compute_dice, compute_iou, get_confusion_matrix

    generator = torch.Generator().manual_seed(2)
    pred, target = (torch.rand(shape, generator=generator) < share for share in (0.2, 0.5))
    pred[0] = target[1] = False
    pred[2] = target[2] = False
    p, t = pred[:, None].float(), target[:, None].float()
    options = {"include_background": True, "ignore_empty": False}
    torch.testing.assert_close(dice(pred, target), compute_dice(p, t, **options)[:, 0])
    torch.testing.assert_close(jaccard(pred, target), compute_iou(p, t, **options)[:, 0])
    matrix = get_confusion_matrix(p, t, include_background=True)[3:]
    for metric in (precision, recall):
        theirs = compute_confusion_matrix_metric(metric.__name__, matrix)[:, 0]
        torch.testing.assert_close(metric(pred[3:], target[3:]), theirs)
