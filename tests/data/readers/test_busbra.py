"""BUS-BRA in miniature, in the layout of the download."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from sslmed.data import BUSBRA

HEAD = "ID,Case,Histology,Pathology,BIRADS,Device,Width,Height,Side,BBOX"
ROWS = {
    "bus_0001-l": "1,invasive ductal carcinoma,malignant,4,GE Logiq 7 @10-14MHz,40,30,left",
    "bus_0001-r": "1,invasive ductal carcinoma,malignant,4,GE Logiq 7 @10-14MHz,40,30,right",
    "bus_0004-l": "4,fibroadenoma,benign,4,GE Logiq 7 @10-14MHz,40,30,left",
    "bus_0007-s": "7,cyst,benign,2,Toshiba Aplio,40,30,single",
}


def write_table(folder: Path, rows: dict[str, str], head: str = HEAD) -> None:
    lines = [f'{name},{row},"[9,9,6,6]"' for name, row in rows.items()]
    (folder / "bus_data.csv").write_text("\n".join([head, *lines]))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "BUSBRA"
    (folder / "Images").mkdir(parents=True)
    (folder / "Masks").mkdir()
    rng = np.random.default_rng(0)
    mask = np.zeros((30, 40), dtype=np.uint8)
    mask[9:15, 9:15] = 255
    for name in ROWS:
        Image.fromarray(rng.integers(0, 255, (30, 40), dtype=np.uint8)).save(folder / "Images" / f"{name}.png")
        Image.fromarray(mask).save(folder / "Masks" / f"{name.replace('bus', 'mask')}.png")
    write_table(folder, ROWS)
    return folder


@pytest.mark.parametrize("up", [False, True])
def test_items(root: Path, up: bool) -> None:
    data = BUSBRA(root.parent if up else root, size=32, allow_partial=True)
    assert data.ids == list(ROWS)
    assert data.labels == [1, 1, 0, 0]
    assert data.groups == ["1", "1", "4", "7"]
    assert data.counts == {"benign": 2, "malignant": 2}
    item = data[1]
    assert item["image"].shape == item["mask"].shape == (1, 32, 32)
    assert item["mask"].dtype == torch.bool
    assert item["mask"].any()
    assert (item["id"], item["label"], item["group"]) == ("bus_0001-r", 1, "1")


def test_scanners_are_named_where_the_table_names_all(root: Path) -> None:
    assert BUSBRA(root, allow_partial=True).devices == ["GE Logiq 7"] * 3 + ["Toshiba Aplio"]
    write_table(root, ROWS | {"bus_0007-s": ROWS["bus_0007-s"].replace("Toshiba Aplio", "")})
    assert BUSBRA(root, allow_partial=True).devices is None


def test_a_partial_set_is_refused(root: Path) -> None:
    with pytest.raises(ValueError, match=r"benign 2 of 1268, malignant 2 of 607.*allow_partial=True"):
        BUSBRA(root)


def test_table_and_files_must_agree(root: Path) -> None:
    (root / "Masks" / "mask_0004-l.png").rename(root / "Masks" / "mask_0005-l.png")
    with pytest.raises(ValueError, match=r"Masks: no file for mask_0004-l\.png"):
        BUSBRA(root, allow_partial=True)
    (root / "Masks" / "mask_0005-l.png").rename(root / "Masks" / "mask_0004-l.png")
    write_table(root, {name: row for name, row in ROWS.items() if name != "bus_0007-s"})
    with pytest.raises(ValueError, match=r"Images: bus_0007-s\.png not in bus_data\.csv"):
        BUSBRA(root, allow_partial=True)


def test_a_mask_of_another_size(root: Path) -> None:
    Image.new("L", (40, 31)).save(root / "Masks" / "mask_0004-l.png")
    with pytest.raises(ValueError, match=r"mask_0004-l\.png.*31 x 40.*30 x 40"):
        BUSBRA(root, allow_partial=True)


def test_bad_tables(root: Path) -> None:
    write_table(root, ROWS | {"bus_0004-l": "4,fibroadenoma,unsure,4,GE,40,30,left"})
    with pytest.raises(ValueError, match="bus_0004-l has Case '4' and Pathology 'unsure'"):
        BUSBRA(root, allow_partial=True)
    write_table(root, ROWS, head="ID,Patient")
    with pytest.raises(ValueError, match="columns ID, Case and Pathology"):
        BUSBRA(root, allow_partial=True)
    (root / "bus_data.csv").write_bytes(f"{HEAD}\nbus_0001-l,1,càncer".encode("latin-1"))
    with pytest.raises(ValueError, match=r"bus_data\.csv: not a readable CSV table of UTF-8 text"):
        BUSBRA(root, allow_partial=True)
    write_table(root, {})
    with pytest.raises(ValueError, match="the table is empty"):
        BUSBRA(root, allow_partial=True)
    text = "\n".join([HEAD] + [f'bus_0004-l,{ROWS["bus_0004-l"]},"[9,9,6,6]"'] * 2)
    (root / "bus_data.csv").write_text(text)
    with pytest.raises(ValueError, match="1 IDs occur twice"):
        BUSBRA(root, allow_partial=True)


def test_a_scan_that_is_no_png_is_not_left_out_unseen(root: Path) -> None:
    Image.new("L", (40, 30)).save(root / "Images" / "bus_0009-l.bmp")
    with pytest.raises(ValueError, match=r"Images: bus_0009-l\.bmp may hold a scan, but \.png was expected"):
        BUSBRA(root, allow_partial=True)


def test_missing_parts(root: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"with Images/, Masks/ and bus_data\.csv"):
        BUSBRA(root / "Images")
    (root / "Masks").rename(root / "masks_elsewhere")
    with pytest.raises(ValueError, match="Masks: the folder is missing"):
        BUSBRA(root, allow_partial=True)
