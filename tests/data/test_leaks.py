"""Near duplicates and disjointness."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.data import Subset

from ambient import STATES
from sslmed.data import Phantom
from sslmed.data.splits import assert_disjoint, near_duplicates


def literal_groups(images: torch.Tensor, threshold: float) -> list[int]:
    """Link every pair above the threshold, then walk each component."""
    rows = images.flatten(1)
    related = torch.corrcoef(rows) > threshold
    first = [-1] * len(rows)
    for start in range(len(rows)):
        if first[start] >= 0:
            continue
        stack = [start]
        while stack:
            i = stack.pop()
            if first[i] < 0:
                first[i] = start
                stack += related[i].nonzero().flatten().tolist()
    return first


def test_groups_are_the_unions_of_pairs() -> None:
    generator = torch.Generator().manual_seed(0)
    base = torch.rand(12, 1, 64, 64, generator=generator)
    noisy = base[torch.randint(0, 12, (40,), generator=generator)]
    images = torch.cat([base, noisy + 0.1 * torch.rand(noisy.shape, generator=generator)])
    for threshold in (0.9, 0.95, 0.99):
        assert near_duplicates(images, threshold=threshold).tolist() == literal_groups(images, threshold)


def test_a_chain_is_one_group() -> None:
    a, c = torch.rand(2, 1, 64, 64).unbind()
    assert near_duplicates([a, c, (a + c) / 2], threshold=0.6).tolist() == [0, 0, 0]


def test_copies_of_phantoms_are_found_whatever_their_size_and_gray_scale() -> None:
    images = [item["image"] for item in Phantom(40, size=96)]
    copies = [
        F.interpolate(images[3][None], (70, 130), mode="bilinear", antialias=True)[0],
        (0.2 + 0.6 * images[5]),
        images[7].expand(3, -1, -1),
        images[9].double(),
    ]
    groups = near_duplicates([*images, *copies]).tolist()
    assert groups[40:] == [3, 5, 7, 9]
    assert groups[:40] == list(range(40))


def test_blocks_do_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    images = torch.rand(30, 1, 64, 64)
    images[[4, 17, 29]] = images[[0, 0, 11]]
    whole = near_duplicates(images).tolist()
    monkeypatch.setattr("sslmed.data._copies._BLOCK", 7)
    assert near_duplicates(images).tolist() == whole
    assert whole[4] == whole[17] == 0
    assert whole[29] == 11


@pytest.mark.parametrize("scale", [1e-30, 1e-9, 1e5, 1e38])
@pytest.mark.parametrize("channels", [1, 3])
def test_copies_are_found_whatever_the_unit(scale: float, channels: int) -> None:
    scans = torch.rand(2, channels, 40, 40, generator=torch.Generator().manual_seed(0))
    images = torch.cat([scans, scans.flip(0)]) * scale
    assert near_duplicates(images).tolist() == [0, 1, 1, 0]
    assert near_duplicates([scans[0], scans[1] * scale, scans[0] * scale]).tolist() == [0, 1, 0]


def test_constant_images_are_related_to_none() -> None:
    assert near_duplicates(torch.zeros(3, 1, 64, 64)).tolist() == [0, 1, 2]


def test_constant_images_are_no_leak() -> None:
    empty = [{"id": f"{k}", "image": torch.full((1, 8, 8), k / 4)} for k in (0, 0, 2)]
    assert_disjoint([empty[0]], [{**empty[1], "id": "other"}])
    assert_disjoint([{"image": torch.ones(1, 8, 8)}], [{"image": torch.ones(1, 8, 8)}])
    scan = torch.ones(1, 8, 8)
    scan[0, 0, 0] = 0
    with pytest.raises(ValueError, match="they share 1 image"):
        assert_disjoint([{"image": scan}], [{"image": scan.clone()}])


def lungs(count: int, *, seed: int = 0) -> torch.Tensor:
    """Frames (count, 1, 96, 96) of as many patients: one bright fan in black corners, and each its own structure."""
    generator = torch.Generator().manual_seed(seed)
    y, x = torch.meshgrid(torch.linspace(0, 1, 96), torch.linspace(-1, 1, 96), indexing="ij")
    fan = (x.abs() < 0.3 + 0.65 * y) & (x.square() + y.square() < 1)
    own = F.interpolate(torch.rand(count, 1, 24, 24, generator=generator), (96, 96), mode="bicubic").clamp(0, 1)
    logo = (torch.rand(8, 20, generator=generator) > 0.5).float()
    images = fan * (1.1 - y) * (0.6 + 0.3 * own)
    images[:, 0, 2:10, 2:22] = logo
    return images


@pytest.mark.parametrize("count", [6, 40])
def test_what_all_images_share_does_not_count(count: int) -> None:
    images = lungs(count)
    plain = torch.corrcoef(images.flatten(1))
    assert plain.min() > 0.95  # what groups were made of
    assert near_duplicates(images).tolist() == list(range(count))
    noise = 0.02 * torch.randn(images[:2].shape, generator=torch.Generator().manual_seed(1))
    copies = [(0.2 + 0.6 * images[1]), (images[2:4] + noise)[1], images[4].flip(-1), images[5][:, 2:-2, 2:-2]]
    groups = near_duplicates([*images, *copies]).tolist()
    assert groups[:count] == list(range(count))
    assert groups[count:] == [1, 3, 4, 5]


def test_a_set_of_copies_is_one_group() -> None:
    image = lungs(1)
    for count in (2, 3, 40):
        noise = 0.01 * torch.randn(count, 1, 96, 96, generator=torch.Generator().manual_seed(0))
        assert near_duplicates(image + noise).tolist() == [0] * count


ALTERED = {
    "mirrored": lambda x: x.flip(2),
    "upside down": lambda x: x.flip(1),
    "turned by 90": lambda x: x.rot90(1, (1, 2)),
    "turned by 180": lambda x: x.rot90(2, (1, 2)),
    "turned by 270": lambda x: x.rot90(3, (1, 2)),
    "mirrored and turned": lambda x: x.flip(2).rot90(1, (1, 2)),
    "4 % off each border": lambda x: x[:, 4:-4, 4:-4],
    "4 % off two borders": lambda x: x[:, 4:, 4:],
    "4 % off one border": lambda x: x[:, :, :-4],
    "cropped and mirrored": lambda x: x[:, 1:-3, 2:].flip(2),
    "resized": lambda x: F.interpolate(x[None], (60, 80), mode="bilinear", antialias=True)[0],
    "contrast": lambda x: 0.3 + 0.5 * x,
}


@pytest.fixture(scope="module")
def breasts() -> torch.Tensor:
    return torch.stack([item["image"] for item in Phantom(24, size=96, seed=3)])


@pytest.mark.parametrize("kind", ALTERED)
def test_altered_copies_are_found(breasts: torch.Tensor, kind: str) -> None:
    copies = [ALTERED[kind](breasts[k]) for k in range(0, 24, 3)]
    groups = near_duplicates([*breasts, *copies]).tolist()
    assert groups[:24] == list(range(24))
    assert sum(group == k for group, k in zip(groups[24:], range(0, 24, 3), strict=True)) >= 7


class Largest(TorchDispatchMode):
    """The most elements of a tensor that lists or marks pairs."""

    def __init__(self) -> None:
        super().__init__()
        self.elements = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for value in result if isinstance(result, (tuple, list)) else [result]:
            if isinstance(value, torch.Tensor) and not value.is_floating_point():
                self.elements = max(self.elements, value.numel())
        return result


@pytest.mark.parametrize("alike", [True, False])
def test_memory_grows_with_the_number_of_images_alone(alike: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    count, block = 400, 16
    monkeypatch.setattr("sslmed.data._copies._BLOCK", block)
    monkeypatch.setattr("sslmed.data._copies._BEST", 2)
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(1 if alike else count, 1, 16, 16, generator=generator).expand(count, 1, 16, 16)
    with Largest() as largest:
        groups = near_duplicates(images)
    assert groups.tolist() == ([0] * count if alike else list(range(count)))
    assert largest.elements <= 3 * block * count


def test_groups_do_not_follow_the_state_of_torch_or_the_precision_of_images() -> None:
    images = [Phantom(6, size=64)[k]["image"] for k in range(6)]
    images += [images[0].flip(2), 0.8 * images[1], images[2][:, 2:-2, 2:-2]]
    want = [0, 1, 2, 3, 4, 5, 0, 1, 2]
    for name, state in STATES.items():
        with state():
            assert near_duplicates(images).tolist() == want, name
    for dtype in (torch.float16, torch.bfloat16, torch.float64):
        assert near_duplicates([image.to(dtype) for image in images]).tolist() == want


def test_bad_images() -> None:
    with pytest.raises(ValueError, match=r"images\[1\] is empty, its shape is \(1, 0, 4\)"):
        near_duplicates([torch.rand(1, 4, 4), torch.rand(1, 0, 4)])
    with pytest.raises(TypeError, match="images must be a floating point tensor"):
        near_duplicates(torch.zeros(2, 1, 8, 8, dtype=torch.uint8))
    with pytest.raises(ValueError, match=r"each of images must have shape \(C, H, W\), got \(8, 8\)"):
        near_duplicates(torch.rand(2, 8, 8))
    with pytest.raises(ValueError, match="threshold must be a finite number"):
        near_duplicates(torch.rand(2, 1, 8, 8), threshold=1.5)
    with pytest.raises(ValueError, match="images is empty"):
        near_duplicates([])
    with pytest.raises(ValueError, match=r"images\[1\] holds NaN"):
        near_duplicates(torch.tensor([0.0, float("nan")]).view(2, 1, 1, 1).expand(2, 1, 8, 8))


def test_parts_of_a_set_are_disjoint() -> None:
    phantom = Phantom(12, size=32)
    train, test = Subset(phantom, range(8)), Subset(phantom, range(8, 12))
    assert_disjoint(train, test)
    with pytest.raises(ValueError, match=r"share 1 group .*1 id \('phantom-0-000007'\)"):
        assert_disjoint(train, Subset(phantom, range(7, 12)))


def test_ids_groups_and_pixels_each_count() -> None:
    image, other = torch.rand(2, 1, 8, 8).unbind()
    a = [{"id": "a", "group": "p1", "image": image}]
    with pytest.raises(ValueError, match=r"share 1 id \('a'\)$"):
        assert_disjoint(a, [{"id": "a", "group": "p2", "image": other}])
    with pytest.raises(ValueError, match=r"share 1 group \('p1'\)$"):
        assert_disjoint(a, [{"id": "b", "group": "p1", "image": other}])
    with pytest.raises(ValueError, match=r"share 1 image \('a' = 'b'\)$"):
        assert_disjoint(a, [{"id": "b", "group": "p2", "image": image.clone()}])
    assert_disjoint(a, [{"id": "b", "group": "p2", "image": other}])
    assert_disjoint(a, [{"id": "b", "image": image.mT.contiguous().mT + 1e-6}])


def test_missing_keys_are_no_common_ground() -> None:
    assert_disjoint([{"id": "a", "group": None}], [{"id": "b", "group": None}])
    assert_disjoint([{"id": "a"}], [{"group": "a"}])


def test_names_and_long_lists() -> None:
    assert_disjoint([1, 2], [3])
    with pytest.raises(ValueError, match=r"share 5 names \(0, 1, 2 and 2 more\)"):
        assert_disjoint(range(5), range(9))
    assert_disjoint([], range(9))


def test_tensors_are_compared_by_value() -> None:
    assert_disjoint(torch.tensor([1, 2]), torch.tensor([3]))
    with pytest.raises(ValueError, match=r"share 1 name \(2\)"):
        assert_disjoint(torch.tensor([1, 2]), [2, 3])
    with pytest.raises(ValueError, match=r"share 1 group \(7\)"):
        assert_disjoint([{"group": torch.tensor(7)}], [{"group": torch.tensor(7)}])


@pytest.mark.parametrize(("a", "b"), [(["1"], [1]), ([Path("1")], ["1"]), ([("s", 1)], ["s"])])
def test_names_of_two_types_are_never_equal_and_so_refused(a: list[object], b: list[object]) -> None:
    with pytest.raises(TypeError, match=r"names of a and b must be of one type, got .* which are never equal"):
        assert_disjoint(a, b)
    with pytest.raises(TypeError, match="groups of a and b must be of one type"):
        assert_disjoint([{"id": "a", "group": a[0]}], [{"id": "b", "group": b[0]}])
    assert_disjoint([1, np.int64(2)], [3.0])
    assert_disjoint(a, [])


def test_what_cannot_be_compared_is_refused() -> None:
    phantom = Phantom(2, size=32)
    with pytest.raises(TypeError, match="got items in a and names in b"):
        assert_disjoint(phantom, phantom.ids)
    with pytest.raises(TypeError, match="got items in b and names in a"):
        assert_disjoint(phantom.ids, phantom)
    with pytest.raises(TypeError, match=r"got a tensor of shape \(1, 8, 8\)"):
        assert_disjoint(torch.zeros(2, 1, 8, 8), torch.zeros(2, 1, 8, 8))
    assert_disjoint(phantom, [])
