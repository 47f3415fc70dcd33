"""Medical Segmentation Decathlon: the volumes of any of its ten tasks, whole or slice by slice."""

from __future__ import annotations

import json
import operator
import os
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, ClassVar

import torch
from torch.utils.data import Dataset

from ... import _checks
from ..._latest import Latest
from ..formats._reading import Unreadable, frame_of, reading
from ..formats._sizes import Sizing
from ..formats.nifti import nifti_shape, read_nifti, unit_range
from ._cases import find_root, shown


class Decathlon(Dataset[dict[str, Any]]):
    """A task of the Medical Segmentation Decathlon.

    Source: Antonelli et al., "The Medical Segmentation Decathlon", Nature Communications 13:4128, 2022, doi
    10.1038/s41467-022-30695-9; Simpson et al., arXiv:1902.09063, 2019. Licence: CC BY-SA 4.0.

    Layout as downloaded (`Task05_Prostate`): `imagesTr/prostate_00.nii.gz`, `labelsTr/prostate_00.nii.gz`,
    `imagesTs/prostate_03.nii.gz` without labels, and `dataset.json`, which names the files, the sequences and the
    labels. The counts that are verified are those of the downloads' `dataset.json`, by task.

    Known defects: intensities have no unit and differ by orders of magnitude between volumes of a task (hippocampus),
    so each sequence of each volume is scaled from its least to its greatest value. Split slices by group, the volume.

    Args:
        root: the folder of a task, or its parent if that holds one task only.
        slices: items are axial slices; False for whole volumes.
        part: "training", the labelled volumes; "test", those without labels; "both", all images, without labels, for
            pretext learning.
        size: side in pixels of the square that slices are resized to; None keeps them as they are.
        fit: how slices become square: "stretch" does not keep the aspect, "pad" adds black to the shorter side.
        allow_partial: accept another number of volumes than published.

    Items:
        image (C, H, W) float32 in [0, 1], C sequences, or (C, D, H, W) of whole volumes, from the feet upward with the
        patient's front up; id such as "prostate_00#7", or "prostate_00"; group, the volume. With `part="training"`
        mask, bool, True on any structure, and label_map, int64, the number of each structure, both of shape (1, H, W)
        or (1, D, H, W). Of whole volumes spacing_mm, millimetres along D, H and W.

    Attributes:
        structures: name of each label, by number.
        sequences: name of each channel.

    Raises:
        FileNotFoundError, NotADirectoryError: `root` is no folder.
        ImportError: nibabel is not installed.
        ValueError: the layout or the counts differ from the published ones, a file is missing or damaged, two volumes
            have one name, or a label has another size than its image; on reading, a label holds other numbers than
            `dataset.json`.

    Example:
        >>> from sslmed.data import Decathlon
        >>> Decathlon.published["Prostate"]
        (32, 16)
    """

    published: ClassVar[Mapping[str, tuple[int, int]]] = MappingProxyType(
        {
            "BrainTumour": (484, 266),
            "Heart": (20, 10),
            "Liver": (131, 70),
            "Hippocampus": (260, 130),
            "Prostate": (32, 16),
            "Lung": (63, 32),
            "Pancreas": (281, 139),
            "HepaticVessel": (303, 140),
            "Spleen": (41, 20),
            "Colon": (126, 64),
        }
    )
    labels: None = None
    title: ClassVar[str] = "Decathlon"
    without_labels: ClassVar[Mapping[str, str]] = MappingProxyType({"part": "test"})

    @classmethod
    def recognises(cls, folder: Path) -> bool:
        """Tell whether a folder holds the description of a task."""
        return (folder / "dataset.json").exists()

    def __init__(
        self,
        root: str | os.PathLike[str],
        *,
        slices: bool = True,
        part: str = "training",
        size: int | None = None,
        fit: str = "stretch",
        allow_partial: bool = False,
    ) -> None:
        self.part: str = _checks.choice("part", part, ("training", "test", "both"))
        self._sizing = Sizing(size, fit)
        self.size: int | None = self._sizing.size
        self.fit: str = self._sizing.fit
        self.slices: bool = slices
        if size is not None and not slices:
            raise ValueError(f"size must be None for whole volumes, got {size}")
        self.root: Path = find_root(root, "Decathlon task", "dataset.json and imagesTr/", _fits)
        self.tables: list[Path] = [self.root / "dataset.json"]
        about = _about(self.tables[0])
        self.structures: dict[int, str] = about.structures
        self.sequences: list[str] = about.sequences
        training, test = ([self._listed(name) for name in names] for names in (about.training, about.test))
        if not allow_partial:
            self._refuse_partial(self.root.name.rpartition("_")[2], len(training), len(test))
        self._images = {"training": training, "test": test, "both": [*training, *test]}[part]
        self._masks = [self._listed(name) for name in about.labels] if part == "training" else None
        self._items = self._enumerated()
        self.volumes: list[str] = [path.name.removesuffix(".gz").removesuffix(".nii") for path in self._images]
        # Ids and groups are volumes: two of one name would be one, half in training and half in the test.
        if twice := sorted(name for name, count in Counter(self.volumes).items() if count > 1):
            raise ValueError(f"{self.root / 'dataset.json'}: several volumes are called {shown(twice)}; rename them")
        self.groups: list[str] = [self.volumes[v] for v, _ in self._items]
        self.ids: list[str] = [self.volumes[v] + (f"#{k}" if slices else "") for v, k in self._items]
        self._last = Latest[int, dict[str, Any]]()

    @property
    def files(self) -> list[Path]:
        """All volumes and labels that items are made of; `tables` names dataset.json."""
        return [*self._images, *(self._masks or ())]

    @property
    def tiny(self) -> list[str]:
        """Ids of the items read so far with a structure smaller than a pixel of `size`; one pixel of it is kept."""
        return sorted(self._sizing.tiny)

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, index: int) -> dict[str, Any]:
        i = range(len(self.ids))[operator.index(index)]
        volume, k = self._items[i]
        names = {"id": self.ids[i], "group": self.groups[i]}
        if not self.slices:
            return self._volume(volume) | names
        item = {}
        for name, stack in self._last.of(volume, lambda: self._volume(volume)).items():
            if name != "spacing_mm":
                part = frame_of(stack.movedim(1, 0), k, self._images[volume])
                item[name] = self._sizing.image(part) if name == "image" else self._sizing.mask(part, self.ids[i])
        return item | names

    def _volume(self, v: int) -> dict[str, Any]:
        scan = read_nifti(self._images[v])
        item: dict[str, Any] = {"image": unit_range(scan.values), "spacing_mm": scan.spacing_mm}
        if self._masks is not None:
            numbers = read_nifti(self._masks[v]).values
            label_map = numbers.long()
            known = torch.tensor(sorted(self.structures), device="cpu")
            if not torch.equal(label_map.float(), numbers) or not torch.isin(label_map, known).all():
                raise ValueError(
                    f"{self._masks[v]}: labels {known.tolist()} were expected, as dataset.json has them, "
                    f"got {shown(f'{x:g}' for x in sorted(set(numbers.flatten().tolist())))}"
                )
            item |= {"mask": label_map > 0, "label_map": label_map}
        return item

    def _listed(self, name: str) -> Path:
        path = self.root / name
        if not path.is_file():
            raise ValueError(f"{path}: the file is missing, though dataset.json names it")
        return path

    def _enumerated(self) -> list[tuple[int, int]]:
        """List volume and slice of each item; compare each label's size with its image's."""
        items = []
        for v, path in enumerate(self._images):
            channels, depth, *plane = nifti_shape(path)
            if channels != len(self.sequences):
                raise ValueError(f"{path}: {len(self.sequences)} sequences were expected, got {channels}")
            if self._masks is not None and (found := nifti_shape(self._masks[v])) != (1, depth, *plane):
                raise ValueError(f"{self._masks[v]}: a label of shape {(1, depth, *plane)} was expected, got {found}")
            items += [(v, k) for k in range(depth)] if self.slices else [(v, 0)]
        return items

    def _refuse_partial(self, task: str, training: int, test: int) -> None:
        expected = self.published.get(task)
        if expected is None:
            raise ValueError(
                f"{self.root}: the folder's name must end with a task, such as Task05_Prostate, or pass "
                f"allow_partial=True; tasks are {', '.join(self.published)}"
            )
        if (training, test) != expected:
            raise ValueError(
                f"{self.root} is not the published set: {training} of {expected[0]} training volumes, {test} of "
                f"{expected[1]} test volumes. Complete the download, or pass allow_partial=True"
            )


def _fits(folder: Path) -> bool:
    return (folder / "dataset.json").is_file() and (folder / "imagesTr").is_dir()


@dataclass(frozen=True)
class _About:
    """What dataset.json says of a task: names of structures and sequences, and of the files."""

    structures: dict[int, str]
    sequences: list[str]
    training: list[str]
    labels: list[str]
    test: list[str]


def _about(path: Path) -> _About:
    with reading(path, "JSON file of a Decathlon task"):
        about = json.loads(path.read_text(encoding="utf-8"))
        wanted = {"labels", "modality", "training", "test"}
        if not isinstance(about, dict) or not wanted <= about.keys():
            found = sorted(about) if isinstance(about, dict) else type(about).__name__
            raise Unreadable(f"{', '.join(sorted(wanted))} were expected, got {found}")
        return _About(
            structures={int(number): str(name) for number, name in about["labels"].items()},
            sequences=[str(name) for _, name in sorted(about["modality"].items())],
            training=[str(case["image"]) for case in about["training"]],
            labels=[str(case["label"]) for case in about["training"]],
            test=[str(case["image"] if isinstance(case, dict) else case) for case in about["test"]],
        )
