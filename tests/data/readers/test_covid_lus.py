"""CovidLUS in miniature: the repository's folder, and one of frames."""

from __future__ import annotations

import csv
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from sslmed.data import CovidLUS

COLUMNS = ["Current location", "Filename", "License", "InThisRepo", "Probe", "Patient ID / Name"]
ROWS = [
    ("data/pocus_videos/Convex", "Cov-Atlas+(44)", "CC BY-NC 4.0", "Yes", "convex", "36"),
    ("pocus_images/convex", "Pneu_Avi_über lung", "CC BY-NC -SA 4.0", "Yes", "convex", "nd"),
    ("data/pocus_videos/Linear", "Vir_prospective_file1", "CC BY 2.0", "Yes", "linear", ""),
    ("pocus_images/convex", "Cov_blines", "CC BY 4.0", "Yes", "convex", "36"),
    (
        "pocus_videos/linear/label_uncertain",
        "Vir_or_Pneu_prospective_file4",
        "CC BY 2.0",
        "Yes",
        "linear",
        "116",
    ),
    ("data/data_with_artifacts", "Reg_Avi_mass", "CC BY-NC 4.0", "Yes", "convex", "154"),
    ("butterfly", "Cov-Butterfly-Skip Lesion", "None", "No", "convex", "15"),
]
RAMP = np.arange(120, dtype=np.uint8).reshape(10, 12)


