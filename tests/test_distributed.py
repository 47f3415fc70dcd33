"""gather: one process's rows, values and gradients, with equal and uneven batches; errors on every rank."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

import collected
import ranks
from sslmed import distributed

PAGE = Path(__file__).parent.parent / "docs" / "explanations" / "distributed.md"


@pytest.fixture(scope="session")
def pool() -> Iterator[ranks.Ranks]:
    pool = ranks.Ranks(3)
    yield pool
    pool.close()


def rows(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


SHARES = [[4, 4], [1, 7], [3, 3, 2], [5, 0, 3]]
KINDS = [
    "nt_xent",
    "info_nce",
    "info_nce with a queue",
    "info_nce with ids",
    "nce",
    "relation",
    "relation with a bank",
    "byol",
    "negative_cosine",
    "perceptual",
    "masked_l1, masked",
]


@pytest.mark.ddp
@pytest.mark.parametrize("counts", SHARES, ids=str)
@pytest.mark.parametrize("kind", KINDS)
def test_losses_equal_one_process_in_value_and_gradient(pool: ranks.Ranks, kind: str, counts: list[int]) -> None:
    x0, x1 = rows(8, 6), rows(8, 6, seed=1)
    loss, gradients = ranks.loss_and_gradients(kind, x0, x1, None)
    for got, theirs in pool.run(len(counts), ranks.loss_and_gradients, kind, x0, x1, counts):
        torch.testing.assert_close(got, loss, rtol=1e-12, atol=1e-12)
        assert len(theirs) == len(gradients)
        for a, b in zip(theirs, gradients, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-12)


@pytest.mark.ddp
@pytest.mark.parametrize("kind", ["nt_xent", "info_nce"])
def test_blocked_losses_equal_one_process(pool: ranks.Ranks, kind: str) -> None:
    x0, x1 = rows(8, 6), rows(8, 6, seed=1)
    loss, gradients = ranks.loss_and_gradients(kind, x0, x1, None)
    for got, theirs in pool.run(2, ranks.loss_and_gradients, kind, x0, x1, [3, 5], 3):
        torch.testing.assert_close(got, loss, rtol=1e-12, atol=1e-12)
        for a, b in zip(theirs, gradients, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-12)


UNMIXED = [
    "info_nce with a queue",
    "relation with a bank",
    "byol",
    "negative_cosine",
    "perceptual",
    "masked_l1, mean_all",
]


@pytest.mark.ddp
@pytest.mark.parametrize("kind", UNMIXED)
def test_losses_that_do_not_mix_samples_need_no_gathering(pool: ranks.Ranks, kind: str) -> None:
    x0, x1 = rows(8, 6), rows(8, 6, seed=1)
    loss, gradients = ranks.loss_and_gradients_without_gathering(kind, x0, x1, None)
    results = pool.run(2, ranks.loss_and_gradients_without_gathering, kind, x0, x1, [4, 4])
    torch.testing.assert_close(sum(got for got, _ in results) / 2, loss, rtol=1e-12, atol=1e-12)
    for _, theirs in results:
        for a, b in zip(theirs, gradients, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-12)


@pytest.mark.ddp
def test_a_loss_of_own_rows_knows_nothing_of_ranks(pool: ranks.Ranks) -> None:
    x0, x1 = rows(8, 6), rows(8, 6, seed=1)
    results = pool.run(2, ranks.loss_and_gradients_without_gathering, "nt_xent", x0, x1, [3, 5])
    for (got, _), a, b in zip(results, x0.split([3, 5]), x1.split([3, 5]), strict=True):
        expected, _ = ranks.loss_and_gradients("nt_xent", a, b, None)
        torch.testing.assert_close(got, expected, rtol=1e-12, atol=1e-12)
    whole = torch.cat([g.flatten() for g in ranks.loss_and_gradients("nt_xent", x0, x1, None)[1]])
    theirs = torch.cat([g.flatten() for g in results[0][1]])
    assert (theirs - whole).norm() > 0.1 * whole.norm()  # another objective: why `gather` is there


@pytest.mark.ddp
@pytest.mark.parametrize("counts", [[2, 2], [1, 3]], ids=str)
def test_the_local_loss_needs_gathering_for_uneven_shares_only(pool: ranks.Ranks, counts: list[int]) -> None:
    f0, f1 = rows(4, 3, 2, 3), rows(4, 3, 2, 3, seed=1)
    expected = ranks.local_loss_and_gradients(f0, f1, None)
    for got in pool.run(2, ranks.local_loss_and_gradients, f0, f1, counts):
        torch.testing.assert_close(got, expected, rtol=1e-10, atol=1e-12)


@pytest.mark.ddp
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("counts", SHARES, ids=str)
def test_rows_come_in_rank_order_and_gradients_are_summed(
    pool: ranks.Ranks, counts: list[int], dtype: torch.dtype
) -> None:
    x = rows(8, 3).to(dtype)
    results = pool.run(len(counts), ranks.gathered, x, counts)
    factor = sum(range(1, len(counts) + 1))
    weight = torch.arange(24, dtype=dtype).view(8, 3) * factor
    for (got, gradient), expected in zip(results, weight.split(counts), strict=True):
        assert got.dtype == dtype
        assert torch.equal(got, x)
        torch.testing.assert_close(gradient, expected)


@pytest.mark.ddp
@pytest.mark.parametrize("counts", SHARES, ids=str)
def test_higher_derivatives_equal_one_process(pool: ranks.Ranks, counts: list[int]) -> None:
    x = rows(8, 3)
    whole = ranks.derivatives(x, None, weight=sum(range(1, len(counts) + 1)))
    results = pool.run(len(counts), ranks.derivatives, x, counts)
    for order, expected in enumerate(whole):
        torch.testing.assert_close(torch.cat([own[order] for own in results]), expected, rtol=1e-9, atol=1e-9)


@pytest.mark.ddp
@pytest.mark.parametrize("counts", SHARES, ids=str)
def test_a_gradient_penalty_equals_one_process(pool: ranks.Ranks, counts: list[int]) -> None:
    x0, x1 = rows(8, 6), rows(8, 6, seed=1)
    loss, gradients = ranks.gradient_penalty(x0, x1, None)
    for got, theirs in pool.run(len(counts), ranks.gradient_penalty, x0, x1, counts):
        torch.testing.assert_close(got, loss, rtol=1e-10, atol=1e-12)
        assert len(theirs) == len(gradients)
        for a, b in zip(theirs, gradients, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-10)


@pytest.mark.ddp
def test_the_code_of_the_page_trains_a_network_with_batch_normalisation(pool: ranks.Ranks) -> None:
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(), flags=re.DOTALL)
    assert len(blocks) == PAGE.read_text().count("```python") > 3
    first, second = pool.run(2, ranks.page, blocks)
    assert len(first) == 3 * 6 + 4 * 2  # gradients of three losses; a bank and a queue for every block
    for a, b in zip(first, second, strict=True):
        torch.testing.assert_close(a, b)
        assert a.isfinite().all()


@pytest.mark.ddp
@pytest.mark.parametrize("dtype", [torch.int64, torch.int32, torch.uint8, torch.bool])
def test_integers_are_gathered_too(pool: ranks.Ranks, dtype: torch.dtype) -> None:
    for x in (
        torch.arange(8).to(dtype),
        torch.arange(24).view(8, 3).to(dtype),
        torch.ones(8, 2, 1, 2).to(dtype),
    ):
        for got, _ in pool.run(3, ranks.gathered, x, [5, 0, 3]):
            assert got.dtype == dtype
            assert torch.equal(got, x)


@pytest.mark.ddp
@pytest.mark.parametrize("counts", SHARES, ids=str)
def test_queues_and_banks_stay_identical(pool: ranks.Ranks, counts: list[int]) -> None:
    keys = rows(8, 4).float()
    expected = ranks.memories(keys, None)
    results = pool.run(len(counts), ranks.memories, keys, counts)
    for got in results:
        assert all(torch.equal(a, b) for a, b in zip(got, results[0], strict=True))
        torch.testing.assert_close(got, expected)


@pytest.mark.ddp
@pytest.mark.parametrize("counts", SHARES, ids=str)
def test_metrics_of_all_processes_count_each_case_once(pool: ranks.Ranks, counts: list[int]) -> None:
    names = [*collected.NAMES, "per class"]
    for values in pool.run(len(counts), ranks.scores, names, counts):
        for name, value in zip(names, values, strict=True):
            torch.testing.assert_close(value, collected.expected(name, *collected.cases(name)))


@pytest.mark.ddp
def test_metrics_that_cannot_be_computed_are_an_error_on_every_rank(pool: ranks.Ranks) -> None:
    for (nothing, differ), after in pool.run(2, ranks.scores_that_differ):
        assert "ROCAUC.compute() needs at least one case, got none" in nothing
        assert "same shape beyond the first dimension on all ranks, got (3,) on rank 0, (4,) on rank 1" in differ
        assert after.tolist() == [0, 1]


@pytest.mark.ddp
@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.int64, torch.bool])
def test_results_are_gathered_where_some_ranks_have_none(pool: ranks.Ranks, dtype: torch.dtype) -> None:
    for x in (torch.arange(5).to(dtype), torch.arange(30).view(5, 3, 2).to(dtype)):
        for counts in ([5, 0, 0], [0, 2, 3]):
            for got in pool.run(3, ranks.results, x, counts):
                assert got.dtype == dtype
                assert not got.requires_grad
                assert torch.equal(got, x)
    assert [len(got) for got in pool.run(2, ranks.results, torch.zeros(0), [0, 0])] == [0, 0]


@pytest.mark.ddp
def test_a_queue_follows_a_broadcast_of_its_buffers(pool: ranks.Ranks) -> None:
    for held in pool.run(2, ranks.broadcast_queue):
        assert held == [(n, [1.0] * n, [0] * n) for n in (2, 3, 6)]


FAULTS = {
    "features": ["ValueError: x must have the same shape beyond the first dimension on all ranks, got (3,) on rank 0"]
    * 2,
    "dimensions": ["ValueError: x must have the same shape beyond the first dimension on all ranks"] * 2,
    "dtype": ["ValueError: x must have the same dtype on all ranks, got torch.float32 on rank 0, torch.float64"] * 2,
    "gradient": ["ValueError: x must have the same requires_grad on all ranks, got True on rank 0, False"] * 2,
    "type": ["but rank 1 refused its own", "TypeError: x must be a torch.Tensor, got list"],
    "complex": ["but rank 1 refused its own", "TypeError: x must be of a real floating point"],
    "scalar": [
        "but rank 1 refused its own",
        "ValueError: x must have shape (N, ...) of 1 to 8 dimensions, got ()",
    ],
}


@pytest.mark.ddp
@pytest.mark.parametrize("kind", FAULTS)
def test_a_fault_of_one_rank_is_an_error_on_every_rank(pool: ranks.Ranks, kind: str) -> None:
    results = pool.run(2, ranks.faults, kind)
    for (message, after), expected in zip(results, FAULTS[kind], strict=True):
        assert expected in message
        assert after.tolist() == [0, 1]


SPOILED = {
    "rows": "ValueError: z0 and z1 must have the same shape, got (6, 4) and (5, 4)",
    "ids": "ValueError: ids must have shape (6,) to label query, got (5,)",
    "width": "ValueError: x must have the same shape beyond the first dimension on all ranks, got (4,) on rank 0, (3,)",
    "integers": "TypeError: z0 must be a floating point tensor, got torch.int64",
    "integers on one": "ValueError: x must have the same dtype on all ranks, got torch.float32 on rank 0, torch.int64",
    "temperature": "ValueError: temperature must be a finite number in (0, inf], got 0.0",
    "no rows": "ValueError: z0 must have at least one row and one feature, got shape (0, 4)",
    "no negatives": "ValueError: negatives must hold at least one row for each anchor, got shape (0, 4)",
    "keys": "ValueError: keys must have shape (N, 5), got (6, 4)",
}


@pytest.mark.ddp
@pytest.mark.parametrize("kind", ["features", "type"])
def test_a_fault_of_one_rank_of_three_is_an_error_on_every_rank(pool: ranks.Ranks, kind: str) -> None:
    for r, (message, after) in enumerate(pool.run(3, ranks.faults, kind)):
        assert FAULTS[kind][r % 2] in message  # of the three, rank 1 is at fault
        assert after.tolist() == [0, 1, 2]


@pytest.mark.ddp
@pytest.mark.parametrize("kind", SPOILED)
def test_bad_input_is_an_error_on_every_rank(pool: ranks.Ranks, kind: str) -> None:
    for message, after in pool.run(2, ranks.spoiled, kind):
        assert SPOILED[kind] in message
        assert after.tolist() == [0, 1]


@pytest.mark.ddp
def test_a_rank_that_refuses_its_own_data_leaves_none_waiting(pool: ranks.Ranks) -> None:
    waiting, refusing = pool.run(2, ranks.an_empty_mask_on_one)
    assert "mask must hide at least one pixel" in refusing
    assert waiting != "nothing"
    assert "Timed out" not in waiting  # it learns of the other one's end, before its own time is over


@pytest.mark.ddp
def test_no_gradient_without_grad_mode(pool: ranks.Ranks) -> None:
    assert pool.run(2, ranks.under_no_grad, rows(8, 3), [4, 4]) == [False, False]


def test_without_a_process_group_nothing_is_gathered() -> None:
    x = torch.rand(3, 4, requires_grad=True)
    assert distributed.gather(x) is x
    assert distributed.rank() == 0
    assert distributed.world_size() == 1
    assert not distributed.gather_results(x).requires_grad
    assert len(distributed.gather_results(None)) == 0
    with pytest.raises(TypeError, match=r"x must be a torch\.Tensor, got list"):
        distributed.gather([1.0])
    with pytest.raises(ValueError, match=r"x must have shape \(N, \.\.\.\)"):
        distributed.gather(torch.tensor(1.0))
