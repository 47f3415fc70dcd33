"""The losses as pure functions of tensors."""

from .contrastive import info_nce, nce, nt_xent
from .perceptual import perceptual
from .relation import relation_contrastive

__all__ = ["info_nce", "nce", "nt_xent", "perceptual", "relation_contrastive"]
