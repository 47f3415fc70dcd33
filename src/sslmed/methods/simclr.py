"""SimCLR: two views of an image must agree; the other images of the batch are the negatives.

Chen et al., "A simple framework for contrastive learning of visual representations", ICML 2020.
"""

from __future__ import annotations

from torch import Tensor, nn

from .. import _checks
from .._step import Step
from ..augment import MultiView
from ..losses import nt_xent
from ..models import pooled_features
from ._base import Method, as_channels_last, default_head, of_all_processes, spread


class SimCLR(Method):
    """SimCLR: two views of an image agree, and differ from all other images of the batch.

    Chen et al., ICML 2020, Eq. 1. Under several processes, the images of all of them are contrasted.

    Args:
        encoder: (B, C, H, W) -> features (B, F), or maps, of which the last is averaged over its positions.
        views: images -> two views, as `sslmed.augment.views.simclr` makes them.
        head: features (B, F) -> (B, D); by default SimCLR's, two layers to 128 dimensions.
        temperature: of the loss.

    Example:
        >>> import torch
        >>> from sslmed.augment import views
        >>> from sslmed.models import ResNetEncoder
        >>> method = SimCLR(ResNetEncoder("resnet18", width=8), views=views.simclr(32))
        >>> method(torch.rand(4, 1, 48, 48)).loss.shape
        torch.Size([])
    """

    command = "simclr"

    def __init__(
        self, encoder: nn.Module, *, views: MultiView, head: nn.Module | None = None, temperature: float = 0.5
    ) -> None:
        super().__init__()
        self.encoder: nn.Module = as_channels_last(encoder)
        self.head: nn.Module = head if head is not None else default_head(encoder)
        self.views = views
        self.temperature: float = _checks.number("temperature", temperature, low=0, low_open=True)

    def forward(self, images: Tensor, index: Tensor | None = None) -> Step:
        """As `Method.forward`; `index` is not used."""
        x0, x1 = self.views(images)
        z0 = of_all_processes(self.head(pooled_features(self.encoder, x0)))
        z1 = of_all_processes(self.head(pooled_features(self.encoder, x1)))
        loss = nt_xent(z0, z1, temperature=self.temperature)
        return Step(loss, {"loss": loss.detach(), "feature_std": spread(z0)})
