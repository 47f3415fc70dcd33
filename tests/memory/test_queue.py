"""MomentumQueue: first in, first out over any wrap; state, views and gradients, ids, bad input."""

from __future__ import annotations

import copy
import io
import pickle

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sslmed.losses import info_nce
from sslmed.memory import MomentumQueue


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
    others = [
        info_nce(query[i, None], keys[i, None], queue.negatives()[queue.ids() != ids[i]]) for i in range(2)
    ]
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
