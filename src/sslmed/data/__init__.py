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
from .cache import DiskCache
from .formats import read_dicom, read_image, read_mask, read_nifti
from .phantoms import MammogramPhantom, MRPhantom, Phantom
from .readers._birads import birads_class
from .readers.breast_lesions import BrEaST
from .readers.busbra import BUSBRA
from .readers.busi import BUSI
from .readers.camus import CAMUS
from .readers.cbis_ddsm import CBISDDSM
from .readers.covid_lus import CovidLUS
from .readers.decathlon import Decathlon
from .readers.inbreast import INbreast
from .readers.labelled import LabelledImages
from .readers.mbud import MBUD
from .readers.qamebi import QAMEBI
from .readers.tbud import TBUD
from .readers.udiat import UDIAT
from .readers.unlabelled import UnlabelledImages

# The readers of sets that can be recognised by their layout. If a set has the layout of two, its own comes first.
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
