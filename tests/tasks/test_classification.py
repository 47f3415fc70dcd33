"""Classification: what is counted of each case, and the metrics of the set worked out by hand."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from torch import Tensor

from cases import TensorCases
from sslmed.models import ResNetEncoder, load_encoder
from sslmed.tasks import Classification, Classifier, ClassLearner, Evaluation
from sslmed.tasks._classification_report import rates

NAMES = ("benign", "malignant", "normal")


class Table(torch.nn.Module):
    """Reads the logits of each image from its first pixels."""

    def forward(self, images: Tensor) -> Tensor:
        return images[:, 0, 0, :3] * 10


TASK = Classification(network=lambda classes, weights: Table())


def evaluated(labels: list[str], logits: list[list[float]], index: list[int] | None = None) -> Evaluation:
    images = torch.zeros(len(labels), 1, 4, 4)
    images[:, 0, 0, :3] = torch.tensor(logits)
    groups = [f"patient {i // 2}" for i in range(len(labels))]
    cases = TensorCases(images, labels=labels, classes=NAMES, groups=groups)
    return TASK.evaluate(TASK.learner(cases, None), cases, index or range(len(labels)))


def test_every_case_and_the_metrics_of_the_set() -> None:
    labels = ["benign", "benign", "malignant", "malignant", "normal", "normal"]
    logits = [[1, 0, 0], [1, 0, 0], [0, 1, 0], [1, 0.5, 0], [0, 0, 1], [0, 0, 1]]
    found = evaluated(labels, logits)
    rows, result = found.rows, found.summary
    assert [row["predicted"] for row in rows] == [*labels[:3], "benign", *labels[4:]]
    assert [row["correct"] for row in rows] == ["1", "1", "1", "0", "1", "1"]
    assert [row["group"] for row in rows][:3] == ["patient 0", "patient 0", "patient 1"]
    assert sum(float(rows[3][f"p_{name}"]) for name in ("benign", "malignant", "normal")) == pytest.approx(1)
    mean = result["mean"]
    assert mean["accuracy"] == pytest.approx(5 / 6)
    assert mean["balanced_accuracy"] == pytest.approx((1 + 0.5 + 1) / 3)
    assert mean["weighted_f1"] == pytest.approx((0.8 + 2 / 3 + 1) / 3)
    # The missed malignant case still has a higher chance of being malignant than all others but one.
    assert (mean["roc_auc"], mean["average_precision"]) == pytest.approx((1, 1))
    assert result["without_area"] == []
    assert mean["sensitivity"] == pytest.approx(mean["balanced_accuracy"])
    # One case, in truth malignant, is taken for one of the four others' class benign.
    assert mean["specificity"] == pytest.approx((3 / 4 + 1 + 1) / 3)
    logits = torch.tensor(logits, dtype=torch.float64) * 10
    own = [NAMES.index(name) for name in labels]
    entropy = [float(z.logsumexp(0) - z[k]) for z, k in zip(logits, own, strict=True)]
    assert mean["test_loss"] == pytest.approx(sum(entropy) / 6)


def test_a_class_without_a_test_case_has_no_area() -> None:
    given = ["benign", "malignant", "benign"], [[1, 0, 0], [0, 1, 0], [0, 1, 0]]
    result, alone = evaluated(*given).summary, evaluated(*given, [0, 2]).summary
    assert result["without_area"] == ["normal"]
    assert result["mean"]["roc_auc"] == pytest.approx(0.75)
    assert result["mean"]["sensitivity"] == pytest.approx(0.75)
    assert result["mean"]["specificity"] == pytest.approx(0.75)
    assert not {"roc_auc", "sensitivity", "specificity"} & set(alone["mean"])
    json.dumps([result, alone], allow_nan=False)


def test_the_test_loss_stays_finite_where_a_probability_is_rounded_to_0() -> None:
    mean = evaluated(["benign", "malignant"], [[0, 1000, 0], [0, 1, 0]]).summary["mean"]
    assert 300 < mean["test_loss"] < 400


def test_rates_of_each_class_are_against_the_rest() -> None:
    table = np.array([[3, 1, 0], [2, 4, 0], [0, 0, 0]])
    assert rates(table) == ([3 / 4, 4 / 6, None], [4 / 6, 3 / 4, 1.0])
    assert rates(np.array([[2, 1], [0, 0]])) == ([2 / 3, None], [None, 2 / 3])


def test_one_class_is_refused() -> None:
    cases = TensorCases(torch.rand(2, 1, 4, 4), labels=["benign", "benign"], classes=NAMES)
    with pytest.raises(ValueError, match="has fewer than two classes"):
        TASK.check(cases, option="--data")


def test_validation_is_of_all_cases_however_they_are_batched() -> None:
    generator = torch.Generator().manual_seed(0)
    images, labels = torch.rand(7, 1, 4, 4, generator=generator), torch.tensor([0, 1, 2, 0, 1, 2, 0])
    learner = ClassLearner(Table(), classes=3)
    parts = learner.validate(zip(images.split(3), labels.split(3), strict=True))
    assert parts == pytest.approx(learner.validate([(images, labels)]))
    assert list(parts) == ["val_loss", "val_balanced_accuracy", "val_mcc", "val_weighted_f1"]


def test_the_classifier_holds_its_encoder_once() -> None:
    encoder = ResNetEncoder("resnet18", width=8)
    model = Classifier(encoder, 3)
    assert len(model.state_dict()) == len(encoder.state_dict()) + 2
    assert load_encoder(model, ResNetEncoder("resnet18", width=8).state_dict(), minimum=1.0).fraction == 1
    x = torch.rand(2, 1, 32, 32)
    model.eval()
    torch.testing.assert_close(model(x), model.linear(encoder(x)[-1].mean((2, 3))))
