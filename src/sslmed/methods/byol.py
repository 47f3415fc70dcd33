"""BYOL: from each view, the network predicts a target network's projection of the other view.

Grill et al., "Bootstrap your own latent", NeurIPS 2020.
"""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from .. import _checks
from .._step import Step
from ..augment import MultiView, views
from ..distributed import ddp_weight, gather
from ..losses import byol
from ..memory import update_ema
from ..models import PredictionHead, ProjectionHead, feature_width, pooled_features
from ._base import Method, as_channels_last, head_width, spread


class BYOL(Method):
    """BYOL: a network predicts what its moving average makes of another view; there are no negatives.

    Grill et al., NeurIPS 2020, Eq. 2, as the mean of both directions. The loss alone does not show a collapse:
    watch `feature_std`.

    Args:
        encoder: as in `SimCLR`.
        views: images -> two views, as `sslmed.augment.views.byol` makes them.
        head: features (B, F) -> projections (B, D); by default BYOL's, 4096 hidden units and D = 256.
        predictor: projections (B, D) -> (B, D); by default BYOL's, 4096 hidden units.
        momentum: of the target network, which starts as a copy of the online one. BYOL's schedule raises it to 1: set
            `method.momentum = sslmed.memory.cosine_decay(step, steps)` before each `after_step`.

    Example:
        >>> import torch
        >>> from sslmed.augment import views
        >>> from sslmed.models import ResNetEncoder
        >>> method = BYOL(ResNetEncoder("resnet18", width=8), views=views.byol(32))
        >>> method(torch.rand(4, 1, 48, 48)).loss.shape
        torch.Size([])
    """

    command = "byol"

    def __init__(
        self,
        encoder: nn.Module,
        *,
        views: MultiView,
        head: nn.Module | None = None,
        predictor: nn.Module | None = None,
        momentum: float = 0.99,
    ) -> None:
        super().__init__()
        self.encoder: nn.Module = as_channels_last(encoder)
        if head is None:
            head = ProjectionHead(feature_width(encoder), 4096, 256, batch_norm=True)
        self.head = head
        self.predictor: nn.Module = (
            predictor if predictor is not None else PredictionHead(head_width(head, encoder), 4096)
        )
        self.target_encoder: nn.Module = copy.deepcopy(self.encoder).requires_grad_(False)
        self.target_head: nn.Module = copy.deepcopy(head).requires_grad_(False)
        self.views = views
        self.momentum: float = _checks.number("momentum", momentum, low=0, high=1)

    @classmethod
    def usual_views(cls, size: int, *, modality: str) -> MultiView:
        """BYOL's own, whose two views differ in strength."""
        return views.byol(size, modality=modality)

    def forward(self, images: Tensor, index: Tensor | None = None) -> Step:
        """As `Method.forward`; `index` is not used."""
        x0, x1 = self.views(images)
        z0, z1 = self.head(pooled_features(self.encoder, x0)), self.head(pooled_features(self.encoder, x1))
        with torch.no_grad():
            t1 = self.target_head(pooled_features(self.target_encoder, x1))
            t0 = self.target_head(pooled_features(self.target_encoder, x0))
        loss = (byol(self.predictor(z0), t1) + byol(self.predictor(z1), t0)) / 2
        terms = {"loss": loss.detach(), "feature_std": spread(gather(z0.detach()))}
        return Step(loss * ddp_weight(len(images), device=loss.device), terms)

    def after_step(self) -> None:
        """Move the target network towards the online one."""
        for target, online in ((self.target_encoder, self.encoder), (self.target_head, self.head)):
            # The target keeps the batch statistics that it gathers itself.
            update_ema(target, online, decay=self.momentum, buffers="keep")
