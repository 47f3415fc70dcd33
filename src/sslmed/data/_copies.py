"""Near duplicates: images that are the same picture, resized, recompressed, cropped a little, mirrored or turned."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch

from .. import _checks
from .._compat import without_autocast
from ._thumbnails import (
    ORIENTATIONS,
    aligned,
    coarse_detail,
    detail,
    thumbnails,
    turned,
    turned_back,
    unit_rows,
)

_BLOCK = 256  # rows compared at a time
_PAIRS = 1024  # pairs aligned at a time
_BEST = 8  # candidates of each image that are aligned, over all orientations

_CANDIDATE = 0.4  # correlation of coarse detail above which a pair is aligned
# Correlation of detail above which two thumbnails show the same. Between lungs of different patients, whose frames
# share the fan, it is at most 0.59, and 0.46 where what all frames share is subtracted, or 0.54 after a search for the
# best shift and turn. Copies have 0.7 to 1.
_DETAIL, _UNKNOWN, _SEARCHED = 0.5, 0.12, 0.12
_EQUAL_DETAIL = 0.82
_FEW = 3  # of so few images it is not known what all of them share


def near_duplicates(images: torch.Tensor | Sequence[torch.Tensor], *, threshold: float = 0.95) -> npt.NDArray[np.int64]:
    """Group images that are nearly the same picture.

    Images are reduced to 64 x 64. Two are a pair if their Pearson correlation exceeds `threshold` and their fine
    structure agrees too: local contrast is equalised, what all images of the set share (the fan, black corners, a
    logo) is subtracted, and the rest must correlate: above 0.5 in a large set, 0.62 in one of three. So two patients'
    images with the same layout and brightness are no pair. Groups are the unions of pairs. A constant image is a pair
    with none.

    Found are copies that are exact, resized, recompressed, or of another brightness and contrast; mirrored along any
    axis or turned by 90, 180 or 270 degrees; and with up to 4 % of the height and width cut off each border, alone or
    together with the former. Not searched for are larger crops (most up to 8 % are found too), other rotations,
    inverted gray values, strong changes of gamma, markings over much of the picture, and other views of a lesion. See
    `benchmarks/copies.py` and docs/explanations/data.md for measured rates.

    In a set of hardly anything but copies of one picture, noisy ones may be missed: the picture is what all share.

    Unchanged, every image is compared with every other; rotated or cropped, with the eight most similar ones. Images
    are read one after the other and not kept, whatever their size: memory is 50 kB for each, and time
    grows with the square of N (1 GB and two CPU minutes for 20,000).

    Args:
        images: (N, C, H, W) floating point, or a sequence of (C, H, W) of any sizes, which may read them from a disk;
            channels are averaged.
        threshold: in [-1, 1].

    Returns:
        (N,) int64: for each image the position of the first image of its group, ready as `groups` of `group_split`.

    Raises:
        TypeError: images are not floating point.
        ValueError: there is no image, one is not (C, H, W) or holds NaN or infinity, or `threshold` is out of range.

    Example:
        >>> scan, other = torch.rand(2, 1, 96, 96).unbind()
        >>> near_duplicates([scan, other, 0.9 * scan, scan.flip(-1)]).tolist()
        [0, 1, 0, 0]
    """
    _checks.number("threshold", threshold, low=-1.0, high=1.0)
    pictures = thumbnails(images)
    with without_autocast(pictures.device), torch.no_grad():
        groups = _Groups(len(pictures))
        fine = _Fine(detail(pictures))
        _link_upright(pictures, fine, threshold, groups)
        _link_moved(pictures, fine, threshold, groups)
        return groups.first()


class _Groups:
    """Unions of pairs: every image's group, numbered by its first image."""

    def __init__(self, count: int) -> None:
        self.of = np.arange(count)

    def link(self, i: npt.NDArray[np.int64], j: npt.NDArray[np.int64]) -> None:
        """Unite the groups of each pair."""
        from scipy.sparse import coo_array
        from scipy.sparse.csgraph import connected_components

        if len(i):
            pairs = (np.ones(len(i), dtype=bool), (self.of[i], self.of[j]))
            _, component = connected_components(coo_array(pairs, shape=(len(self.of),) * 2), directed=False)
            self.of = component[self.of]

    def first(self) -> npt.NDArray[np.int64]:
        """Return the position of the first image of each image's group."""
        _, first, of_image = np.unique(self.of, return_index=True, return_inverse=True)
        return first[of_image].astype(np.int64)


