"""SimSiam: from each view, the network predicts the projection of the other, which gets no gradient.

Chen and He, "Exploring simple Siamese representation learning", CVPR 2021.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from .._step import Step
from ..augment import MultiView
from ..distributed import ddp_weight, gather
from ..losses import negative_cosine
from ..models import PredictionHead, ProjectionHead, feature_width, pooled_features
from ._base import Method, as_channels_last, head_width, spread


class SimSiam(Method):
    """SimSiam: one view predicts the features of another; no negatives, no second network.

    Chen and He, CVPR 2021, Eq. 2. The loss alone does not show a collapse: watch `feature_std`.

    Args:
        encoder: as in `SimCLR`.
        views: images -> two views, as `sslmed.augment.views.moco_v2` makes them.
        head: features (B, F) -> projections (B, D); by default SimSiam's, three layers of 2048 and a batch norm
            without weights at the end.
        predictor: projections (B, D) -> (B, D); by default SimSiam's, with a quarter of D as hidden units.

    Example:
        >>> import torch
        >>> from sslmed.augment import views
        >>> from sslmed.models import ResNetEncoder
        >>> method = SimSiam(ResNetEncoder("resnet18", width=8), views=views.moco_v2(32))
        >>> method(torch.rand(4, 1, 48, 48)).loss.shape
        torch.Size([])
    """

    command = "simsiam"

    def __init__(
        self,
        encoder: nn.Module,
        *,
        views: MultiView,
        head: nn.Module | None = None,
        predictor: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.encoder: nn.Module = as_channels_last(encoder)
        self.head: nn.Module = head if head is not None else _default_head(encoder)
        if predictor is None:
            dim = head_width(self.head, encoder)
            predictor = PredictionHead(dim, max(1, dim // 4))
        self.predictor = predictor
        self.views = views

    def forward(self, images: Tensor, index: Tensor | None = None) -> Step:
        """As `Method.forward`; `index` is not used."""
        x0, x1 = self.views(images)
        z0, z1 = self.head(pooled_features(self.encoder, x0)), self.head(pooled_features(self.encoder, x1))
        # `negative_cosine` stops the gradient of its second argument.
        loss = (negative_cosine(self.predictor(z0), z1) + negative_cosine(self.predictor(z1), z0)) / 2
        terms = {"loss": loss.detach(), "feature_std": spread(gather(z0.detach()))}
        return Step(loss * ddp_weight(len(images), device=loss.device), terms)

    def parameter_groups(self) -> list[dict[str, Any]]:
        """Encoder and head, and the predictor, whose learning rate is constant (section 3)."""
        learning = [p for part in (self.encoder, self.head) for p in part.parameters() if p.requires_grad]
        return [{"params": learning}, {"params": list(self.predictor.parameters()), "fix_lr": True}]


def _default_head(encoder: nn.Module) -> nn.Module:
    projection = ProjectionHead(feature_width(encoder), 2048, 2048, layers=3, batch_norm=True)
    return nn.Sequential(projection, nn.BatchNorm1d(2048, affine=False))
