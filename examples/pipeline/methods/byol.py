"""BYOL: each view predicts what a slowly following network makes of the other."""

from __future__ import annotations

import copy
from typing import Any

import lightning as L
import torch
from torch import Tensor, nn

from pipeline.optimisers import Optimiser
from pipeline.pretext import spread
from pipeline.processes import share
from sslmed.augment import MultiView
from sslmed.distributed import gather
from sslmed.losses import byol
from sslmed.memory import update_ema


class BYOL(L.LightningModule):
    """Grill et al., "Bootstrap your own latent", NeurIPS 2020, Eq. 2, as the mean of both directions.

    `feature_sd` near 0 says that it has collapsed, which this loss alone does not show; 1 / sqrt(D) is ideal.

    Args:
        backbone: (B, 1, H, W) -> features (B, F), with `network`, what the pretext leaves.
        views: images -> two views.
        head: features (B, F) -> projections (B, D).
        predictor: projections (B, D) -> (B, D).
        momentum: of the target network, which starts as a copy of the online one.
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
        momentum: float,
        optimiser: Optimiser,
    ) -> None:
        super().__init__()
        self.backbone, self.head, self.predictor, self.views = backbone, head, predictor, views
        self.target_backbone = copy.deepcopy(backbone).requires_grad_(False)
        self.target_head = copy.deepcopy(head).requires_grad_(False)
        self.momentum, self.optimiser = momentum, optimiser

    @torch.no_grad()
    def target(self, images: Tensor) -> Tensor:
        """Projections (B, D) of the target network."""
        return self.target_head(self.target_backbone(images))

    def training_step(self, batch: list[Tensor], _: int) -> Tensor:
        """Lightning's hook."""
        images = batch[0]
        x0, x1 = self.views(images)
        z0, z1 = self.head(self.backbone(x0)), self.head(self.backbone(x1))
        loss = (byol(self.predictor(z0), self.target(x1)) + byol(self.predictor(z1), self.target(x0))) / 2
        terms = {"loss": loss, "feature_sd": spread(gather(z0.detach()))}
        self.log_dict(terms, on_step=False, on_epoch=True, batch_size=len(images), sync_dist=True)
        return loss * share(len(images), device=loss.device)

    def optimizer_step(self, *args: Any, **kwargs: Any) -> None:
        """Lightning's hook: the target follows each step, of which accumulation makes fewer than batches."""
        super().optimizer_step(*args, **kwargs)
        for target, online in ((self.target_backbone, self.backbone), (self.target_head, self.head)):
            # The target keeps the batch statistics that it gathers itself.
            update_ema(target, online, decay=self.momentum, buffers="keep")

    def configure_optimizers(self) -> dict[str, Any]:
        """Lightning's hook."""
        return self.optimiser.build(self.parameters())
