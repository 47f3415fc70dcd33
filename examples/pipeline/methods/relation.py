"""PIRL's two levels, an image and its puzzle, with its own contrast or the relation contrast."""

from __future__ import annotations

from typing import Any

import lightning as L
import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from pipeline.optimisers import Optimiser
from pipeline.pretext import fill_bank, spread
from pipeline.processes import share
from sslmed.augment import MultiView
from sslmed.augment.functional import split_patches
from sslmed.distributed import gather
from sslmed.losses import InfoNCE, Perceptual, RelationContrastive
from sslmed.memory import MemoryBank
from sslmed.models import ResNetEncoder


class Relation(L.LightningModule):
    """Ellis et al., section III, after Misra and van der Maaten, "PIRL", CVPR 2020.

    Args:
        encoder: what the pretext leaves.
        views: images -> the view of the whole image, and the puzzle.
        grid: rows and columns of the puzzle.
        image_head: map of the image -> unit vector.
        patch_head: pooled maps of the patches -> unit vector.
        bank: a row for each image of `data`.
        contrast: of a vector with its own row and with those of others.
        perceptual: of the maps of layer 3, or None.
        level_weight: of the image's contrast against that of the patches (Eq. 10).
        lam: of both against the perceptual loss (Eq. 13).
        most_negatives: all other rows, up to so many; then drawn.
        optimiser: its settings.
        data: the images, for the bank's first filling.
        batch_size: of the filling.
    """

    saved = "encoder"

    def __init__(
        self,
        encoder: ResNetEncoder,
        *,
        views: MultiView,
        grid: tuple[int, int],
        image_head: nn.Module,
        patch_head: nn.Module,
        bank: MemoryBank,
        contrast: RelationContrastive | InfoNCE,
        perceptual: Perceptual | None,
        level_weight: float,
        lam: float,
        most_negatives: int,
        optimiser: Optimiser,
        data: Dataset[Any],
        batch_size: int,
    ) -> None:
        super().__init__()
        self.encoder = encoder.to(memory_format=torch.channels_last)
        self.image_head, self.patch_head, self.bank = image_head, patch_head, bank
        self.contrast, self.perceptual = contrast, perceptual
        self.views, self.grid, self.level_weight, self.lam = views, grid, level_weight, lam
        self.negatives = most_negatives if len(bank) - 1 > most_negatives else None
        self.optimiser, self.data, self.batch_size = optimiser, data, batch_size

    def embed(self, images: Tensor) -> Tensor:
        """Unit vectors (B, dim) of whole images, for the memory bank."""
        return self.image_head(self.encoder(images.contiguous(memory_format=torch.channels_last))[-1])

    def on_train_start(self) -> None:
        """Lightning's hook: the first encode pass; a resumed run has its bank in the checkpoint."""
        if self.global_step == 0:
            fill_bank(self.bank, self, self.data, batch_size=self.batch_size)

    def training_step(self, batch: list[Tensor], _: int) -> Tensor:
        """Eq. 7 to 13."""
        images, index = batch
        image_view, patch_view = self.views(images)
        patches = split_patches(patch_view, self.grid)  # (B, P, 1, h, w)
        image_maps = self.encoder(image_view.contiguous(memory_format=torch.channels_last))
        patch_maps = self.encoder(patches.flatten(0, 1).contiguous(memory_format=torch.channels_last))
        image = self.image_head(image_maps[-1])
        patch = self.patch_head(patch_maps[-1].mean((2, 3)).unflatten(0, patches.shape[:2]))

        positive, negatives = self.bank[index], self.bank.negatives(index, self.negatives)
        image_level, patch_level = (
            self.contrast(image, positive, negatives),
            self.contrast(patch, positive, negatives),
        )
        w = self.level_weight
        loss = self.lam * (w * image_level + (1 - w) * patch_level)
        terms = {"image_level": image_level, "patch_level": patch_level}
        if self.perceptual is not None:
            layer3 = patch_maps[3].unflatten(0, patches.shape[:2])  # the paper's "layer 40" of a ResNet-50
            terms["perceptual"] = self.perceptual(image_maps[3], layer3)
            loss = loss + (1 - self.lam) * terms["perceptual"]

        rows = gather(image.detach())
        self.bank.update(gather(index), rows)
        terms = {"loss": loss, **terms, "feature_sd": spread(rows)}
        self.log_dict(terms, on_step=False, on_epoch=True, batch_size=len(images), sync_dist=True)
        return loss * share(len(images), device=loss.device)

    def configure_optimizers(self) -> dict[str, Any]:
        """Lightning's hook: SGD at a constant rate."""
        return self.optimiser.build(self.parameters())
