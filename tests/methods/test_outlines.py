"""Methods that learn outlines: synthetic lesions; the mean teacher and self-training against steps by hand."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sslmed import augment
from sslmed.augment import views
from sslmed.augment.joint import JointView
from sslmed.methods import MeanTeacher, SelfTraining, SyntheticLesions
from sslmed.models import ResUNet, UNet
from sslmed.tasks import dice_bce

STILL = {"degrees": 0, "zoom": (1, 1), "hflip": 0, "brightness": 0, "contrast": 0, "gamma": 0, "blur": 0}


def still(size: int = 32) -> JointView:
    """A view that changes nothing."""
    return views.segmentation(size, noise=(0, 0), **STILL)  # type: ignore[arg-type]


class Shade(nn.Module):
    """Outlines what is brighter than a threshold, which is its only parameter."""

    def __init__(self, threshold: float = 0.5, sharpness: float = 20.0) -> None:
        super().__init__()
        self.threshold = nn.Parameter(torch.tensor(threshold))
        self.sharpness = sharpness

    def forward(self, x: Tensor) -> Tensor:
        return self.sharpness * (x - self.threshold)


def scans(*grays: float, side: int = 32) -> Tensor:
    """Black scans with a square of each gray."""
    images = torch.zeros(len(grays), 1, side, side)
    for image, gray in zip(images, grays, strict=True):
        image[:, 8:24, 8:24] = gray
    return images


def teacher(network: nn.Module | None = None, *, labelled: Tensor | None = None, **settings: Any) -> MeanTeacher:
    labelled = scans(0.9) if labelled is None else labelled
    usual: dict[str, Any] = {"augment": still(), "weak": still(), "strong": still(), "steps": 5, "labelled": 2}
    return MeanTeacher(Shade() if network is None else network, labelled, labelled > 0.5, **(usual | settings))


def test_lesions_are_learned_from_scans_without_outlines() -> None:
    torch.manual_seed(0)
    images = torch.rand(16, 1, 32, 32).mul(0.2).add(0.6)  # lesions are dark
    method = SyntheticLesions(UNet(width=4), lesions=augment.SyntheticLesions(radius=(0.3, 0.6), shadow=(0, 0)))
    optimizer = torch.optim.Adam(method.parameter_groups(), lr=1e-2)
    losses = []
    for _ in range(80):
        step = method(images)
        optimizer.zero_grad()
        step.loss.backward()
        optimizer.step()
        losses.append(float(step.terms["loss"]))
    assert sum(losses[-5:]) < 0.6 * sum(losses[:5])
    drawn, masks = method.lesions(images)
    pred = method.trained.eval()(drawn) > 0
    dice = 2 * (pred & masks).sum() / (pred.sum() + masks.sum())
    assert float(dice) > 0.7


def test_the_loss_is_that_of_the_drawn_lesions() -> None:
    images = torch.rand(3, 1, 32, 32, generator=torch.Generator().manual_seed(0))
    method = SyntheticLesions(Shade(), view=still())
    torch.manual_seed(7)
    step = method(images)
    torch.manual_seed(7)
    drawn, masks = method.lesions(images)
    assert float(step.loss.detach()) == pytest.approx(
        float(dice_bce(method.network(drawn), masks[:, 0].long()).detach()), rel=1e-4
    )
    found = (method.network(drawn) > 0)[masks].float().mean()
    assert float(step.terms["recall"]) == pytest.approx(float(found), abs=1e-6)


def test_for_images_trains_a_u_net_on_the_encoder() -> None:
    method = SyntheticLesions.for_images(4, encoder="resnet18", width=8, size=32, modality="ultrasound")
    assert isinstance(method.trained, ResUNet)
    method(torch.rand(2, 1, 48, 48)).loss.backward()


def test_a_step_of_the_teacher_by_hand() -> None:
    unlabelled, labelled = scans(0.8, 0.7, 0.55), scans(0.9)  # at 0.55 the outline is not confident
    module = teacher(labelled=labelled)
    module.done += 3  # the first fifth is one step: the weight is 1
    step = module(unlabelled)
    torch.manual_seed(0)
    net = Shade()
    own = dice_bce(net(labelled), (labelled > 0.5)[:, 0].long())
    probability = net(unlabelled).sigmoid().detach()
    confident = [2 * float(c[8 + 4, 8 + 4]) - 1 >= 0.6 for c in probability[:, 0]]
    assert confident == [True, True, False]
    others = dice_bce(net(unlabelled[:2]), (probability[:2, 0] > 0.5).long()) * 2 / 3
    assert float(step.terms["counted"]) == pytest.approx(2 / 3)
    assert float(step.terms["labelled"]) == pytest.approx(float(own.detach()), rel=1e-4)
    assert float(step.terms["unlabelled"]) == pytest.approx(float(others.detach()), rel=1e-4)
    assert float(step.loss.detach()) == pytest.approx(float((own + others).detach()), rel=1e-4)


def test_the_weight_of_the_unlabelled_grows_over_the_first_fifth() -> None:
    module = teacher(steps=20)
    weights = []
    for _ in range(6):
        weights.append(float(module(scans(0.8)).terms["weight"]))
        module.after_step()
    assert weights == pytest.approx([0, 0.25, 0.5, 0.75, 1, 1])


def test_the_weight_does_not_follow_the_default_dtype() -> None:
    module = teacher(steps=500_000)
    module.done += 70_000
    torch.set_default_dtype(torch.float16)  # which ends at 65504
    try:
        step = module(scans(0.8))
    finally:
        torch.set_default_dtype(torch.float32)
    assert float(step.terms["weight"]) == pytest.approx(0.7)


def test_no_scan_counts_where_nothing_is_outlined() -> None:
    module = teacher()
    module.done += 5
    step = module(scans(0.1, 0.2))
    assert float(step.terms["counted"]) == 0
    assert float(step.terms["unlabelled"]) == 0
    step.loss.backward()
    assert float(module.student.threshold.grad) != 0


def test_an_outline_that_is_too_small_does_not_count() -> None:
    dot = torch.zeros(1, 1, 32, 32)
    dot[:, :, :2, :1] = 0.9  # 2 of 1024 pixels
    assert float(teacher(smallest=0.0025)(dot).terms["counted"]) == 0
    assert float(teacher(smallest=0.0015)(dot).terms["counted"]) == 1


def test_the_teacher_follows_the_student_and_is_kept() -> None:
    module = teacher(decay=0.75)
    with torch.no_grad():
        module.student.threshold.fill_(0.9)
    module.after_step()
    assert float(module.teacher.threshold) == pytest.approx(0.75 * 0.5 + 0.25 * 0.9)
    assert module.trained is module.teacher
    assert not any(p.requires_grad for p in module.teacher.parameters())
    module.train()
    assert module.student.training
    assert not module.teacher.training


def test_pixels_from_outside_the_scan_are_no_target() -> None:
    bright = torch.full((1, 1, 32, 32), 0.9)
    small = teacher(weak=views.segmentation(32, noise=(0, 0), **(STILL | {"zoom": (0.5, 0.5)})))  # type: ignore[arg-type]
    seen, inside = small.weak(bright, torch.ones_like(bright, dtype=torch.bool))
    targets, counted = small._outlines(seen, inside)
    assert bool(counted.all())
    assert targets.float().mean().item() == pytest.approx(0.25, abs=0.05)


def test_validation_is_of_the_teacher_and_resuming_keeps_the_step() -> None:
    module = teacher()
    with torch.no_grad():
        module.teacher.threshold.fill_(0.2)
    images, masks = scans(0.9, 0.4), scans(0.9, 0.4) > 0
    expected = F.binary_cross_entropy_with_logits(module.teacher(images), masks.float())
    found = module.validate([(images[:1], masks[:1]), (images[1:], masks[1:])])["val_loss"]
    assert found > float(expected)
    assert found == pytest.approx(float(dice_bce(module.teacher(images), masks[:, 0].long())), rel=1e-5)
    module.after_step()
    again = teacher()
    again.load_state_dict(copy.deepcopy(module.state_dict()))
    assert int(again.done) == 1
    assert "images" not in module.state_dict()


@pytest.mark.parametrize(
    ("images", "masks"),
    [((0, 1, 32, 32), (0, 1, 32, 32)), ((2, 3, 32, 32), (2, 3, 32, 32)), ((2, 1, 32, 32), (2, 32, 32))],
)
def test_labelled_images_of_another_shape_are_refused(images: tuple[int, ...], masks: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="images and masks must both have shape"):
        MeanTeacher(
            Shade(), torch.rand(images), torch.rand(masks) > 0.5, augment=still(), weak=still(), strong=still(), steps=5
        )


def self_training(network: nn.Module | None = None, **settings: Any) -> SelfTraining:
    labelled = scans(0.9)
    usual: dict[str, Any] = {"augment": still(), "labelled": 2}
    return SelfTraining(Shade() if network is None else network, labelled, labelled > 0.5, **(usual | settings))


def test_a_step_of_self_training_by_hand() -> None:
    pool = scans(0.95, 0.1, 0.8, 0.6, 0.7)  # nothing is outlined in the second one
    module = self_training(kept=0.6)
    module.start([(pool[:2], torch.arange(2)), (pool[2:], torch.arange(2, 5))])
    probability = float(Shade()(torch.tensor(0.7)).sigmoid().detach())
    assert float(module.least) == pytest.approx(2 * probability - 1, rel=1e-5)
    with torch.no_grad():
        module.student.threshold.fill_(0.4)  # the teacher stays
    module.after_step()
    step = module(pool)
    net = Shade(0.4)
    own = dice_bce(net(scans(0.9)), (scans(0.9) > 0.5)[:, 0].long())
    chosen = pool[[0, 2, 4]]
    others = dice_bce(net(chosen), (chosen[:, 0] > 0.5).long()) * 3 / 5
    assert float(step.terms["counted"]) == pytest.approx(3 / 5)
    assert float(step.loss.detach()) == pytest.approx(float((own + others).detach()), rel=1e-4)
    step.loss.backward()
    assert float(module.student.threshold.grad) != 0
    assert module.trained is module.student
    assert float(module.teacher.threshold) == 0.5


def test_self_training_averages_a_scan_and_its_mirror_image() -> None:
    class Left(nn.Module):
        """Outlines the left half, whatever the image shows."""

        def forward(self, x: Tensor) -> Tensor:
            logits = torch.full_like(x, -9.0)
            logits[..., : x.shape[-1] // 2] = 3.0
            return logits

    module = self_training(Left())
    masks, confidence = module._outlined(scans(0.9))
    assert not masks.any()  # 0.95 and nearly 0 are averaged
    assert confidence.tolist() == [-1]


def test_self_training_learns_from_no_scan_without_an_outline() -> None:
    module = self_training(kept=1.0)
    pool = scans(0.1, 0.2)
    module.start([(pool, torch.arange(2))])
    assert float(module(pool).terms["counted"]) == 0
    with pytest.raises(ValueError, match="kept must be"):
        self_training(kept=0.0)


def test_self_training_in_half_precision_keeps_its_share() -> None:
    pool = scans(*torch.linspace(0.55, 0.7, 50).tolist()).bfloat16()
    for kept in (0.2, 0.4, 0.6, 0.8):
        module = self_training(kept=kept).bfloat16()
        module.start([(pool, torch.arange(50))])
        assert kept <= float(module(pool).terms["counted"]) < kept + 0.15


def test_self_training_improves_on_its_start_and_resumes_with_its_threshold() -> None:
    torch.manual_seed(0)
    labelled, pool = scans(0.9), scans(0.8, 0.75, 0.7, 0.65)
    module = SelfTraining(Shade(0.62), labelled, labelled > 0.5, augment=still(), labelled=1)
    module.start([(pool, torch.arange(4))])
    again = SelfTraining(Shade(0.62), labelled, labelled > 0.5, augment=still(), labelled=1)
    again.load_state_dict(copy.deepcopy(module.state_dict()))
    assert again.least == module.least > 0
    optimizer = torch.optim.SGD(module.parameter_groups(), lr=0.01)
    before = dice_bce(module.trained(pool), (pool[:, 0] > 0.5).long())
    for _ in range(20):
        optimizer.zero_grad()
        module(pool).loss.backward()
        optimizer.step()
    assert dice_bce(module.trained(pool), (pool[:, 0] > 0.5).long()) < before - 0.05
    pairs = [(pool, pool > 0.5)]
    assert (
        module.validate(pairs)["val_loss"]
        < SelfTraining(Shade(0.62), labelled, labelled > 0.5, augment=still()).validate(pairs)["val_loss"]
    )
