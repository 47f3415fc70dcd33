"""The losses as pure functions of tensors."""

from .bootstrap import byol, negative_cosine
from .contrastive import info_nce, nt_xent
from .local import local_contrastive
from .masked import masked_l1
from .nce import nce
from .perceptual import perceptual
from .relation import relation_contrastive

__all__ = [
    "byol",
    "info_nce",
    "local_contrastive",
    "masked_l1",
    "nce",
    "negative_cosine",
    "nt_xent",
    "perceptual",
    "relation_contrastive",
]
