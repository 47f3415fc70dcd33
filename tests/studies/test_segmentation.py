"""Fine-tuning's schedule, scores and the cases it keeps."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("lightning")

import numpy as np
import torch

import mr_masked_vs_contrastive
from sslmed.studies.inputs import ImageSet
from sslmed.studies.optimisers import poly_lr
from sslmed.studies.runs import read_csv
from sslmed.studies.segmentation import (
    Segmentation,
    classes_of,
    dice_bce,
    evaluate,
    keep_cases,
    score,
    soft_dice,
)


@pytest.mark.parametrize(
    ("epoch", "expected"),
    [
        (0, 1e-3),
        (100, 8.1823e-4),
        (250, 5.3635e-4),
        (400, 2.3569e-4),
        (499, 4.7196e-6),
        (500, 1e-6),
        (600, 1e-6),
    ],
)
def test_the_polynomial_schedule_has_the_published_values(epoch: int, expected: float) -> None:
    assert poly_lr(epoch, start=1e-3, end=1e-6, epochs=500, power=0.9) == pytest.approx(expected, rel=1e-4)


def test_scores_follow_the_policy_for_empty_masks() -> None:
    target = torch.zeros(3, 4, 4, dtype=torch.bool)
    pred = target.clone()
    target[1, 1, 1] = target[2, 0, 0] = pred[2, 0, 3] = True
    values = score(pred, target)
    assert values["dice"].tolist() == [1, 0, 0]
    assert values["hausdorff"] == pytest.approx([0, 32**0.5, 3])


class Threshold(torch.nn.Module):
    """Says lesion where a pixel exceeds one half."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return torch.cat([0.5 - images, images - 0.5], dim=1)


def test_evaluation_writes_every_case_and_keeps_the_tiers(tmp_path: Path) -> None:
    generator = torch.Generator().manual_seed(0)
    masks = torch.zeros(16, 1, 8, 8, dtype=torch.bool)
    masks[:12, :, 2:6, 2:6] = True
    images = masks.float() * 0.9
    for i in range(12):  # case i misses i of the 16 pixels
        spots = torch.randperm(16, generator=generator)[:i]
        images[i, 0, 2 + spots // 4, 2 + spots % 4] = 0.2
    data = ImageSet(
        name="set", source="", images=images, masks=masks, labels=["benign"] * 12 + ["normal"] * 4,
        ids=[f"case {i}" for i in range(16)], groups=[str(i) for i in range(16)], counts={"images": 16},
    )  # fmt: skip
    index = list(range(16))
    result = evaluate(Threshold(), data, index, tmp_path)
    rows = read_csv(tmp_path / "metrics.csv")
    assert [row["id"] for row in rows] == data.ids
    dice = [2 * (16 - i) / (32 - i) for i in range(12)] + [1.0] * 4
    assert [float(row["dice"]) for row in rows] == pytest.approx(dice, abs=1e-5)
    assert result["mean"]["dice"] == pytest.approx(np.mean(dice))
    assert result["sd"]["dice"] == pytest.approx(np.std(dice, ddof=1))
    found = sum(16 - i for i in range(12))
    assert result["mean"]["pooled_dice"] == pytest.approx(2 * found / (found + 12 * 16))
    assert result["empty"] == {"target": 4, "pred": 4, "both": 4}
    with np.load(tmp_path / "cases.npz") as kept:
        assert kept["id"].tolist() == [f"case {i}" for i in (*range(4), *range(4, 8), *range(8, 12))]
        assert kept["tier"].tolist() == ["best"] * 4 + ["middle"] * 4 + ["worst"] * 4
        assert kept["dice"] == pytest.approx(dice[:12])
        assert kept["pred"].dtype == bool


@pytest.mark.parametrize(("cases", "tiers"), [(0, []), (1, ["best"]), (2, ["best", "worst"])])
def test_one_or_two_cases_are_kept_too(cases: int, tiers: list[str], tmp_path: Path) -> None:
    masks = torch.ones(cases, 2, 2, dtype=torch.bool)
    dice, ids = np.array([0.1, 0.9][:cases]), ["low", "high"][:cases]
    keep_cases(tmp_path / "cases.npz", torch.rand(cases, 1, 2, 2), masks, masks, dice, ids)
    with np.load(tmp_path / "cases.npz") as kept:
        assert kept["tier"].tolist() == tiers
        assert kept["id"].tolist() == sorted(ids)


def test_soft_dice_is_that_of_the_batch_by_class() -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(3, 4, 6, 5, generator=generator, dtype=torch.float64)
    target = torch.randint(4, (3, 6, 5), generator=generator)
    target[1] = 0
    chance = logits.softmax(1)
    dice = []
    for k in range(4):
        overlap = sum(float(chance[b, k][target[b] == k].sum()) for b in range(3))
        total = float(chance[:, k].sum()) + int((target == k).sum())
        dice.append((2 * overlap + 1) / (total + 1))
    assert float(soft_dice(logits, target)) == pytest.approx(1 - np.mean(dice))
    sure = 50 * torch.nn.functional.one_hot(target, 4).movedim(-1, 1).double()
    assert float(soft_dice(sure, target)) == pytest.approx(0, abs=1e-6)
    assert torch.equal(classes_of(sure), target)


def test_deformations_are_as_exact_in_mixed_precision() -> None:
    preset = mr_masked_vs_contrastive.PRESETS["smoke"]
    seen: list[torch.Tensor] = []

    class Seen(torch.nn.Conv2d):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            seen.append(images)
            return super().forward(images)

    module = Segmentation(
        Seen(1, 3, 1), loss=soft_dice, augment=mr_masked_vs_contrastive.make_augmentation(preset)
    )
    images = torch.rand(8, 1, preset.size, preset.size, generator=torch.Generator().manual_seed(0))
    for mixed in (False, True):
        torch.manual_seed(1)
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=mixed):
            module(images, torch.zeros(images.shape, dtype=torch.uint8))
    assert not torch.equal(seen[0], images)
    assert torch.equal(seen[0], seen[1])


def test_dice_with_cross_entropy_is_that_of_each_image() -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(3, 1, 6, 5, generator=generator, dtype=torch.float64)
    target = torch.randint(2, (3, 6, 5), generator=generator)
    target[1] = 0
    expected = 0.0
    for z, y in zip(logits[:, 0], target, strict=True):
        p = z.sigmoid()
        entropy = -torch.where(y == 1, p, 1 - p).log().mean()
        expected += float(entropy + 1 - (2 * (p * y).sum() + 1) / (p.sum() + y.sum() + 1)) / 3
    assert float(dice_bce(logits, target)) == pytest.approx(expected)
    empty = torch.zeros(1, 4, 4, dtype=torch.int64)
    assert float(dice_bce(torch.full((1, 1, 4, 4), -50.0), empty)) == pytest.approx(0, abs=1e-6)
    assert torch.equal(classes_of(logits), (logits[:, 0] > 0).long())
