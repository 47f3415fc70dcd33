"""The monitor of a pretext: its values, its share of the time, and that the training does not notice it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("lightning")

import torch
from torch import Tensor, nn

from pretexts import Noise, images, method
from sslmed import metrics
from sslmed.augment import MultiView
from sslmed.models import UNet, pooled_features
from sslmed.studies import monitor as monitors
from sslmed.studies.engine import Fit, weights_of
from sslmed.studies.learned import encoder_of
from sslmed.studies.modes import batch_statistics
from sslmed.studies.monitor import ARRAYS, ROWS, Monitor, found_views, measure, statement
from sslmed.studies.optimisers import Optimiser
from sslmed.studies.pretext import pretrain
from sslmed.studies.results import arrays, columns
from sslmed.studies.sample import FOLDS, Sample, sample_size

ADAM = Optimiser("adam", lr=3e-3)
PAIR = MultiView(Noise(), Noise())


def disks(count: int = 20, *, labelled: bool = True) -> Sample:
    """Disks of two classes, two images of each patient, to watch a pretext by."""
    pixels = torch.stack([image for image, _ in images(count)])
    gray = pixels.mean(dim=(1, 2, 3))
    labels = (gray > gray.median()).long().tolist()
    groups = [f"patient {k // 2}" for k in range(count)]
    return Sample.of(pixels, PAIR, groups, labels if labelled else None, classes=2 if labelled else 0)


class Clock:
    """A clock that stands still unless it is moved; each measurement takes `cost` seconds."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, cost: float) -> None:
        self.now = 100.0

        def measured(*_: object) -> tuple[dict[str, float], dict[str, np.ndarray]]:
            self.now += cost
            return {"lidar": self.now}, {"matched": np.ones(3, bool)}

        monkeypatch.setattr(monitors, "measure", measured)

    def __call__(self) -> float:
        return self.now


