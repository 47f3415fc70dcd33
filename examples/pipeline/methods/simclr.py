"""SimCLR: two views of an image agree, against all other images of the batch."""

from __future__ import annotations

from typing import Any

import lightning as L
from torch import Tensor, nn

from pipeline.optimisers import Optimiser
from pipeline.pretext import spread
from sslmed.augment import MultiView
from sslmed.distributed import gather
from sslmed.losses import nt_xent


class SimCLR(L.LightningModule):
    """Chen et al., "A simple framework for contrastive learning of visual representations", ICML 2020.

    With several processes the loss is that of the whole batch: the rows of all are gathered.

    Args:
        backbone: (B, 1, H, W) -> features (B, F), with `network`, what the pretext leaves.
        views: images -> two views.
        head: features (B, F) -> (B, D).
        temperature: of the loss.
        optimiser: its settings.
    """

    saved = "backbone.network"

    def __init__(
        self,
        backbone: nn.Module,
        *,
        views: MultiView,
        head: nn.Module,
        temperature: float,
        optimiser: Optimiser,
    ) -> None:
        super().__init__()
        self.backbone, self.head, self.views = backbone, head, views
        self.temperature, self.optimiser = temperature, optimiser

    def training_step(self, batch: list[Tensor], _: int) -> Tensor:
        """Lightning's hook."""
        images = batch[0]
        x0, x1 = self.views(images)
        z0, z1 = gather(self.head(self.backbone(x0))), gather(self.head(self.backbone(x1)))
        loss = nt_xent(z0, z1, temperature=self.temperature)
        terms = {"loss": loss, "feature_sd": spread(z0)}
        self.log_dict(terms, on_step=False, on_epoch=True, batch_size=len(images), sync_dist=True)
        return loss

    def configure_optimizers(self) -> dict[str, Any]:
        """Lightning's hook."""
        return self.optimiser.build(self.parameters())
