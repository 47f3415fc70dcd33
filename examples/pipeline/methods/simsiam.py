"""SimSiam: each view predicts the other's projection, which gets no gradient."""

from __future__ import annotations

import itertools
from typing import Any

import lightning as L
from torch import Tensor, nn

from pipeline.optimisers import Optimiser
from pipeline.pretext import spread
from pipeline.processes import share
from sslmed.augment import MultiView
from sslmed.distributed import gather
from sslmed.losses import negative_cosine


class SimSiam(L.LightningModule):
    """Chen and He, "Exploring simple Siamese representation learning", CVPR 2021, Eq. 2.

    `feature_sd` near 0 says that it has collapsed, which this loss alone does not show; 1 / sqrt(D) is ideal.

    Args:
        backbone: (B, 1, H, W) -> features (B, F), with `network`, what the pretext leaves.
        views: images -> two views.
        head: features (B, F) -> projections (B, D).
        predictor: projections (B, D) -> (B, D); its rate stays at the start's, as in the reference code.
        optimiser: its settings.
    """

    saved = "backbone.network"

    def __init__(
        self,
        backbone: nn.Module,
        *,
        views: MultiView,
        head: nn.Module,
        predictor: nn.Module,
        optimiser: Optimiser,
    ) -> None:
        super().__init__()
        self.backbone, self.head, self.predictor = backbone, head, predictor
        self.views, self.optimiser = views, optimiser

    def training_step(self, batch: list[Tensor], _: int) -> Tensor:
        """Lightning's hook."""
        images = batch[0]
        z0, z1 = (self.head(self.backbone(x)) for x in self.views(images))
        loss = (negative_cosine(self.predictor(z0), z1) + negative_cosine(self.predictor(z1), z0)) / 2
        terms = {"loss": loss, "feature_sd": spread(gather(z0.detach()))}
        self.log_dict(terms, on_step=False, on_epoch=True, batch_size=len(images), sync_dist=True)
        return loss * share(len(images), device=loss.device)

    def configure_optimizers(self) -> dict[str, Any]:
        """Lightning's hook."""
        encoder = itertools.chain(self.backbone.parameters(), self.head.parameters())
        return self.optimiser.build(encoder, fixed=self.predictor.parameters())
