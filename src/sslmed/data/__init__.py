"""Data sets as items of tensors, synthetic ultrasound, mammograms and MR, and splits that leak nothing.

Every data set is a map-style `torch.utils.data.Dataset` whose items are dicts: image (1, H, W) float32 in [0, 1],
mask (1, H, W) bool, label int, id str, group str; a key is absent where the set has no such thing. `ids`, `labels`
and `groups` tell the same without decoding an image; `labels` or `groups` is None where the set has none.

| set              | images                     | classes                   | group                     |
|------------------|----------------------------|---------------------------|---------------------------|
| BUSI             | breast ultrasound, 780     | benign, malignant, normal | from a `groups.csv`       |
| BUSBRA           | breast ultrasound, 1875    | benign, malignant         | patient                   |
| BrEaST           | breast ultrasound, 256     | benign, malignant, normal | patient                   |
| UDIAT            | breast ultrasound, 163     | benign, malignant         | none                      |
| QAMEBI           | breast ultrasound, 232     | benign, malignant         | none                      |
| MBUD             | breast ultrasound, 250     | benign, malignant         | none                      |
| TBUD             | breast ultrasound, saved   | benign, malignant         | none                      |
| CAMUS            | echocardiograms, 2000      | three structures outlined | patient                   |
| CovidLUS         | lung ultrasound, 241 clips | covid, pneumonia, viral, regular | patient or clip           |
| INbreast         | mammograms, 410            | benign, malignant, normal | patient                   |
| CBISDDSM         | mammograms, 3103           | benign, malignant         | patient                   |
| Decathlon        | any task's volumes, slices | structures outlined       | volume                    |
| Phantom          | synthetic ultrasound of breast, heart, lung | by organ | each image its own        |
| MammogramPhantom | synthetic mammograms       | benign, malignant, normal | each image its own        |
| MRPhantom        | synthetic T2-weighted MR   | two structures outlined   | volume                    |
| LabelledImages   | your own, with masks       | from a `cases.csv`        | from a `cases.csv`        |
| UnlabelledImages | any folder of images       | none                      | none                      |
"""

from __future__ import annotations

from . import splits
from ._birads import birads_class
from .breast_lesions import BrEaST
from .busbra import BUSBRA
from .busi import BUSI
from .cache import DiskCache
from .camus import CAMUS
from .cbis_ddsm import CBISDDSM
from .covid_lus import CovidLUS
from .decathlon import Decathlon
from .dicom import read_dicom
from .images import read_image, read_mask
from .inbreast import INbreast
from .labelled import LabelledImages
from .mammogram_phantom import MammogramPhantom
from .mbud import MBUD
from .mr_phantom import MRPhantom
from .nifti import read_nifti
from .phantom import Phantom
from .qamebi import QAMEBI
from .tbud import TBUD
from .udiat import UDIAT
from .unlabelled import UnlabelledImages

# The readers of sets that a folder's layout gives away, each before those whose layout it has too.
READERS = (
    BUSI,
    BUSBRA,
    UDIAT,
    BrEaST,
    QAMEBI,
    CAMUS,
    CovidLUS,
    INbreast,
    CBISDDSM,
    Decathlon,
    MBUD,
    TBUD,
    LabelledImages,
)

__all__ = [
    "BUSBRA",
    "BUSI",
    "CAMUS",
    "CBISDDSM",
    "MBUD",
    "QAMEBI",
    "READERS",
    "TBUD",
    "UDIAT",
    "BrEaST",
    "CovidLUS",
    "Decathlon",
    "DiskCache",
    "INbreast",
    "LabelledImages",
    "MRPhantom",
    "MammogramPhantom",
    "Phantom",
    "UnlabelledImages",
    "birads_class",
    "read_dicom",
    "read_image",
    "read_mask",
    "read_nifti",
    "splits",
]
