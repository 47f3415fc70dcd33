"""Lung ultrasound of COVID-19, pneumonia and healthy lungs, collected from many sources, each with its licence."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import ClassVar

import torch

from ... import _checks
from ..._latest import Latest
from ..formats._gif import gif_frames, gif_shape
from ..formats._reading import frame_of
from ..formats.images import FORMATS, image_size, read_image
from ._cases import Cases, find_root, shown, visible_files
from ._lung_tables import UNSTATED, VIDEOS, Clip, bare_name, frames_table, group_of, repository_table

_PROBES = ("convex", "linear")
_PREFIXES = {"cov": "covid", "pneu": "pneumonia", "vir": "viral", "reg": "regular"}
_FRAME = re.compile(r"_frame_?\d+$")


class CovidLUS(Cases):
    """COVID-19 lung ultrasound, frames and images of clips from the web and from hospitals.

    Source: Born et al., "Accelerating detection of lung pathologies with explainable ultrasound image analysis",
    Applied Sciences 11:672, 2021, doi 10.3390/app11020672; repository jannisborn/covid19_ultrasound. Licence: each
    source has its own, from CC BY to none at all, see `licences`.

    Layout of the repository's `data` folder: `pocus_images/convex/Cov_efsumb1.png` and `pocus_videos/linear/...`, the
    class in the name's beginning (Cov, Pneu, Vir, Reg), and `dataset_metadata.csv`. A folder of frames is read too:
    `convex/covid/<clip>_frame0012.png`, with a `sources.csv` of columns video_or_image, probe, licence and frames.
    The repository's own count of October 2020, without the Butterfly gallery's clips: 182 videos and 59 images, the
    `published` ones by class; part of these it does not hold but downloads by a script. So what is verified is that
    every clip which the table says to be there is there.

    Known defects: labels are the sources', and the clips in `label_uncertain` are left out and
    listed in `skipped`. Classes come from different hospitals, scanners and websites, which a network may learn
    instead of the disease. Several clips show one patient, some one video: cases carry the table's patient number as
    group where it has one, else the clip, so split by group.

    Args:
        root: the `data` folder of the repository, or one of frames, or the parent.
        licences: keep only clips under these, such as ("CC BY 4.0", "CC BY 2.0"); None keeps all.
        videos: what to do with videos other than GIF, which are not decoded here: "error", or "skip" to list them in
            `skipped`. A video counts as read when its frames lie beside it, as
            `ffmpeg -i clip.mp4 -vf fps=3 clip_frame%04d.png` writes them.
        size: side in pixels of the square that images are resized to; None keeps them as they are, each of another
            size.
        fit: how images become square: "stretch" does not keep the aspect, "pad" adds black to the shorter side.
        allow_partial: accept that clips of the table are missing.

    Items:
        image (1, H, W) float32 in [0, 1]; label (0 covid, 1 pneumonia, bacterial, 2 viral, a pneumonia by another
        virus, 3 regular, healthy); id, the path below `root`, with "#" and the frame's number in a GIF; group, such as
        "patient 36" or "linear/Cov-grep-7431".

    Attributes:
        licences: licence of each item, "none stated" where the table has none.
        skipped: the reason for each file left out, by its path below `root`.

    Raises:
        FileNotFoundError, NotADirectoryError: `root` is no folder.
        ValueError: the layout differs, a clip of the table is missing, a video has no frames, a name does not tell its
            class, no clip has one of the `licences`, or a header is unreadable.

    Example:
        >>> from sslmed.data import CovidLUS
        >>> CovidLUS.classes, sum(CovidLUS.published.values())
        (('covid', 'pneumonia', 'viral', 'regular'), 241)
    """

    classes: tuple[str, ...] = ("covid", "pneumonia", "viral", "regular")
    published: ClassVar[Mapping[str, int]] = MappingProxyType({"covid": 72, "pneumonia": 73, "viral": 6, "regular": 90})

    title: ClassVar[str] = "COVID-LUS"

    @classmethod
    def recognises(cls, folder: Path) -> bool:
        """Tell whether a folder holds the table of videos."""
        return any((folder / name).exists() for name in ("dataset_metadata.csv", "sources.csv"))

    def __init__(
        self,
        root: str | os.PathLike[str],
        *,
        licences: Sequence[str] | None = None,
        videos: str = "error",
        size: int | None = None,
        fit: str = "stretch",
        allow_partial: bool = False,
    ) -> None:
        skip = _checks.choice("videos", videos, ("error", "skip")) == "skip"
        self.root: Path = find_root(root, "CovidLUS", "dataset_metadata.csv or sources.csv", _fits)
        table = repository_table(self.root) or frames_table(self.root)
        tables = (self.root / "dataset_metadata.csv", self.root / "sources.csv")
        self.tables: list[Path] = [path for path in tables if path.is_file()][:1]
        self.skipped: dict[str, str] = {}
        found = self._listed(table)
        if not allow_partial:
            _refuse_missing(self.root, table, found)
        if licences is not None:
            kept = [one for one in found if one.licence in licences]
            if not kept:
                names = sorted({one.licence for one in found})
                raise ValueError(f"licences: no clip has one of {tuple(licences)}; there are {shown(names, limit=12)}")
            self.skipped |= {self._name(one.path): one.licence for one in found if one not in kept}
            found = kept
        found = self._readable(found, skip)
        frames = [(one, k) for one in found for k in range(gif_shape(one.path)[0] if one.gif else 1)]
        if not frames:
            raise ValueError(f"{self.root} holds no images")
        self._frames = [k for _, k in frames]
        self._last = Latest[Path, torch.Tensor]()
        self.licences: list[str] = [one.licence for one, _ in frames]
        self._clips = {(one.label, one.probe, one.clip) for one in found}
        super().__init__(
            [one.path for one, _ in frames],
            None,
            ids=[self._name(one.path) + (f"#{k}" if one.gif else "") for one, k in frames],
            labels=[self.classes.index(one.label) for one, _ in frames],
            groups=[one.group for one, _ in frames],
            size=size,
            fit=fit,
        )

    @property
    def counts(self) -> dict[str, int]:
        """Number of clips and still images of each class as found."""
        labels = [label for label, _, _ in self._clips]
        return {name: labels.count(name) for name in self.classes}

    def check(self) -> None:
        """Raise unless each image's header is readable."""
        for path in self.files:
            if path.suffix.lower() != ".gif":
                image_size(path)

    def pixels(self, i: int) -> tuple[torch.Tensor, None]:
        """Decode image or frame i: (1, H, W) float32 in [0, 1]."""
        path = self._images[i]
        if path.suffix.lower() != ".gif":
            return read_image(path), None
        return frame_of(self._last.of(path, lambda: gif_frames(path)), self._frames[i], path), None

    def _name(self, path: Path) -> str:
        return path.relative_to(self.root).as_posix()

    def _listed(self, table: Mapping[tuple[str, str], Clip]) -> list[_File]:
        """List images and videos with what names and table tell of them."""
        files = []
        for folder, probe, label in _folders(self.root):
            for path in visible_files(folder):
                if path.suffix.lower() not in FORMATS and path.suffix.lower() not in VIDEOS:
                    continue
                if label == "uncertain":
                    self.skipped[self._name(path)] = "label uncertain"
                    continue
                clip = _clip(path)
                known = label or next((v for k, v in _PREFIXES.items() if clip.lower().startswith(k)), None)
                if known is None:
                    raise ValueError(f"{path}: a name beginning with Cov, Pneu, Vir or Reg was expected")
                row = table.get((probe, clip.lower()), Clip(clip, UNSTATED))
                files.append(_File(path, probe, clip, known, row.licence, group_of(probe, clip, row)))
        return files

    def _readable(self, files: list[_File], skip: bool) -> list[_File]:
        """Drop videos whose frames lie beside them; refuse or list those that cannot be decoded."""
        framed = {(one.path.parent, one.clip) for one in files if not one.video}
        videos = [one for one in files if one.video and (one.path.parent, one.clip) not in framed]
        undecoded = [one.path for one in videos if not one.gif]
        if undecoded and not skip:
            raise ValueError(
                f"{self.root}: {len(undecoded)} videos are not decoded here: {shown(p.name for p in undecoded)}. "
                "Write their frames beside them, as by ffmpeg -i clip.mp4 -vf fps=3 clip_frame%04d.png, or pass "
                "videos='skip'"
            )
        self.skipped |= {self._name(path): "video without frames" for path in undecoded}
        return [one for one in files if not one.video or (one in videos and one.gif)]


