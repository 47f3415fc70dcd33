"""Masked regression: a whole network fills in hidden pixels."""

from __future__ import annotations

from typing import Any

import lightning as L
import torch
from torch import Tensor, nn

from pipeline.optimisers import Optimiser
from pipeline.processes import share
from sslmed.augment import RandomPatchMask, RandomPixelMask
from sslmed.losses import masked_l1


class MaskedRegression(L.LightningModule):
    """Umapathy et al., section II.B: L = || M psi(x~) - M x ||_1, as the mean over the hidden pixels.

    Args:
        network: (B, 1, H, W) -> (B, 1, H, W), what the pretext leaves.
        mask: hides pixels, and tells which in its parameters.
        optimiser: its settings.
    """

    saved = "network"

    def __init__(
        self, network: nn.Module, *, mask: RandomPixelMask | RandomPatchMask, optimiser: Optimiser
    ) -> None:
        super().__init__()
        self.network = network.to(memory_format=torch.channels_last)
        self.mask, self.optimiser = mask, optimiser

    def training_step(self, batch: list[Tensor], _: int) -> Tensor:
        """Lightning's hook."""
        images = batch[0]
        params = self.mask.forward_parameters(images.shape)
        hidden = self.mask(images, params=params).contiguous(memory_format=torch.channels_last)
        where = params["mask"].to(images.device)
        loss = masked_l1(self.network(hidden), images, where) * share(where.sum())
        # Over processes, logged values are weighed by images, the loss by hidden pixels.
        logged = loss.detach() / share(len(images), device=loss.device)
        self.log("loss", logged, on_step=False, on_epoch=True, batch_size=len(images), sync_dist=True)
        return loss

    def configure_optimizers(self) -> dict[str, Any]:
        """Lightning's hook."""
        return self.optimiser.build(self.parameters())
