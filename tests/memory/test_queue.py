"""MomentumQueue: first in, first out over any wrap; state, views and gradients, ids, bad input."""

from __future__ import annotations

import copy
import io
import pickle

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch._dynamo.testing import CompileCounter

from sslmed.losses import info_nce
from sslmed.memory import MomentumQueue, update_ema
from sslmed.memory import queue as queue_module


def numbered(start: int, n: int, dim: int = 3) -> torch.Tensor:
    return torch.arange(start, start + n, dtype=torch.float32)[:, None].expand(n, dim)


def as_set(queue: MomentumQueue) -> list[int]:
    return sorted(int(x) for x in queue.negatives()[:, 0])


@settings(max_examples=60, deadline=None)
@given(size=st.integers(1, 12), batches=st.lists(st.integers(0, 30), max_size=8))
def test_the_queue_holds_the_last_keys(size: int, batches: list[int]) -> None:
    queue, total = MomentumQueue(size, 3, with_ids=True), 0
    for n in batches:
        queue.enqueue(numbered(total, n), torch.arange(total, total + n))
        total += n
        held = list(range(max(0, total - size), total))
        assert len(queue) == len(held)
        assert as_set(queue) == held
        assert torch.equal(queue.ids(), queue.negatives()[:, 0].long())
        assert queue.negatives().shape == (len(held), 3)
        if held:  # key number k lies in place k modulo size
            assert torch.equal(queue.ids()[torch.tensor(held) % size], torch.tensor(held))
    assert queue.count == total


def test_five_five_five_into_eight() -> None:
    queue = MomentumQueue(8, 3)
    for start in (0, 5, 10):
        queue.enqueue(numbered(start, 5))
    assert queue.negatives()[:, 0].tolist() == [8, 9, 10, 11, 12, 13, 14, 7]
    assert queue.count % 8 == 7


def test_a_batch_across_the_wrap_loses_no_key() -> None:
    queue = MomentumQueue(10, 3)
    for start in (0, 7):
        queue.enqueue(numbered(start, 7))
    assert queue.negatives()[:, 0].tolist() == [10, 11, 12, 13, 4, 5, 6, 7, 8, 9]


def test_an_empty_queue_gives_no_rows() -> None:
    queue = MomentumQueue(8, 3)
    assert len(queue) == 0
    assert queue.negatives().shape == (0, 3)
    with pytest.raises(ValueError, match="negatives must hold at least one row"):
        info_nce(torch.rand(2, 3), torch.rand(2, 3), queue.negatives())


def test_state_survives_saving_in_the_middle_of_a_wrap(device: torch.device) -> None:
    queue = MomentumQueue(8, 3, with_ids=True).to(device)
    queue.enqueue(numbered(0, 11).to(device), torch.arange(11, device=device))
    file = io.BytesIO()
    torch.save(queue.state_dict(), file)
    file.seek(0)
    loaded = MomentumQueue(8, 3, with_ids=True).to(device)
    loaded.load_state_dict(torch.load(file, weights_only=True))
    nested = torch.nn.ModuleDict({"queue": MomentumQueue(8, 3, with_ids=True).to(device)})
    nested.load_state_dict({f"queue.{name}": value for name, value in queue.state_dict().items()})
    others = [loaded, nested["queue"], copy.deepcopy(queue), pickle.loads(pickle.dumps(queue))]
    for each in (queue, *others):
        each.enqueue(numbered(11, 6).to(device), torch.arange(11, 17, device=device))
    for other in others:
        assert len(other) == 8
        assert torch.equal(other.negatives(), queue.negatives())
        assert torch.equal(other.ids(), queue.ids())
    assert list(queue.parameters()) == []


def filled(size: int = 8, dim: int = 3, *, n: int = 5, with_ids: bool = True) -> MomentumQueue:
    queue = MomentumQueue(size, dim, with_ids=with_ids)
    queue.enqueue(numbered(1, n, dim), torch.arange(n) if with_ids else None)
    return queue


