"""Every public piece in every surrounding: what a call gives depends on its arguments and draws alone."""

from __future__ import annotations

import copy
import pickle
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import astuple, is_dataclass
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import (
    DataDependentOutputException,
    DynamicOutputShapeException,
    FakeTensorMode,
)

import pieces
from ambient import STATES
from pieces import Piece
from sslmed import augment, data, losses, memory, methods, metrics, models
from sslmed.augment import functional, views
from sslmed.metrics import compare

PIECES = pieces.pieces()
CHANGING = ("memory", "methods", "collected")  # a call changes them
every = pytest.mark.parametrize("piece", PIECES.values(), ids=PIECES)


def of(*rooms: str) -> Any:
    chosen = {name: piece for name, piece in PIECES.items() if piece.room in rooms}
    return pytest.mark.parametrize("piece", chosen.values(), ids=chosen)


def test_every_public_piece_is_swept() -> None:
    public = {f"augment.{name}" for name in (*augment.__all__, *views.__all__, *functional.__all__)}
    public -= {"augment.functional", "augment.views"}
    public |= {f"losses.{name}" for name in (*losses.__all__, *losses.functional.__all__)}
    public |= {f"memory.{name}" for name in memory.__all__} | {f"metrics.{name}" for name in metrics.__all__}
    public |= {f"metrics.stateful.{name}" for name in metrics.stateful.__all__}
    public |= {f"methods.{name}" for name in methods.__all__} | {f"tasks.{name}" for name in pieces.OUTLINE_LOSSES}
    public |= {f"metrics.compare.{name}" for name in ("paired", "holm")}
    public |= {f"models.{name}" for name in models.__all__} | {"distributed.gather"}
    public -= {
        "losses.functional",
        "methods.COMMANDS",
        "methods.Method",
        "methods.Step",
        "metrics.compare",
        "models.MatchReport",
        "models.load_encoder",
        "models.feature_width",
        "metrics.stateful",
        "metrics.stateful.PerCase",
        "metrics.stateful.WholeSet",
    }
    assert public <= PIECES.keys()
    assert {name for name in vars(compare) if name in ("paired", "holm")} == {"paired", "holm"}


# Comparing


@pytest.fixture
def cold() -> None:
    """Empty every cache of the package."""
    for name, module in list(sys.modules.items()):
        for value in vars(module).values() if name.startswith("sslmed.") else ():
            if hasattr(value, "cache_clear"):
                value.cache_clear()


def flat(result: Any) -> list[Any]:
    """Tensors and numbers of a result, in order."""
    if isinstance(result, (list, tuple)):
        return [leaf for part in result for leaf in flat(part)]
    if isinstance(result, dict):
        return flat(list(result.values()))
    return flat(astuple(result)) if is_dataclass(result) else [result]


def called(piece: Piece, target: Any = None, **settings: Any) -> list[Any]:
    """Call `target`, or the piece made anew, on the same inputs and with the same draws each time."""
    pieces.begin(**settings)
    torch.default_generator.manual_seed(7)
    if target is None:
        target = piece.make()
    elif piece.room in CHANGING:
        target = copy.deepcopy(target)
    return flat(piece.call(target))


def same(got: list[Any], want: list[Any], *, rtol: float = 1e-5, atol: float = 1e-6) -> None:
    for g, w in zip(got, want, strict=True):
        if not isinstance(w, Tensor):
            assert g == w or (g != g and w != w)
            continue
        assert type(g) in (Tensor, nn.Parameter)
        if not w.is_floating_point():
            assert torch.equal(g, w)
        else:
            torch.testing.assert_close(g, w, rtol=rtol, atol=atol, equal_nan=True)


def alike(got: list[Tensor], want: list[Tensor]) -> None:
    """Equal but for half precision's rounding."""
    for g, w in zip(got, want, strict=True):
        assert torch.linalg.vector_norm(g - w) <= 0.05 * torch.linalg.vector_norm(w)


# The sweeps

