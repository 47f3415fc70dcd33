"""The two sets of images in class folders without masks, in miniature."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sslmed.data import MBUD, TBUD


def write(path: Path, shape: tuple[int, int] = (30, 40)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(0).integers(0, 255, shape, dtype=np.uint8)).save(path)


@pytest.fixture
def mbud(tmp_path: Path) -> Path:
    root = tmp_path / "us-dataset" / "originals"
    for name in ("benign/us10", "benign/us2", "malignant/us2"):
        write(root / f"{name}.bmp", (30, 40 + len(name)))
    return root


@pytest.fixture
def tbud(tmp_path: Path) -> Path:
    root = tmp_path / "Thammasat"
    for name in ("benign/a 2.jpg", "benign/ก 10.png", "malignant/case.bmp", "malignant/a 2.tif"):
        write(root / name)
    (root / "benign" / "Thumbs.db").write_bytes(b"windows")
    (root / "benign" / "sources.txt").write_text("where they come from")
    return root


@pytest.mark.parametrize("up", [False, True])
def test_mbud_items(mbud: Path, up: bool) -> None:
    data = MBUD(mbud.parent if up else mbud, allow_partial=True)
    assert data.ids == ["benign/us2", "benign/us10", "malignant/us2"]
    assert data.labels == [0, 0, 1]
    assert data.groups is None
    assert data[0]["image"].shape == (1, 30, 50)
    assert sorted(data[0]) == ["id", "image", "label"]
    assert MBUD(mbud, size=16, fit="pad", allow_partial=True)[1]["image"].shape == (1, 16, 16)


def test_mbud_counts(mbud: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match=r"benign 2 of 100, malignant 1 of 150\. Complete"):
        MBUD(mbud)
    monkeypatch.setattr(MBUD, "published", {"benign": 2, "malignant": 1})
    assert len(MBUD(mbud)) == 3


def test_mbud_faults(mbud: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match="with the name originals"):
        MBUD(mbud / "benign")
    monkeypatch.chdir(mbud)
    assert len(MBUD(".", allow_partial=True)) == 3
    write(mbud / "benign" / "us3.png")
    with pytest.raises(ValueError, match=r"benign: us3\.png may hold a scan, but \.bmp was expected"):
        MBUD(mbud, allow_partial=True)
    (mbud / "benign" / "us3.png").rename(mbud / "benign" / "us3.bmp")
    with pytest.raises(ValueError, match=r"us3\.bmp.*PNG data"):
        MBUD(mbud, allow_partial=True)
    (mbud / "benign" / "us3.bmp").write_bytes(b"")
    with pytest.raises(ValueError, match=r"us3\.bmp.*empty"):
        MBUD(mbud, allow_partial=True)


@pytest.mark.parametrize("up", [False, True])
def test_tbud_items(tbud: Path, up: bool) -> None:
    data = TBUD(tbud.parent if up else tbud, size=16)
    assert data.ids == ["benign/a 2", "benign/ก 10", "malignant/case", "malignant/a 2"]
    assert data.counts == {"benign": 2, "malignant": 2}
    assert data[1]["image"].shape == (1, 16, 16)
    assert sorted(data[1]) == ["id", "image", "label"]


def test_tbud_faults(tbud: Path) -> None:
    write(tbud / "benign" / "a 2.png")
    with pytest.raises(ValueError, match=r"a 2\.png: a 2\.jpg has the same name"):
        TBUD(tbud)
    (tbud / "benign" / "a 2.png").rename(tbud / "benign" / "a 3.gif")
    with pytest.raises(ValueError, match=r"a 3\.gif may hold a scan"):
        TBUD(tbud)
    (tbud / "benign" / "a 3.gif").rename(tbud / "benign" / "a 3.jpg")
    with pytest.raises(ValueError, match=r"a 3\.jpg.*PNG data"):
        TBUD(tbud)
    for path in (tbud / "benign").iterdir():
        path.unlink()
    with pytest.raises(ValueError, match="benign holds no images"):
        TBUD(tbud)
    (tbud / "benign").rmdir()
    with pytest.raises(ValueError, match=r"with benign/ and malignant/, or its parent"):
        TBUD(tbud)
