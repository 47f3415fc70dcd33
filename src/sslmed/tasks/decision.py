"""The decision whether an image shows a lesion, by the confidence of a segmentation network.

A network that learned from images with a lesion alone outlines something in nearly every image. The encoder that it
started from learned from no outline, and errs in other images: `Presence` joins the two.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor, nn

EPS = 1e-6  # confidences are kept this far from 0 and 1, where their logits are infinite


class HasMaps(Protocol):
    """A network with an encoder, as `sslmed.models.ResUNet`."""

    encoder_maps: Callable[[Tensor], list[Tensor]]


@torch.no_grad()
def encoder_features(network: HasMaps, images: Tensor) -> Tensor:
    """The means of all maps of an encoder over their positions, and over images and their mirror images.

    Args:
        network: in evaluation mode.
        images: (B, 1, H, W).

    Returns:
        (B, F) float32, with F channels of all maps together.
    """
    sides = [
        torch.cat([one.float().mean((2, 3)) for one in network.encoder_maps(side)], dim=1)
        for side in (images, images.flip(-1))
    ]
    return (sides[0] + sides[1]) / 2


def confidence(logits: Tensor) -> Tensor:
    """The network's confidence that an image shows the structure: its mean probability over what it outlines.

    Where nothing is outlined, it is the highest probability. The mean over a fixed number of pixels tells less: it
    mixes how sure the network is with how large the structure is.

    Args:
        logits: (N, 1, H, W).

    Returns:
        (N,) in [0, 1]; above 0.5 where something is outlined.
    """
    probability = logits.sigmoid().flatten(1)
    outlined = probability > 0.5
    inside = torch.where(outlined, probability, 0.0).sum(1) / outlined.sum(1).clamp(min=1)
    return torch.where(outlined.any(1), inside, probability.amax(1))


def least_confidence(confidence: Tensor, scores: Tensor, lesion: Tensor) -> float:
    """The threshold of confidence for a lesion with the highest mean score of all images.

    Args:
        confidence: (N,) in [0, 1].
        scores: (N,) Dice of the outlines; of an image without a lesion 1 if nothing is outlined, else 0.
        lesion: (N,) whether an image shows a lesion.

    Returns:
        0 where no image is without a lesion, or a decision does not help; else halfway between two confidences, or
        between the highest one and 1. Images of equal confidence are judged alike.
    """
    order = confidence.argsort()
    kept = torch.where(lesion, 0.0, 1.0)[order]  # the score of an image that is classified as showing none
    gain = (kept - scores[order]).double().cumsum(0)  # if the images up to this one are classified as showing none
    ends = torch.cat([confidence[order].double(), torch.ones(1, dtype=torch.float64)])
    possible = ends[1:] > ends[:-1]
    gain = gain.masked_fill(~possible, -torch.inf)
    best = int(gain.argmax())
    return float(ends[best : best + 2].mean()) if gain[best] > 0 else 0.0


class Presence(nn.Module):
    """The confidence that an image shows a lesion, of the outline and of a pretrained encoder together.

    The encoder's score is a weighted sum of its features. Its logit and that of the outline's confidence are
    standardised, each over the validation images, and added.

    Args:
        network: with the encoder; it is kept frozen and in evaluation mode.
        features: how many `encoder_features` gives.

    Example:
        >>> from sslmed.models import ResUNet
        >>> network = ResUNet("resnet18", width=8)
        >>> presence = Presence(network, features=sum(network.encoder.channels))
        >>> images = torch.rand(12, 1, 64, 64, generator=torch.Generator().manual_seed(0))
        >>> lesion = torch.arange(12) % 3 > 0
        >>> found = presence.features(images)
        >>> presence.learn(found[:6], lesion[:6], found[6:], torch.linspace(0.6, 0.9, 6))
        True
        >>> presence(images, torch.full((12,), 0.8)).shape
        torch.Size([12])
    """

    def __init__(self, network: nn.Module, *, features: int) -> None:
        super().__init__()
        self.network: nn.Module = network.requires_grad_(False).eval()
        self.weights: Tensor  # of the logit of the outline's confidence, then of the features
        self.bias: Tensor
        self.register_buffer("weights", torch.zeros(1 + features, dtype=torch.float32))
        self.register_buffer("bias", torch.zeros((), dtype=torch.float32))

    def train(self, mode: bool = True) -> Presence:
        """Stay in evaluation mode."""
        return super().train(False)

    def features(self, images: Tensor) -> Tensor:
        """The features (B, F) of images (B, 1, H, W): see `encoder_features`."""
        return encoder_features(self.network, images)  # type: ignore[arg-type]

    def learn(self, train: Tensor, lesion: Tensor, val: Tensor, confidence: Tensor) -> bool:
        """Find the weights, by `diagonal_discriminant`.

        Args:
            train: features (N, F) of labelled images.
            lesion: (N,) whether each shows a lesion.
            val: features (M, F) of the validation images.
            confidence: (M,) that of their outlines.

        Returns:
            Whether it could: both kinds of labelled images are there at least twice, and the validation images differ.
        """
        if min(int(lesion.sum()), int((~lesion).sum())) < 2 or len(val) < 2:
            return False
        weights = diagonal_discriminant(train, lesion)
        scores, outlines = val.double() @ weights, as_logits(confidence.double())
        spread, spread_of_outlines = scores.std(correction=0), outlines.std(correction=0)
        if not (_differ(scores, spread) and _differ(outlines, spread_of_outlines)):
            return False
        self.weights.copy_(torch.cat([spread_of_outlines[None].reciprocal(), weights / spread]))
        self.bias.copy_(-outlines.mean() / spread_of_outlines - scores.mean() / spread)
        return True

    def forward(self, images: Tensor, confidence: Tensor) -> Tensor:
        """Join the confidence (B,) of outlines in images (B, 1, H, W) with what the encoder sees: (B,) in [0, 1]."""
        return self.joined(self.features(images), confidence)

    def joined(self, features: Tensor, confidence: Tensor) -> Tensor:
        """The same, from the features (B, F) of the images."""
        terms = torch.cat([as_logits(confidence.double()).float()[:, None], features], dim=1)
        return (terms @ self.weights + self.bias).sigmoid()


def as_logits(probability: Tensor) -> Tensor:
    """Logits of probabilities, which are first kept `EPS` away from 0 and 1."""
    kept = probability.clamp(EPS, 1 - EPS)
    return (kept / (1 - kept)).log()


def diagonal_discriminant(features: Tensor, positive: Tensor) -> Tensor:
    """Weights of features by which their sum tells two classes apart.

    A weight is the difference of the class means over the mean variance within the classes: linear discriminant
    analysis without correlations (Dudoit, Fridlyand and Speed, JASA 2002, "DLDA"), for few cases with many features.

    Args:
        features: (N, F).
        positive: (N,) bool, with both classes.

    Returns:
        (F,) float64; 0 for a feature that is constant within both classes.

    Example:
        >>> features = torch.tensor([[0.0, 5.0], [2.0, 5.0], [4.0, 5.0], [6.0, 5.0]])
        >>> diagonal_discriminant(features, torch.tensor([False, False, True, True]))
        tensor([4., 0.], dtype=torch.float64)
    """
    ones, zeros = features[positive].double(), features[~positive].double()
    variance = (ones.var(dim=0, correction=0) + zeros.var(dim=0, correction=0)) / 2
    used = _differ(features.double(), variance.sqrt())
    return torch.where(used, (ones.mean(dim=0) - zeros.mean(dim=0)) / variance.masked_fill(~used, 1.0), 0.0)


def _differ(values: Tensor, spread: Tensor) -> Tensor:
    """Whether values differ along their first dimension: rounding leaves equal ones a spread of 1e-16 of them."""
    return spread > 1e-12 * values.abs().amax(dim=0)
