"""What all loss modules share: any batch size, no state of their own, copies that work, the functional twin."""

from __future__ import annotations

import copy
import inspect
import pickle
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from sslmed.losses import (
    BYOL,
    NCE,
    InfoNCE,
    LocalContrastive,
    MaskedL1,
    NegativeCosine,
    NTXent,
    Perceptual,
    RelationContrastive,
    byol,
    info_nce,
    local_contrastive,
    masked_l1,
    nce,
    negative_cosine,
    nt_xent,
    perceptual,
)


def rows(n: int, *shape: int, seed: int = 0) -> Tensor:
    return torch.randn(n, *shape, generator=torch.Generator().manual_seed(seed))


def pair(n: int) -> tuple[Tensor, ...]:
    return rows(n, 6), rows(n, 6, seed=1)


def maps(n: int) -> tuple[Tensor, ...]:
    return rows(n, 3, 6, 6), rows(n, 3, 6, 6, seed=1)


CASES: dict[str, tuple[nn.Module, Callable[..., Tensor], Callable[[int], tuple[Tensor, ...]]]] = {
    "NTXent": (NTXent(), nt_xent, pair),
    "InfoNCE": (InfoNCE(), info_nce, pair),
    "InfoNCE, queue": (InfoNCE(), info_nce, lambda n: (*pair(n), rows(9, 6, seed=2))),
    "NCE": (NCE(), lambda *x: nce(*x, population=50), lambda n: (*pair(n), rows(n, 4, 6, seed=2))),
    "BYOL": (BYOL(), byol, pair),
    "NegativeCosine": (NegativeCosine(), negative_cosine, pair),
    "MaskedL1": (MaskedL1(), masked_l1, lambda n: (*maps(n), rows(n, 1, 6, 6) > 0)),
    "Perceptual": (Perceptual(), perceptual, lambda n: (rows(n, 5, 4, 4), rows(n, 9, 5, 2, 2))),
    "LocalContrastive": (
        LocalContrastive(region=2),
        lambda *x: local_contrastive(*x, region=2, generator=torch.Generator().manual_seed(0)),
        maps,
    ),
}


def called(module: nn.Module, inputs: tuple[Tensor, ...]) -> Tensor:
    if isinstance(module, NCE):
        return module(*inputs, population=50)
    if isinstance(module, LocalContrastive):
        return module(*inputs, generator=torch.Generator().manual_seed(0))
    return module(*inputs)


@pytest.mark.parametrize("name", CASES)
def test_one_module_takes_any_batch_size(name: str) -> None:
    module, function, inputs = CASES[name]
    for n in (8, 5, 2, 11):
        assert torch.equal(called(module, inputs(n)), function(*inputs(n)))


@pytest.mark.parametrize("name", CASES)
def test_a_module_compiles_with_all_that_may_vary_left_open(name: str) -> None:
    module, function, inputs = CASES[name]
    if name == "LocalContrastive":  # a graph holds no generator: all other regions are drawn instead
        module = function = LocalContrastive(region=2, negatives=8)
    compiled = torch.compile(module, fullgraph=True, dynamic=True, backend="eager")
    extra = {"population": 50} if isinstance(module, NCE) else {}
    for n in (8, 5):
        torch.testing.assert_close(compiled(*inputs(n), **extra), function(*inputs(n)))


@pytest.mark.parametrize("function", [nt_xent, info_nce])
def test_a_temperature_that_follows_a_schedule_compiles(function: Callable[..., Tensor]) -> None:
    compiled = torch.compile(function, fullgraph=True, backend="eager")
    for temperature in (0.5, 0.3, 0.1):
        expected = function(*pair(6), temperature=temperature)
        torch.testing.assert_close(compiled(*pair(6), temperature=temperature), expected)


@pytest.mark.parametrize("name", CASES)
def test_a_module_holds_settings_only(name: str) -> None:
    module, _, inputs = CASES[name]
    expected = called(module, inputs(4))
    assert expected.shape == ()
    assert expected.isfinite()
    assert not module.state_dict()
    for other in (copy.deepcopy(module), pickle.loads(pickle.dumps(module)), copy.copy(module).half().eval()):
        assert torch.equal(called(other, inputs(4)), expected)


def test_the_learnable_head_takes_any_batch_size_too() -> None:
    head = RelationContrastive(6, hidden=4)
    for n in (8, 5, 2, 1):
        assert head(*pair(n), rows(7, 6, seed=2)).isfinite()
    assert head.state_dict().keys() == dict(head.named_parameters()).keys()


@pytest.mark.parametrize("name", CASES)
def test_integers_and_rows_that_do_not_fit_are_refused_by_name(name: str) -> None:
    module, function, inputs = CASES[name]
    x = inputs(4)
    named = [each for each in inspect.signature(type(module).forward).parameters if each != "self"]
    for place, argument in enumerate(named[: len(x)]):
        if x[place].dtype == torch.bool:
            continue
        with pytest.raises(TypeError, match=f"^{argument} must be a floating point tensor, got torch.int64"):
            called(module, (*x[:place], x[place].long(), *x[place + 1 :]))
    for call in (function, lambda *y: called(module, y)):
        with pytest.raises(ValueError, match=rf"{named[0]}|{named[1]}"):
            call(x[0], x[1][:3], *x[2:])


def test_noise_contrastive_estimation_needs_negatives() -> None:
    with pytest.raises(ValueError, match=r"negatives must hold at least one row.*\(4, 0, 6\)"):
        nce(*pair(4), rows(4, 0, 6), population=50)
    with pytest.raises(ValueError, match=r"negatives must have shape \(N, K, D\).*\(3, 2, 6\)"):
        nce(*pair(4), rows(3, 2, 6), population=50)
