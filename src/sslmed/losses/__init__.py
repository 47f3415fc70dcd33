"""Self-supervised losses: modules that store settings, and their pure functions."""

from . import functional
from .contrastive import NCE, InfoNCE, NTXent
from .functional import info_nce, nce, nt_xent, perceptual, relation_contrastive
from .perceptual import Perceptual
from .relation import RelationContrastive, RelationHead

__all__ = [
    "NCE",
    "InfoNCE",
    "NTXent",
    "Perceptual",
    "RelationContrastive",
    "RelationHead",
    "functional",
    "info_nce",
    "nce",
    "nt_xent",
    "perceptual",
    "relation_contrastive",
]