ROUNDING = {"autocast float16", "autocast bfloat16", "matmul precision"}  # of networks, as asked for
WITHOUT_GRADIENTS = {"no_grad", "inference_mode"}


@every
def test_no_state_of_torch_changes_a_result(piece: Piece) -> None:
    everything, target = called(piece), piece.make()
    for name, state in STATES.items():
        want = everything
        near = piece.room in ("models", "methods") and name in ROUNDING
        # A processor may multiply in bfloat16 where matrix products need no more precision.
        tolerance = {"rtol": 2e-2, "atol": 2e-2} if name == "matmul precision" else {}
        with state():
            results = [called(piece, target)]
            if not piece.weights:  # whose dtype is the default
                results.append(called(piece))
        for got in results:
            try:
                if name in WITHOUT_GRADIENTS:
                    assert got
                    want = want[: len(got)]
                alike(got, want) if near else same(got, want, **tolerance)
            except AssertionError as error:
                raise AssertionError(f"{name}: {error}") from None
    same(called(piece, target), everything)


@pytest.mark.parametrize("make", pieces.AUGMENTATIONS.values(), ids=pieces.AUGMENTATIONS)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_half_precision_images_under_autocast_of_the_other_half(make: Any, dtype: torch.dtype) -> None:
    pieces.begin()
    x, transform = pieces.rand(*pieces.SHAPE).to(dtype), make(p=0.5)
    params = transform.forward_parameters(x.shape)
    want = transform(x, params=params)
    other = torch.bfloat16 if dtype == torch.float16 else torch.float16
    with torch.autocast("cpu", dtype=other):
        assert torch.equal(transform(x, params=params), want)


@pytest.mark.parametrize("name", ["SyntheticLesions", "segmentation"])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_half_precision_images_and_masks_under_autocast_of_the_other_half(name: str, dtype: torch.dtype) -> None:
    pieces.begin()
    x, transform = pieces.rand(*pieces.SHAPE).to(dtype), PIECES[f"augment.{name}"].make()
    given = (x, x > 0.5) if name == "segmentation" else (x,)
    params = transform.forward_parameters(x.shape)
    want = transform(*given, params=params)
    other = torch.bfloat16 if dtype == torch.float16 else torch.float16
    with torch.autocast("cpu", dtype=other):
        for got, expected in zip(transform(*given, params=params), want, strict=True):
            assert torch.equal(got, expected)
            assert got.dtype == expected.dtype


@pytest.mark.parametrize("phantom", [data.Phantom, data.MammogramPhantom, data.MRPhantom])
@pytest.mark.parametrize("state", STATES)
def test_phantoms_do_not_follow_the_state_of_torch(phantom: Any, state: str, cold: None) -> None:
    with STATES[state]():
        got = phantom(2, size=32)[1]
    want = phantom(2, size=32)[1]
    for name, value in want.items():
        assert torch.equal(got[name], value) if isinstance(value, Tensor) else got[name] == value


# Earlier calls


@of("augment", "losses", "memory", "metrics")  # networks keep nothing
def test_a_call_on_fake_tensors_leaves_nothing_behind(piece: Piece, cold: None) -> None:
    fake = FakeTensorMode(allow_non_fake_inputs=True)
    # Some look at values, which fake tensors have none of; what they leave behind counts all the same.
    with suppress(Exception), fake:
        called(piece)
    same(called(piece), called(piece), rtol=0, atol=0)
    if piece.room in ("augment", "losses"):  # caches are warm now
        with suppress(DataDependentOutputException, DynamicOutputShapeException), fake:
            called(piece)


@every
def test_a_call_in_inference_mode_leaves_nothing_behind(piece: Piece, cold: None) -> None:
    target = piece.make()
    with torch.inference_mode():
        called(piece)
        if not piece.weights:
            called(piece, target)
    same(called(piece, target), called(piece), rtol=0, atol=0)


