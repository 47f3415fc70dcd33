"""The images of a run: mixes, pools, joined sets and volumes, and that no part sees another."""

from __future__ import annotations

import json
import pickle
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest

pytest.importorskip("lightning")

import torch
from PIL import Image

from allocations import Largest
from scans import write_nifti
from sslmed.data import MammogramPhantom, MRPhantom, Phantom
from sslmed.data.formats._sizes import resize_image
from sslmed.studies.cached import Resized
from sslmed.studies.data_spec import TRAIN, DataSpec
from sslmed.studies.pixels import Numbered
from sslmed.studies.reading import joined, read
from sslmed.studies.sources import Source, open_set
from sslmed.studies.study_data import StudyData

CACHE = Path("cache")


@pytest.fixture(autouse=True)
def elsewhere(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """The cache of each test lies in a folder of its own, outside the images."""
    monkeypatch.chdir(tmp_path_factory.mktemp("elsewhere"))


def images_of(pairs: Numbered) -> torch.Tensor:
    return torch.stack([image for image, _ in pairs])


def phantom(organ: str, count: int = 40, seed: int = 0) -> Source:
    return Source("--data", "phantom", lambda size: Phantom(count, size=size, seed=seed, organ=organ))


def spec(labelled: Source, **settings: object) -> DataSpec:
    usual: dict[str, object] = {
        "size": 48,
        "cache": CACHE,
        "fractions": (0.7, 0.1, 0.2),
        "labels": [0.5],
        "seeds": [0],
    }
    return DataSpec(labelled, **(usual | settings))  # type: ignore[arg-type]


def test_mixes_hold_their_pools_and_never_a_held_out_image() -> None:
    pools = {"heart": phantom("heart", 10), "lung": phantom("lung", 12)}
    mixes = {"BUS": (TRAIN,), "all": (TRAIN, "heart", "lung"), "others": ("heart",)}
    data = StudyData(spec(phantom("breast"), pools=pools, mixes=mixes, seeds=[0, 1]))
    for seed in (0, 1):
        split = data.splits[seed]
        train = data.data.images(split.train)
        assert torch.equal(images_of(data.pretext(seed, "BUS")), train)
        everything = data.pretext(seed, "all")
        images = images_of(everything)
        assert len(images) == len(train) + 22
        assert torch.equal(images[: len(train)], train)
        assert [position for _, position in everything] == [*range(len(images))]
        assert torch.equal(images_of(data.pretext(seed, "others")), data.pools["heart"].images(range(10)))
        held_out = {data.data.ids[i] for i in split.val + split.test}
        ids = data.pretext_ids(seed)
        assert not held_out & set(ids)
        assert {name.partition("/")[0] for name in ids if "/" in name} == {"heart", "lung"}
        assert sorted(split.train + split.val + split.test) == [*range(40)]
    assert any("lung" in line for line in data.checks)


class Clips(Phantom):
    """Images that are frames of clips, which the published counts are of."""

    published: ClassVar = {"benign": 3, "malignant": 4}

    def __init__(self, *, clips: dict[str, int] | None, size: int) -> None:
        super().__init__(10, size=size)
        self.clips = clips

    @property
    def counts(self) -> dict[str, int]:
        return self.clips or super().counts


@pytest.mark.parametrize(
    ("clips", "note", "beside"),
    [
        (None, ["a partial set: 10 of 7 published"], True),
        ({"benign": 2, "malignant": 4}, ["a partial set: 6 of 7 published"], False),
        ({"benign": 3, "malignant": 4}, [], False),
    ],
)
def test_published_counts_are_compared_in_their_own_unit(
    clips: dict[str, int] | None, note: list[str], beside: bool
) -> None:
    data = read(Source("--data", "phantom", lambda size: Clips(clips=clips, size=size)), size=32, cache=CACHE)
    assert [line for line in data.notes if "published" in line] == note
    assert (data.published is not None) == beside


def test_a_joined_domain_takes_its_share_of_all_it_reads(tmp_path: Path) -> None:
    for i, item in enumerate(Phantom(10, size=48, seed=9)):
        Image.fromarray((item["image"][0].numpy() * 255).astype(np.uint8)).save(tmp_path / f"{i}.png")
    mammograms = Source("--data", "phantom", lambda size: MammogramPhantom(40, size=size, seed=0))
    study = StudyData(
        spec(
            phantom("breast"),
            joined=(mammograms,),
            share=0.5,
            name="usmg",
            pools={"mine": Source("--pretext-data", str(tmp_path))},
            mixes={"": ("mine",)},
        )
    )
    data = study.data
    kinds = [name.partition("/")[0] for name in data.ids]
    assert {kind: kinds.count(kind) for kind in set(kinds)} == {"Phantom": 20, "MammogramPhantom": 20}
    assert study.at(32).ids == data.ids
    assert len(study.pretext(0)) == 5
    assert data.classes == ("benign", "malignant", "normal")
    assert data.has_masks
    for i, label in enumerate(data.labels or []):
        assert bool(data.masks([i]).any()) == (label != "normal")


def test_two_sets_of_one_kind_are_told_apart_and_share_their_patients() -> None:
    first = Source("--data", "phantom", lambda size: Phantom(40, size=size, seed=0))
    other = read(Source("--data", "phantom", lambda size: Phantom(40, size=size, seed=1)), size=32, cache=CACHE)
    sets = [
        replace(part, ids=[f"scan {i}" for i in range(40)], groups=[f"patient {i // 2}" for i in range(40)])
        for part in (read(first, size=32, cache=CACHE), other)
    ]
    sets[0].notes.append("a note")
    data = joined(sets, share=0.5, seed=0)
    assert data.name == "Phantom 1 and Phantom 2"
    assert data.notes == ["50% of Phantom 1: 20 images", "Phantom 1: a note", "50% of Phantom 2: 20 images"]
    assert len(set(data.ids)) == len(data) == 40
    assert {name.partition("/")[0] for name in data.ids} == {"Phantom 1", "Phantom 2"}
    assert set(data.groups) <= {f"Phantom/patient {i}" for i in range(20)}
    spelt = replace(sets[1], classes=("Benign", "malignant", "normal"), labels=["Benign"] * 40)
    with pytest.raises(ValueError, match="differ in upper and lower case only: benign, malignant, normal, Benign"):
        joined([sets[0], spelt], share=0.5, seed=0)


class Mirrored(Phantom):
    """Mirrored images of another set, under ids and groups of its own."""

    def __getitem__(self, index: int) -> dict[str, object]:
        known = Phantom(40, size=self.size, seed=0)[index]
        return super().__getitem__(index) | {name: known[name].flip(-1) for name in ("image", "mask")}


def test_copies_in_joined_sets_stay_in_one_part_with_what_they_copy() -> None:
    copies = Source("--data", "phantom", lambda size: Mirrored(12, size=size, seed=1))
    data = StudyData(spec(phantom("breast"), joined=(copies,), seeds=[0, 1]))
    groups = dict(zip(data.data.ids, data.data.groups, strict=True))
    pairs = [(f"Phantom/phantom-0-{i:06d}", f"Mirrored/phantom-1-{i:06d}") for i in range(12)]
    assert all(groups[one] == groups[other] for one, other in pairs)
    assert len(set(groups.values())) == 40
    for split in data.splits.values():
        part = {data.data.ids[i]: name for name in ("train", "val", "test") for i in getattr(split, name)}
        assert all(part[one] == part[other] for one, other in pairs)
        assert len({part[one] for one, _ in pairs}) > 1
    assert "12 groups have near copies in others; each stays in one part with its copies" in data.notes


class Pairs(Phantom):
    """Images without groups, two of which are near duplicates when they are large and not when they are small."""

    def __getitem__(self, index: int) -> dict[str, object]:
        item = super().__getitem__(index)
        del item["group"]
        if self.size == 48 and index % 2:
            item["image"] = super().__getitem__(index - 1)["image"]
        return item


def test_both_sizes_of_a_joined_domain_hold_the_same_images() -> None:
    first = Source("--data", "phantom", lambda size: Pairs(40, size=size, seed=0))
    second = Source("--data", "phantom", lambda size: Pairs(40, size=size, seed=1))
    data = StudyData(spec(first, joined=(second,), share=0.5))
    small = data.at(32)
    assert (small.ids, small.groups, small.size) == (data.data.ids, data.data.groups, 32)
    large, index = data.data.images(range(len(small))), range(len(small))
    assert torch.equal(small.images(index), torch.stack([resize_image(image, 32) for image in large]))
    with pytest.raises(ValueError, match="size must be at most 48"):
        data.at(64)


def test_draws_share_the_parts_and_no_volume_is_on_two_sides() -> None:
    source = Source("--data", "phantom", lambda size: MRPhantom(20, depth=4, size=size, seed=0))
    settings = {
        "labels": [1, 2, 4],
        "unit": "volumes",
        "seeds": [0, 1, 2],
        "parts_seed": 0,
        "everything": True,
    }
    data = StudyData(spec(source, fractions=(0.6, 0.2, 0.2), **settings))
    volume = data.data.groups
    first = data.splits[0]
    for split in data.splits.values():
        assert (split.train, split.val, split.test) == (first.train, first.val, first.test)
        parts = [{volume[i] for i in part} for part in (split.train, split.val, split.test)]
        assert [len(part) for part in parts] == [12, 4, 4]
        assert len(set.union(*parts)) == 20
        for count in (1, 2, 4, 12):
            chosen = split.labelled[count]
            assert len({volume[i] for i in chosen}) == count
            assert len(chosen) == 4 * count  # whole volumes
            assert set(chosen) <= set(split.train)
        assert set(split.labelled[1]) < set(split.labelled[2]) < set(split.labelled[4])
    assert len({tuple(s.labelled[2]) for s in data.splits.values()}) > 1


def test_copies_of_held_out_images_are_refused_or_left_out(tmp_path: Path) -> None:
    for i, item in enumerate(Phantom(40, size=48, seed=0)):
        Image.fromarray((item["image"][0].numpy() * 255).astype(np.uint8)).save(tmp_path / f"{i:02d}.png")
    settings = {"pools": {"mine": Source("--pretext-data", str(tmp_path))}, "mixes": {"": ("mine",)}}
    with pytest.raises(ValueError, match="--pretext-data: 12 images copy a validation or test image"):
        StudyData(spec(phantom("breast"), **settings))
    data = StudyData(spec(phantom("breast"), **settings, leave_out_copies=True))
    assert len(data.pretext(0)) == 28
    assert any(
        "12 images of mine were left out: 12 images copy a validation or test image" in note for note in data.notes
    )


class Revisits(Phantom):
    """Other images of the patients of another set, two of each."""

    def __getitem__(self, index: int) -> dict[str, object]:
        return super().__getitem__(index) | {"group": Phantom(40, size=self.size, seed=0)[index // 2]["group"]}


Revisits.__name__ = Phantom.__name__  # a set of the same kind


@pytest.mark.parametrize("joined", [False, True])
def test_patients_of_held_out_images_are_refused_or_left_out_of_a_pool(joined: bool) -> None:
    revisits = Source("--pretext-data", "phantom", lambda size: Revisits(80, size=size, seed=7))
    settings: dict[str, object] = {"pools": {"more": revisits}, "mixes": {"": ("more",)}}
    settings |= {"joined": (phantom("breast", seed=1),)} if joined else {}
    refused = (
        r"--pretext-data: \d+ patients or groups are in the validation or test part, as phantom-0-\d+; --leave-out-"
    )
    with pytest.raises(ValueError, match=refused):
        StudyData(spec(phantom("breast"), **settings))
    data = StudyData(spec(phantom("breast"), **settings, leave_out_copies=True))
    split, pool = data.splits[0], data.pools["more"]
    held_out = {data.data.groups[i].removeprefix("Phantom/") for i in split.val + split.test} & set(pool.groups)
    assert held_out
    kept = [f"more/{name}" for name, group in zip(pool.ids, pool.groups, strict=True) if group not in held_out]
    assert data.pretext_ids(0) == kept
    told = f"{80 - len(kept)} images of more were left out: {len(held_out)} patients or groups are in"
    assert any(told in note for note in data.notes)


class Spelt(Phantom):
    """Images of patients whose names begin as set."""

    def __init__(self, count: int, *, size: int, seed: int, patient: str) -> None:
        super().__init__(count, size=size, seed=seed)
        self.patient = patient

    def __getitem__(self, index: int) -> dict[str, object]:
        return super().__getitem__(index) | {"group": f"{self.patient}{index}"}


@pytest.mark.parametrize("place", ["joined", "pools", "test_sets"])
def test_patients_that_two_sets_spell_in_two_ways_are_refused(place: str) -> None:
    def source(option: str, seed: int, patient: str) -> Source:
        return Source(option, "phantom", lambda size: Spelt(20, size=size, seed=seed, patient=patient))

    def data(other: str) -> StudyData:
        more = source("--more", 1, other)
        added = {"more": more} if place == "pools" else (more,)
        return StudyData(spec(source("--data", 0, "P"), **{place: added}))

    with pytest.raises(ValueError, match=r"^--data and --more: the groups 'P0' and 'p0' look alike; if they are one"):
        data("p")
    data("Q")


def test_volumes_that_copy_held_out_ones_are_left_out_whole() -> None:
    def source(seed: int) -> Source:
        return Source("--unlabelled", "phantom", lambda size: MRPhantom(12, size=size, seed=seed))

    def material(seed: int, **settings: object) -> StudyData:
        pools = {"unlabelled": source(seed)}
        return StudyData(
            spec(
                source(0),
                labels=[1],
                unit="volumes",
                pools=pools,
                mixes={"": (TRAIN, "unlabelled")},
                **settings,
            )
        )

    other = material(1)  # as alike as two patients are
    assert len(other.pretext(0)) == len(other.splits[0].train) + len(other.pools["unlabelled"])
    with pytest.raises(ValueError, match=r"--unlabelled: .* images copy a validation or test image"):
        material(0)
    same = material(0, leave_out_copies=True)
    held_out = {same.data.groups[i] for i in (*same.splits[0].val, *same.splits[0].test)}
    learnt = {name.removeprefix("unlabelled/").partition("#")[0] for name in same.pretext_ids(0)}
    assert learnt == set(same.data.groups) - held_out


def test_the_unlabelled_part_of_a_task_is_read(tmp_path: Path) -> None:
    pytest.importorskip("nibabel")
    task = tmp_path / "Task05_Prostate"
    for folder in ("imagesTr", "labelsTr", "imagesTs"):
        (task / folder).mkdir(parents=True)
    cases = [{"image": f"imagesTr/{k}.nii.gz", "label": f"labelsTr/{k}.nii.gz"} for k in range(3)]
    about = {"labels": {"0": "background", "1": "x"}, "modality": {"0": "T2", "1": "ADC"}, "training": cases}
    rng = np.random.default_rng(0)
    for case in cases:
        write_nifti(task / case["image"], rng.random((12, 10, 3, 2)))
        write_nifti(task / case["label"], np.zeros((12, 10, 3)))
    write_nifti(task / "imagesTs/9.nii.gz", rng.random((12, 10, 4, 2)))
    (task / "dataset.json").write_text(json.dumps(about | {"test": ["imagesTs/9.nii.gz"]}))
    pool = read(Source("--unlabelled", str(task), unlabelled=True), size=16, cache=CACHE)
    assert pool.ids == [f"9#{k}" for k in range(4)]  # of both sequences the first
    assert not pool.has_masks
    (task / "dataset.json").write_text(json.dumps(about | {"test": []}))
    with pytest.raises(ValueError, match=r"--unlabelled .*, read as Decathlon, holds no images without labels"):
        read(Source("--unlabelled", str(task), unlabelled=True), size=16, cache=CACHE)


def test_labelled_cases_of_one_class_are_refused() -> None:
    class Rare(Phantom):
        def __getitem__(self, index: int) -> dict[str, object]:
            return super().__getitem__(index) | {"label": int(index % 8 == 0)}

    source = Source("--data", "phantom", lambda size: Rare(40, size=size, seed=0))
    with pytest.raises(ValueError, match=r"--labels 0\.1 leaves 3 labelled cases of 28, all benign \(seed 0\)"):
        StudyData(spec(source, labels=[1.0, 0.1], outlined=False))
    assert StudyData(spec(source, labels=[1.0, 0.1])).labelled  # to outline


def test_classes_of_few_patients_are_noted_where_a_part_lacks_them() -> None:
    class Clinic(Phantom):
        def __getitem__(self, index: int) -> dict[str, object]:
            item = super().__getitem__(index) | {"group": f"patient {index // 4}"}
            return item | {"label": 2 if index < 4 else index % 2}

    source = Source("--data", "phantom", lambda size: Clinic(40, size=size, seed=0))
    data = StudyData(spec(source, fractions=(0.6, 0.2, 0.2), outlined=False, seeds=[0, 1, 2]))
    for seed, split in data.splits.items():
        groups = {name: [data.data.groups[i] for i in getattr(split, name)] for name in ("train", "val", "test")}
        words = {"train": "training", "val": "validation", "test": "test"}
        lacking = [f"no normal in the {words[name]} part" for name in groups if "patient 0" not in groups[name]]
        assert len(lacking) == 2
        assert f"seed {seed}: {', '.join(lacking)}" in data.notes
    assert StudyData(spec(phantom("breast"), fractions=(0.4, 0.3, 0.3))).notes == []


@pytest.mark.parametrize("pool", [False, True])
def test_one_picture_in_two_groups_is_refused(pool: bool) -> None:
    class Twice(Phantom):
        def __getitem__(self, index: int) -> dict[str, object]:
            return super().__getitem__(index) | {"image": super().__getitem__(index // 2)["image"]}

    pools = {"pool": phantom("breast", 10, seed=1)} if pool else {}
    mixes = {"": ("pool",)} if pool else {"": (TRAIN,)}
    source = Source("--data", "phantom", lambda size: Twice(40, size=size, seed=0))
    with pytest.raises(ValueError, match=r"--data has one image in two groups, .* share \d+ images .* one group"):
        StudyData(spec(source, pools=pools, mixes=mixes))


@pytest.mark.parametrize("ending", ["_seg.png", "_MASK.PNG", " (1)_gt_1.jpg"])
def test_masks_in_class_folders_are_no_images(tmp_path: Path, ending: str) -> None:
    for name in ("benign/a.png", "malignant/b.png", f"malignant/b{ending}"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.fromarray(np.zeros((20, 20), np.uint8)).save(tmp_path / name)
    with pytest.raises(ValueError, match=r"read as unlabelled images, but holds 1 mask, as malignant/b"):
        open_set(Source("--data", str(tmp_path)), size=16)


@pytest.mark.parametrize(
    ("files", "name"),
    [
        (["benign/benign (1).png", "benign/benign (1)_mask.png"], "BUSI"),
        (["originals/benign/us1.bmp", "originals/malignant/us1.bmp"], "MBUD"),
        (["Thammasat/benign/a.jpg", "Thammasat/malignant/b.png"], "TBUD"),
        (
            ["clinic/images/benign/a.png", "clinic/images/malignant/b.png", "clinic/cases.csv"],
            "labelled images",
        ),
        (["images/benign/a.png", "images/malignant/b.png"], "TBUD"),
        (["Benign/1 Benign Image.bmp", "Benign/1 Benign Mask.tif"], "QAMEBI"),
        (["benign/1.png", "2024/normal/2.jpg"], "unlabelled images"),
        (["benign/1.png", "malignant/2.png", "normal/3.png"], "unlabelled images"),
        (["benign/1.png", "malignant/2.png", "malignant/more/3.png"], "unlabelled images"),
    ],
)
def test_a_set_is_told_by_its_layout(tmp_path: Path, files: list[str], name: str) -> None:
    for file in files:
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        if file.endswith("csv"):
            (tmp_path / file).write_text("image,class\nbenign/a,x\nmalignant/b,y\n")
        else:
            Image.fromarray(np.full((20, 20), 255, np.uint8)).save(tmp_path / file)
    read_as, _, data = open_set(Source("--data", str(tmp_path)), size=16)
    assert read_as == name
    assert len(data) == sum("mask" not in file.lower() and not file.endswith("csv") for file in files)


def test_nothing_holds_the_pixels_of_a_set() -> None:
    with Largest() as largest:
        data = StudyData(spec(phantom("breast", 300), size=32))
        pretext, fine_tuning = data.pretext(0), data.at(32).pairs(data.splits[0].labelled[0.5])
        assert pretext[len(pretext) - 1][0].shape == (1, 32, 32)
    assert len(data.data) == 300
    assert largest.elements < 300 * 32 * 32 // 2
    assert len(pickle.dumps((data.data, pretext, fine_tuning))) < 30 * 32 * 32 * 4


def test_a_second_study_decodes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    source = phantom("breast")
    first = StudyData(spec(source))
    small = first.at(32)
    monkeypatch.setattr(Phantom, "__getitem__", lambda *_: pytest.fail("decoded"))
    monkeypatch.setattr(Resized, "__getitem__", lambda *_: pytest.fail("resized"))
    again = StudyData(spec(source))
    index = range(len(first.data))
    assert torch.equal(again.data.images(index), first.data.images(index))
    assert torch.equal(again.at(32).masks(index), small.masks(index))


def test_structures_that_a_smaller_size_would_lose_are_told() -> None:
    class Dots(Phantom):
        def __getitem__(self, index: int) -> dict[str, object]:
            mask = torch.zeros(1, 48, 48, dtype=torch.bool)
            mask[:, 22:24, 23] = True  # between the centres of pixels of 8 x 8
            return super().__getitem__(index) | ({"mask": mask} if index == 3 else {})

    data = StudyData(spec(Source("--data", "phantom", lambda size: Dots(40, size=size, seed=0))))
    small = data.at(8)
    assert data.data.ids[3] in small.tiny
    assert small.masks([3]).sum() == 1
    assert [note for note in data.notes if "smaller than a pixel at 8 px" in note]
    assert data.at(8).tiny == small.tiny  # also from the cache
    assert data.at(48).tiny == ()


def test_volumes_are_split_in_the_numbers_that_are_asked_for() -> None:
    source = Source("--data", "phantom", lambda size: MRPhantom(32, depth=3, size=size, seed=0))
    settings = {"labels": [1, 8], "unit": "volumes", "seeds": [0, 1], "parts_seed": 0, "everything": True}
    data = StudyData(spec(source, volumes=(15, 2, 15), **settings))
    volume, split = data.data.groups, data.splits[0]
    parts = [{volume[i] for i in part} for part in (split.train, split.val, split.test)]
    assert [len(part) for part in parts] == [15, 2, 15]
    assert len(set.union(*parts)) == 32
    assert set(split.labelled) == {1, 8, 15}
    assert data.splits[1].test == split.test
    with pytest.raises(ValueError, match="--split 15/3/15 divides 33 volumes, and --data holds 32"):
        StudyData(spec(source, volumes=(15, 3, 15), **settings))


def test_folds_test_each_image_once_and_keep_patients_together() -> None:
    data = StudyData(spec(phantom("breast"), seeds=[0, 1, 2, 3], folds=4, parts_seed=0, labels=[1.0]))
    parts = [data.splits[fold] for fold in range(4)]
    assert sorted(i for split in parts for i in split.test) == list(range(40))
    for fold, split in enumerate(parts):
        assert sorted([*split.train, *split.val, *split.test]) == list(range(40))
        assert split.val == parts[(fold + 1) % 4].test
        groups = [{data.data.groups[i] for i in part} for part in (split.train, split.val, split.test)]
        assert not groups[0] & groups[1] | groups[0] & groups[2] | groups[1] & groups[2]


def test_pool_images_that_copy_any_labelled_image_are_refused_with_folds() -> None:
    pools = {"scans": replace(phantom("breast"), option="--unlabelled")}  # the same images again
    settings = {"seeds": [0, 1, 2], "folds": 3, "parts_seed": 0, "labels": [1.0], "pools": pools}
    with pytest.raises(ValueError, match="--unlabelled: 40 images copy a validation or test image"):
        StudyData(spec(phantom("breast"), mixes={"unlabelled": ("scans",)}, **settings))


def test_too_few_images_for_the_folds_are_refused() -> None:
    with pytest.raises(ValueError, match="--data holds too few images to split into 5 folds: 4 in 4 groups"):
        StudyData(spec(phantom("breast", 4), seeds=[0], folds=5, labels=[1.0]))
