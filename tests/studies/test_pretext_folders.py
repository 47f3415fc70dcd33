"""Folders of pretext images: several of a domain are joined, and none is left aside without a word."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from PIL import Image

pytest.importorskip("lightning")

import multi_organ
import multimodal_breast
from programs import prepared
from sslmed.models import UNet
from sslmed.studies.reading import read
from sslmed.studies.run import Run
from sslmed.studies.runs import read_json
from sslmed.studies.sources import Source


def write_scans(folder: Path, count: int, *, seed: int) -> Path:
    folder.mkdir()
    noise = torch.Generator().manual_seed(seed)
    for k in range(count):
        pixels = torch.randint(0, 255, (40, 40), generator=noise, dtype=torch.uint8)
        Image.fromarray(pixels.numpy()).save(folder / f"scan {k}.png")
    return folder


def multimodal(out: Path, *arguments: object) -> Run:
    return prepared(multimodal_breast, out, *arguments)


def organs(out: Path, *arguments: object) -> Run:
    return prepared(multi_organ, out, *arguments)


def test_several_folders_of_a_domain_are_joined(tmp_path: Path) -> None:
    a, b = write_scans(tmp_path / "a", 5, seed=0), write_scans(tmp_path / "b", 7, seed=1)
    run = multimodal(tmp_path / "run", "--domains", "us", "--pretext-data", f"us={a}", f"us={b}")
    assert len(run.data["us"].pretext(0)) == 12
    assert read_json(tmp_path / "run" / "config.json")["arguments"]["us, us pretext 1"] == "a"


def write_labelled(folder: Path, labels: list[str], *, seed: int) -> Path:
    write_scans(folder, 0, seed=seed)
    write_scans(folder / "images", len(labels), seed=seed)
    (folder / "masks").mkdir()
    for k in range(len(labels)):
        mask = torch.zeros(40, 40, dtype=torch.uint8)
        mask[8:24, 8:24] = 255
        Image.fromarray(mask.numpy()).save(folder / "masks" / f"scan {k}.png")
    lines = ["image,class,group", *(f"scan {k}.png,{label},patient {k // 2}" for k, label in enumerate(labels))]
    (folder / "cases.csv").write_text("\n".join(lines) + "\n")
    return folder


def test_several_labelled_folders_of_a_domain_are_joined(tmp_path: Path) -> None:
    us = write_labelled(tmp_path / "us", ["benign", "malignant", "normal"] * 8, seed=0)
    a = write_labelled(tmp_path / "a", ["benign", "malignant", "normal"] * 8, seed=1)
    b = write_labelled(tmp_path / "b", ["malignant", "benign"] * 6, seed=2)
    given = ("--data", f"us={us}", f"mg={a}", f"mg={b}")
    run = multimodal(tmp_path / "run", *given)
    assert list(run.data) == ["us", "mg"]
    joined = run.data["mg"].data
    assert len(joined) == 36
    assert joined.counts == {"images": 36, "benign": 14, "malignant": 14, "normal": 8} | {
        k: v for k, v in joined.counts.items() if k.startswith("without")
    }
    split = run.data["mg"].splits[0]
    groups = [{joined.groups[i] for i in part} for part in (split.train, split.val, split.test)]
    assert not groups[0] & groups[1] | groups[0] & groups[2] | groups[1] & groups[2]
    assert read_json(tmp_path / "run" / "config.json")["arguments"]["mg"] == "a and b"
    half = multimodal(tmp_path / "mixed", *given, "--domains", "usmg").data["usmg"].data
    assert len(half) == 12 + 12 + 6


def test_a_mix_learns_from_the_training_part_where_a_domain_has_no_folder(tmp_path: Path) -> None:
    a = write_scans(tmp_path / "a", 5, seed=0)
    run = multimodal(tmp_path / "run", "--domains", "usmg", "--pretext-data", f"us={a}")
    assert len(run.data["usmg"].pretext(0)) == 3 + len(run.data["usmg"].splits[0].train)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--data", "us=a", "us=a"], "--data lists us=a twice"),
        (["--pretext-data", "us=a", "us=a"], "--pretext-data lists us=a twice"),
        (
            ["--domains", "us", "--pretext-data", "mg=a"],
            "--pretext-data mg= would not be used with --domains us",
        ),
        (["--domains", "mg", "--data", "us=a", "mg=b"], "--data us= would not be used with --domains mg"),
    ],
)
def test_no_folder_is_left_aside(tmp_path: Path, arguments: list[str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        multimodal(tmp_path / "run", *arguments)


def test_phantom_stands_for_the_data(tmp_path: Path) -> None:
    run = multimodal(tmp_path / "run", "--data", "phantom", "--domains", "us")
    assert run.data["us"].data.name == "Phantom"


def test_damaged_files_are_counted_before_the_first_is_mended(tmp_path: Path) -> None:
    scans = write_scans(tmp_path / "scans", 6, seed=0)
    for name in ("scan 1.png", "scan 4.png"):
        (scans / name).write_bytes((scans / name).read_bytes()[:700])  # its header is whole
    message = (
        r"scan 1\.png.*, and 1 more cannot be read; --skip-broken leaves out what cannot be read, and `python -m "
        r"sslmed\.data\.audit .*scans` lists it"
    )
    source = Source("--data", str(scans))
    with pytest.raises(ValueError, match=message):
        read(source, size=32, cache=tmp_path / "cache")
    data = read(source, size=32, cache=tmp_path / "cache", skip_broken=True)
    assert data.ids == [f"scan {i}.png" for i in (0, 2, 3, 5)]
    assert list(data.skipped) == ["scan 1.png", "scan 4.png"]
    assert data.notes[0].startswith("2 images that cannot be read were left out, as scan 1.png: ")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["heart=a", "heart=b"], "--organs lists heart twice"),
        (["train=a"], "--organs train=: that name is used for other images"),
    ],
)
def test_organs_have_names_of_their_own(tmp_path: Path, given: list[str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        organs(tmp_path / "run", "--organs", *given)


def test_a_pretrained_unet_keeps_the_last_layer_that_all_methods_start_from(tmp_path: Path) -> None:
    run = organs(tmp_path / "run", "--network", "unet")
    task = run.tasks["segmentation"]
    weights = tmp_path / "network.pt"
    torch.manual_seed(1)
    learnt = UNet(width=8).state_dict()
    torch.save(learnt, weights)
    torch.manual_seed(2)
    fresh = task.network(1, None).state_dict()
    torch.manual_seed(2)
    tuned = task.network(1, weights).state_dict()
    for name, value in tuned.items():
        assert torch.equal(value, (fresh if name.startswith("out.") else learnt)[name]), name


def test_the_papers_row_names_its_photographs_and_its_size(tmp_path: Path) -> None:
    run = organs(tmp_path / "run", "--network", "unet", "--size", "64")
    assert run.study.published("BUSI")["segmentation", "50 %", "moco/BUS+natural"].of == "Table 4, mini-ImageNet"
    assert "images of 64 px (paper 50)" in run.study.comparability_note(run.tasks["segmentation"], run.data[""].data)
