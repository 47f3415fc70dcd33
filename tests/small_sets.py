"""The smallest set that each reader of files reads, by its name in `sslmed.data`: for tests of what all share."""

from __future__ import annotations

import csv
import json
import plistlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from scans import RAMP, compressed, write_dicom, write_nifti
from sslmed import data

SHAPE = (8, 10)
GRAY = np.arange(80, dtype=np.uint8).reshape(SHAPE) * 3
MASK = np.zeros(SHAPE, dtype=np.uint8)
MASK[2:5, 3:7] = 255
CLIP = np.stack([GRAY, GRAY[::-1], GRAY // 2])
TWELVE_BITS = np.stack([RAMP, RAMP // 2, RAMP // 4])
EIGHT_BITS = {"BitsAllocated": 8, "BitsStored": 8, "HighBit": 7}


def picture(path: Path, pixels: Any = GRAY, mode: str | None = None, **options: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(pixels)
    (image.convert(mode) if mode else image).save(path, **options)


def gif(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    frames = [Image.fromarray(frame) for frame in CLIP]
    frames[0].save(path, save_all=True, append_images=frames[1:], duration=100)


def metaimage(path: Path, values: Any) -> None:
    path.with_suffix(".raw").write_bytes(values.tobytes())
    path.write_text(
        f"DimSize = {values.shape[2]} {values.shape[1]} {values.shape[0]}\nElementSpacing = 1 1 1\n"
        f"ElementType = MET_UCHAR\nElementDataFile = {path.stem}.raw\n"
    )


def table(path: Path, *rows: Sequence[object], delimiter: str = ",") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file, delimiter=delimiter).writerows(rows)


def workbook(path: Path, *rows: Sequence[object]) -> None:
    import openpyxl

    book = openpyxl.Workbook()
    for row in rows:
        book.active.append(row)
    book.save(path)


def pictures(root: Path) -> None:
    """Pictures of each format and kind."""
    picture(root / "gray.png")
    picture(root / "deep.png", GRAY.astype(np.uint16) * 200)
    picture(root / "palette.png", mode="P")
    picture(root / "alpha.png", mode="LA")
    picture(root / "colour.jpg", mode="RGB")
    picture(root / "colour.bmp", mode="RGB")
    picture(root / "plain.tif")
    picture(root / "packed.tif", compression="tiff_lzw")
    picture(root / "deflated.tiff", compression="tiff_adobe_deflate")
    picture(root / "float.tif", GRAY.astype(np.float32) / 255)


def dicom_files(root: Path) -> None:
    """Stills and clips of each transfer syntax that can be written."""
    for syntax in ("explicit", "implicit", "big", "deflated"):
        write_dicom(root / f"{syntax}.dcm", TWELVE_BITS, syntax=syntax)
    for syntax in ("rle", "jpeg"):
        compressed(root / f"{syntax}.dcm", CLIP, syntax)
    tags: dict[str, Any] = {"PhotometricInterpretation": "PALETTE COLOR"}
    for colour in ("Red", "Green", "Blue"):
        tags[f"{colour}PaletteColorLookupTableDescriptor"] = [256, 0, 8]
        tags[f"{colour}PaletteColorLookupTableData"] = bytes(range(256))
    write_dicom(root / "palette.dcm", GRAY, PixelData=GRAY.tobytes(), **EIGHT_BITS, **tags)


def nifti_files(root: Path) -> None:
    """Volumes of two to four dimensions."""
    voxels = np.arange(4 * 5 * 3 * 2, dtype=np.float32).reshape(4, 5, 3, 2)
    write_nifti(root / "plain.nii", voxels[..., 0])
    write_nifti(root / "packed.nii.gz", voxels)
    write_nifti(root / "still.nii", voxels[..., 0, 0], dtype="<i2")


def unlabelled(root: Path) -> None:
    picture(root / "a.png")
    write_dicom(root / "b.dcm", TWELVE_BITS)
    write_nifti(root / "c.nii.gz", np.arange(60).reshape(4, 5, 3))
    picture(root / "z.png")


def labelled(root: Path) -> None:
    for name in ("a", "b"):
        picture(root / "images" / f"{name}.png")
        picture(root / "masks" / f"{name}.png", MASK)
    table(root / "cases.csv", ("image", "class", "group"), ("a", "benign", "1"), ("b", "malignant", "2"))


def busi(root: Path) -> None:
    for name in ("benign", "malignant", "normal"):
        picture(root / name / f"{name} (1).png", mode="RGB")
        picture(root / name / f"{name} (1)_mask.png", MASK * (name != "normal"))


def busbra(root: Path) -> None:
    head = ("ID", "Case", "Histology", "Pathology", "BIRADS", "Device", "Width", "Height", "Side", "BBOX")
    for name in ("0001-l", "0004-l"):
        picture(root / "Images" / f"bus_{name}.png")
        picture(root / "Masks" / f"mask_{name}.png", MASK)
    rows = [
        (f"bus_{name}", case, "cyst", "benign", 2, "GE", 10, 8, "left", "[3,2,4,3]")
        for case, name in ((1, "0001-l"), (4, "0004-l"))
    ]
    table(root / "bus_data.csv", head, *rows)


def breast_lesions(root: Path) -> None:
    folder = root / "BrEaST-Lesions_USG-images_and_masks"
    picture(folder / "case001.png", mode="RGBA")
    picture(folder / "case001_tumor.png", MASK)
    head = ("CaseID", "Image_filename", "Mask_tumor_filename", "Mask_other_filename", "Classification")
    sheet = root / "BrEaST-Lesions-USG-clinical-data-Dec-15-2023.xlsx"
    workbook(sheet, head, (1, "case001.png", "case001_tumor.png", None, "benign"))


def udiat(root: Path) -> None:
    for name in ("000001", "000002"):
        picture(root / "original" / f"{name}.png")
        picture(root / "GT" / f"{name}.png", MASK)
    workbook(root / "DatasetB.xlsx", ("Image", "Type"), (1, "Benign"), (2, "Malignant"))


def qamebi(root: Path) -> None:
    for name in ("Benign", "Malignant"):
        picture(root / name / f"1 {name} Image.bmp")
        picture(root / name / f"1 {name} Mask.tif", MASK)


def mbud(root: Path) -> None:
    for name in ("benign", "malignant"):
        picture(root / "originals" / name / "us1.bmp")


def tbud(root: Path) -> None:
    picture(root / "benign" / "a.png")
    picture(root / "malignant" / "b.jpg")


def camus(root: Path) -> None:
    folder = root / "patient0001"
    folder.mkdir(parents=True)
    for view in ("2CH", "4CH"):
        for name in ("ED", "ES"):
            write_nifti(folder / f"patient0001_{view}_{name}.nii.gz", GRAY.T, dtype="u1")
            write_nifti(folder / f"patient0001_{view}_{name}_gt.nii.gz", MASK.T // 255, dtype="u1")


def older_camus(root: Path) -> None:
    folder = root / "training" / "patient0001"
    folder.mkdir(parents=True)
    for view in ("2CH", "4CH"):
        for name in ("ED", "ES"):
            metaimage(folder / f"patient0001_{view}_{name}.mhd", GRAY[None])
            metaimage(folder / f"patient0001_{view}_{name}_gt.mhd", MASK[None] // 255)


def covid_lus(root: Path) -> None:
    gif(root / "pocus_videos/convex/Cov-Atlas.gif")
    picture(root / "pocus_images/convex/Pneu_still.png")
    head = ("Current location", "Filename", "License", "InThisRepo", "Probe", "Patient ID / Name")
    rows = [("pocus_videos/Convex", "Cov-Atlas", "CC BY 4.0", "Yes", "convex", "36")]
    table(root / "dataset_metadata.csv", head, *rows)


def cbis_ddsm(root: Path) -> None:
    name = "Mass-Training_P_00001_LEFT_CC"
    image, region = root / "CBIS-DDSM" / name / "1/1", root / "CBIS-DDSM" / f"{name}_1" / "1/1"
    for folder in (image, region):
        folder.mkdir(parents=True)
    write_dicom(image / "1-1.dcm", GRAY.astype(np.uint16))
    write_dicom(region / "1-1.dcm", MASK, **EIGHT_BITS)
    write_dicom(region / "1-2.dcm", GRAY[:3, :3].astype(np.uint16))
    head = ("patient_id", "assessment", "pathology", "image file path", "ROI mask file path")
    for kind in ("mass", "calc"):
        for part in ("train", "test"):
            row = ("P_00001", 4, "MALIGNANT", f"{name}/1/1/0.dcm", f"{name}_1/1/1/0.dcm")
            if (kind, part) == ("mass", "train"):
                table(root / f"{kind}_case_description_{part}_set.csv", head, row)


def inbreast(root: Path) -> None:
    for folder in ("AllDICOMs", "AllXML"):
        (root / folder).mkdir(parents=True)
    for name in ("20586908", "20586934"):
        write_dicom(root / f"AllDICOMs/{name}_6c613a14b80a8591_MG_R_CC_ANON.dcm", GRAY.astype(np.uint16))
    region = {"Name": "Mass", "Point_px": ["(2.0, 1.0)", "(5.0, 1.0)", "(5.0, 3.0)"]}
    (root / "AllXML/20586934.xml").write_bytes(plistlib.dumps({"Images": [{"ROIs": [region]}]}))
    rows = [("20586908", "1"), ("20586934", "2")]
    table(root / "INbreast.csv", ("File Name", "Bi-Rads"), *rows, delimiter=";")


def decathlon(root: Path) -> None:
    root = root / "Task05_Prostate"
    for folder in ("imagesTr", "labelsTr", "imagesTs"):
        (root / folder).mkdir(parents=True)
    write_nifti(root / "imagesTr/p_00.nii.gz", np.arange(120).reshape(4, 5, 3, 2))
    write_nifti(root / "labelsTr/p_00.nii.gz", np.arange(60).reshape(4, 5, 3) % 3, dtype="u1")
    about = {
        "modality": {"0": "T2", "1": "ADC"},
        "labels": {"0": "background", "1": "PZ", "2": "TZ"},
        "training": [{"image": "./imagesTr/p_00.nii.gz", "label": "./labelsTr/p_00.nii.gz"}],
        "test": [],
    }
    (root / "dataset.json").write_text(json.dumps(about))


def partial(name: str) -> Callable[[Path], Any]:
    return lambda root: getattr(data, name)(root, allow_partial=True)


# For each reader: what writes its set (and another layout, if it reads two), and what opens it.
SETS: dict[str, tuple[list[Callable[[Path], None]], Callable[[Path], Any]]] = {
    "BUSBRA": ([busbra], partial("BUSBRA")),
    "BUSI": ([busi], partial("BUSI")),
    "BrEaST": ([breast_lesions], partial("BrEaST")),
    "CAMUS": ([camus, older_camus], partial("CAMUS")),
    "CBISDDSM": ([cbis_ddsm], partial("CBISDDSM")),
    "CovidLUS": ([covid_lus], partial("CovidLUS")),
    "Decathlon": ([decathlon], partial("Decathlon")),
    "INbreast": ([inbreast], partial("INbreast")),
    "LabelledImages": ([labelled], data.LabelledImages),
    "MBUD": ([mbud], partial("MBUD")),
    "QAMEBI": ([qamebi], partial("QAMEBI")),
    "TBUD": ([tbud], data.TBUD),
    "UDIAT": ([udiat], partial("UDIAT")),
    "UnlabelledImages": ([unlabelled], data.UnlabelledImages),
}
# For each reader of one file: what writes files of all kinds into a folder, and the ways to read one.
FILES: dict[str, tuple[Callable[[Path], None], list[Callable[[Path], Any]]]] = {
    "read_dicom": (
        dicom_files,
        [data.read_dicom, lambda path: data.read_dicom(path, window="own")],
    ),
    "read_image": (pictures, [data.read_image]),
    "read_mask": (pictures, [data.read_mask]),
    "read_nifti": (nifti_files, [data.read_nifti, lambda path: data.read_nifti(path, axes="file")]),
}
NO_FILES = {"READERS", "DiskCache", "MRPhantom", "MammogramPhantom", "Phantom", "birads_class", "splits"}
