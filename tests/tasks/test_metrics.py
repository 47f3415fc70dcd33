"""The registry of metrics: each entry computes what its name says, and words and digits follow from it."""

from __future__ import annotations

import pytest
import torch

from sslmed import metrics
from sslmed.tasks.metrics import METRICS, case_metric, metric, metrics_of, table_metrics

PRED, TARGET = torch.rand(2, 5, 12, 16, generator=torch.Generator().manual_seed(0)) > 0.6
PROBABILITY = torch.rand(30, 3, generator=torch.Generator().manual_seed(1)).double().softmax(1)
CLASS = torch.arange(30) % 3


@pytest.mark.parametrize("m", metrics_of("segmentation"), ids=lambda m: m.key)
def test_metrics_of_masks_have_a_value_for_each_case_or_one_for_the_set(m) -> None:  # type: ignore[no-untyped-def]
    assert m(PRED, TARGET).shape == ((5,) if m.of == "cases" else ())


@pytest.mark.parametrize("m", metrics_of("classification"), ids=lambda m: m.key)
def test_metrics_of_classes_have_a_value_for_each_case_or_one_for_the_set(m) -> None:  # type: ignore[no-untyped-def]
    assert m(PROBABILITY, CLASS).shape == ((30,) if m.of == "cases" else ())


@pytest.mark.parametrize("m", metrics_of("volumes"), ids=lambda m: m.key)
def test_metrics_of_volumes_have_one_value(m) -> None:  # type: ignore[no-untyped-def]
    assert m(PRED[None, None], TARGET[None, None]).shape == (1,)


def test_pooled_metrics_are_of_all_pixels_together() -> None:
    tp, fp, fn, _ = metrics.pixel_counts(PRED, TARGET).sum(0).tolist()
    assert METRICS["pooled_dice"](PRED, TARGET).item() == pytest.approx(2 * tp / (2 * tp + fp + fn))
    assert METRICS["pooled_jaccard"](PRED, TARGET).item() == pytest.approx(tp / (tp + fp + fn))


def test_areas_are_means_over_the_classes_that_have_one() -> None:
    kept = CLASS != 2
    areas = [metrics.roc_auc(PROBABILITY[kept, c], (CLASS[kept] == c).long()).item() for c in (0, 1)]
    assert METRICS["roc_auc"](PROBABILITY[kept], CLASS[kept]).item() == pytest.approx(sum(areas) / 2)
    one = CLASS == 0
    assert METRICS["roc_auc"](PROBABILITY[one], CLASS[one]).isnan()


def test_every_metric_has_words_and_the_best_is_found_by_its_direction() -> None:
    assert all(m.name and m.short and m.kinds and (m.meaning or not m.in_table) for m in METRICS.values())
    score = {"a": 1.0, "b": 2.0, "c": float("nan")}
    assert metric("dice").best_first(score, score) == ["b", "a"]
    assert metric("hausdorff").best_first(score, score) == ["a", "b"]
    assert (metric("dice").shown(0.5), metric("hausdorff").shown(3)) == ("0.500", "3.00")


def test_structures_and_unknown_metrics_are_named_by_their_key() -> None:
    assert (metric("dice_left_lung").name, metric("some_score").name) == ("Dice, left lung", "some score")
    with pytest.raises(TypeError, match="'some_score' has no function"):
        metric("some_score")(PRED, TARGET)


def test_tables_list_metrics_that_a_task_computes_itself() -> None:
    assert METRICS["test_loss"].compute is None
    for kind in ("segmentation", "classification"):
        assert "test_loss" in table_metrics(kind)
        assert "test_loss" not in {m.key for m in metrics_of(kind)}
    assert "test_loss" not in table_metrics("volumes")


def test_tables_and_tests_take_their_metrics_from_the_registry() -> None:
    assert table_metrics("classification")[0] == "mcc"
    assert "correct" not in table_metrics("classification")
    assert case_metric("mcc", "classification").key == "correct"
    assert case_metric("pooled_dice", "segmentation").key == "dice"
    assert case_metric("hausdorff", "segmentation").key == "hausdorff"
