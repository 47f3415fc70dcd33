"""Metrics that are collected over batches, against their functions of the whole set."""

from __future__ import annotations

import copy
import importlib
import inspect
import io
import pickle
from typing import Any

import lightning as L
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

import collected
from sslmed import metrics
from sslmed.metrics import classification, overlap, stateful, surface

every = pytest.mark.parametrize("name", [*collected.NAMES, "per class"])
KINDS = ["Dice", "ROCAUC"]  # one of cases, one of the whole set
SIZES = [3, 1, 4]


def updated(name: str, pred: Tensor, target: Tensor, sizes: list[int] = SIZES) -> Any:
    metric = collected.make(name)
    for batch in zip(pred.split(sizes), target.split(sizes), strict=True):
        metric.update(*batch)
    return metric


def test_every_function_of_masks_and_of_classes_has_a_class_with_its_settings() -> None:
    functions = {
        name
        for name in metrics.__all__
        if getattr(getattr(metrics, name), "__module__", "")
        in (classification.__name__, overlap.__name__, surface.__name__)
    }
    classes = {collected.make(name).metric.__name__: getattr(stateful, name) for name in collected.NAMES}
    assert set(classes) == functions
    for name, kind in classes.items():
        assert kind.__name__.lower() == name.replace("_", "")
        ours, theirs = (
            {k: x.default for k, x in inspect.signature(f).parameters.items() if x.kind is x.KEYWORD_ONLY}
            for f in (kind, getattr(metrics, name))
        )
        assert ours == theirs


@every
def test_batches_of_any_sizes_give_the_value_of_the_whole_set(name: str) -> None:
    pred, target = collected.cases(name)
    want = collected.expected(name, pred, target)
    for sizes in ([8], SIZES, [2, 0, 6]):
        metric = updated(name, pred, target, sizes)
        torch.testing.assert_close(metric.compute(), want)
        torch.testing.assert_close(metric.compute(), want)  # again: nothing was used up
    first = collected.make(name)
    first.update(pred[:3], target[:3])
    torch.testing.assert_close(
        first(pred[3:], target[3:]), collected.expected(name, pred[3:], target[3:])
    )  # of its batch
    torch.testing.assert_close(first.compute(), want)


@every
def test_reset_forgets_and_nothing_to_compute_is_an_error(name: str) -> None:
    metric = updated(name, *collected.cases(name))
    metric.reset()
    with pytest.raises(ValueError, match=r"\.compute\(\) needs at least one case, got none; call update"):
        metric.compute()
    pred, target = collected.cases(name, 6, seed=1)
    metric.update(pred[:0], target[:0])
    with pytest.raises(ValueError, match="needs at least one case"):
        metric.compute()
    metric.update(pred, target)
    torch.testing.assert_close(metric.compute(), collected.expected(name, pred, target))


@every
def test_copies_and_pickles_hold_their_own_cases(name: str) -> None:
    pred, target = collected.cases(name)
    with torch.inference_mode():  # as Lightning validates
        metric = updated(name, pred, target)
    want = metric.compute()
    for twin in (copy.deepcopy(metric), pickle.loads(pickle.dumps(metric))):
        metric.update(pred, target)
        torch.testing.assert_close(twin.compute(), want)
        twin.reset()
    assert repr(metric).startswith(type(metric).__name__)


@every
def test_state_dicts_hold_cases_on_demand_only(name: str) -> None:
    pred, target = collected.cases(name)
    model = nn.ModuleDict({"net": nn.Linear(2, 2), "metric": updated(name, pred, target)})
    assert set(model.state_dict()) == {"net.weight", "net.bias"}
    model["metric"].persistent()
    file = io.BytesIO()
    torch.save(model.state_dict(), file)
    file.seek(0)
    saved = torch.load(file, weights_only=True)
    twin = nn.ModuleDict({"net": nn.Linear(2, 2), "metric": updated(name, *collected.cases(name, seed=1))})
    twin.load_state_dict(saved)
    assert len(saved) == 2 + len(twin["metric"].names)  # the caller's is whole
    torch.testing.assert_close(twin["metric"].compute(), collected.expected(name, pred, target))
    # Without cases in it, a state is strict only where one is asked for.
    weights = {key: value for key, value in saved.items() if key.startswith("net.")}
    twin.load_state_dict(weights)
    torch.testing.assert_close(twin["metric"].compute(), collected.expected(name, pred, target))
    twin["metric"].persistent()
    with pytest.raises(RuntimeError, match=r"Missing key\(s\) in state_dict: \"metric\."):
        twin.load_state_dict(weights)
    model["metric"].reset()
    twin.load_state_dict(model.state_dict())
    with pytest.raises(ValueError, match="needs at least one case"):
        twin["metric"].compute()


