"""The decision whether an image shows a lesion, by the confidence of a segmentation network.

A network that learned from images with a lesion alone outlines something in nearly every image. The encoder that it
started from learned from no outline, and errs in other images: `Presence` joins the two.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import instance_norm

EPS = 1e-6  # confidences are kept this far from 0 and 1, where their logits are infinite
FEWEST = 5  # labelled images with a lesion, and without one, from which `Presence` learns


@torch.no_grad()
def encoder_features(encoder: nn.Module, images: Tensor) -> Tensor:
    """The means of all maps of an encoder over their positions, and over images and their mirror images.

    Each image is standardised first, as `sslmed.models.ResUNet(standardise=True)` does.

    Args:
        encoder: in evaluation mode; (B, 1, H, W) -> maps (B, C, h, w).
        images: (B, 1, H, W).

    Returns:
        (B, F) float32, with F channels of all maps together.
    """
    with torch.autocast(images.device.type, enabled=False):
        sides = [
            torch.cat([one.mean((2, 3)) for one in encoder(instance_norm(side.float()))], dim=1)
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


def relative(confidence: Tensor, least: float) -> Tensor:
    """Confidences on a scale on which the least confidence of a lesion is 0.5, so that networks can be averaged.

    Args:
        confidence: any shape, in [0, 1].
        least: the least confidence of the network, in [0, 1].

    Returns:
        Of the same shape, in [0, 1]: `least` becomes 0.5, a lower 0 and a higher 1 stay, between them it is linear.

    Example:
        >>> relative(torch.tensor([0.0, 0.4, 0.8, 0.9, 1.0]), 0.8)
        tensor([0.0000, 0.2500, 0.5000, 0.7500, 1.0000])
    """
    below, above = confidence / max(least, EPS), (confidence - least) / max(1 - least, EPS)
    return torch.where(confidence < least, below, 1 + above) / 2


class Presence(nn.Module):
    """A classifier of images with and without a lesion, by the outline and by an encoder that was not fine-tuned.

    The encoder gives a weighted sum of its features. This score, and the logit of the outline's confidence, are
    standardised, each over the validation images, and added.

    Args:
        encoder: (B, 1, H, W) -> maps (B, C, h, w); it is kept frozen and in evaluation mode.
        features: how many `encoder_features` gives.

    Example:
        >>> from sslmed.models import ResNetEncoder
        >>> encoder = ResNetEncoder("resnet18", width=8)
        >>> presence = Presence(encoder, features=sum(encoder.channels))
        >>> images = torch.rand(24, 1, 64, 64, generator=torch.Generator().manual_seed(0))
        >>> lesion = torch.arange(24) % 2 > 0
        >>> found = presence.features(images)
        >>> presence.learn(found[:12], lesion[:12], found[12:], torch.linspace(0.6, 0.9, 12))
        True
        >>> presence(images, torch.full((24,), 0.8)).shape
        torch.Size([24])
    """

    def __init__(self, encoder: nn.Module, *, features: int) -> None:
        super().__init__()
        self.encoder: nn.Module = encoder.requires_grad_(False).eval()
        self.weights: Tensor  # of the logit of the outline's confidence, then of the features
        self.bias: Tensor
        self.register_buffer("weights", torch.zeros(1 + features, dtype=torch.float32))
        self.register_buffer("bias", torch.zeros((), dtype=torch.float32))

    def train(self, mode: bool = True) -> Presence:
        """Stay in evaluation mode."""
        return super().train(False)

    def features(self, images: Tensor) -> Tensor:
        """The features (B, F) of images (B, 1, H, W): see `encoder_features`."""
        return encoder_features(self.encoder, images)

    def learn(self, train: Tensor, lesion: Tensor, val: Tensor, confidence: Tensor) -> bool:
        """Find the weights, by `diagonal_discriminant`.

        Args:
            train: features (N, F) of labelled images.
            lesion: (N,) whether each shows a lesion.
            val: features (M, F) of the validation images.
            confidence: (M,) that of their outlines.

        Returns:
            Whether it could: there are enough labelled images, and the validation images differ.
        """
        if not enough(lesion) or len(val) < 2:
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
        terms = torch.cat([as_logits(confidence.double()).float()[:, None], features.float()], dim=1)
        return ((terms * self.weights).sum(1) + self.bias).sigmoid()


def enough(lesion: Tensor) -> bool:
    """Whether a `Presence` learns from labelled images, given whether each shows a lesion: `FEWEST` of both kinds."""
    return min(int(lesion.sum()), int((~lesion).sum())) >= FEWEST


def as_logits(probability: Tensor) -> Tensor:
    """Logits of probabilities, which are first kept `EPS` away from 0 and 1."""
    kept = probability.clamp(EPS, 1 - EPS)
    return (kept / (1 - kept)).log()


def diagonal_discriminant(features: Tensor, positive: Tensor) -> Tensor:
    """Weights of features by which their sum tells two classes apart.

    A weight is the difference of the class means over the mean of the variances within the two classes: linear
    discriminant analysis without correlations, for few cases with many features (Dudoit, Fridlyand and Speed, JASA
    2002, "DLDA", who weight the two variances by the cases of the classes; here a rare class counts as much).

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
    """Whether values differ along their first dimension by more than float32 rounds."""
    return spread > 1e-5 * values.abs().amax(dim=0)
