"""The network of a few-labels run, and the methods that train it before and after fine-tuning."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from torch import Tensor, nn
from torch.nn.functional import instance_norm

from ..augment import RandomPatchMask, SyntheticLesions, views
from ..methods import BYOL, PIRL, MaskedPixels, MeanTeacher, Method, RelationContrast, SelfTraining, SimCLR
from ..methods import SyntheticLesions as LesionPretext
from ..models import ResUNet, UNetFeatures, load_encoder
from .encoders import IMAGENET, make_unet
from .few_labels_presets import Preset
from .pretext import load_all_but_last

Start = Path | str | None  # a file, IMAGENET, or None for a random start


def make_segmenter(preset: Preset, start: Start) -> ResUNet:
    """The U-Net on the encoder, which starts from a file, from ImageNet, or at random."""
    network = make_unet(preset.encoder, width=preset.width, imagenet=start == IMAGENET)
    if isinstance(start, Path):
        load_encoder(network, start)
    assert network.out.bias is not None
    nn.init.constant_(network.out.bias, preset.constants.bias)
    return network


def make_network(preset: Preset, start: Start, outputs: int, weights: Path | None) -> nn.Module:
    """The network for fine-tuning: from a pretext that trained all of it or its encoder, else as it starts."""
    network = make_segmenter(preset, start if weights is None else None)
    if weights is not None:
        load_all_but_last(network, weights)
    return network


class _EncoderMaps(UNetFeatures):
    """The encoder of a U-Net with all its maps, the finest first; unlike `encoder_maps` for small patches too."""

    def forward(self, x: Tensor) -> Any:
        assert isinstance(self.network, ResUNet)
        return self.network.encoder(instance_norm(x) if self.network.standardise else x)


def make_pretext(name: str, preset: Preset, start: Start, count: int) -> Method:
    """The pretext of a method, for `count` scans: of the whole network (lesions, masked), or of its encoder."""
    network, size = make_segmenter(preset, start), preset.size
    if name == "lesions":
        view = views.segmentation(size, degrees=0, zoom=(1, 1), hflip=0, blur=1.0, sigma=(0.3, 1.5))
        return LesionPretext(network, lesions=SyntheticLesions(), view=view)
    if name == "masked":
        return MaskedPixels(network, mask=RandomPatchMask(ratio=0.5, patch=8))
    if name == "simclr":
        return SimCLR(UNetFeatures(network), views=views.simclr(size))
    if name == "byol":
        return BYOL(UNetFeatures(network), views=views.byol(size))
    grid = (preset.constants.grid, preset.constants.grid)
    jigsaw: dict[str, Any] = {"radius": (10 / 112, 100 / 112), "unit": "nyquist"}  # of Ellis et al., at any size
    method: type[PIRL] = PIRL
    if name == "relation":
        method, jigsaw = RelationContrast, jigsaw | {"frequency": True, "cross_patch": True}
    pair = views.pirl(size // grid[0] * grid[0], grid=grid, **jigsaw)
    return method(_EncoderMaps(network), count, views=pair, grid=grid)


def make_teacher(preset: Preset, network: nn.Module, images: Tensor, masks: Tensor) -> MeanTeacher:
    """The mean teacher on a fine-tuned network."""
    c, size = preset.constants, preset.size
    return MeanTeacher(
        network,
        images,
        masks,
        augment=views.segmentation(size),
        weak=views.segmentation(size, degrees=15, zoom=(0.8, 1.25)),
        strong=views.segmentation(size, degrees=0, zoom=(1, 1), hflip=0),
        steps=preset.teacher.epochs * (preset.teacher.batches or 1),
        labelled=c.labelled,
        decay=c.decay,
        confidence=c.confidence,
        smallest=c.smallest,
    )


def make_self_training(preset: Preset, network: nn.Module, images: Tensor, masks: Tensor) -> SelfTraining:
    """Self-training from a fine-tuned network."""
    c = preset.constants
    augment = views.segmentation(preset.size)
    return SelfTraining(network, images, masks, augment=augment, labelled=c.labelled, kept=c.kept, smallest=c.smallest)


REFINEMENTS: dict[str, Callable[[Preset, nn.Module, Tensor, Tensor], Method]] = {
    "teacher": make_teacher,
    "selftraining": make_self_training,
}
