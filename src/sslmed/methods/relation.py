"""Relation contrast: PIRL with a small network that learns whether two embeddings are of one image.

Ellis et al., "A Self-Supervised Framework for Improved Generalisability in Ultrasound B-mode Image Segmentation",
section III.
"""

from __future__ import annotations

from torch import nn

from ..augment import MultiView
from ..losses import Perceptual, RelationContrastive
from .pirl import PIRL


class RelationContrast(PIRL):
    """Ellis et al., section III: the relation contrastive loss on image and patch level, and the perceptual loss.

    Args:
        encoder: as in `PIRL`.
        count: as in `PIRL`.
        views: as in `PIRL`; the paper's are `sslmed.augment.views.pirl` with band-stop filter and cross-patch jigsaw.
        grid: as in `PIRL`.
        dim: as in `PIRL`.
        hidden: width of the relation network (III-C).
        input_scale: factor on its input: the raw product of unit vectors of 128 dimensions, near 1/128, is too small
            to learn from.
        patch_head: as in `PIRL`.
        batch_norm: as in `PIRL`.
        perceptual: whether to add the perceptual loss (Eq. 11-12).
        level_weight: as in `PIRL`.
        lam: as in `PIRL`.
        most_negatives: as in `PIRL`.
        momentum: as in `PIRL`.

    Example:
        >>> import torch
        >>> from sslmed.augment import views
        >>> from sslmed.models import ResNetEncoder
        >>> encoder = ResNetEncoder("resnet18", width=8)
        >>> method = RelationContrast(encoder, 4, views=views.pirl(48, unit="nyquist"))
        >>> images, index = torch.rand(4, 1, 64, 64), torch.arange(4)
        >>> method.start([(images, index)])
        >>> sorted(method(images, index).terms)
        ['feature_std', 'image_level', 'loss', 'patch_level', 'perceptual']
    """

    command = "relation"

    def __init__(
        self,
        encoder: nn.Module,
        count: int,
        *,
        views: MultiView,
        grid: tuple[int, int] = (6, 6),
        dim: int = 128,
        hidden: int = 64,
        input_scale: float = 128.0,
        patch_head: str = "concat_linear",
        batch_norm: bool = False,
        perceptual: bool = True,
        level_weight: float = 0.5,
        lam: float = 0.1,
        most_negatives: int = 4096,
        momentum: float = 0.5,
    ) -> None:
        super().__init__(
            encoder,
            count,
            views=views,
            grid=grid,
            dim=dim,
            patch_head=patch_head,
            batch_norm=batch_norm,
            perceptual=Perceptual() if perceptual else None,
            level_weight=level_weight,
            lam=lam,
            most_negatives=most_negatives,
            momentum=momentum,
        )
        self.contrast: RelationContrastive = RelationContrastive(dim, hidden=hidden, input_scale=input_scale)

    @classmethod
    def usual_views(cls, size: int, *, modality: str, harder: bool = True) -> MultiView:
        """The image and the paper's harder jigsaw."""
        return super().usual_views(size, modality=modality, harder=harder)
