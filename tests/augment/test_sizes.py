"""What an image's size may be, in every function that takes one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from sslmed.augment.functional import (
    acquired_matrix,
    band_stop_mask,
    beams,
    bias_field,
    correspond,
    shadow_profile,
    speckle_intensity,
)

ONE = torch.ones(1)
FUNCTIONS: dict[str, Callable[[Any], object]] = {
    "acquired_matrix": lambda size: acquired_matrix(size, ONE, ONE),
    "band_stop_mask": lambda size: band_stop_mask(size, 1, 2, 0),
    "beams": beams,
    "bias_field": lambda size: bias_field(size, torch.ones(1, 2)),
    "correspond": lambda size: correspond(torch.ones(1, 1, 2), torch.eye(3)[None], torch.eye(3)[None], size=size),
    "shadow_profile": lambda size: shadow_profile(size, ONE, ONE, ONE),
    "speckle_intensity": lambda size: speckle_intensity(torch.zeros(1, 2, dtype=torch.int32), ONE, ONE, size),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_size_is_two_integers_above_zero(name: str) -> None:
    call = FUNCTIONS[name]
    for size in ((8, 6), [8, 6], torch.Size([8, 6])):
        call(size)
    for size in (8, (8,), (8, 6, 3), "86", None):
        with pytest.raises(ValueError, match=r"size must be \(H, W\), got"):
            call(size)
    for size in ((8.0, 6), ("8", 6), (True, 6)):
        with pytest.raises(TypeError, match=r"size\[0\] must be an integer, got"):
            call(size)
    for size in ((8, 0), (8, -6)):
        with pytest.raises(ValueError, match=r"size\[1\] must be at least 1, got"):
            call(size)
