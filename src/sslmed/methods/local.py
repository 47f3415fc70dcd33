"""Local contrast: a location of one view's feature map must agree with the same location of the other's.

Umapathy et al., "Learning to segment with limited annotations: Self-supervised pretraining with regression and
contrastive loss in MRI", section II.C, local stage, after Chaitanya et al., NeurIPS 2020, section 3.2.
"""

from __future__ import annotations

from torch import Tensor, nn

from .. import _checks
from .._step import Step
from ..augment import MultiView
from ..distributed import ddp_weight, gather
from ..losses import local_contrastive
from ..models import UNet
from ._base import Method, as_channels_last, channels_last, spread


class LocalContrast(Method):
    """The local stage: trains the first blocks of a U-Net's decoder.

    The encoder is frozen with its batch statistics; pretrain it first. `feature_std` is the spread over all locations
    of all maps.

    Args:
        network: a U-Net whose encoder is pretrained.
        views: images -> two views that differ in intensity only, as `sslmed.augment.views.intensity_only`.
        blocks: decoder blocks that are trained, from the coarsest.
        dim: width of the map that regions are compared in, by two 1 x 1 convolutions (g2).
        temperature: of the loss.
        region: side of a region.
        negatives: regions that each is compared with, of each of the two maps.

    Raises:
        ValueError: `blocks` outside the network's.

    Example:
        >>> import torch
        >>> from sslmed.augment import views
        >>> method = LocalContrast(UNet(width=4), views=views.intensity_only(modality="mr"))
        >>> method(torch.rand(2, 1, 48, 48)).loss.shape
        torch.Size([])
    """

    def __init__(
        self,
        network: UNet,
        *,
        views: MultiView,
        blocks: int = 3,
        dim: int = 16,
        temperature: float = 0.1,
        region: int = 3,
        negatives: int = 5,
    ) -> None:
        super().__init__()
        self.blocks: int = _checks.integer("blocks", blocks, low=1, high=len(network.up))
        self.network: UNet = as_channels_last(network).requires_grad_(False)
        self.network.up[:blocks].requires_grad_(True)
        width = network.width * 2 ** (len(network.up) - blocks)
        self.head: nn.Sequential = nn.Sequential(
            nn.Conv2d(width, width, 1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(inplace=True),
            nn.Conv2d(width, dim, 1),
        )
        self.views = views
        self.temperature: float = temperature
        self.region: int = region
        self.negatives: int = negatives
        self.train()

    def train(self, mode: bool = True) -> LocalContrast:
        """Keep the frozen part in evaluation mode, so that its batch statistics do not change."""
        super().train(mode)
        self.network.down.eval()
        self.network.up[self.blocks :].eval()
        return self

    def embed(self, images: Tensor) -> Tensor:
        """Maps (B, dim, h, w)."""
        return self.head(self.network.decoder_maps(channels_last(images), blocks=self.blocks)[-1])  # type: ignore[no-any-return]

    def forward(self, images: Tensor, index: Tensor | None = None) -> Step:
        """As `Method.forward`; `index` is not used."""
        f0, f1 = (self.embed(view) for view in self.views(images))
        loss = local_contrastive(f0, f1, temperature=self.temperature, region=self.region, negatives=self.negatives)
        locations = gather(f0.detach().flatten(2)).mT.flatten(0, 1)  # (B h w, dim)
        terms = {"loss": loss.detach(), "feature_std": spread(locations)}
        return Step(loss * ddp_weight(len(images), device=loss.device), terms)

    @property
    def trained(self) -> nn.Module:
        """The whole U-Net."""
        return self.network
