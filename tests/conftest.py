"""Fixtures shared by all tests."""

from __future__ import annotations

import pytest
import torch

torch.set_num_threads(1)  # the tests' tensors are small: threads cost more than they give


@pytest.fixture(params=["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
def device(request: pytest.FixtureRequest) -> torch.device:
    """Each device the machine has; CUDA skips where there is none."""
    if request.param == "cuda" and not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    return torch.device(request.param)