@pytest.mark.parametrize("name", ["FrequencyBandStop", "CrossPatchJigsaw"])  # with caches
def test_a_compiled_call_leaves_nothing_behind(name: str, cold: None) -> None:
    torch._dynamo.reset()
    piece = PIECES[f"augment.{name}"]
    target = piece.make()
    pieces.begin()
    x = pieces.rand(*pieces.SHAPE)
    params = target.forward_parameters(x.shape)
    compiled = torch.compile(target, backend="eager")(x, params=params)
    torch.testing.assert_close(target(x, params=params), compiled, rtol=0, atol=1e-6)
    same(called(piece, target), called(piece), rtol=0, atol=0)


@every
def test_calls_leave_the_state_of_torch_as_it_was(piece: Piece) -> None:
    def state() -> tuple[Any, ...]:
        return (
            torch.get_default_dtype(),
            torch.get_num_threads(),
            torch.is_grad_enabled(),
            torch.get_float32_matmul_precision(),
            torch.are_deterministic_algorithms_enabled(),
            torch.is_autocast_enabled("cpu"),
            torch.get_default_device(),
            torch._C._len_torch_dispatch_stack(),
        )

    before = state()
    called(piece)
    assert state() == before


# Copies


@every
def test_copies_do_the_same(piece: Piece) -> None:
    target, want = piece.make(), called(piece)
    for other in (
        copy.deepcopy(target),
        *([pickle.loads(pickle.dumps(target))] if picklable(target) else []),
    ):
        same(called(piece, other), want, rtol=0, atol=0)


def picklable(target: Any) -> bool:
    """All but this file's own lambdas."""
    return getattr(target, "__name__", "") != "<lambda>"


# Threads


@every
def test_threads_that_share_a_piece_do_not_meet(piece: Piece) -> None:
    if piece.room in CHANGING:
        pytest.skip("what writes to itself belongs to one thread")
    target = piece.make()

    def call(job: int) -> list[Any]:
        pieces.begin(seed=job)
        return flat(piece.call(target, params[job]) if piece.draws else piece.call(target))

    params = [target.forward_parameters(pieces.SHAPE) if piece.draws else None for _ in range(4)]
    want = [call(job) for job in range(4)]
    state = torch.get_rng_state()
    with ThreadPoolExecutor(4) as pool:
        for job, got in enumerate(pool.map(call, list(range(4)) * 2)):
            same(got, want[job % 4])
    assert torch.equal(torch.get_rng_state(), state)


# Devices and subclasses


@of("augment", "losses", "memory", "models", "distributed")  # metrics look at values
def test_pieces_run_on_the_meta_device(piece: Piece) -> None:
    want, target = called(piece), piece.make()
    target = target.to("meta") if isinstance(target, nn.Module) else target
    for autocast in (False, True):
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=autocast):
            got = called(piece, target, device="meta")
        for g, w in zip(got, want, strict=True):
            if isinstance(w, Tensor):
                assert (g.shape, g.dtype, g.device.type) == (w.shape, w.dtype, "meta")


class Tagged(Tensor):
    """A tensor that carries notes along, as MONAI's MetaTensor does."""

    notes: dict[str, Any]

    def new_empty(self, size: Any, **settings: Any) -> Tensor:  # of one tuple, as MetaTensor's
        return self.as_subclass(Tensor).new_empty(size=size, **settings).as_subclass(Tagged)

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = super().__torch_function__(func, types, args, kwargs or {})
        parts = result if isinstance(result, (list, tuple)) else [result]
        for part in parts:
            if isinstance(part, Tagged):
                first = next((x for x in (*args, *parts) if isinstance(x, Tagged) and hasattr(x, "notes")), None)
                part.notes = dict(first.notes) if first is not None else {}
        return result


@every
def test_subclasses_that_annotate_tensors_give_the_same(piece: Piece) -> None:
    want = called(piece)
    got = [x.as_subclass(Tensor) if isinstance(x, Tagged) else x for x in called(piece, kind=Tagged)]
    same(got, want)
