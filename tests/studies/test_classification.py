"""Classification: what is counted of each case, and the metrics of the set worked out by hand."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

pytest.importorskip("lightning")

import torch

from sslmed.models import ResNetEncoder, load_encoder
from sslmed.studies.classification import Classifier, evaluate
from sslmed.studies.inputs import ImageSet
from sslmed.studies.runs import read_csv


class Table(torch.nn.Module):
    """Reads the logits of each image from its first pixels."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return images[:, 0, 0, :3] * 10


def image_set(labels: list[str], logits: list[list[float]]) -> ImageSet:
    images = torch.zeros(len(labels), 1, 4, 4)
    images[:, 0, 0, :3] = torch.tensor(logits)
    return ImageSet(
        name="set", source="", images=images, masks=None, labels=labels, ids=[f"case {i}" for i in range(len(labels))],
        groups=[f"patient {i // 2}" for i in range(len(labels))], counts={}, classes=("benign", "malignant", "normal"),
    )  # fmt: skip


def test_every_case_and_the_metrics_of_the_set(tmp_path: Path) -> None:
    labels = ["benign", "benign", "malignant", "malignant", "normal", "normal"]
    logits = [[1, 0, 0], [1, 0, 0], [0, 1, 0], [1, 0.5, 0], [0, 0, 1], [0, 0, 1]]
    result = evaluate(Table(), image_set(labels, logits), [*range(6)], tmp_path)
    rows = read_csv(tmp_path / "metrics.csv")
    assert [row["predicted"] for row in rows] == [
        "benign",
        "benign",
        "malignant",
        "benign",
        "normal",
        "normal",
    ]
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


def test_a_class_without_a_test_case_has_no_area(tmp_path: Path) -> None:
    data = image_set(["benign", "malignant", "benign"], [[1, 0, 0], [0, 1, 0], [0, 1, 0]])
    result = evaluate(Table(), data, [0, 1, 2], tmp_path)
    assert result["without_area"] == ["normal"]
    assert result["mean"]["roc_auc"] == pytest.approx(0.75)
    alone = evaluate(Table(), data, [0, 2], tmp_path)
    assert "roc_auc" not in alone["mean"]
    json.dumps([result, alone], allow_nan=False)


def test_the_classifier_holds_its_encoder_once() -> None:
    encoder = ResNetEncoder("resnet18", width=8)
    model = Classifier(encoder, 3)
    assert len(model.state_dict()) == len(encoder.state_dict()) + 2
    assert load_encoder(model, ResNetEncoder("resnet18", width=8).state_dict(), minimum=1.0).fraction == 1
    x = torch.rand(2, 1, 32, 32)
    model.eval()
    torch.testing.assert_close(model(x), model.linear(encoder(x)[-1].mean((2, 3))))
