"""What two stages of a study may not share: ids, groups, identical pixels."""

from __future__ import annotations

import hashlib
from collections.abc import Hashable, Mapping, Sequence
from numbers import Number
from typing import Any

import torch

from .readers._cases import shown


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
        raise TypeError(f"a and b must both hold items or both names, got items in {items} and names in {named}")
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
