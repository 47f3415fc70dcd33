"""MoCo: a view agrees with another's key, against a queue of the keys of recent images."""

from __future__ import annotations

import copy
from typing import Any

import lightning as L
import torch
from torch import Tensor, nn

from pipeline.optimisers import Optimiser
from pipeline.pretext import spread
from sslmed.augment import MultiView
from sslmed.distributed import gather
from sslmed.losses import info_nce
from sslmed.memory import MomentumQueue, update_ema


class MoCo(L.LightningModule):
    """He et al., "Momentum contrast", CVPR 2020, Eq. 1 and 2; with an MLP as head and its views, MoCo v2.

    Two things differ from the reference code. The queue starts empty instead of full of noise, and the other keys of
    the batch stand in until the first ones are in it. Keys of the query's own image, which a queue longer than an epoch
    holds, are no negatives.

    The key network normalises over the same images as the query's, as in the reference code on one device; its
    shuffling of the batch between devices, which hides them from each other, is not done here.

    Args:
        backbone: (B, 1, H, W) -> features (B, F), with `network`, what the pretext leaves.
        views: images -> query and key view.
        head: features (B, F) -> (B, D).
        queue_size: keys held.
        temperature: of the loss.
        momentum: of the key network.
        optimiser: its settings.
    """

    saved = "backbone.network"

    def __init__(
        self,
        backbone: nn.Module,
        *,
        views: MultiView,
        head: nn.Module,
        queue_size: int,
        temperature: float,
        momentum: float,
        optimiser: Optimiser,
    ) -> None:
        super().__init__()
        self.backbone, self.head, self.views = backbone, head, views
        self.key_backbone = copy.deepcopy(backbone).requires_grad_(False)
        self.key_head = copy.deepcopy(head).requires_grad_(False)
        self.queue = MomentumQueue(queue_size, _width(head, backbone.features), with_ids=True)
        self.temperature, self.momentum, self.optimiser = temperature, momentum, optimiser

    @torch.no_grad()
    def keys(self, images: Tensor) -> Tensor:
        """Keys (B, D) of the momentum network."""
        return self.key_head(self.key_backbone(images))

    def training_step(self, batch: list[Tensor], _: int) -> Tensor:
        """Lightning's hook."""
        images, index = batch
        x_query, x_key = self.views(images)
        queries, keys = gather(self.head(self.backbone(x_query))), gather(self.keys(x_key))
        ids, held = gather(index), len(self.queue)
        negatives, negative_ids = (self.queue.negatives(), self.queue.ids()) if held else (keys, ids)
        loss = info_nce(
            queries, keys, negatives, temperature=self.temperature, ids=ids, negative_ids=negative_ids
        )
        terms = {"loss": loss, "feature_sd": spread(queries), "queue": float(held)}
        self.queue.enqueue(keys, ids)
        self.log_dict(terms, on_step=False, on_epoch=True, batch_size=len(images), sync_dist=True)
        return loss

    def optimizer_step(self, *args: Any, **kwargs: Any) -> None:
        """Lightning's hook: the key network follows each step, of which accumulation makes fewer than batches.

        The reference code does so right before the next keys are made, which is the same.
        """
        super().optimizer_step(*args, **kwargs)
        for target, online in ((self.key_backbone, self.backbone), (self.key_head, self.head)):
            # The key network keeps the batch statistics that it gathers itself.
            update_ema(target, online, decay=self.momentum, buffers="keep")

    def configure_optimizers(self) -> dict[str, Any]:
        """Lightning's hook."""
        return self.optimiser.build(self.parameters())


@torch.no_grad()
def _width(head: nn.Module, features: int) -> int:
    """Width of what a head makes of features."""
    return int(copy.deepcopy(head).eval()(torch.zeros(1, features)).shape[1])
