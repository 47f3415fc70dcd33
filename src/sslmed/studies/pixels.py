"""Some cases of image sets as datasets and sequences, whose pixels are read when they are requested."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from torch import Tensor
from torch.utils.data import Dataset

if TYPE_CHECKING:
    from .image_set import ImageSet


class Pairs(Dataset[tuple[Tensor, Any]]):
    """Pairs of an image and its target, read from the cache when they are requested.

    Args:
        data: the set.
        index: positions of the cases.
        target: the method of `data` that gives the second of each pair.
    """

    def __init__(self, data: ImageSet, index: Sequence[int], target: str) -> None:
        self.data: ImageSet = data
        self.index: list[int] = list(index)
        self.target: str = target

    def __len__(self) -> int:
        return len(self.index)

    def __getitem__(self, i: int) -> tuple[Tensor, Any]:
        case = [self.index[i]]
        return self.data.images(case)[0], getattr(self.data, self.target)(case)[0]


class Numbered(Dataset[tuple[Tensor, int]]):
    """Pairs (image, position) of some cases of several sets, one set after the other, for a pretext.

    Args:
        parts: sets, and the positions of the cases in each.
    """

    def __init__(self, parts: Iterable[tuple[ImageSet, Sequence[int]]]) -> None:
        self.cases: list[tuple[ImageSet, int]] = [(data, i) for data, index in parts for i in index]

    def __len__(self) -> int:
        return len(self.cases)

    def __getitem__(self, i: int) -> tuple[Tensor, int]:
        data, case = self.cases[i]
        return data.images([case])[0], range(len(self))[i]


class Pictures(Sequence[Tensor]):
    """Images (1, S, S) of some cases of several sets, read one at a time."""

    def __init__(self, *parts: tuple[ImageSet, Sequence[int]]) -> None:
        self.cases: Numbered = Numbered(parts)

    def __len__(self) -> int:
        return len(self.cases)

    def __getitem__(self, i: Any) -> Any:
        return self.cases[i][0]


class Items(Sequence[dict[str, Any]]):
    """Cases with id, group and image, read one at a time."""

    def __init__(self, data: ImageSet, index: Sequence[int]) -> None:
        self.data: ImageSet = data
        self.cases: list[int] = list(index)

    def __len__(self) -> int:
        return len(self.cases)

    def __getitem__(self, i: Any) -> Any:
        case = self.cases[i]
        return {
            "id": self.data.ids[case],
            "group": self.data.groups[case],
            "image": self.data.images([case])[0],
        }