def still(path: Path, shift: int = 0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(RAMP + shift).save(path)


def clip(path: Path, frames: int = 3) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pictures = [Image.fromarray(RAMP + 40 * k) for k in range(frames)]
    pictures[0].save(path, save_all=True, append_images=pictures[1:], duration=100, loop=0)


def write_table(folder: Path, rows: list[tuple[str, ...]] = ROWS, columns: list[str] = COLUMNS) -> None:
    with (folder / "dataset_metadata.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([columns, *rows])


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "covid19_ultrasound" / "data"
    clip(folder / "pocus_videos/convex/Cov-Atlas+(44).gif")
    still(folder / "pocus_images/convex/Pneu_Avi_über lung.JPG".replace(".JPG", ".png"))
    still(folder / "pocus_images/convex/Cov_blines.png", 10)
    still(folder / "pocus_videos/linear/Vir_prospective_file1_frame0001.png")
    still(folder / "pocus_videos/linear/Vir_prospective_file1_frame0002.png", 5)
    (folder / "pocus_videos/linear/Vir_prospective_file1.mp4").write_bytes(b"video")
    still(folder / "pocus_images/linear/reg_unknown.png")
    (folder / "pocus_videos/linear/label_uncertain").mkdir()
    (folder / "pocus_videos/linear/label_uncertain/Cov_bolzano_Linee B .mpeg").write_bytes(b"video")
    write_table(folder)
    return folder


@pytest.fixture
def frames(tmp_path: Path) -> Path:
    folder = tmp_path / "covid_lus"
    for k in (0, 62):
        still(folder / f"convex/covid/Cov_light_mov6_frame{k:04}.png", k)
    still(folder / "convex/regular/Reg_pat1Image_132943_frame0000.png")
    still(folder / "convex/regular/Reg_pat1Image_133043_frame0000.png")
    still(folder / "linear/pneumonia/Pneu_file4.png")
    rows = [
        ("Cov_light_mov6", "convex", "CC BY 4.0", "2"),
        ("Reg_pat1Image_132943", "convex", "CC BY 4.0", "1"),
        ("Reg_pat1Image_133043", "convex", "CC BY 4.0", "1"),
        ("Pneu_file4", "linear", "CC BY 2.0", "1"),
    ]
    with (folder / "sources.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("video_or_image", "probe", "licence", "frames"), *rows])
    return folder


@pytest.mark.parametrize("up", [False, True])
def test_the_repository(root: Path, up: bool) -> None:
    data = CovidLUS(root.parent if up else root)
    assert data.ids == [
        "pocus_images/convex/Cov_blines.png",
        "pocus_images/convex/Pneu_Avi_über lung.png",
        "pocus_images/linear/reg_unknown.png",
        *(f"pocus_videos/convex/Cov-Atlas+(44).gif#{k}" for k in range(3)),
        *(f"pocus_videos/linear/Vir_prospective_file1_frame000{k}.png" for k in (1, 2)),
    ]
    assert data.labels == [0, 1, 3, 0, 0, 0, 2, 2]
    assert data.groups == [
        "patient 36",
        "convex/Pneu_Avi_über lung",
        "linear/reg_unknown",
        *["patient 36"] * 3,
        *["patient 114"] * 2,
    ]
    assert data.licences == [
        "CC BY 4.0",
        "CC BY-NC-SA 4.0",
        "none stated",
        *["CC BY-NC 4.0"] * 3,
        *["CC BY 2.0"] * 2,
    ]
    assert data.counts == {"covid": 2, "pneumonia": 1, "viral": 1, "regular": 1}
    assert data.skipped == {"pocus_videos/linear/label_uncertain/Cov_bolzano_Linee B .mpeg": "label uncertain"}
    item = data[4]
    assert set(item) == {"image", "label", "id", "group"}
    assert torch.equal(item["image"][0] * 255, torch.from_numpy(RAMP + 40).float())
    assert (item["image"].shape, item["image"].dtype) == ((1, 10, 12), torch.float32)
    assert pickle.loads(pickle.dumps(data))._last._held is None
    assert CovidLUS(root, size=8, fit="pad")[0]["image"].shape == (1, 8, 8)


def test_licences(root: Path) -> None:
    data = CovidLUS(root, licences=("CC BY 4.0", "CC BY 2.0"))
    assert set(data.licences) == {"CC BY 4.0", "CC BY 2.0"}
    assert data.skipped["pocus_videos/convex/Cov-Atlas+(44).gif"] == "CC BY-NC 4.0"
    assert len(data) == 3
    with pytest.raises(ValueError, match=r"no clip has one of \('MIT',\); there are CC BY 2.0, CC BY 4.0, CC BY-NC"):
        CovidLUS(root, licences=("MIT",))


def test_videos_are_never_left_out_unseen(root: Path) -> None:
    for file in (root / "pocus_videos/linear").glob("*.png"):
        file.unlink()
    with pytest.raises(ValueError, match=r"1 videos are not decoded here: Vir_prospective_file1\.mp4.*ffmpeg"):
        CovidLUS(root)
    data = CovidLUS(root, videos="skip")
    assert data.skipped["pocus_videos/linear/Vir_prospective_file1.mp4"] == "video without frames"
    assert data.counts["viral"] == 0
    # a video of a licence that was not asked for needs no frames
    assert len(CovidLUS(root, licences=("CC BY 4.0",))) == 1


def test_frames_beside_a_gif_take_its_place(root: Path) -> None:
    still(root / "pocus_videos/convex/Cov-Atlas+(44).gif_frame3.png")
    assert "pocus_videos/convex/Cov-Atlas+(44).gif_frame3.png" in CovidLUS(root).ids
    assert not any("#" in name for name in CovidLUS(root).ids)


def test_a_folder_of_frames(frames: Path) -> None:
    data = CovidLUS(frames.parent)
    assert data.ids[0] == "convex/covid/Cov_light_mov6_frame0000.png"
    assert data.labels == [0, 0, 3, 3, 1]
    assert data.groups == [
        "convex/Cov_light_mov6",
        "convex/Cov_light_mov6",
        "patient 4",
        "patient 4",
        "linear/Pneu_file4",
    ]
    assert data.counts == {"covid": 1, "pneumonia": 1, "viral": 0, "regular": 2}
    assert data.licences[-1] == "CC BY 2.0"
    (frames / "convex/covid/Cov_light_mov6_frame0062.png").unlink()
    with pytest.raises(ValueError, match=r"lacks 1 of the clips .* Cov_light_mov6.*allow_partial=True"):
        CovidLUS(frames)
    assert len(CovidLUS(frames, allow_partial=True)) == 4


def test_missing_clips(root: Path) -> None:
    (root / "pocus_images/convex/Cov_blines.png").unlink()
    with pytest.raises(ValueError, match=r"lacks 1 of the clips.*Cov_blines"):
        CovidLUS(root)
    assert len(CovidLUS(root, allow_partial=True)) == 7


def test_damage_is_named(root: Path, frames: Path) -> None:
    gif = root / "pocus_videos/convex/Cov-Atlas+(44).gif"
    whole = gif.read_bytes()
    gif.write_bytes(b"")
    with pytest.raises(ValueError, match=r"Cov-Atlas\+\(44\)\.gif: the file is empty"):
        CovidLUS(root)
    gif.write_bytes(b"no clip")
    with pytest.raises(ValueError, match=r"Cov-Atlas\+\(44\)\.gif: not a readable GIF"):
        CovidLUS(root)
    gif.write_bytes(whole[:-60])
    with pytest.raises(ValueError, match=r"Cov-Atlas\+\(44\)\.gif"):
        list(CovidLUS(root))
    gif.write_bytes(whole)
    (root / "pocus_images/convex/Cov_blines.png").write_bytes(b"no image")
    with pytest.raises(ValueError, match=r"Cov_blines\.png: not a readable PNG"):
        CovidLUS(root)
    still(root / "pocus_images/convex/Cov_blines.png")
    still(root / "pocus_images/convex/another.png")
    with pytest.raises(ValueError, match=r"another\.png: a name beginning with Cov"):
        CovidLUS(root)
    write_table(root, columns=["Name", *COLUMNS[1:]])
    with pytest.raises(ValueError, match="columns Current location, Filename"):
        CovidLUS(root)
    (root / "dataset_metadata.csv").write_bytes(",".join(COLUMNS).encode() + b"\n\xe9")
    with pytest.raises(ValueError, match=r"dataset_metadata\.csv: not a readable CSV table"):
        CovidLUS(root)
    (frames / "sources.csv").write_text("video_or_image,probe,licence,frames\na,convex,CC BY 4.0,some\n")
    with pytest.raises(ValueError, match="a has frames 'some'"):
        CovidLUS(frames)


def test_settings(root: Path) -> None:
    with pytest.raises(ValueError, match="videos must be one of"):
        CovidLUS(root, videos="decode")
    with pytest.raises(ValueError, match=r"CovidLUS folder, with dataset_metadata\.csv"):
        CovidLUS(root / "pocus_images")