PARTIAL = {
    "another size": lambda: filled(16, n=20).state_dict(),
    "another dim": lambda: filled(8, 4, n=20).state_dict(),
    "without ids": lambda: filled(with_ids=False, n=20).state_dict(),
    "without a count": lambda: {k: v for k, v in filled(n=20).state_dict().items() if k != "count"},
}


@pytest.mark.parametrize("merged", [False, True], ids=["not strict", "merged with the own state"])
@pytest.mark.parametrize("own", [0, 5], ids=["new", "in use"])
@pytest.mark.parametrize("kind", PARTIAL)
def test_a_checkpoint_that_fits_in_part_gives_no_row_that_is_no_key(kind: str, own: int, merged: bool) -> None:
    net = torch.nn.ModuleDict({"queue": filled(n=own)})
    state = net.state_dict()
    fits = {
        name: value
        for name, value in ((f"queue.{name}", value) for name, value in PARTIAL[kind]().items())
        if name in state and value.shape == state[name].shape
    }
    net.load_state_dict({**state, **fits} if merged else fits, strict=merged)
    queue = net["queue"]
    assert len(queue) == (own if merged else 0)
    assert bool(queue.negatives().any(dim=1).all())
    assert bool((queue.ids() >= 0).all())
    queue.enqueue(numbered(1, 2), torch.arange(2))
    assert len(queue) == 2 + (own if merged else 0)


def test_a_checkpoint_without_the_queue_leaves_it_as_it_is() -> None:
    net = torch.nn.ModuleDict({"queue": filled(), "linear": torch.nn.Linear(2, 2)})
    net.load_state_dict({"linear.weight": torch.zeros(2, 2)}, strict=False)
    assert len(net["queue"]) == 5


def test_a_collapsed_network_gives_keys_of_zero_which_a_checkpoint_may_lose() -> None:
    queue, loaded = filled(), MomentumQueue(8, 3, with_ids=True)
    queue.enqueue(torch.zeros(1, 3), torch.arange(1))
    queue.enqueue(numbered(7, 1), torch.arange(1))
    loaded.load_state_dict(queue.state_dict())
    assert len(loaded) == 7  # a zero among others stays
    queue.enqueue(torch.zeros(1, 3), torch.arange(1))
    loaded.load_state_dict(queue.state_dict())
    assert len(loaded) == 7


@pytest.mark.parametrize(
    "change",
    [
        lambda queue, other: queue.load_state_dict(other.state_dict()),
        lambda queue, other: queue.load_state_dict(other.state_dict(), assign=True),
        lambda queue, other: torch._foreach_copy_(list(queue.buffers()), list(other.buffers())),
        lambda queue, other: [a.data.copy_(b) for a, b in zip(queue.buffers(), other.buffers(), strict=True)],
        lambda queue, other: update_ema(queue, other, decay=0.0),
        lambda queue, other: queue._buffers.update(copy.deepcopy(other)._buffers),
    ],
    ids=["load", "assign", "copy", "data", "average", "replace"],
)
@pytest.mark.parametrize("n", [0, 3, 8, 30])
@pytest.mark.parametrize("own", [0, 5, 30])
def test_the_number_of_keys_follows_the_buffers(change, own: int, n: int) -> None:  # type: ignore[no-untyped-def]
    queue, other = filled(n=own), filled(n=n)
    if change.__code__.co_names[0] == "update_ema":
        queue, other = (torch.nn.Sequential(q, torch.nn.Linear(1, 1)) for q in (queue, other))
    change(queue, other)
    if isinstance(queue, torch.nn.Sequential):
        queue, other = queue[0], other[0]
    for _ in range(2):
        assert len(queue) == len(other)
        assert torch.equal(queue.negatives(), other.negatives())
        assert torch.equal(queue.ids(), other.ids())
        for each in (queue, other):
            each.enqueue(numbered(40, 3), torch.arange(3))


