"""Self-supervised losses: modules that store settings, and their pure functions."""

from . import functional
from .bootstrap import BYOL, NegativeCosine
from .contrastive import InfoNCE, NTXent
from .functional import (
    byol,
    info_nce,
    local_contrastive,
    masked_l1,
    nce,
    negative_cosine,
    nt_xent,
    perceptual,
    relation_contrastive,
)
from .local import LocalContrastive
from .masked import MaskedL1
from .nce import NCE
from .perceptual import Perceptual
from .relation import RelationContrastive, RelationHead

__all__ = [
    "BYOL",
    "NCE",
    "InfoNCE",
    "LocalContrastive",
    "MaskedL1",
    "NTXent",
    "NegativeCosine",
    "Perceptual",
    "RelationContrastive",
    "RelationHead",
    "byol",
    "functional",
    "info_nce",
    "local_contrastive",
    "masked_l1",
    "nce",
    "negative_cosine",
    "nt_xent",
    "perceptual",
    "relation_contrastive",
]
