"""What makes two images the same case: near-equal pictures, equal ids, groups or pixels."""

from __future__ import annotations

import hashlib
from collections.abc import Hashable, Mapping, Sequence
from numbers import Number
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch.nn import functional as F

from .. import _checks
from ._cases import shown

_THUMBNAIL, _BLOCK = 64, 512


def near_duplicates(
    images: torch.Tensor | Sequence[torch.Tensor], *, threshold: float = 0.95
) -> npt.NDArray[np.int64]:
    """Group images that are nearly the same picture: saved again, resized, recompressed, slightly recropped.

    Images are reduced to 64 x 64; two whose Pearson correlation exceeds `threshold` are a pair, and groups are the
    unions of pairs. A constant image correlates with none.

    Args:
        images: (N, C, H, W) floating point, or a sequence of (C, H, W) of any sizes; channels are averaged.
        threshold: in [-1, 1].

    Returns:
        (N,) int64: for each image the position of the first image of its group, ready as `groups` of `group_split`.

    Raises:
        TypeError: images are not floating point.
        ValueError: there is no image, one is not (C, H, W) or holds NaN or infinity, or `threshold` is out of range.

    Example:
        >>> scan, other = torch.rand(2, 1, 96, 96).unbind()
        >>> near_duplicates([scan, other, 0.9 * scan]).tolist()
        [0, 1, 0]
    """
    _checks.number("threshold", threshold, low=-1.0, high=1.0)
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    thumbnails = _thumbnails(images)
    pairs = []
    for start in range(0, len(thumbnails), _BLOCK):
        correlation = thumbnails[start : start + _BLOCK] @ thumbnails[start:].T
        pairs.append((correlation > threshold).nonzero() + start)
    i, j = torch.cat(pairs).numpy(force=True).T
    links = coo_array((np.ones(len(i), dtype=bool), (i, j)), shape=(len(thumbnails),) * 2)
    _, component = connected_components(links, directed=False)
    _, first, of_image = np.unique(component, return_index=True, return_inverse=True)
    return first[of_image].astype(np.int64)


def assert_disjoint(a: Sequence[Any], b: Sequence[Any]) -> None:
    """Raise if two stages share a case.

    Items (mappings, as data sets give them) are compared by "id", by "group" and by a hash of the pixels of "image",
    each where both items have the key: the same pixels under another name are found. A constant image, such as an empty
    slice, has no such hash. Anything else is compared as it is, so that lists of ids or of groups do as well.

    Args:
        a: items of one stage, or names: hashable, or the numbers in a tensor (N,).
        b: of the other, of the same kind; a map-style data set such as `torch.utils.data.Subset` fits too.

    Raises:
        TypeError: one stage holds items and the other names, names, ids or groups are of one type in one stage and of
            another in the other (as 1 and "1"), or a name is a tensor of several numbers: nothing would be compared.
        ValueError: something is shared; the message lists the first of it.

    Example:
        >>> assert_disjoint(["benign (1)", "benign (2)"], ["benign (3)"])
        >>> assert_disjoint(["benign (1)"], ["benign (1)"])
        Traceback (most recent call last):
        ValueError: a and b are not disjoint: they share 1 name ('benign (1)')
    """
    marks_a, marks_b = _marks(a), _marks(b)
    if marks_a and marks_b and ("name" in marks_a) != ("name" in marks_b):
        items, named = ("b", "a") if "name" in marks_a else ("a", "b")
        raise TypeError(
            f"a and b must both hold items or both names, got items in {items} and names in {named}"
        )
    found = []
    for kind in sorted(marks_a.keys() & marks_b.keys()):
        types_a, types_b = ({_type(key) for key in marks[kind]} for marks in (marks_a, marks_b))
        if not types_a & types_b:
            raise TypeError(
                f"{kind}s of a and b must be of one type, got {shown(sorted(types_a))} in a and "
                f"{shown(sorted(types_b))} in b, which are never equal"
            )
        shared = [key for key in marks_a[kind] if key in marks_b[kind]]
        if shared:
            pairs = [(marks_a[kind][key], marks_b[kind][key]) for key in shared[:3]]
            names = [repr(x) if x == y else f"{x!r} = {y!r}" for x, y in pairs]
            rest = f" and {len(shared) - 3} more" if len(shared) > 3 else ""
            found.append(f"{len(shared)} {kind}{'s' * (len(shared) > 1)} ({', '.join(names)}{rest})")
    if found:
        raise ValueError(f"a and b are not disjoint: they share {'; '.join(found)}")


def _thumbnails(images: torch.Tensor | Sequence[torch.Tensor]) -> torch.Tensor:
    """Reduce images to (N, 4096) rows of mean 0 and norm 1; a constant image becomes zeros."""
    if not len(images):
        raise ValueError("images is empty")
    rows: list[torch.Tensor] = []
    for image in images:
        _checks.floating("images", image)
        _checks.shaped("each of images", image, "(C, H, W)", ndim=3)
        if not image.isfinite().all():
            raise ValueError(f"images[{len(rows)}] holds NaN or infinity, which correlates with nothing")
        if not image.numel():
            raise ValueError(f"images[{len(rows)}] is empty, its shape is {tuple(image.shape)}")
        values = image.detach().to(torch.promote_types(image.dtype, torch.float32))
        # In parts of its own range, so that images of very small and of very large numbers are compared alike.
        gray = _scaled(_scaled(values, values.abs().amax()).mean(dim=0)).float()[None, None]
        small = F.interpolate(gray, (_THUMBNAIL, _THUMBNAIL), mode="bilinear", antialias=True)
        rows.append((small - small.mean()).flatten())
    return F.normalize(torch.stack(rows), eps=1e-6)


def _scaled(values: torch.Tensor, by: torch.Tensor | None = None) -> torch.Tensor:
    """Divide by `by`, or bring to [0, 1]; what is constant becomes 0."""
    if by is None:
        low, high = values.aminmax()
        values, by = values - low, high - low
    return values / by if by > 0 else torch.zeros_like(values)


def _marks(stage: Sequence[Any]) -> dict[str, dict[Hashable, Hashable]]:
    """Collect what identifies the cases of a stage: for each kind of mark, its keys and the name to show for each."""
    marks: dict[str, dict[Hashable, Hashable]] = {}
    for k in range(len(stage)):
        item = stage[k]
        if not isinstance(item, Mapping):
            name = _name(item)
            marks.setdefault("name", {})[name] = name
            continue
        for kind in ("id", "group"):
            if item.get(kind) is not None:
                name = _name(item[kind])
                marks.setdefault(kind, {})[name] = name
        if isinstance(image := item.get("image"), torch.Tensor):
            pixels = image.detach().float().cpu().contiguous().numpy()
            if not pixels.size or (pixels == pixels.flat[0]).all():
                continue  # the empty end slices of two volumes are equal, and no leak
            key = (pixels.shape, hashlib.blake2b(pixels.tobytes(), digest_size=16).digest())
            marks.setdefault("image", {})[key] = item.get("id", k)
    return marks


def _type(key: Hashable) -> str:
    return "number" if isinstance(key, Number) else type(key).__name__


def _name(value: Any) -> Hashable:
    """Return a name that compares by value: tensors hash by identity, and would never be found equal."""
    if not isinstance(value, torch.Tensor):
        return value  # type: ignore[no-any-return]
    if value.ndim:
        raise TypeError(
            f"a name must be one value, got a tensor of shape {tuple(value.shape)}; give images as items "
            '{"image": image}'
        )
    return value.item()