@pytest.mark.parametrize("n", [0, 3, 8, 30])
def test_copies_and_moves_keep_the_number_of_keys(n: int) -> None:
    queue = filled(n=n)
    for other in (copy.deepcopy(queue), copy.deepcopy(queue).half(), copy.deepcopy(queue).double().to("cpu")):
        assert len(other) == len(queue)
        assert torch.equal(other.negatives().float(), queue.negatives())
    assert len(copy.deepcopy(queue).to("meta")) == 8  # without values, as in the steps after the first ones
    with torch.device("meta"):
        later = MomentumQueue(8, 3, with_ids=True)
    later.enqueue(numbered(0, 5).to("meta"), torch.arange(5, device="meta"))
    later.to_empty(device="cpu").load_state_dict(queue.state_dict())
    assert len(later) == len(queue)


def test_the_paths_with_and_without_a_look_at_the_count_agree(monkeypatch: pytest.MonkeyPatch) -> None:
    seen, unseen = MomentumQueue(8, 3, with_ids=True), MomentumQueue(8, 3, with_ids=True).half()
    for n in (0, 3, 4, 2, 8, 9, 30, 1, 7):
        for queue, path in ((seen, "_write"), (unseen, "_write_unseen")):
            monkeypatch.setattr("sslmed.memory.queue._write", getattr(queue_module, path))
            queue.enqueue(numbered(n, n), torch.arange(n, dtype=torch.int32))
            monkeypatch.undo()
        assert torch.equal(seen.keys, unseen.keys.float())
        assert torch.equal(seen.key_ids, unseen.key_ids)
        assert seen.count == unseen.count


def test_a_compiled_step_is_not_compiled_again_at_every_enqueue() -> None:
    torch._dynamo.reset()
    counter = CompileCounter()
    queue, eager = MomentumQueue(100, 3, with_ids=True), MomentumQueue(100, 3, with_ids=True)

    def step(queue: MomentumQueue, keys: torch.Tensor, ids: torch.Tensor) -> torch.Tensor:
        held = len(queue)
        negatives = (queue.negatives(), queue.ids()) if held else (None, None)
        loss = info_nce(keys, keys, negatives[0], ids=ids, negative_ids=negatives[1])
        queue.enqueue(keys, ids)
        return loss

    compiled, frames = torch.compile(step, backend=counter), []
    for number in range(40):
        keys, ids = torch.rand(7, 3), torch.arange(7) + number
        torch.testing.assert_close(compiled(queue, keys, ids), step(eager, keys, ids))
        assert len(queue) == len(eager)
        assert torch.equal(queue.ids(), eager.ids())
        frames.append(counter.frame_count)
    assert frames[3] == frames[13]  # while it fills
    assert frames[-1] == frames[-8]
    assert frames[-1] - frames[3] <= 4  # when it is full, and when it is surely so


def test_a_compiled_step_with_a_full_queue_is_one_graph() -> None:
    torch._dynamo.reset()
    queue = filled(n=30)
    assert len(queue) == 8
    queue.enqueue(numbered(0, 3), torch.arange(3))

    @torch.compile(fullgraph=True, backend="eager")
    def step(keys: torch.Tensor) -> torch.Tensor:
        loss = info_nce(keys, keys, queue.negatives())
        queue.enqueue(keys, torch.arange(len(keys)))
        return loss

    for _ in range(3):
        assert step(torch.rand(3, 3)).isfinite()
    assert queue.count == 42


def test_a_queue_in_half_precision() -> None:
    queue = MomentumQueue(8, 3).half()
    queue.enqueue(numbered(0, 5))
    assert queue.negatives().dtype == torch.float16
    assert queue.count.dtype == torch.int64
    assert as_set(queue) == [0, 1, 2, 3, 4]


def test_no_gradient_is_kept() -> None:
    queue, keys = MomentumQueue(8, 3), torch.rand(4, 3, requires_grad=True)
    queue.enqueue(2 * keys)
    assert not queue.negatives().requires_grad


@pytest.mark.parametrize("block_size", [None, 2])
def test_own_keys_of_earlier_steps_are_no_negatives(block_size: int | None) -> None:
    queue = MomentumQueue(6, 3, with_ids=True)
    queue.enqueue(torch.randn(8, 3), torch.tensor([9, 9, 0, 1, 0, 2, 1, 5]))  # 0 and 1 will come again
    query, keys, ids = torch.randn(2, 3), torch.randn(2, 3), torch.tensor([0, 1])
    options = {"ids": ids, "negative_ids": queue.ids(), "block_size": block_size}
    loss = info_nce(query, keys, queue.negatives(), **options)
    others = [info_nce(query[i, None], keys[i, None], queue.negatives()[queue.ids() != ids[i]]) for i in range(2)]
    torch.testing.assert_close(loss, sum(others) / 2)