@every
def test_it_moves_with_its_network_but_keeps_its_precision(name: str, device: torch.device) -> None:
    pred, target = collected.cases(name)
    metric = updated(name, pred.to(device), target.to(device))
    assert metric.compute().device.type == device.type
    model = nn.ModuleList([metric]).to(torch.float64).half().to("cpu")
    assert not list(model.buffers())
    got = metric.compute()
    torch.testing.assert_close(got, collected.expected(name, pred, target))
    assert got.device.type == "cpu"
    metric.update(pred.to(device), target.to(device))  # cases of two devices
    assert metric.compute().device.type == device.type


@pytest.mark.parametrize("name", KINDS)
def test_later_changes_in_place_do_not_count(name: str) -> None:
    pred, target = collected.cases(name)
    metric = collected.make(name)
    want = collected.expected(name, pred, target)
    metric.update(pred, target)
    pred.zero_(), target.zero_()
    torch.testing.assert_close(metric.compute(), want)


def test_gradients_are_not_kept() -> None:
    scores, target = collected.cases("ROCAUC")
    metric = stateful.ROCAUC()
    assert not metric(scores.requires_grad_(), target).requires_grad
    assert not metric.compute().requires_grad


def test_values_of_cases_make_the_table() -> None:
    pred, target = collected.cases("Dice")
    dice, counts = (updated(name, pred, target) for name in ("Dice", "PixelCounts"))
    torch.testing.assert_close(dice.values(), metrics.dice(pred, target))
    table = metrics.summarize({"dice": dice.values()}, counts=counts.values())
    assert table == metrics.summarize({"dice": metrics.dice(pred, target)}, counts=metrics.pixel_counts(pred, target))


def test_undefined_cases_are_left_out_of_the_mean_and_infinite_ones_are_in() -> None:
    target = torch.zeros(3, 4, 4, dtype=torch.bool)
    target[1:, 1:3, 1:3] = True
    pred = target.clone()
    pred[2] = False
    metric = stateful.Hausdorff(empty="nan")
    metric.update(pred[:1], target[:1])
    assert metric.compute().isnan()  # no case has a value
    metric.update(pred[1:], target[1:])
    assert metric.compute() == 0
    assert metric.values().isnan().tolist() == [True, False, True]
    assert stateful.Hausdorff(empty="inf")(pred, target) == torch.inf


def test_a_setting_may_differ_between_batches() -> None:
    pred, target = collected.cases("Hausdorff")
    spacing = torch.rand(8, 2, generator=torch.Generator().manual_seed(0)) + 0.5
    metric = stateful.Hausdorff(percentile=95)
    metric.update(pred[:5], target[:5], spacing_mm=spacing[:5])
    metric(pred[5:], target[5:], spacing_mm=spacing[5:])
    want = metrics.hausdorff(pred, target, spacing_mm=spacing, percentile=95)
    torch.testing.assert_close(metric.values(), want)


def test_16_bit_labels_and_a_mean_of_whole_numbers() -> None:
    pred, target = collected.cases("MCC")
    metric = updated("MCC", pred.to(torch.uint16), target.to(torch.uint16))
    torch.testing.assert_close(metric.compute(), collected.expected("MCC", pred, target))
    counts = stateful.PerCase(metrics.pixel_counts)
    pred, target = collected.cases("Dice")
    torch.testing.assert_close(counts(pred, target), metrics.pixel_counts(pred, target).double().mean(0))


def test_a_batch_without_a_value_is_not_counted() -> None:
    metric = stateful.ROCAUC()
    scores, target = torch.tensor([0.1, 0.9]), torch.tensor([0, 1])
    with pytest.raises(ValueError, match="target must have cases in class 1 and out of it"):
        metric(scores[:1], target[:1])
    metric.update(scores[:1], target[:1])
    with pytest.raises(ValueError, match="target must have cases in class 1 and out of it"):
        metric.compute()
    metric.update(scores[1:], target[1:])
    assert metric.compute() == 1


n = torch.arange
BAD = {
    "labels of two dimensions": (
        "MCC",
        (torch.rand(3, 2), n(3)),
        r"pred must have shape \(N,\), got \(3, 2\)",
    ),
    "a label out of range": ("MCC", (n(4), n(4)), "pred must hold classes 0..2, got values from 0 to 3"),
    "rows": ("MCC", (n(3), n(2)), r"pred must have one row for each of 2 cases, got \(3,\)"),
    "no batch": ("MCC", (torch.tensor(1), torch.tensor(1)), r"pred must have shape \(N, \.\.\.\), got \(\)"),
    "scores as labels": ("ROCAUC", (n(3), n(3)), "scores must be a floating point tensor"),
    "nan": ("ROCAUC", (torch.full((2,), torch.nan), n(2)), "scores must be numbers, got NaN"),
    "a channel": ("Dice", (torch.zeros(2, 2, 1, 4, 4), torch.zeros(2, 2, 1, 4, 4)), "pred must"),
    "logits": ("Dice", (torch.rand(2, 4, 4), torch.rand(2, 4, 4) > 0.5), "pred must be a bool mask"),
}


