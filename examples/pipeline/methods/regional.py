"""The local stage: a location of one view's map agrees with the same location of the other's."""

from __future__ import annotations

from typing import Any

import lightning as L
import torch
from torch import Tensor, nn

from pipeline.optimisers import Optimiser
from pipeline.pretext import spread
from pipeline.processes import share
from sslmed.augment import MultiView
from sslmed.distributed import gather
from sslmed.losses import local_contrastive
from sslmed.models import UNet


class Regional(L.LightningModule):
    """Umapathy et al., section II.C, local stage, after Chaitanya et al., NeurIPS 2020, section 3.2.

    The contracting path is frozen with its batch statistics; the first `blocks` blocks of the expanding path learn.
    `feature_sd` is the spread over all places of all maps; near 0 they are all alike.

    Args:
        network: a U-Net, its contracting path pretrained, what the pretext leaves.
        views: images -> two views that differ in intensity only.
        blocks: decoder blocks that are trained, from the coarsest.
        dim: width of the map that regions are compared in, by two 1 x 1 convolutions (g2).
        temperature: of the loss.
        region: side of a region.
        negatives: regions that each is compared with, of each of the two maps.
        optimiser: its settings.
    """

    saved = "network"

    def __init__(
        self,
        network: UNet,
        *,
        views: MultiView,
        blocks: int,
        dim: int,
        temperature: float,
        region: int,
        negatives: int,
        optimiser: Optimiser,
    ) -> None:
        super().__init__()
        if not 1 <= blocks <= len(network.up):
            raise ValueError(f"blocks must lie in 1..{len(network.up)}, got {blocks}")
        self.network = network.to(memory_format=torch.channels_last).requires_grad_(False)
        network.up[:blocks].requires_grad_(True)
        width = network.width * 2 ** (len(network.up) - blocks)
        self.head = nn.Sequential(
            nn.Conv2d(width, width, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU(inplace=True),
            nn.Conv2d(width, dim, 1),
        )  # fmt: skip
        self.views, self.blocks, self.optimiser = views, blocks, optimiser
        self.settings = {"temperature": temperature, "region": region, "negatives": negatives}

    def train(self, mode: bool = True) -> Regional:
        """Keep the frozen part in evaluation mode: its statistics are those of the global stage."""
        super().train(mode)
        self.network.down.eval()
        self.network.up[self.blocks :].eval()
        return self

    def on_train_start(self) -> None:
        """Lightning's hook; it calls `train` at no time before."""
        self.train()

    def embed(self, images: Tensor) -> Tensor:
        """Maps (B, dim, h, w)."""
        images = images.contiguous(memory_format=torch.channels_last)
        return self.head(self.network.decoder_maps(images, blocks=self.blocks)[-1])

    def training_step(self, batch: list[Tensor], _: int) -> Tensor:
        """Lightning's hook."""
        images = batch[0]
        f0, f1 = (self.embed(x) for x in self.views(images))
        loss = local_contrastive(f0, f1, **self.settings)
        places = gather(f0.detach().flatten(2)).mT.flatten(0, 1)  # (B h w, dim)
        terms = {"loss": loss, "feature_sd": spread(places)}
        self.log_dict(terms, on_step=False, on_epoch=True, batch_size=len(images), sync_dist=True)
        return loss * share(len(images), device=loss.device)

    def configure_optimizers(self) -> dict[str, Any]:
        """Lightning's hook."""
        return self.optimiser.build(self.parameters())