def test_keys_made_in_inference_mode() -> None:
    queue = MomentumQueue(8, 3)
    with torch.inference_mode():
        keys = torch.rand(5, 3)
        queue.enqueue(keys)
    queue.enqueue(keys)
    assert len(queue) == 8
    assert torch.equal(queue.negatives()[5:], keys[:3])
    query = torch.rand(2, 3, requires_grad=True)
    info_nce(query, torch.rand(2, 3), queue.negatives()).backward()
    assert query.grad is not None


@pytest.mark.parametrize("k", [20, 20000])
def test_enqueue_may_come_between_info_nce_and_its_backward(k: int) -> None:
    queue = MomentumQueue(k, 3, with_ids=True)
    queue.enqueue(torch.randn(k, 3), torch.arange(k))
    query, keys, ids = torch.randn(4, 3, requires_grad=True), torch.randn(4, 3), torch.arange(4)
    options = {"ids": ids, "negative_ids": queue.ids().clone()}
    expected = torch.autograd.grad(info_nce(query, keys, queue.negatives().clone(), **options), query)
    loss = info_nce(query, keys, queue.negatives(), ids=ids, negative_ids=queue.ids())
    queue.enqueue(keys, ids)
    torch.testing.assert_close(torch.autograd.grad(loss, query), expected)


def test_a_stale_second_derivative_is_refused() -> None:
    queue = MomentumQueue(20, 3)
    queue.enqueue(torch.randn(20, 3))
    query = torch.randn(4, 3, requires_grad=True)
    loss = info_nce(query, torch.randn(4, 3), queue.negatives(), block_size=7)
    queue.enqueue(torch.randn(4, 3))
    with pytest.raises(RuntimeError, match="negatives were changed in place"):
        torch.autograd.grad(loss, query, create_graph=True)


def test_a_loss_of_ones_own_cannot_go_wrong_silently() -> None:
    queue = MomentumQueue(8, 3)
    queue.enqueue(torch.randn(8, 3))
    query = torch.randn(4, 3, requires_grad=True)
    loss = (query @ queue.negatives().T).exp().sum()
    queue.enqueue(torch.randn(4, 3))
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


def test_bad_input() -> None:
    queue, labelled, keys = MomentumQueue(8, 3), MomentumQueue(8, 3, with_ids=True), torch.rand(4, 3)
    with pytest.raises(ValueError, match=r"keys must have shape \(N, 3\), got \(4, 2\)"):
        queue.enqueue(keys[:, :2])
    with pytest.raises(ValueError, match=r"keys must have shape \(N, D\), got \(3,\)"):
        queue.enqueue(keys[0])
    with pytest.raises(TypeError, match="keys must be a floating point tensor"):
        queue.enqueue(keys.int())
    with pytest.raises(ValueError, match="same device, got keys on meta, queue on cpu"):
        queue.enqueue(keys.to("meta"))
    with pytest.raises(ValueError, match="ids must be None for a queue made without with_ids=True"):
        queue.enqueue(keys, torch.arange(4))
    with pytest.raises(ValueError, match="ids must be given for a queue made with with_ids=True, got None"):
        labelled.enqueue(keys)
    with pytest.raises(ValueError, match=r"ids must have shape \(4,\) to label keys, got \(3,\)"):
        labelled.enqueue(keys, torch.arange(3))
    with pytest.raises(TypeError, match="ids must be a tensor of integers"):
        labelled.enqueue(keys, torch.rand(4))
    with pytest.raises(ValueError, match="with_ids must be True"):
        queue.ids()
    assert len(labelled) == 0
    for size, dim, name in ((0, 3, "size"), (8, 0, "dim")):
        with pytest.raises(ValueError, match=f"{name} must be at least 1"):
            MomentumQueue(size, dim)
