"""Readers of the public sets and of one's own folders: what lies where, and what belongs to one case."""

from __future__ import annotations

from ._birads import birads_class
from .breast_lesions import BrEaST
from .busbra import BUSBRA
from .busi import BUSI
from .camus import CAMUS
from .cbis_ddsm import CBISDDSM
from .covid_lus import CovidLUS
from .decathlon import Decathlon
from .inbreast import INbreast
from .labelled import LabelledImages
from .mbud import MBUD
from .qamebi import QAMEBI
from .tbud import TBUD
from .udiat import UDIAT
from .unlabelled import UnlabelledImages

__all__ = [
    "BUSBRA",
    "BUSI",
    "CAMUS",
    "CBISDDSM",
    "MBUD",
    "QAMEBI",
    "TBUD",
    "UDIAT",
    "BrEaST",
    "CovidLUS",
    "Decathlon",
    "INbreast",
    "LabelledImages",
    "UnlabelledImages",
    "birads_class",
]
