"""MoCo: a view must agree with the key of another view; the keys of recent images in a queue are the negatives.

He et al., "Momentum contrast for unsupervised visual representation learning", CVPR 2020; with an MLP as head and
its views, MoCo v2 (Chen et al., 2020).
"""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn

from .. import _checks
from .._step import Step
from ..augment import MultiView
from ..distributed import gather
from ..losses import info_nce
from ..memory import MomentumQueue, update_ema
from ..models import pooled_features
from ._base import Method, as_channels_last, default_head, head_width, spread


class MoCo(Method):
    """MoCo: two views of an image agree, and differ from a queue of recent images.

    He et al., CVPR 2020, Eq. 1 and 2. Two things differ from the reference code. The queue starts empty instead of full
    of noise; until the first keys are in it, the other keys of the batch are the negatives. And keys of the query's own
    image, which a queue longer than an epoch holds, are not used as negatives.

    The key network normalises over the same images as the query network, as in the reference code on one device; it
    does not shuffle the batch between devices.

    Args:
        encoder: as in `SimCLR`.
        views: images -> query view and key view, as `sslmed.augment.views.moco_v2` makes them.
        head: features (B, F) -> (B, D); by default MoCo v2's, two layers to 128 dimensions.
        queue_size: keys that the queue holds.
        temperature: of the loss.
        momentum: of the key network, in [0, 1].

    Example:
        >>> import torch
        >>> from sslmed.augment import views
        >>> from sslmed.models import ResNetEncoder
        >>> method = MoCo(ResNetEncoder("resnet18", width=8), views=views.moco_v2(32), queue_size=16)
        >>> step = method(torch.rand(4, 1, 48, 48), torch.arange(4))
        >>> len(method.queue)
        4
    """

    command = "moco"

    def __init__(
        self,
        encoder: nn.Module,
        *,
        views: MultiView,
        head: nn.Module | None = None,
        queue_size: int = 65536,
        temperature: float = 0.07,
        momentum: float = 0.999,
    ) -> None:
        super().__init__()
        self.encoder: nn.Module = as_channels_last(encoder)
        self.head: nn.Module = head if head is not None else default_head(encoder)
        self.key_encoder: nn.Module = copy.deepcopy(self.encoder).requires_grad_(False)
        self.key_head: nn.Module = copy.deepcopy(self.head).requires_grad_(False)
        self.queue: MomentumQueue = MomentumQueue(queue_size, head_width(self.head, encoder), with_ids=True)
        self.views = views
        self.temperature: float = _checks.number("temperature", temperature, low=0, low_open=True)
        self.momentum: float = _checks.number("momentum", momentum, low=0, high=1)

    @classmethod
    def for_images(cls, count: int, *, queue_size: int = 4096, **settings: Any) -> Method:
        """As `Method.for_images`; the queue holds at most as many keys as there are images."""
        return super().for_images(count, queue_size=min(queue_size, count), **settings)

    def forward(self, images: Tensor, index: Tensor | None = None) -> Step:
        """As `Method.forward`."""
        if index is None:
            raise ValueError("index must be given: MoCo identifies the keys of an image by its position")
        x_query, x_key = self.views(images)
        queries, ids = gather(self.head(pooled_features(self.encoder, x_query))), gather(index)
        with torch.no_grad():
            keys = gather(self.key_head(pooled_features(self.key_encoder, x_key)))
        filled = len(self.queue)
        negatives, negative_ids = (self.queue.negatives(), self.queue.ids()) if filled else (keys, ids)
        loss = info_nce(queries, keys, negatives, temperature=self.temperature, ids=ids, negative_ids=negative_ids)
        self.queue.enqueue(keys, ids)
        terms = {"loss": loss.detach(), "feature_std": spread(queries)}
        return Step(loss, terms | {"queue_filled": torch.full((), filled, dtype=torch.float32, device=loss.device)})

    def after_step(self) -> None:
        """Move the key network towards the query network (Eq. 2)."""
        for key, query in ((self.key_encoder, self.encoder), (self.key_head, self.head)):
            # The key network keeps the batch statistics that it gathers itself.
            update_ema(key, query, decay=self.momentum, buffers="keep")
