"""CAMUS: echocardiograms of 500 patients in two views, with three structures outlined."""

from __future__ import annotations

import operator
import os
import re
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, ClassVar

import torch

from ... import _checks
from ..._latest import Latest
from ..formats._metaimage import metaimage_pixels, metaimage_shape, read_metaimage
from ..formats._reading import frame_of, reading
from ..formats.nifti import header_of, read_nifti
from ._cases import Cases, find_root, refuse_partial, shown

_NIFTI, _META = ".nii.gz", ".mhd"
_VIEWS = ("2CH", "4CH")
_PATIENT = re.compile(r"patient\d{4}")


class CAMUS(Cases):
    """Cardiac Acquisitions for Multi-structure Ultrasound Segmentation (CAMUS), 500 patients, 2000 outlined images.

    Source: Leclerc et al., "Deep learning for segmentation using an open large-scale dataset in 2D echocardiography",
    IEEE Transactions on Medical Imaging 38:2198, 2019, doi 10.1109/TMI.2019.2900516. Terms: the download's
    `MANDATORY_CITATION.md` asks for the article's citation; read it for what else holds.

    Layout as downloaded (`database_nifti`): `patient0001/patient0001_2CH_ED.nii.gz` at end diastole, `_ES` at end
    systole, and `_half_sequence`, all frames from one to the other, each with its outlines in `_gt.nii.gz`; `4CH`, the
    four chamber view, alike; `Info_2CH.cfg`. The older layout is read too: `training/` with 450 patients and `testing/`
    with 50 without outlines, `patient0001/patient0001_2CH_ED.mhd` with its pixels in a `.raw` or `.zraw` file beside
    it, and `_2CH_sequence.mhd` without outlines.

    Known properties: sizes differ between patients; the first and last frames of a half sequence are the ED and ES
    images themselves, so use the one or the other; the older files' pixels need not be square (`ElementSpacing`), which
    `fit` does not correct. Split by group, the patient. Images stand with the probe at the top, as their files have
    them: the first axis is columns, the second rows.

    Args:
        root: `database_nifti`, or the folder with `training/` and `testing/`, or the parent.
        frames: "ed_es", four images a patient, or "sequence", all frames.
        masks: False for images alone, which takes in the older `testing/`, and its sequences.
        size: side in pixels of the square that images are resized to; None keeps them as they are, each of another
            size.
        fit: how images become square: "stretch" does not keep the aspect, "pad" adds black to the shorter side.
        allow_partial: accept fewer patients or views than published.

    Items:
        image (1, H, W) float32 in [0, 1]; mask (1, H, W) bool, True on any structure, and label_map (1, H, W) int64 (1
        the left ventricle's cavity within the endocardium, 2 its wall to the epicardium, 3 the left atrium), both
        unless `masks` is False; id such as "patient0001_2CH_ED" or "patient0001_2CH#7"; group such as "patient0001".

    Raises:
        FileNotFoundError, NotADirectoryError: `root` is no folder.
        ImportError: nibabel is not installed, for NIfTI files.
        ValueError: the layout or the counts differ from the published ones, an image has no outlines or others of
            another size, the older sequences are asked for with masks, or a header is damaged; on reading, a file is
            damaged, gray values leave 0 to 255 or structures 0 to 3.

    Example:
        >>> from sslmed.data import CAMUS
        >>> CAMUS.structures[3], CAMUS.published["4CH"]
        ('left atrium', 500)
    """

    classes: tuple[str, ...] = ()
    published: ClassVar[Mapping[str, int]] = MappingProxyType({"2CH": 500, "4CH": 500})
    structures: ClassVar[Mapping[int, str]] = MappingProxyType(
        {0: "background", 1: "endocardium", 2: "epicardium", 3: "left atrium"}
    )

    @classmethod
    def recognises(cls, folder: Path) -> bool:
        """Tell whether a folder holds folders of CAMUS's patients."""
        return any(any(folder.glob(pattern)) for pattern in ("patient0*", "training/patient0*"))

    def __init__(
        self,
        root: str | os.PathLike[str],
        *,
        frames: str = "ed_es",
        masks: bool = True,
        size: int | None = None,
        fit: str = "stretch",
        allow_partial: bool = False,
    ) -> None:
        self.frames: str = _checks.choice("frames", frames, ("ed_es", "sequence"))
        self.root: Path = find_root(
            root, "CAMUS", "patient0001/ and so on, or training/ and testing/ with these", _fits
        )
        patients = _patients(self.root, masks=masks)
        ending = _NIFTI if any(path.name.endswith(_NIFTI) for path in patients[0].iterdir()) else _META
        if ending == _META and frames == "sequence" and masks:
            raise ValueError(f"masks must be False for frames='sequence': {self.root} has no outlines of these")
        parts = ("ED", "ES") if frames == "ed_es" else ("half_sequence" if ending == _NIFTI else "sequence",)
        wanted = {
            folder / f"{folder.name}_{view}_{part}": view for folder in patients for view in _VIEWS for part in parts
        }
        stems = [stem for stem in wanted if _file(stem, ending).is_file()]
        if not allow_partial:
            share = 0.9 if ending == _META and masks else 1  # 50 of the older layout's patients have no outlines
            expected = {view: round(share * n) for view, n in self.published.items()}
            views = [wanted[stem] for stem in stems]
            counts = {view: views.count(view) / len(parts) for view in _VIEWS}
            missing = [_file(stem, ending).name for stem in wanted if stem not in set(stems)]
            refuse_partial("CAMUS", expected, {view: int(n) for view, n in counts.items()}, missing)
        if not stems:
            raise ValueError(f"{self.root} holds no images ending in {parts[0]}{ending}")
        images = [_file(stem, ending) for stem in stems]
        outlines = [[_file(stem, f"_gt{ending}")] for stem in stems] if masks else None
        lacking = [files[0].name for files in outlines or () if not files[0].is_file()]
        if lacking:
            raise ValueError(f"{self.root}: images without their outlines {shown(lacking)}; or pass masks=False")
        names = [stem.name.removesuffix("_half_sequence").removesuffix("_sequence") for stem in stems]
        groups = [stem.parent.name for stem in stems]
        self._last = Latest[int, tuple[torch.Tensor, torch.Tensor | None]]()
        super().__init__(images, outlines, ids=names, labels=None, groups=groups, size=size, fit=fit)
        # Files were checked one by one; from here on an item is one frame of one of them.
        self._items = [(i, k) for i, n in enumerate(self._counts) for k in range(n)]
        if frames == "sequence":
            self.ids: list[str] = [f"{names[i]}#{k}" for i, k in self._items]
            self.groups: list[str] = [groups[i] for i, _ in self._items]

    @property
    def counts(self) -> dict[str, int]:
        """Number of patients of each view as found."""
        patients = {view: {path.parent for path in self._images if f"_{view}_" in path.name} for view in _VIEWS}
        return {view: len(found) for view, found in patients.items()}

    @property
    def files(self) -> list[Path]:
        """All images and outlines that items are made of; of the older layout the headers and their pixels."""
        headers = super().files
        return headers + [metaimage_pixels(path) for path in headers if path.name.endswith(_META)]

    def check(self) -> None:
        """Count the frames of each file; raise unless outlines have their image's size, by the headers."""
        self._counts = []
        for i, path in enumerate(self._images):
            shape = _shape(path)
            if self._masks is not None and (found := _shape(self._masks[i][0])) != shape:
                raise ValueError(
                    f"{self._masks[i][0]}: outlines of shape {shape} (frames, height, width) were expected, got {found}"
                )
            if self.frames == "ed_es" and shape[0] != 1:
                raise ValueError(f"{path}: one frame was expected, got {shape[0]}")
            self._counts.append(shape[0])

    def __getitem__(self, index: int) -> dict[str, Any]:
        i = range(len(self.ids))[operator.index(index)]
        file, k = self._items[i]
        images, maps = self._last.of(file, lambda: self._decoded(file))
        item: dict[str, Any] = {"image": self._sizing.image(frame_of(images, k, self._images[file]))}
        if maps is not None:
            label_map = self._sizing.mask(frame_of(maps, k, (self._masks or [])[file][0]), self.ids[i])
            item |= {"mask": label_map > 0, "label_map": label_map}
        return item | {"id": self.ids[i], "group": (self.groups or [])[i]}

    def _decoded(self, file: int) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Decode a file: images (F, 1, H, W) in [0, 1], and their label maps or None."""
        images = _stack(self._images[file])
        if images.min() < 0 or images.max() > 255:
            raise ValueError(
                f"{self._images[file]}: gray values from 0 to 255 were expected, got {images.min():g} to "
                f"{images.max():g}"
            )
        if self._masks is None:
            return images / 255, None
        numbers = _stack(self._masks[file][0])
        maps = numbers.long()
        if not torch.equal(maps.float(), numbers) or maps.min() < 0 or maps.max() >= len(self.structures):
            raise ValueError(
                f"{self._masks[file][0]}: structures 0 to {len(self.structures) - 1} were expected, got "
                f"{shown((f'{x:g}' for x in sorted(set(numbers.flatten().tolist()))), limit=6)}"
            )
        return images / 255, maps


def _fits(folder: Path) -> bool:
    return any(_in(part) for part in (folder, folder / "training", folder / "testing"))


def _in(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    return sorted(path for path in folder.iterdir() if path.is_dir() and _PATIENT.fullmatch(path.name))


def _patients(root: Path, *, masks: bool) -> list[Path]:
    patients = [*_in(root), *_in(root / "training"), *([] if masks else _in(root / "testing"))]
    if not patients:
        raise ValueError(f"{root}: testing/ has no outlines; pass masks=False, or complete the download")
    return patients


def _file(stem: Path, ending: str) -> Path:
    return stem.with_name(stem.name + ending)


def _stack(path: Path) -> torch.Tensor:
    """Read (F, 1, H, W) float32 in the file's units."""
    if path.name.endswith(_META):
        return read_metaimage(path).values[0, :, None]
    return read_nifti(path, axes="file").values.flatten(0, 1)[:, None]


def _shape(path: Path) -> tuple[int, int, int]:
    """Return (frames, height, width) from the header, with the file's axes."""
    if path.name.endswith(_META):
        return metaimage_shape(path)
    with reading(path, "NIfTI file"):
        width, height, *others = header_of(path).shape
    frames = 1
    for n in others:
        frames *= n
    return frames, height, width
