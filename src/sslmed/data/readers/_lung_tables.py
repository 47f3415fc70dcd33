"""What the tables of CovidLUS say of a clip: its licence, its patient, how many files it has."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path

from ..formats._reading import reading
from ..formats.images import FORMATS

UNSTATED = "none stated"
VIDEOS = {".gif", ".mp4", ".avi", ".mov", ".mpeg", ".mpg", ".m4v", ".wmv", ".webm"}

# Patients of several clips by the beginnings of their names, as the repository's table numbers them, for tables without
# numbers. The last two are one: the table gives them other numbers but notes that they share a video.
_PATIENTS = {
    "reg_pat4image": 1,
    "reg_pat3image": 2,
    "reg_pat2image": 3,
    "reg_pat1image": 4,
    "reg_image_182": 4,
    "reg_image_181": 10,
    "cov_convex_volpecelli": 134,
    "cov_oliviera_2020": 220,
    "vir_prospective": 114,
    "vir_or_pneu_prospective": 114,
}


@dataclass(frozen=True)
class Clip:
    """What a table says of a clip; `frames` is how many files it should have, `patient` empty if unknown."""

    name: str
    licence: str
    patient: str = ""
    frames: int = 0


def group_of(probe: str, clip: str, row: Clip) -> str:
    """Name the patient: by the table, or by the clip's name where several clips are known to show one."""
    known = next((f"patient {n}" for start, n in _PATIENTS.items() if clip.lower().startswith(start)), "")
    return known or row.patient or f"{probe}/{clip}"


def bare_name(name: str) -> str:
    """Return a file's name without the ending of an image or video, which clips in tables have or lack."""
    stem, dot, ending = name.strip().rpartition(".")
    return stem if f"{dot}{ending}".lower() in VIDEOS | set(FORMATS) else name.strip()


def _rows(path: Path, columns: set[str]) -> list[dict[str, str]]:
    with reading(path, "CSV table of UTF-8 text"), path.open(newline="", encoding="utf-8-sig") as file:
        reader = csv.DictReader(file)
        head, rows = reader.fieldnames, list(reader)
    if not set(head or ()) >= columns:
        raise ValueError(f"{path}: columns {', '.join(sorted(columns))} were expected, got {head}")
    return [{key: value or "" for key, value in row.items() if isinstance(key, str)} for row in rows]


def _licence(text: str) -> str:
    # The repository's table has "CC BY-NC -SA 4.0".
    text = " ".join(text.split()).replace(" -", "-")
    return UNSTATED if text.lower() in ("", "none", "n.a.") else text


def repository_table(root: Path) -> dict[tuple[str, str], Clip]:
    """Read the repository's table, by probe and name in lower case; empty where there is none."""
    path = root / "dataset_metadata.csv"
    if not path.is_file():
        return {}
    table = {}
    for row in _rows(path, {"Filename", "License", "Probe", "InThisRepo", "Current location"}):
        number = row.get("Patient ID / Name", "").strip()
        table[row["Probe"].strip().lower(), bare_name(row["Filename"]).lower()] = Clip(
            name=bare_name(row["Filename"]),
            licence=_licence(row["License"]),
            patient=f"patient {number}" if number.isdigit() else "",
            frames=int(row["InThisRepo"].strip().lower() == "yes" and _used(row["Current location"])),
        )
    return table


def _used(location: str) -> bool:
    # Others are in folders such as "not used" and "data_with_artifacts".
    return "pocus_" in location and "uncertain" not in location


def frames_table(root: Path) -> dict[tuple[str, str], Clip]:
    """Read the table beside a folder of frames, by probe and name in lower case."""
    path = root / "sources.csv"
    table = {}
    for row in _rows(path, {"video_or_image", "probe", "licence", "frames"}):
        if not row["frames"].isdigit():
            raise ValueError(f"{path}: {row['video_or_image']} has frames {row['frames']!r}, a number was expected")
        clip = row["video_or_image"]
        table[row["probe"], clip.lower()] = Clip(clip, _licence(row["licence"]), frames=int(row["frames"]))
    return table