@dataclass(frozen=True)
class _File:
    path: Path
    probe: str
    clip: str
    label: str
    licence: str
    group: str

    @property
    def gif(self) -> bool:
        return self.path.suffix.lower() == ".gif"

    @property
    def video(self) -> bool:
        return self.path.suffix.lower() in VIDEOS


def _fits(folder: Path) -> bool:
    if (folder / "dataset_metadata.csv").is_file():
        return any((folder / f"pocus_{kind}").is_dir() for kind in ("images", "videos"))
    return (folder / "sources.csv").is_file() and any((folder / probe).is_dir() for probe in _PROBES)


def _folders(root: Path) -> list[tuple[Path, str, str]]:
    """List the folders of files with their probe, and with their class where the folder tells it."""
    folders = [
        (root / kind / probe / part, probe, part and "uncertain")
        for kind in ("pocus_images", "pocus_videos")
        for probe in _PROBES
        for part in ("", "label_uncertain")
    ]
    folders += [(root / probe / name, probe, name) for probe in _PROBES for name in CovidLUS.classes]
    return [entry for entry in folders if entry[0].is_dir()]


def _clip(path: Path) -> str:
    """Return the clip of `clip.mp4`, `clip.png`, `clip_frame0012.png` or `clip.gif_frame12.jpg`."""
    return bare_name(_FRAME.sub("", path.stem))


def _refuse_missing(root: Path, table: Mapping[tuple[str, str], Clip], files: Sequence[_File]) -> None:
    found = [(one.probe, one.clip.lower()) for one in files]
    missing = [row.name for key, row in table.items() if found.count(key) < row.frames]
    if missing:
        raise ValueError(
            f"{root} lacks {len(missing)} of the clips that its table lists, or frames of them: {shown(missing)}. "
            "Complete the download, or pass allow_partial=True"
        )
