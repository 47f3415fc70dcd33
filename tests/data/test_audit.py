"""The audit of a folder that has everything wrong with it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from PIL import Image

from scans import RAMP, write_dicom
from sslmed.data.audit import audit, main


def save(path: Path, seed: int, size: tuple[int, int] = (48, 48)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    generator = torch.Generator().manual_seed(seed)
    noise = torch.rand(1, 1, 6, 6, generator=generator)
    pixels = torch.nn.functional.interpolate(noise, size, mode="bilinear")[0, 0]
    Image.fromarray((pixels * 255).byte().numpy()).save(path)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "scans <b>"
    for k in range(30):
        save(folder / "benign" / f"b {k}.png", k)
        save(folder / "malignant" / f"m {k}.png", 100 + k, (48, 60))  # wider: the aspect gives it away
        save(folder / "benign" / f"b {k}_mask.png", 7)
    save(folder / "malignant" / "copy of b 3.png", 3)
    save(folder / "benign" / "ü <i>.png", 5)
    (folder / "benign" / "cut.png").write_bytes((folder / "benign" / "b 1.png").read_bytes()[:-30])
    (folder / "malignant" / "zero.png").write_bytes(b"")
    (folder / "malignant" / "clip.mp4").write_bytes(b"x")
    (folder / "notes.txt").write_text("nothing")
    return folder


def test_what_is_wrong_is_found(root: Path) -> None:
    found = audit(root)
    assert found.classes == {"benign": 31, "malignant": 31}
    assert len(found.masks) == 30
    assert set(found.broken) == {"benign/cut.png", "malignant/zero.png", "malignant/clip.mp4"}
    assert str(root) not in found.broken["benign/cut.png"]
    names = [{scan.name for scan in group} for group in found.duplicates]
    assert names == [{"benign/b 3.png", "malignant/copy of b 3.png"}, {"benign/b 5.png", "benign/ü <i>.png"}]
    leaks = {leak.feature: leak for leak in found.leaks}
    assert leaks["aspect"].marked
    assert leaks["aspect"].accuracy > 0.95
    assert leaks["width"].marked
    assert not leaks["height"].marked
    assert not leaks["brightness"].marked
    assert leaks["height"].chance == 0.5


def test_the_text_and_the_page(root: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    main([str(root), "--out", str(tmp_path / "page.html")])
    text = capsys.readouterr().out
    assert "62 scans, 62 frames, 30 masks, 3 unreadable files" in text
    assert "near duplicates: 2 groups of 4 scans, 1 groups across classes" in text
    assert "aspect" in text
    assert "gives the class away" in text
    html = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert html.count('class="group across"') == 1
    assert html.count("data:image/png;base64,") == 4
    assert "ü &lt;i&gt;.png" in html
    assert "<i>" not in html
    assert "scans <b>" not in html
    assert str(root) not in html


def test_lesions_smaller_than_a_pixel_are_counted(root: Path, tmp_path: Path) -> None:
    pixels = torch.zeros(300, 300, dtype=torch.uint8)
    pixels[150, 151:154] = 255
    Image.fromarray(pixels.numpy()).save(root / "benign" / "small <i>_mask.png")
    (root / "benign" / "cut_mask.png").write_bytes(b"no mask")
    found = audit(root)
    assert {size: len(names) for size, names in found.tiny.items()} == {32: 1, 64: 1, 128: 1, 224: 0}
    assert "lesions smaller than a pixel at 32 px: 1 masks, as benign/small <i>_mask.png" in str(found)
    assert "benign/cut_mask.png" in found.broken
    main([str(root), "--out", str(tmp_path / "page.html")])
    html = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert "Lesions smaller than a pixel" in html
    assert "small &lt;i&gt;_mask.png" in html


def test_names_of_patients_stay_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("pydicom")
    write_dicom(tmp_path / "a.dcm", RAMP)
    whole = (tmp_path / "a.dcm").read_bytes()
    (tmp_path / "b.dcm").write_bytes(whole[:-4])
    assert b"Secret" in whole
    main([str(tmp_path), "--out", str(tmp_path / "page.html")])
    output = capsys.readouterr()
    assert "b.dcm" in output.out
    assert "Secret" not in output.out + output.err + (tmp_path / "page.html").read_text(encoding="utf-8")


def test_one_class_and_one_scan(tmp_path: Path) -> None:
    save(tmp_path / "only.png", 0)
    found = audit(tmp_path)
    assert (found.classes, found.leaks, found.duplicates) == ({"": 1}, [], [])
    save(tmp_path / "other" / "second.png", 1)
    assert len(audit(tmp_path).leaks) == 4
    assert "(top folder)" in str(found)


def test_mistakes_end_with_a_message(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for arguments, message in (
        ([str(tmp_path / "none")], "no such folder"),
        ([str(tmp_path)], "no scan can be read"),
        ([str(tmp_path), "--threshold", "2"], "threshold must be"),
    ):
        with pytest.raises(SystemExit) as ended:
            main(arguments)
        assert ended.value.code == 2
        assert message in capsys.readouterr().err


def test_as_a_module(root: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "sslmed.data.audit", str(root), "--out", str(tmp_path / "page.html")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "62 scans" in done.stdout
    assert done.stderr == ""
