"""Property lists written here as OsiriX writes them, and their contours on a map."""

from __future__ import annotations

import plistlib
from pathlib import Path

import pytest
import torch

from sslmed.data.formats._rois import draw_contours, read_contours


def test_contours(tmp_path: Path) -> None:
    regions = [
        {"Name": "Mass", "NumberOfPoints": 2, "Point_px": ["(1.5, 2.25)", "(3.000000, 4e0)"]},
        {"Name": "", "Point_px": []},
    ]
    content = plistlib.dumps({"Images": [{"ImageIndex": 0, "NumberOfROIs": 2, "ROIs": regions}]})
    (tmp_path / "ü 1.xml").write_bytes(content)
    assert read_contours(tmp_path / "ü 1.xml") == [("Mass", [(1.5, 2.25), (3.0, 4.0)]), ("", [])]


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"<plist>",
        b"no list",
        plistlib.dumps({"Images": [{}]}),
        plistlib.dumps({"Images": [{"ROIs": [{"Name": "Mass", "Point_px": ["(1, 2, 3)"]}]}]}),
        plistlib.dumps({"Images": [{"ROIs": [{"Name": "Mass", "Point_px": ["(1, nan)"]}]}]}),
        plistlib.dumps({"Images": [{"ROIs": [{"Name": "Mass", "Point_px": [1]}]}]}),
        plistlib.dumps([1]),
    ],
)
def test_damage_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.xml").write_bytes(content)
    with pytest.raises(ValueError, match=r"a\.xml: (not a readable list of regions|the file is empty)"):
        read_contours(tmp_path / "a.xml")


def test_maps() -> None:
    square = [(2.0, 1.0), (5.0, 1.0), (5.0, 3.0), (2.0, 3.0)]
    expected = torch.zeros(1, 6, 8, dtype=torch.uint8)
    expected[0, 1:4, 2:6] = 3
    assert torch.equal(draw_contours([(3, square)], (6, 8)), expected)
    expected[0, 2, 4] = 1
    assert torch.equal(draw_contours([(3, square), (1, [(4.6, 2.9)])], (6, 8)), expected)
    assert not draw_contours([(1, [(9.0, 9.0)]), (2, [])], (6, 8)).any()
    expected.zero_()[0, :3, :3] = 1
    assert torch.equal(draw_contours([(1, [(-4, -4), (2, -4), (2, 2), (-4, 2)])], (6, 8)), expected)
