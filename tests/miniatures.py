"""Every reader's layout in miniature, of two cases or more: for tests that sweep all readers.

The first case with an outline shows a lesion of three pixels, whose centres no 8 x 8 grid of pixels meets.
"""

from __future__ import annotations

import csv
import json
import plistlib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from scans import write_dicom, write_nifti
from sslmed import data

SHAPE = (40, 48)
LESION = np.zeros(SHAPE, dtype=np.uint8)
LESION[20, 23:26] = 1
BLOCK = np.zeros(SHAPE, dtype=np.uint8)
BLOCK[4:30, 4:30] = 1


@dataclass(frozen=True)
class Miniature:
    """A reader and the folder that it reads.

    Attributes:
        build: writes the files into a folder and returns the reader's root.
        reader: opens it.
        masks: whether items have masks.
        needs: packages besides the core's.
        options: another value of each keyword that decides what an item is.
    """

    build: Callable[[Path], Path]
    reader: Callable[..., Any]
    masks: bool = True
    needs: tuple[str, ...] = ()
    options: dict[str, Any] = field(default_factory=dict)


def noise(seed: int) -> np.ndarray[Any, Any]:
    return np.random.default_rng(seed).integers(0, 255, SHAPE, dtype=np.uint8)


def picture(path: Path, pixels: np.ndarray[Any, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


def table(path: Path, *rows: tuple[object, ...], delimiter: str = ",") -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file, delimiter=delimiter).writerows(rows)


def workbook(path: Path, *rows: tuple[object, ...]) -> None:
    import openpyxl

    book = openpyxl.Workbook()
    for row in rows:
        book.active.append(row)
    book.save(path)


def busi(folder: Path) -> Path:
    for k, (name, mask) in enumerate({"benign": LESION, "malignant": BLOCK}.items()):
        picture(folder / name / f"{name} (1).png", noise(k))
        picture(folder / name / f"{name} (1)_mask.png", 255 * mask)
    table(folder / "groups.csv", ("image", "group"), ("benign (1)", "a"), ("malignant (1)", "b"))
    return folder


def busbra(folder: Path) -> Path:
    for k, mask in enumerate((LESION, BLOCK)):
        picture(folder / "Images" / f"bus_000{k}-l.png", noise(k))
        picture(folder / "Masks" / f"mask_000{k}-l.png", 255 * mask)
    rows = (("bus_0000-l", 1, "benign"), ("bus_0001-l", 2, "malignant"))
    table(folder / "bus_data.csv", ("ID", "Case", "Pathology"), *rows)
    return folder


def breast(folder: Path) -> Path:
    for k, mask in enumerate((LESION, BLOCK)):
        picture(folder / f"case00{k}.png", noise(k))
        picture(folder / f"case00{k}_tumor.png", 255 * mask)
        picture(folder / f"case00{k}_other1.png", 255 * mask.T[:40, :40].repeat(2, 1)[:, :48].copy())
    head = ("Image_filename", "Mask_tumor_filename", "Mask_other_filename", "Classification")
    rows = [(f"case00{k}.png", f"case00{k}_tumor.png", f"case00{k}_other1.png", "benign") for k in (0, 1)]
    workbook(folder / "BrEaST-Lesions-USG-clinical-data.xlsx", head, *rows)
    return folder


def udiat(folder: Path) -> Path:
    for k, mask in enumerate((LESION, BLOCK)):
        picture(folder / "original" / f"00000{k}.png", noise(k))
        picture(folder / "GT" / f"00000{k}.png", 255 * mask)
    workbook(folder / "DatasetB.xlsx", ("Image", "Type"), (0, "Benign"), (1, "Malignant"))
    return folder


def qamebi(folder: Path) -> Path:
    for k, mask in enumerate((LESION, BLOCK)):
        picture(folder / "Benign" / f"{k} Benign Image.bmp", noise(k))
        picture(folder / "Benign" / f"{k} Benign Mask.tif", 255 * mask)
    return folder


def mbud(folder: Path) -> Path:
    for k, name in enumerate(("benign", "malignant")):
        picture(folder / "originals" / name / "us1.bmp", noise(k))
    return folder / "originals"


def tbud(folder: Path) -> Path:
    for k, name in enumerate(("benign", "malignant")):
        picture(folder / name / "us1.png", noise(k))
    return folder


def labelled(folder: Path) -> Path:
    for k, mask in enumerate((LESION, BLOCK)):
        picture(folder / "images" / f"scan {k}.png", noise(k))
        picture(folder / "masks" / f"scan {k}.png", 255 * mask)
    rows = (("scan 0", "benign", "patient 7"), ("scan 1", "malignant", "patient 8"))
    table(folder / "cases.csv", ("image", "class", "group"), *rows)
    return folder


def unlabelled(folder: Path) -> Path:
    picture(folder / "a.png", noise(0))
    write_dicom(folder / "b.dcm", noise(1).astype(np.uint16) * 16, WindowCenter=2000, WindowWidth=1000)
    write_nifti(folder / "c.nii.gz", noise(2)[..., None].astype(float))
    return folder


def covid(folder: Path) -> Path:
    for k, name in enumerate(("Cov_a", "Reg_b")):
        picture(folder / "pocus_images" / "convex" / f"{name}.png", noise(k))
    head = ("Current location", "Filename", "License", "InThisRepo", "Probe", "Patient ID / Name")
    rows = [("pocus_images/convex", name, "CC BY 4.0", "Yes", "convex", k) for k, name in enumerate(("Cov_a", "Reg_b"))]
    table(folder / "dataset_metadata.csv", head, *rows)
    return folder


def camus(folder: Path) -> Path:
    for patient in ("patient0001", "patient0002"):
        (folder / patient).mkdir(parents=True)
        for part, count in (("ED", 1), ("ES", 1), ("half_sequence", 2)):
            stem = folder / patient / f"{patient}_2CH_{part}"
            for ending, values in (("", noise(count)), ("_gt", LESION)):
                still = values.T if count == 1 else np.stack([values.T] * count, axis=-1)
                write_nifti(Path(f"{stem}{ending}.nii.gz"), still, dtype="u1")
    return folder


def camus_older(folder: Path) -> Path:
    for patient in ("patient0001", "patient0002"):
        place = folder / "training" / patient
        place.mkdir(parents=True)
        for name, values in (("ED", noise(0)), ("ED_gt", LESION), ("ES", noise(1)), ("ES_gt", BLOCK)):
            path = place / f"{patient}_2CH_{name}.mhd"
            path.with_suffix(".raw").write_bytes(values.tobytes())
            size = f"DimSize = {SHAPE[1]} {SHAPE[0]} 1"
            path.write_text(f"{size}\nElementType = MET_UCHAR\nElementDataFile = {path.stem}.raw\n")
    return folder


def inbreast(folder: Path) -> Path:
    for name in ("AllDICOMs", "AllXML"):
        (folder / name).mkdir(parents=True)
    outlines = (["(23.5, 20.5)"], ["(4, 4)", "(30, 4)", "(30, 30)", "(4, 30)"])
    for k, points in enumerate(outlines):
        write_dicom(folder / f"AllDICOMs/2058690{k}_6c613a14b80a859{k}_MG_R_CC_ANON.dcm", noise(k).astype(np.uint16))
        regions = [{"Name": "Mass", "NumberOfPoints": len(points), "Point_px": points}]
        content = plistlib.dumps({"Images": [{"NumberOfROIs": 1, "ROIs": regions}]})
        (folder / f"AllXML/2058690{k}.xml").write_bytes(content)
    rows = (("20586900", "2"), ("20586901", "5"))
    table(folder / "INbreast.csv", ("File Name", "Bi-Rads"), *rows, delimiter=";")
    return folder


def cbis(folder: Path) -> Path:
    head = ("patient_id", "assessment", "pathology", "image file path", "ROI mask file path")
    for kind, part in (("mass", "train"), ("calc", "train"), ("mass", "test"), ("calc", "test")):
        rows = []
        for k, mask in enumerate((LESION, BLOCK)):
            name = f"{kind.capitalize()}-{part}_P_0000{k}_LEFT_CC"
            for place, values in ((name, noise(k).astype(np.uint16)), (f"{name}_1", 255 * mask)):
                (folder / "CBIS-DDSM" / place).mkdir(parents=True)
                bits = 8 * values.dtype.itemsize
                depth = {"BitsAllocated": bits, "BitsStored": bits, "HighBit": bits - 1}
                write_dicom(folder / "CBIS-DDSM" / place / "1.dcm", values, **depth)
            rows.append((f"P_0000{k}", k + 2, "BENIGN", f"{name}/1.dcm", f"{name}_1/1.dcm"))
        table(folder / f"{kind}_case_description_{part}_set.csv", head, *rows)
    return folder


def decathlon(folder: Path) -> Path:
    root = folder / "Task05_Prostate"
    for name in ("imagesTr", "labelsTr", "imagesTs"):
        (root / name).mkdir(parents=True)
    for k, mask in enumerate((LESION, BLOCK)):
        write_nifti(root / f"imagesTr/p_{k}.nii.gz", np.stack([noise(k), noise(k + 9)], -1))
        write_nifti(root / f"labelsTr/p_{k}.nii.gz", np.stack([mask, 2 * mask], -1), dtype="u1")
    write_nifti(root / "imagesTs/p_2.nii.gz", np.stack([noise(2), noise(3)], -1))
    cases = [{"image": f"imagesTr/p_{k}.nii.gz", "label": f"labelsTr/p_{k}.nii.gz"} for k in (0, 1)]
    about = {"labels": {"0": "background", "1": "PZ", "2": "TZ"}, "modality": {"0": "T2"}}
    about |= {"training": cases, "test": ["imagesTs/p_2.nii.gz"]}
    (root / "dataset.json").write_text(json.dumps(about))
    return root


NIFTI, DICOM, XLSX = ("nibabel",), ("pydicom",), ("openpyxl",)
MINIATURES = {
    "BUSI": Miniature(busi, data.BUSI),
    "BUSBRA": Miniature(busbra, data.BUSBRA),
    "BrEaST": Miniature(breast, data.BrEaST, needs=XLSX, options={"include_other": True}),
    "UDIAT": Miniature(udiat, data.UDIAT, needs=XLSX),
    "QAMEBI": Miniature(qamebi, data.QAMEBI),
    "MBUD": Miniature(mbud, data.MBUD, masks=False),
    "TBUD": Miniature(tbud, data.TBUD, masks=False),
    "CAMUS": Miniature(camus, data.CAMUS, needs=NIFTI, options={"frames": "sequence", "masks": False}),
    "CAMUS, older": Miniature(camus_older, data.CAMUS, options={"masks": False, "frames": "ed_es"}),
    "CovidLUS": Miniature(covid, data.CovidLUS, masks=False),
    "INbreast": Miniature(inbreast, data.INbreast, needs=DICOM),
    "CBISDDSM": Miniature(cbis, data.CBISDDSM, needs=DICOM, options={"part": "test", "kind": "mass"}),
    "Decathlon": Miniature(decathlon, data.Decathlon, needs=NIFTI, options={"slices": False, "part": "test"}),
    "LabelledImages": Miniature(labelled, data.LabelledImages),
    "UnlabelledImages": Miniature(
        unlabelled, data.UnlabelledImages, masks=False, needs=(*NIFTI, *DICOM), options={"window": "header"}
    ),
}
