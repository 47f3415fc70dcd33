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
        dim = _width(head)
        self.queue = MomentumQueue(queue_size, dim, with_ids=True)
        self.temperature, self.momentum, self.optimiser = temperature, momentum, optimiser

    @torch.no_grad()
    def keys(self, images: Tensor) -> Tensor:
        """Keys (B, D) of the momentum network, updated first as in the reference code."""
        for target, online in ((self.key_backbone, self.backbone), (self.key_head, self.head)):
            # The key network keeps the batch statistics that it gathers itself.
            update_ema(target, online, decay=self.momentum, buffers="keep")
        return self.key_head(self.key_backbone(images))

    def training_step(self, batch: list[Tensor], _: int) -> Tensor:
        """Lightning's hook."""
        images, index = batch
        x_query, x_key = self.views(images)
        queries, keys = self.head(self.backbone(x_query)), self.keys(x_key)
        all_queries, all_keys, ids = gather(queries), gather(keys), gather(index)
        full = len(self.queue) > 0
        negatives, negative_ids = (self.queue.negatives(), self.queue.ids()) if full else (all_keys, ids)
        loss = info_nce(
            all_queries, all_keys, negatives, temperature=self.temperature, ids=ids, negative_ids=negative_ids
        )
        terms = {"loss": loss, "feature_sd": spread(queries), "queue": float(len(self.queue))}
        self.queue.enqueue(all_keys, ids)
        self.log_dict(terms, on_step=False, on_epoch=True, batch_size=len(images), sync_dist=True)
        return loss

    def configure_optimizers(self) -> dict[str, Any]:
        """Lightning's hook."""
        return self.optimiser.build(self.parameters())


def _width(head: nn.Module) -> int:
    """Width of what a head gives out."""
    return [m for m in head.modules() if isinstance(m, nn.Linear)][-1].out_features