def test_the_start_has_its_own_batch_statistics_or_those_of_the_images(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whichever is better: else what only adapts these statistics would look like learning."""
    encoder, sample = encoder_of(method("simclr")), disks(40, labelled=False)
    norms = [part for part in encoder.modules() if isinstance(part, nn.BatchNorm2d)]

    def spoil() -> None:
        for norm in norms:
            norm.running_mean.fill_(1e4)  # type: ignore[union-attr,operator]

    @contextlib.contextmanager
    def spoiled(*_: object) -> Iterator[None]:
        with batch_statistics(encoder, lambda _: None, ()):
            spoil()
            yield

    own = measure(encoder, sample)[0]
    with monkeypatch.context() as patched:
        patched.setattr(monitors, "adapted", spoiled)
        assert Monitor(encoder, sample, tmp_path / "own").after(0, last=False) == own
    with batch_statistics(encoder, lambda x: pooled_features(encoder, x), [sample.images]):
        adapted = measure(encoder, sample)[0]
    spoil()
    bad = measure(encoder, sample)[0]
    assert bad["matched"] < min(own["matched"], adapted["matched"])
    assert Monitor(encoder, sample, tmp_path / "adapted").after(0, last=False) == pytest.approx(adapted, rel=1e-4)
    assert all(bool((norm.running_mean == 1e4).all()) for norm in norms)
    assert Monitor(encoder, sample, tmp_path / "end").after(1, last=True) == bad


def test_values_are_those_of_the_metrics() -> None:
    encoder, sample = encoder_of(method("simclr")), disks(40)
    values, kept = measure(encoder, sample)
    encoder.eval()
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        drawn = [view for _ in range(2) for view in PAIR(sample.images[:32])]
        views = torch.stack([pooled_features(encoder, view) for view in drawn], dim=1)
        clean = pooled_features(encoder, sample.images)
    expected = {
        "effective_rank": metrics.effective_rank(clean),
        "lidar": metrics.lidar(views / (views - views.mean(dim=(0, 1))).square().mean().sqrt()),
        "feature_std": metrics.feature_std(clean),
        "alignment": metrics.alignment(views[:, 0], views[:, 1]),
        "uniformity": metrics.uniformity(clean),
        "matched": found_views(views).float().mean(),
    }
    for name, value in expected.items():
        assert values[name] == pytest.approx(float(value), rel=1e-4), name
    assert sample.labels is not None
    hits = []  # each image by those of the other folds
    folds = sample.folds()
    for k in range(len(sample)):
        rest = folds != folds[k]
        found = metrics.knn_predictions(
            clean[rest], sample.labels[rest], clean[k : k + 1], classes=2, k=min(20, int(rest.sum()))
        )
        hits.append(bool(found == sample.labels[k]))
    assert kept["correct"].tolist() == hits
    assert values["knn_accuracy"] == pytest.approx(np.mean(hits))
    assert 0 <= values["linear_accuracy"] <= 1


def test_neighbours_are_of_other_patients() -> None:
    sample = disks()

    class Place(nn.Module):
        """Features by which an image is nearest to that of the same patient, then to the next ones."""

        def __init__(self) -> None:
            super().__init__()
            self.known = nn.Parameter(torch.zeros(()))

        def forward(self, x: Tensor) -> Tensor:
            places = [(sample.images == image).flatten(1).all(1).nonzero()[0, 0] for image in x]
            angles = torch.stack(places) / 20
            return torch.stack([angles.cos(), angles.sin()], dim=1)

    still = Sample(sample.images, MultiView(nn.Identity(), nn.Identity()), sample.groups)
    values, kept = measure(Place(), still)
    pixels = (sample.images[:, 0] * 255).round().to(torch.uint8).numpy()
    assert np.array_equal(kept["queries"], pixels[:5])
    assert np.array_equal(kept["neighbours"][0], pixels[[2, 3, 4]])
    assert np.array_equal(kept["neighbours"][2][0], pixels[1])
    assert values["matched"] == 1
    assert not {"knn_accuracy", "correct"} & {*values, *kept}


def test_views_are_found_by_the_nearest_features() -> None:
    first = torch.eye(6)
    assert found_views(torch.stack([first, first], dim=1)).all()
    assert not found_views(torch.stack([first, first.roll(1, 0)], dim=1)).any()


def test_folds_keep_groups_together_and_are_even() -> None:
    groups = [k // 7 for k in range(140)]
    folds = Sample(torch.zeros(140, 1, 2, 2), PAIR, torch.tensor(groups)).folds()
    assert len(set(zip(groups, folds.tolist(), strict=True))) == 20
    assert folds.bincount().tolist() == [28] * FOLDS


def test_labels_count_only_with_enough_patients_of_two_classes() -> None:
    pixels = torch.zeros(30, 1, 4, 4)
    few = [0] * 26 + [1] * 4
    assert Sample.of(pixels, PAIR, range(30), few, classes=2).labels is None
    enough = [0] * 25 + [1] * 5
    assert Sample.of(pixels, PAIR, range(30), enough, classes=2).labels is not None
    assert Sample.of(pixels, PAIR, [k // 2 for k in range(30)], enough, classes=2).labels is None


@pytest.mark.parametrize(("images", "epochs", "size"), [(40, 2, 64), (300, 50, 150), (5000, 200, 256)])
def test_longer_trainings_have_larger_samples(images: int, epochs: int, size: int) -> None:
    assert sample_size(images, epochs) == size


@pytest.mark.parametrize(("count", "held_out", "viewed"), [(20, 0, 20), (64, 0, 32), (256, 0, 64), (256, 200, 200)])
def test_views_are_drawn_of_a_part_and_of_all_that_was_held_out(count: int, held_out: int, viewed: int) -> None:
    sample = Sample.of(torch.zeros(count, 1, 2, 2), PAIR, range(count), held_out=held_out)
    assert sample.viewed == viewed


@pytest.mark.parametrize(("seconds", "expected"), [(10.0, [0, 10, 14, 17, 20]), (1.0, [0, 20]), (1000.0, [*range(21)])])
def test_measurements_take_at_most_three_percent(
    seconds: float, expected: list[int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock(monkeypatch, cost=1.0)
    monitor = Monitor(nn.Identity(), disks(), tmp_path, clock=clock)
    monitor.after(0, last=False)
    for epoch in range(1, 21):
        clock.now += seconds
        monitor.after(epoch, last=epoch == 20)
    values = columns(tmp_path / ROWS)
    assert values["epoch"] == expected
    assert values["seconds"] == [1.0] * len(expected)
    assert values["training_seconds"] == [epoch * seconds for epoch in expected]
    if seconds == 10:
        # The start and the end of so short a training take 1 % of it, and all that is between them fits.
        assert sum(values["seconds"]) <= 0.03 * 200


def test_a_resumed_training_keeps_its_values(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch, cost=1.0)

    def begun(first: int, epochs: range) -> None:
        monitor = Monitor(nn.Identity(), disks(), tmp_path, clock=clock)
        monitor.after(first, last=first == 6)
        for epoch in epochs:
            clock.now += 100.0
            monitor.after(epoch, last=epoch == 6)

    begun(0, range(1, 5))
    before = columns(tmp_path / ROWS)
    assert before["epoch"] == [0, 1, 2, 3, 4]
    begun(2, range(3, 4))  # killed; the last checkpoint was of two epochs
    values = columns(tmp_path / ROWS)
    assert values["epoch"] == [0, 1, 2, 3]
    assert values["lidar"][:3] == before["lidar"][:3]
    assert values["lidar"][3] > before["lidar"][4]  # measured again
    assert values["training_seconds"] == [0, 100, 200, 300]
    clock.now += 1e6  # the time between two runs is no training time
    begun(3, range(4, 7))
    assert columns(tmp_path / ROWS)["training_seconds"][-1] == 600
    done = (tmp_path / ROWS).read_text()
    begun(6, range(0))  # nothing is left to do
    assert (tmp_path / ROWS).read_text() == done


def test_a_run_killed_before_its_last_measurement_makes_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch, cost=1.0)
    first = Monitor(nn.Identity(), disks(), tmp_path, clock=clock)
    first.after(0, last=False)
    assert not statement(tmp_path)
    Monitor(nn.Identity(), disks(), tmp_path, clock=clock).after(3, last=True)
    assert columns(tmp_path / ROWS)["epoch"] == [0, 3]
    assert {"start_matched", "end_matched"} <= arrays(tmp_path / ARRAYS).keys()


@pytest.fixture
def always(monkeypatch: pytest.MonkeyPatch) -> None:
    """Measure every epoch."""
    monkeypatch.setattr(monitors, "SHARE", 1e9)


@pytest.mark.usefixtures("always")
@pytest.mark.parametrize("name", ["simclr", "moco", "masked", "relation"])
def test_the_training_does_not_notice(name: str, tmp_path: Path) -> None:
    settings = Fit(epochs=3, batch_size=4)

    def trained(folder: str, sample: Sample | None) -> dict[str, Tensor]:
        torch.manual_seed(3)
        pretrain(
            method(name, count=9),
            images(9),
            settings,
            optimiser=ADAM,
            folder=tmp_path / folder,
            seed=5,
            title=name,
            sample=sample,
        )
        return weights_of(tmp_path / folder / "last.ckpt")

    alone, watched = trained("alone", None), trained("watched", disks())
    assert alone.keys() == watched.keys()
    assert all(torch.equal(value, watched[key]) for key, value in alone.items())
    assert (tmp_path / "alone" / "curves.csv").read_text() == (tmp_path / "watched" / "curves.csv").read_text()
    assert not (tmp_path / "alone" / ROWS).exists()
    assert columns(tmp_path / "watched" / ROWS)["epoch"] == [0, 1, 2, 3]


def test_a_single_image_is_not_measured(tmp_path: Path) -> None:
    one = disks(2, labelled=False)
    one = Sample(one.images[:1], one.pair, one.groups[:1])
    pretrain(
        method("simclr", count=8),
        images(8),
        Fit(epochs=1, batch_size=8),
        optimiser=ADAM,
        folder=tmp_path,
        seed=5,
        title="simclr",
        sample=one,
    )
    assert (tmp_path / "encoder.pt").exists()
    assert not (tmp_path / ROWS).exists()


@pytest.mark.usefixtures("always")
def test_a_killed_pretext_ends_with_the_values_of_an_unbroken_one(tmp_path: Path) -> None:
    def begun(folder: str, *, die: bool = False) -> dict[str, list[float]]:
        chosen, calls = method("simclr", count=9), []

        def kill(*_: object) -> None:
            calls.append(1)
            if die and len(calls) == 8:  # in the third epoch
                raise RuntimeError("killed")

        chosen.register_forward_pre_hook(kill)
        pretrain(
            chosen,
            images(9),
            Fit(epochs=4, batch_size=4, checkpoint_every=2),
            optimiser=ADAM,
            folder=tmp_path / folder,
            seed=5,
            title="simclr",
            sample=disks(),
        )
        return columns(tmp_path / folder / ROWS)

    whole = begun("whole")
    with pytest.raises(RuntimeError, match="killed"):
        begun("broken", die=True)
    resumed = begun("broken")
    assert resumed["epoch"] == [0, 1, 2, 3, 4]
    for name in whole.keys() - {"seconds", "training_seconds"}:
        assert resumed[name] == whole[name], name


def test_measuring_leaves_random_state_modes_and_gradients_alone() -> None:
    chosen = method("masked")
    encoder = encoder_of(chosen)
    frozen = next(part for part in chosen.modules() if isinstance(part, nn.BatchNorm2d)).eval()
    before = {key: value.clone() for key, value in chosen.state_dict().items()}
    torch.manual_seed(4)
    expected = torch.rand(3)
    torch.manual_seed(4)
    measure(encoder, disks())
    assert torch.equal(torch.rand(3), expected)
    assert not frozen.training
    assert chosen.training
    assert encoder.training
    assert all(p.requires_grad for p in chosen.parameters())  # also of the decoder
    assert all(torch.equal(value, before[key]) for key, value in chosen.state_dict().items())


def test_the_encoder_of_a_u_net_gives_its_bottom_map() -> None:
    network = method("masked").trained
    assert isinstance(network, UNet)
    assert pooled_features(encoder_of(method("masked")), torch.rand(2, 1, 32, 32)).shape == (2, 16 * 4)


@pytest.mark.parametrize(
    ("before", "after", "words"),
    [(10, 30, "Better than its start"), (30, 10, "Worse than its start"), (20, 22, "Not shown to be better")],
)
def test_the_statement_says_by_how_much(before: int, after: int, words: str, tmp_path: Path) -> None:
    share = {"knn_accuracy": [before / 40, after / 40], "linear_accuracy": [0.5, 0.6]}
    table = "epoch,knn_accuracy,linear_accuracy\n"
    rows = (f"{e},{share['knn_accuracy'][k]},{share['linear_accuracy'][k]}\n" for k, e in enumerate((0, 9)))
    (tmp_path / ROWS).write_text(table + "".join(rows))
    found = {}
    for part, count in (("start", before), ("end", after)):
        right = np.arange(40) < count
        found |= {f"{part}_correct": right, f"{part}_matched": right, f"{part}_most_frequent": np.array(0.45)}
    np.savez(tmp_path / ARRAYS, **found)
    said = statement(tmp_path)
    assert said.startswith(f"{words}")
    assert f": kNN accuracy {before / 40:.0%} to {after / 40:.0%} (p = " in said
    assert "linear probe accuracy 50% to 60%, of 40 images, 45% of them of the most frequent class" in said


def test_without_labels_the_statement_is_of_views(tmp_path: Path) -> None:
    found = {"start_matched": np.arange(40) < 10, "end_matched": np.arange(40) < 30, "end_held_out": np.array(0)}
    np.savez(tmp_path / ARRAYS, **found)
    said = statement(tmp_path)
    assert said.startswith("The encoder learned to recognise images. Of 40 images, it finds the other view")
    assert not statement(tmp_path / "nowhere")
