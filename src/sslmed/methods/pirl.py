"""PIRL: an image and its shuffled patches must agree with the image's row in a memory bank, not with other rows.

Misra and van der Maaten, "Self-supervised learning of pretext-invariant representations", CVPR 2020; the two levels
and the perceptual term follow Ellis et al., section III.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from .. import _checks
from .._step import Step
from ..augment import MultiView, views
from ..augment.functional import split_patches
from ..distributed import ddp_weight, gather
from ..losses import NCE, InfoNCE, Perceptual, RelationContrastive
from ..memory import MemoryBank
from ..models import ImageHead, PatchHead, ResNetEncoder, feature_width
from ._base import Batches, Method, as_channels_last, channels_last, spread


class PIRL(Method):
    """PIRL on images and jigsaws, with a memory bank of all training images.

    Args:
        encoder: (B, C, H, W) -> list of feature maps, the coarsest last, as `sslmed.models.ResNetEncoder`.
        count: images of the data set: rows of the memory bank.
        views: images -> the view of the whole image, and the jigsaw, as `sslmed.augment.views.pirl`.
        grid: rows and columns of the jigsaw.
        dim: width of the embeddings.
        patch_head: style of `sslmed.models.PatchHead`.
        batch_norm: whether both heads standardise their output over the batch, as in `sslmed.models.ImageHead`.
        contrast: of an embedding with its image's row and with those of others; by default PIRL's own NCE. InfoNCE
            is the other choice.
        perceptual: compares the second-coarsest maps of image and patches (Ellis et al., Eq. 11-12); None leaves it
            out.
        level_weight: weight of the image's contrast; that of the patches has the rest (Ellis et al., Eq. 10).
        lam: weight of both contrasts against the perceptual loss (Ellis et al., Eq. 13); without one it has no effect.
        most_negatives: the largest number of negatives of an image: all other rows of the bank, or this many drawn at
            random.
        momentum: weight of the old row of the memory bank.

    Example:
        >>> import torch
        >>> from sslmed.augment import views
        >>> from sslmed.models import ResNetEncoder
        >>> encoder = ResNetEncoder("resnet18", width=8)
        >>> method = PIRL(encoder, 4, views=views.pirl(48, grid=(3, 3), unit="nyquist"), grid=(3, 3))
        >>> images, index = torch.rand(4, 1, 64, 64), torch.arange(4)
        >>> method.start([(images, index)])
        >>> sorted(method(images, index).terms)
        ['feature_std', 'image_level', 'loss', 'patch_level']
    """

    command = "pirl"

    def __init__(
        self,
        encoder: nn.Module,
        count: int,
        *,
        views: MultiView,
        grid: tuple[int, int] = (6, 6),
        dim: int = 128,
        patch_head: str = "concat_linear",
        batch_norm: bool = False,
        contrast: NCE | InfoNCE | RelationContrastive | None = None,
        perceptual: Perceptual | None = None,
        level_weight: float = 0.5,
        lam: float = 0.75,
        most_negatives: int = 4096,
        momentum: float = 0.5,
    ) -> None:
        super().__init__()
        _checks.integer("count", count, low=2)
        width = feature_width(encoder)
        self.encoder: nn.Module = as_channels_last(encoder)
        self.image_head: ImageHead = ImageHead(width, dim, batch_norm=batch_norm)
        self.patch_head: PatchHead = PatchHead(
            width, dim, patches=grid[0] * grid[1], style=patch_head, batch_norm=batch_norm
        )
        self.bank: MemoryBank = MemoryBank(count, dim, momentum=momentum)
        self.contrast: NCE | InfoNCE | RelationContrastive = contrast if contrast is not None else NCE()
        self.perceptual = perceptual
        self.views: MultiView = views
        self.grid: tuple[int, int] = grid
        self.level_weight: float = _checks.number("level_weight", level_weight, low=0, high=1)
        self.lam: float = _checks.number("lam", lam, low=0, high=1) if perceptual is not None else 1.0
        self.negatives: int | None = most_negatives if count - 1 > most_negatives else None  # None: all other rows

    @classmethod
    def for_images(cls, count: int, *, encoder: str, width: int, size: int, modality: str, **options: Any) -> Method:
        """As `Method.for_images`."""
        pair = cls.usual_views(size, modality=modality)
        return cls(ResNetEncoder(encoder, width=width), count, views=pair, **options)

    @classmethod
    def usual_views(cls, size: int, *, modality: str, harder: bool = False) -> MultiView:
        """The image and its jigsaw; `harder` with band-stop filter and cross-patch jigsaw."""
        return views.pirl(
            size,
            modality=modality,
            frequency=harder,
            cross_patch=harder,
            radius=(10 / 112, 100 / 112),  # Ellis et al.: bins on 224 pixels, here as fractions of Nyquist
            unit="nyquist",
        )

    def forward(self, images: Tensor, index: Tensor | None = None) -> Step:
        """As `Method.forward`; Ellis et al., Eq. 7 to 13."""
        if index is None:
            raise ValueError("index must be given: the memory bank identifies images by their positions")
        image_view, patch_view = self.views(images)
        patches = split_patches(patch_view, self.grid)  # (B, P, C, h, w)
        image_maps = self.encoder(channels_last(image_view))
        patch_maps = self.encoder(channels_last(patches.flatten(0, 1)))
        # The embeddings of all processes: the NCE loss estimates its normaliser from the whole batch.
        image = gather(self.image_head(image_maps[-1]))
        patch = gather(self.patch_head(patch_maps[-1].mean((2, 3)).unflatten(0, patches.shape[:2])))
        index = gather(index)

        positive, negatives = self.bank[index], self.bank.negatives(index, self.negatives)
        image_level = self._compare(image, positive, negatives)
        patch_level = self._compare(patch, positive, negatives)
        w = self.level_weight
        loss = logged = self.lam * (w * image_level + (1 - w) * patch_level)
        terms = {"image_level": image_level.detach(), "patch_level": patch_level.detach()}
        if self.perceptual is not None:
            # Of a ResNet these are the maps of layer3, the paper's "layer 40" of a ResNet-50.
            perceptual = self.perceptual(image_maps[-2], patch_maps[-2].unflatten(0, patches.shape[:2]))
            terms["perceptual"] = perceptual.detach()
            logged = loss + (1 - self.lam) * perceptual
            loss = loss + (1 - self.lam) * perceptual * ddp_weight(len(images), device=loss.device)

        self.bank.update(index, image.detach())
        return Step(loss, {"loss": logged.detach(), **terms, "feature_std": spread(image)})

    def _compare(self, embedding: Tensor, positive: Tensor, negatives: Tensor) -> Tensor:
        if isinstance(self.contrast, NCE):
            return self.contrast(embedding, positive, negatives, population=len(self.bank))  # type: ignore[no-any-return]
        return self.contrast(embedding, positive, negatives)  # type: ignore[no-any-return]

    @torch.no_grad()
    def start(self, batches: Batches) -> None:
        """Fill the bank with embeddings of the first view of all images, in evaluation mode.

        The first view is t1, from which Ellis et al. start the bank (section III-B). A network that starts at random
        has no batch statistics yet, and in evaluation mode would give all images nearly the same row; a pass in
        training mode gathers the statistics first.
        """
        was_training, device = self.training, self.bank.vectors.device
        # By their common base: on several devices they become SyncBatchNorm.
        norms = [m for m in self.modules() if isinstance(m, _BatchNorm)]
        if any(int(norm.num_batches_tracked or 0) == 0 for norm in norms):
            self.train()
            for images, _ in batches:
                if len(images) > 1:  # one image has no statistics
                    self.embed(self.views(images.to(device))[0])
        self.eval()
        for images, index in batches:
            self.bank.fill(index.to(device), self.embed(self.views(images.to(device))[0]))
        self.train(was_training)

    def embed(self, images: Tensor) -> Tensor:
        """Unit vectors (B, dim) of whole images, as the memory bank holds them."""
        return self.image_head(self.encoder(channels_last(images))[-1])  # type: ignore[no-any-return]
