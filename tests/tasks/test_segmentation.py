"""Segmentation: losses, scores and the cases that are kept, against closed forms and slow loops."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from cases import TensorCases
from sslmed import metrics
from sslmed.tasks import Segmentation, Segmenter, Volumes, dice_bce, soft_dice
from sslmed.tasks.decision import confidence, least_confidence
from sslmed.tasks.segmentation import classes_of, predictions


class Threshold(torch.nn.Module):
    """Predicts structure k where a pixel is nearest to k / 2, and no network needs training for that."""

    def __init__(self, outputs: int) -> None:
        super().__init__()
        self.values = torch.arange(outputs) / 2

    def forward(self, images: Tensor) -> Tensor:
        return -(images - self.values[:, None, None]).abs()


def threshold(outputs: int, weights: object) -> Threshold:
    return Threshold(3 if outputs == 1 else outputs)


TASK = Segmentation(network=threshold, loss=cross_entropy)
VOLUMES = Volumes(network=threshold, loss=soft_dice)


def test_scores_follow_the_policy_for_empty_masks() -> None:
    target = torch.zeros(3, 1, 4, 4, dtype=torch.bool)
    images = torch.zeros(3, 1, 4, 4)
    target[1, 0, 1, 1] = target[2, 0, 0, 0] = True
    images[2, 0, 0, 3] = 1
    cases = TensorCases(images, target)
    rows = TASK.evaluate(TASK.learner(cases, None), cases, [0, 1, 2]).rows
    assert [float(row["dice"]) for row in rows] == [1, 0, 0]
    assert [float(row["hausdorff"]) for row in rows] == pytest.approx([0, 32**0.5, 3], abs=1e-4)
    assert [(row["target_empty"], row["pred_empty"]) for row in rows] == [(1, 1), (0, 1), (0, 0)]


def test_evaluation_lists_every_case_and_keeps_the_predictions() -> None:
    generator = torch.Generator().manual_seed(0)
    masks = torch.zeros(16, 1, 8, 8, dtype=torch.bool)
    masks[:12, :, 2:6, 2:6] = True
    images = masks.float() * 0.9
    for i in range(12):  # case i misses i of the 16 pixels
        spots = torch.randperm(16, generator=generator)[:i]
        images[i, 0, 2 + spots // 4, 2 + spots % 4] = 0.2
    cases = TensorCases(images, masks, labels=["benign"] * 12 + ["normal"] * 4)
    tested = TASK.evaluate(TASK.learner(cases, None), cases, range(16))
    rows, result, kept = tested.rows, tested.summary, tested.arrays
    assert [row["id"] for row in rows] == cases.ids
    dice = [2 * (16 - i) / (32 - i) for i in range(12)] + [1.0] * 4
    # Written so that each value can be read again as it was computed.
    computed = metrics.dice(images[:, 0] > 0.25, masks[:, 0])
    assert [np.float32(row["dice"]) for row in rows] == computed.tolist() == pytest.approx(dice)
    assert result["mean"]["dice"] == pytest.approx(np.mean(dice))
    assert result["sd"]["dice"] == pytest.approx(np.std(dice, ddof=1))
    found = sum(16 - i for i in range(12))
    assert result["mean"]["pooled_dice"] == pytest.approx(2 * found / (found + 12 * 16))
    assert result["empty"] == {"target": 4, "pred": 4, "both": 4}
    assert kept["id"].tolist() == cases.ids
    assert kept["pred"].dtype == np.uint8
    np.testing.assert_array_equal(kept["pred"], images[:, 0] > 0.25)


@pytest.mark.parametrize("count", [3, 40])  # one batch, and two of unequal size
def test_the_test_loss_is_the_mean_over_the_cases(count: int) -> None:
    generator = torch.Generator().manual_seed(0)
    images, masks = (torch.rand(count, 1, 8, 8, generator=generator) for _ in range(2))
    cases = TensorCases(images, masks > 0.5)
    learner = TASK.learner(cases, None)
    tested = TASK.evaluate(learner, cases, range(count)).summary
    target = (masks[:, 0] > 0.5).long()
    each = [cross_entropy(learner.logits(images[i : i + 1]), target[i : i + 1]).item() for i in range(count)]
    assert tested["mean"]["test_loss"] == pytest.approx(np.mean(each), rel=1e-5)
    assert "test_loss" not in tested["sd"]


def test_a_volume_is_scored_by_all_its_slices_and_by_structure() -> None:
    maps = torch.zeros(6, 1, 4, 4, dtype=torch.uint8)
    maps[:4, 0, :2] = 1
    maps[1:3, 0, 3] = 2
    images = maps / 2
    images[0, 0, 0, 0] = 1.0  # structure 2 in place of 1
    cases = TensorCases(images, maps, structures=("front", "back"), groups=["a", "b", "a", "b", "a", "b"])
    tested = VOLUMES.evaluate(VOLUMES.learner(cases, None), cases, range(6))
    a, b = tested.rows
    # Of volume a, slices 0, 2 and 4: 16 pixels of structure 1, one of them missed; 4 of structure 2 and one too many.
    front, back = 2 * 15 / 31, 2 * 4 / 9
    assert (float(a["dice_front"]), float(a["dice_back"])) == pytest.approx((front, back), abs=1e-5)
    assert float(a["dice"]) == pytest.approx((front + back) / 2, abs=1e-5)
    assert float(b["dice"]) == 1
    assert tested.summary["cases"] == 2
    assert tested.summary["mean"]["dice"] == pytest.approx((1 + (front + back) / 2) / 2)
    assert VOLUMES.metrics(cases) == ("dice", "hausdorff", "dice_front", "dice_back")
    assert tested.arrays["id"].tolist() == ["a", "b"]
    # Of each volume, the slice that shows most, with the numbers of its structures.
    np.testing.assert_array_equal(tested.arrays["pred"], maps[[2, 1], 0])


def test_predictions_of_a_large_set_are_those_of_the_same_cases_for_all() -> None:
    pred = torch.arange(600)[:, None, None].expand(600, 2, 2) % 3
    ids = [f"case {k}" for k in range(600)]
    kept = predictions(ids, pred)
    assert len(kept["id"]) == 400
    assert [int(name.split()[1]) % 3 for name in kept["id"]] == kept["pred"][:, 0, 0].tolist()
    assert set(predictions(ids[::-1], pred)["id"]) == set(kept["id"])


def test_validation_is_of_all_cases_however_they_are_batched() -> None:
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(5, 1, 8, 8, generator=generator)
    masks = torch.rand(5, 1, 8, 8, generator=generator) > 0.5
    learner = Segmenter(torch.nn.Conv2d(1, 1, 1), loss=dice_bce)
    whole = learner.validate([(images, masks)])
    parts = learner.validate(zip(images.split(2), masks.split(2), strict=True))
    assert parts == pytest.approx(whole)
    assert list(whole) == [
        "val_loss",
        *(f"val_{m}" for m in ("dice", "jaccard", "precision", "recall", "pixel_accuracy")),
    ]
    pred = learner.logits(images)[:, 0] > 0
    agree = (pred == masks[:, 0]).double().mean((1, 2))
    assert whole["val_pixel_accuracy"] == pytest.approx(agree.mean().item())


def test_a_task_says_what_its_images_lack() -> None:
    cases = TensorCases(torch.rand(2, 1, 4, 4), labels=["a", "b"], classes=("a", "b"))
    with pytest.raises(ValueError, match="--data, read as set, has no masks, which segmentation needs"):
        TASK.check(cases, option="--data")
    with pytest.raises(ValueError, match="has no numbered structures"):
        VOLUMES.check(cases, option="--data")


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


def test_augmentations_are_as_exact_in_mixed_precision() -> None:
    seen: list[Tensor] = []

    class Seen(torch.nn.Conv2d):
        def forward(self, images: Tensor) -> Tensor:
            seen.append(images)
            return super().forward(images)

    def rotated(images: Tensor, masks: Tensor) -> tuple[Tensor, Tensor]:
        turn = torch.tensor([[[0.8, -0.6, 0.0], [0.6, 0.8, 0.0]]]).expand(len(images), -1, -1)
        grid = torch.nn.functional.affine_grid(turn @ torch.eye(3), list(images.shape), align_corners=False)
        return torch.nn.functional.grid_sample(images, grid, align_corners=False), masks

    learner = Segmenter(Seen(1, 3, 1), loss=soft_dice, augment=rotated)
    images = torch.rand(8, 1, 16, 16, generator=torch.Generator().manual_seed(0))
    for mixed in (False, True):
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=mixed):
            learner(images, torch.zeros(images.shape, dtype=torch.uint8))
    assert not torch.equal(seen[0], images)
    assert torch.equal(seen[0], seen[1])


@pytest.mark.parametrize("loss", [dice_bce, soft_dice])
def test_losses_of_outlines_work_in_float32_and_name_wrong_shapes(loss: Callable[..., torch.Tensor]) -> None:
    # A sum over these pixels is beyond float16, and is rounded in bfloat16.
    logits, target = torch.full((1, 1, 300, 300), 4.0), torch.ones(1, 300, 300, dtype=torch.int64)
    if loss is soft_dice:
        logits = torch.cat([-logits, logits], dim=1)
    for half in (torch.float16, torch.bfloat16):
        value = loss(logits.to(half), target)
        assert value.dtype == torch.float32
        assert torch.equal(value, loss(logits, target))
    for wrong in (target[:, None], target[:, :1], target[0]):
        with pytest.raises(ValueError, match=r"target \(B, H, W\)"):
            loss(logits, wrong)
    with pytest.raises(TypeError, match="logits"):
        loss(logits.long(), target)


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


class Gray(torch.nn.Module):
    """The gray value is the logit, shifted and scaled."""

    def __init__(self) -> None:
        super().__init__()
        self.body = torch.nn.Linear(1, 1)
        self.out = torch.nn.Linear(1, 1)

    def forward(self, images: Tensor) -> Tensor:
        return 10 * (images - 0.5)


DECIDES = Segmentation(network=lambda outputs, weights: Gray(), loss=dice_bce, decides=True, rates={"out": 10.0})


def squares(*grays: float) -> tuple[Tensor, Tensor]:
    """Images with a square of each gray, and its mask; of a negative gray, a square without a mask."""
    images, masks = torch.zeros(len(grays), 1, 20, 20), torch.zeros(len(grays), 1, 20, 20, dtype=torch.bool)
    for k, gray in enumerate(grays):
        images[k, 0, 5:15, 5:15] = abs(gray)
        masks[k, 0, 5:15, 5:15] = gray > 0
    return images, masks


def test_the_confidence_is_the_mean_probability_over_the_outline() -> None:
    probability = torch.full((3, 1, 4, 4), 0.1, dtype=torch.float64)
    probability[0, 0, 0, :3] = torch.tensor([0.9, 0.7, 0.6])
    probability[1, 0, 2, 1] = 0.4  # nothing is outlined
    probability[2] = 0.8
    assert confidence(probability.logit()).tolist() == pytest.approx([2.2 / 3, 0.4, 0.8])


def test_a_decision_lowers_false_alarms_and_is_reported_beside_dice() -> None:
    cases = TensorCases(*squares(0.9, 0.8, -0.6, -0.65, 0.95, -0.1))
    learner = DECIDES.learner(cases, None)
    DECIDES.calibrate(learner, cases, range(6))
    assert isinstance(learner, Segmenter)
    low, high = (float(confidence(10 * (torch.full((1, 1, 9, 9), gray) - 0.5))) for gray in (0.65, 0.8))
    assert learner.least_confidence == pytest.approx((low + high) / 2)
    tested = DECIDES.evaluate(learner, cases, range(6))
    assert [row["id"] for row in tested.rows] == ["case 0", "case 1", "case 4"]
    mean = tested.summary["mean"]
    assert (mean["dice"], mean["decided_dice"]) == (1, 1)
    assert mean["false_alarms"] == pytest.approx(2 / 3)
    assert mean["decided_false_alarms"] == 0
    assert tested.summary["cases"] == 3
    keys = DECIDES.metrics(cases)
    assert keys[:4] == ("dice", "decided_dice", "false_alarms", "decided_false_alarms")
    assert len(set(keys)) == len(keys)
    assert not set(keys[1:4]) & set(TASK.metrics(cases))


def test_a_denied_lesion_counts_0_after_the_decision() -> None:
    cases = TensorCases(*squares(0.6, 0.9, -0.7))
    learner = DECIDES.learner(cases, None)
    learner.least_confidence = 0.9  # type: ignore[assignment]
    mean = DECIDES.evaluate(learner, cases, range(3)).summary["mean"]
    assert (mean["dice"], mean["decided_dice"], mean["decided_false_alarms"]) == (1, 0.5, 0)


def test_without_images_that_show_no_lesion_there_are_no_false_alarms_to_report() -> None:
    cases = TensorCases(*squares(0.6, 0.9))
    mean = DECIDES.evaluate(DECIDES.learner(cases, None), cases, range(2)).summary["mean"]
    assert not {"false_alarms", "decided_false_alarms"} & set(mean)
    assert all(value == value for value in mean.values())


def test_a_deciding_network_learns_from_images_with_a_lesion_only() -> None:
    cases = TensorCases(*squares(0.6, -0.9, 0.7))
    assert len(DECIDES.pairs(cases, range(3))) == 2  # type: ignore[arg-type]
    assert len(TASK.pairs(cases, range(3))) == 3  # type: ignore[arg-type]


def test_the_least_confidence_is_the_best_of_all() -> None:
    generator = torch.Generator().manual_seed(0)
    for count, levels in ((1, 999), (2, 999), (7, 999), (30, 999), (30, 4), (30, 1)):  # few levels: many are equal
        sure = torch.randint(1, levels + 1, (count,), generator=generator) / levels
        scores = torch.rand(count, generator=generator).double()
        lesion = torch.rand(count, generator=generator) < 0.6
        scores = torch.where(lesion, scores, (scores > 0.7).double())

        def value(least: float, sure: Tensor = sure, scores: Tensor = scores, lesion: Tensor = lesion) -> float:
            return float(torch.where(sure >= least, scores, (~lesion).double()).mean())

        best = max(value(least) for least in [0.0, *(sure[sure < 1] + 1e-6).tolist()])
        assert value(least_confidence(sure, scores, lesion)) == pytest.approx(best)
    assert least_confidence(torch.tensor([0.2, 0.9]), torch.ones(2).double(), torch.tensor([True, True])) == 0


def test_parts_of_the_network_learn_at_their_own_rates() -> None:
    learner = DECIDES.learner(TensorCases(*squares(0.5)), None)
    assert [(len(group["params"]), group["lr_factor"]) for group in learner.parameter_groups()] == [(2, 1.0), (2, 10.0)]
    with pytest.raises(ValueError, match="rates must name parts of the network, got 'head'"):
        Segmenter(Gray(), loss=dice_bce, rates={"head": 2.0})


class Leftward(torch.nn.Module):
    """Outlines what is bright, one pixel too far to the left."""

    def forward(self, images: Tensor) -> Tensor:
        return 10 * (images.roll(-1, dims=-1) - 0.5)


@pytest.mark.parametrize("kind", [Segmentation, Volumes])
def test_mirrored_logits_are_the_mean_with_those_of_the_mirror_image(kind: type[Segmentation]) -> None:
    images, masks = squares(0.9)
    cases = TensorCases(images, masks)
    task = kind(network=lambda outputs, weights: Leftward(), loss=dice_bce, mirrored=True)
    learner = task.learner(cases, None)
    found = learner.predict_logits(images)
    assert torch.allclose(found, 5 * (images.roll(-1, dims=-1) + images.roll(1, dims=-1)) - 5)
    assert torch.equal(learner.logits(images), Leftward()(images))  # what it trains and validates on


def test_volumes_pass_rates_on_and_refuse_a_decision() -> None:
    task = Volumes(network=lambda outputs, weights: Gray(), loss=soft_dice, rates={"out": 10.0})
    learner = task.learner(TensorCases(*squares(0.9)), None)
    assert [group["lr_factor"] for group in learner.parameter_groups()] == [1.0, 10.0]
    with pytest.raises(ValueError, match="decides must be False for volumes"):
        Volumes(network=threshold, loss=soft_dice, decides=True)


def test_mirrored_errors_to_one_side_cancel() -> None:
    images, masks = squares(0.9)
    cases, scores = TensorCases(images, masks), {}
    for mirrored in (False, True):
        task = Segmentation(network=lambda outputs, weights: Leftward(), loss=dice_bce, mirrored=mirrored)
        scores[mirrored] = task.evaluate(task.learner(cases, None), cases, [0]).summary["mean"]["dice"]
    assert scores == pytest.approx({False: 0.9, True: 160 / 180})