class _Fine:
    """Whether the fine structure of two images is the same, beside what all images of the set share."""

    def __init__(self, rows: torch.Tensor) -> None:
        self.rows = rows
        unknown = min(1.0, _FEW / len(rows))
        self.level = _DETAIL + _UNKNOWN * unknown
        self.shared = rows.mean(0) * (1 - unknown)
        self.overlap = rows @ self.shared
        self.square = self.shared @ self.shared

    def same(
        self,
        correlation: torch.Tensor,
        overlap_a: torch.Tensor,
        overlap_b: torch.Tensor,
        *,
        margin: float = 0.0,
    ) -> torch.Tensor:
        """Judge pairs by the correlation of their detail, and of each with what is shared."""
        own = correlation - overlap_a - overlap_b + self.square
        scale = (1 - 2 * overlap_a + self.square) * (1 - 2 * overlap_b + self.square)
        alike = own > (self.level + margin) * scale.clamp_min(1e-12).sqrt()
        # Where most images of a set are copies of one picture, that picture is what they share.
        return alike | (correlation > _EQUAL_DETAIL)


def _link_upright(pictures: torch.Tensor, fine: _Fine, threshold: float, groups: _Groups) -> None:
    """Link all pairs that agree as they are."""
    for start in range(0, len(pictures), _BLOCK):
        rows = slice(start, start + _BLOCK)
        found = pictures[rows] @ pictures[start:].T > threshold
        correlation = fine.rows[rows] @ fine.rows[start:].T
        found &= fine.same(correlation, fine.overlap[rows, None], fine.overlap[None, start:])
        i, j = found.nonzero().numpy().T
        groups.link(i + start, j + start)


def _link_moved(pictures: torch.Tensor, fine: _Fine, threshold: float, groups: _Groups) -> None:
    """Link pairs that agree after a turn, a reflection, a shift or a small crop."""
    coarse = coarse_detail(pictures)
    shared = coarse.mean(0) * max(0.0, 1 - _FEW / len(coarse))
    coarse = unit_rows(coarse - shared)
    for start in range(0, len(pictures), _BLOCK):
        near = pictures.new_empty(len(pictures[start : start + _BLOCK]), 0)
        column = turn = near.long()
        linked = torch.from_numpy(groups.of[start : start + _BLOCK, None] == groups.of[None])
        for k in range(ORIENTATIONS):
            # Rotate the block back, instead of the whole set seven times.
            block = turned_back(coarse[start : start + _BLOCK], k)
            correlation = (block @ coarse.T).masked_fill_(linked, -1.0)
            best, place = correlation.topk(min(_BEST, len(pictures)), dim=1)
            near, kept = torch.cat([near, best], 1).topk(min(_BEST, len(pictures)), dim=1)
            column = torch.cat([column, place], 1).gather(1, kept)
            turn = torch.cat([turn, torch.full_like(place, k)], 1).gather(1, kept)
        row, rank = (near > _CANDIDATE).nonzero(as_tuple=True)
        i, j, turns = row + start, column[row, rank], turn[row, rank]
        for first in range(0, len(i), _PAIRS):
            a, b, own = (values[first : first + _PAIRS] for values in (i, j, turns))
            same = _same_moved(pictures, fine, threshold, a, b, own)
            groups.link(a[same].numpy(), b[same].numpy())


def _same_moved(
    pictures: torch.Tensor,
    fine: _Fine,
    threshold: float,
    a: torch.Tensor,
    b: torch.Tensor,
    turns: torch.Tensor,
) -> torch.Tensor:
    other = torch.stack([turned(pictures[j : j + 1], k)[0] for j, k in zip(b.tolist(), turns.tolist(), strict=True)])
    moved = aligned(pictures[a], other)
    structure = detail(moved)
    correlation = (fine.rows[a] * structure).sum(1)
    same = fine.same(correlation, fine.overlap[a], structure @ fine.shared, margin=_SEARCHED)
    return same & ((pictures[a] * moved).sum(1) > threshold)
