"""Training on after fine-tuning: which network is kept."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("lightning")

import torch
from torch import Tensor, nn
from torch.utils.data import TensorDataset

from sslmed.methods import Step
from sslmed.studies.engine import Fit
from sslmed.studies.optimisers import Optimiser
from sslmed.studies.refinement import refine, shown_worse
from sslmed.studies.runs import read_csv
from sslmed.studies.study import Refinement

EPOCHS = 3


class Counting(nn.Module):
    """Adds 1 to its network's only weight after each step; its validation loss rises."""

    def __init__(self, network: nn.Linear) -> None:
        super().__init__()
        self.trained, self.loss = network, 0.0

    def forward(self, scans: Tensor) -> Step:
        return Step(self.trained(scans[:, :1, 0, 0]).mean(), {})

    def validate(self, batches: Any) -> dict[str, float]:
        self.loss += 1
        return {"val_loss": self.loss}

    def start(self, batches: Any) -> None:
        pass

    def after_step(self) -> None:
        with torch.no_grad():
            self.trained.weight += 1

    def parameter_groups(self) -> list[dict[str, Any]]:
        return [{"params": list(self.parameters())}]


class Learner:
    def __init__(self) -> None:
        self.model = nn.Linear(1, 1, bias=False)
        nn.init.zeros_(self.model.weight)


@pytest.mark.parametrize(("change", "kept"), [(0.1, True), (0.0, True), (-0.1, False)])
def test_the_last_network_is_kept_unless_it_is_shown_to_be_worse(
    tmp_path: Path, change: float, kept: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    learner = Learner()
    pairs = TensorDataset(torch.rand(2, 1, 4, 4), torch.rand(2, 1, 4, 4))
    pool = TensorDataset(torch.rand(6, 1, 4, 4))

    def scores() -> Sequence[float]:
        trained = bool(learner.model.weight != 0)
        return [0.5 + change * trained + 0.01 * k for k in range(9)]

    refine(
        learner,  # type: ignore[arg-type]
        Refinement(lambda network, *_: Counting(network), Optimiser("sgd", lr=1e-9), Fit(EPOCHS, 3)),  # type: ignore[arg-type,return-value]
        pairs,
        pool,
        val=pairs,
        fine_tuned=tmp_path,
        seed=0,
        workers=0,
        scores=scores,
    )
    assert ("the fine-tuned network is kept" in capsys.readouterr().out) == (not kept)
    assert learner.model.weight.item() == pytest.approx(EPOCHS * 2 if kept else 0)
    losses = [float(row["val_loss"]) for row in read_csv(tmp_path / "refinement" / "curves.csv")]
    assert losses == [1, 2, 3]  # the first epoch is not taken for its loss


def test_a_fall_of_few_cases_or_of_some_shows_nothing() -> None:
    before = [0.5 + 0.01 * k for k in range(9)]
    assert shown_worse([x - 0.1 for x in before], before)
    assert not shown_worse([x + 0.1 for x in before], before)
    assert not shown_worse(before, before)
    assert not shown_worse([0.0, *before[1:]], before)
    assert not shown_worse([x - 0.1 for x in before[:3]], before[:3])
    assert not shown_worse([0.0], [1.0])
