"""Whether an image shows a lesion, by an outline and a pretrained encoder together."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from torch import Tensor

from cases import TensorCases
from sslmed.models import ResUNet
from sslmed.tasks import Segmentation, Segmenter, dice_bce
from sslmed.tasks.decision import (
    Presence,
    as_logits,
    confidence,
    diagonal_discriminant,
    encoder_features,
    least_confidence,
)


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


def network(seed: int = 0) -> ResUNet:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        made = ResUNet("resnet18", width=4, standardise=True).eval()
        torch.nn.init.normal_(made.out.weight)
        return made


def test_the_weights_of_a_discriminant_are_those_of_the_definition() -> None:
    features, positive = random(9, 4), torch.tensor([True, False, False, True, True, False, True, False, True])
    features[:, 2] = positive.float() + 3  # constant within both classes
    expected = []
    for column in features.double().T.tolist():
        one, zero = ([v for v, p in zip(column, positive.tolist(), strict=True) if p == side] for side in (True, False))
        means = [sum(side) / len(side) for side in (one, zero)]
        spread = [sum((v - m) ** 2 for v in side) / len(side) for side, m in zip((one, zero), means, strict=True)]
        expected.append((means[0] - means[1]) / (sum(spread) / 2) if sum(spread) > 1e-12 else 0.0)
    assert diagonal_discriminant(features, positive).tolist() == pytest.approx(expected)
    assert expected[2] == 0


def test_both_logits_are_standardised_over_the_validation_images_and_added() -> None:
    presence = Presence(network().encoder, features=5)
    train, lesion, val = random(12, 5), torch.arange(12) % 2 == 0, random(6, 5, seed=1)
    sure = torch.tensor([0.6, 0.7, 0.9, 1.0, 0.95, 0.55])  # of 1, the logit is infinite
    assert presence.learn(train, lesion, val, sure)
    parts = [as_logits(sure.double()), val.double() @ diagonal_discriminant(train, lesion)]
    expected = sum((part - part.mean()) / part.std(correction=0) for part in parts).sigmoid()
    assert torch.allclose(presence.joined(val, sure).double(), expected, atol=1e-6)


def test_as_logits_keeps_away_from_infinity() -> None:
    assert as_logits(torch.tensor([0.0, 0.5, 1.0], dtype=torch.float64)).tolist() == pytest.approx(
        [-math.log(1e6 - 1), 0, math.log(1e6 - 1)]
    )


@pytest.mark.parametrize(("lesions", "learned"), [(0, False), (4, False), (5, True), (7, True), (8, False)])
def test_it_takes_five_images_of_each_kind(lesions: int, learned: bool) -> None:
    presence = Presence(network().encoder, features=5)
    lesion = torch.arange(12) < lesions
    assert presence.learn(random(12, 5), lesion, random(6, 5), torch.linspace(0.5, 0.9, 6)) == learned
    assert bool(presence.weights.any()) == learned


def test_it_is_not_learned_where_the_validation_images_do_not_differ() -> None:
    presence = Presence(network().encoder, features=5)
    known = random(12, 5), torch.arange(12) < 6
    assert not presence.learn(*known, random(6, 5), torch.full((6,), 0.7))
    assert not presence.learn(*known, random(1, 5).expand(6, 5), torch.linspace(0.5, 0.9, 6))


def test_features_are_those_of_images_and_mirror_images_and_no_statistics_move() -> None:
    net, images = network(), random(3, 1, 32, 32)
    presence = Presence(net.encoder, features=sum(net.encoder.channels)).train()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    found = presence.features(images)
    assert torch.equal(found, presence.features(images.flip(-1)))
    expected = [
        torch.cat([one.mean((2, 3)) for one in net.encoder_maps(side)], 1) for side in (images, images.flip(-1))
    ]
    assert torch.allclose(found, sum(expected) / 2)
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())


TASK = Segmentation(network=lambda outputs, weights: network(0 if weights is None else 1), loss=dice_bce, decides=True)


def some_cases() -> TensorCases:
    """Images of which every third one shows no lesion; lesions are bright."""
    images, masks = random(36, 1, 32, 32), torch.zeros(36, 1, 32, 32, dtype=torch.bool)
    for k in range(36):
        if k % 3:
            masks[k, 0, 8:24, 8:24] = True
            images[k] += masks[k]
    return TensorCases(images / 2, masks)


def test_a_task_joins_its_outlines_with_the_encoder_that_it_started_from() -> None:
    cases, weights = some_cases(), Path("pretrained.pt")
    learner = TASK.learner(cases, None)
    assert isinstance(learner, Segmenter)
    state = torch.random.get_rng_state()
    TASK.calibrate(learner, cases, range(18, 36), labelled=range(18), weights=weights)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert learner.presence is not None
    assert set(learner.states()) == {"model", "presence"}
    images, lesion = cases.images(range(18, 36)), torch.tensor(cases.outlined[18:])
    with torch.no_grad():
        logits = learner.predict_logits(images)
        sure = learner.presence(images, confidence(logits))
    pretrained = network(1).encoder
    expected = Presence(pretrained, features=sum(pretrained.channels))
    own, val = (encoder_features(pretrained, cases.images(part)) for part in (range(18), range(18, 36)))
    assert expected.learn(own, torch.tensor(cases.outlined[:18]), val, confidence(logits))
    assert torch.allclose(sure, expected(images, confidence(logits)))
    rows = TASK.evaluate(learner, cases, range(18, 36)).rows
    kept = sure[lesion] >= learner.least_confidence
    assert [float(row["decided_dice"]) for row in rows] == pytest.approx(
        [float(row["dice"]) * bool(one) for row, one in zip(rows, kept, strict=True)]
    )
    alone = TASK.learner(cases, None)
    assert isinstance(alone, Segmenter)
    TASK.calibrate(alone, cases, range(18, 36), labelled=range(18))
    assert alone.presence is None
    assert set(alone.states()) == {"model"}


def test_without_images_of_both_kinds_the_outline_decides_alone() -> None:
    cases = some_cases()
    learner = TASK.learner(cases, None)
    assert isinstance(learner, Segmenter)
    with_lesion = [k for k in range(36) if k % 3]
    for labelled, val in ((with_lesion, range(18, 36)), (range(18), with_lesion), ((), range(18, 36))):
        TASK.calibrate(learner, cases, val, labelled=labelled, weights=Path("pretrained.pt"))
        assert learner.presence is None


def test_a_network_without_an_encoder_decides_by_its_outline() -> None:
    cases = some_cases()
    task = Segmentation(network=lambda outputs, weights: torch.nn.Conv2d(1, 1, 1), loss=dice_bce, decides=True)
    learner = task.learner(cases, None)
    assert isinstance(learner, Segmenter)
    task.calibrate(learner, cases, range(18, 36), labelled=range(18), weights=Path("pretrained.pt"))
    assert learner.presence is None


def test_the_least_confidence_may_be_of_any_confidence() -> None:
    sure, scores = torch.tensor([0.1, 0.4, 0.6, 0.9]), torch.tensor([0.0, 0.0, 0.8, 0.9], dtype=torch.float64)
    assert least_confidence(sure, scores, torch.tensor([False, False, True, True])) == pytest.approx(0.5)