@pytest.mark.parametrize("kind", BAD)
def test_bad_input_raises_in_its_batch_and_is_not_counted(kind: str) -> None:
    name, batch, message = BAD[kind]
    metric = collected.make(name)
    for add in (metric, metric.update):
        with pytest.raises((TypeError, ValueError), match=message if add == metric.update else None):
            add(*batch)
    with pytest.raises(ValueError, match="needs at least one case"):
        metric.compute()


def test_bad_settings_and_functions_raise() -> None:
    with pytest.raises(ValueError, match="classes must be at least 2, got 1"):
        stateful.MCC(classes=1)
    with pytest.raises(TypeError, match="metric must be a function of pred and target, got 'dice'"):
        stateful.PerCase("dice")
    metric = stateful.PerCase(metrics.mcc, classes=3)
    with pytest.raises(ValueError, match=r"a row for each of 3 cases, got shape \(\); .* WholeSet"):
        metric.update(n(3), n(3))
    areas = stateful.ROCAUC()
    areas.update(torch.rand(3, 3), n(3))
    with pytest.raises(ValueError, match=r"pred must have shape \(N, 3\) as in the batches before, got \(4, 4\)"):
        areas.update(torch.rand(4, 4), n(4))
    assert len(areas._gathered()[1]) == 3


class Validated(L.LightningModule):
    """A network that finds what is bright."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Identity()
        self.scores = nn.ModuleDict({"dice": stateful.Dice(), "auc": stateful.ROCAUC()})

    def validation_step(self, batch: list[Tensor], index: int) -> None:
        image, mask, label = batch
        self.scores["dice"].update(self.net(image) > 0.5, mask)
        self.scores["auc"].update(image.mean((1, 2)), label)

    def on_validation_epoch_end(self) -> None:
        for name, metric in self.scores.items():
            self.log(name, metric.compute())
            metric.reset()


@pytest.mark.filterwarnings("ignore:.*does not have many workers", "ignore:.*LeafSpec")  # Lightning's own
def test_in_a_lightning_module() -> None:
    generator = torch.Generator().manual_seed(0)
    images, masks, labels = torch.rand(7, 5, 5, generator=generator), torch.zeros(7, 5, 5), n(7) % 2
    masks[:, 2:] = 1
    loader = DataLoader(TensorDataset(images, masks.bool(), labels), batch_size=3)
    module = Validated()
    trainer = L.Trainer(accelerator="cpu", logger=False, enable_progress_bar=False, enable_checkpointing=False)
    for _ in range(2):  # the second time nothing of the first counts
        (logged,) = trainer.validate(module, loader, verbose=False)
        assert logged["dice"] == pytest.approx(float(metrics.dice(images > 0.5, masks.bool()).mean()))
        assert logged["auc"] == pytest.approx(float(metrics.roc_auc(images.mean((1, 2)), labels)))


THEIRS: dict[str, tuple[str, dict[str, Any]]] = {
    "AveragePrecision": ("classification.MulticlassAveragePrecision", {"average": None}),
    "BalancedAccuracy": ("classification.MulticlassAccuracy", {"average": "macro"}),
    "ConfusionMatrix": ("classification.MulticlassConfusionMatrix", {}),
    "MCC": ("classification.MulticlassMatthewsCorrCoef", {}),
    "ROCAUC": ("classification.MulticlassAUROC", {"average": None}),
    "Sensitivity": ("classification.MulticlassRecall", {"average": None}),
    "Specificity": ("classification.MulticlassSpecificity", {"average": None}),
    "WeightedF1": ("classification.MulticlassF1Score", {"average": "weighted"}),
    "per class": ("segmentation.DiceScore", {"average": None, "input_format": "index"}),
}


@pytest.mark.peers
@pytest.mark.parametrize("name", THEIRS)
def test_equals_torchmetrics(name: str) -> None:
    room, _, kind = THEIRS[name][0].partition(".")
    theirs = getattr(importlib.import_module(f"torchmetrics.{room}"), kind)(3, **THEIRS[name][1])
    pred, target = collected.cases(name, 40)
    if name in ("ROCAUC", "AveragePrecision"):
        pred = pred.softmax(1)
    ours = collected.make(name)
    for batch in zip(pred.split([15, 25]), target.split([15, 25]), strict=True):
        torch.testing.assert_close(ours(*batch), theirs(*batch), check_dtype=False)
    torch.testing.assert_close(ours.compute(), theirs.compute(), check_dtype=False)
    ours.reset(), theirs.reset()
    ours.update(pred[:20], target[:20]), theirs.update(pred[:20], target[:20])
    torch.testing.assert_close(ours.compute(), theirs.compute(), check_dtype=False)
