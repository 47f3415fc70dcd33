"""MemoryBank: literal updates, draws that never hold the own row, state, bad input."""

from __future__ import annotations

import copy
import io
import pickle

import pytest
import torch
import torch.nn.functional as F

from sslmed.memory import MemoryBank


@pytest.fixture
def bank() -> MemoryBank:
    return MemoryBank(12, 5, generator=torch.Generator().manual_seed(0))


def v(n: int, seed: int = 1) -> torch.Tensor:
    return 7 * torch.randn(n, 5, generator=torch.Generator().manual_seed(seed))


def test_rows_start_as_unit_vectors_from_the_generator(bank: MemoryBank) -> None:
    torch.testing.assert_close(bank[torch.arange(12)].norm(dim=1), torch.ones(12))
    again = MemoryBank(12, 5, generator=torch.Generator().manual_seed(0))
    assert torch.equal(bank.vectors, again.vectors)
    assert len(bank) == 12


def test_reading_gives_a_copy(bank: MemoryBank) -> None:
    index = torch.tensor([3, 3, 0])
    before = bank.vectors.clone()
    bank[index].zero_()
    bank.negatives(index).zero_()
    assert torch.equal(bank.vectors, before)
    assert not bank[index].requires_grad
    assert bank[torch.tensor([], dtype=torch.int64)].shape == (0, 5)


@pytest.mark.parametrize("momentum", [0.0, 0.3, 0.5, 0.99])
def test_update_equals_the_loop(momentum: float) -> None:
    bank = MemoryBank(12, 5, momentum=momentum)
    before, index, new = bank.vectors.clone(), torch.tensor([7, 0, 11]), v(3)
    bank.update(index, new)
    for row, x in zip(index.tolist(), new, strict=True):
        moved = momentum * before[row] + (1 - momentum) * x / x.norm()
        torch.testing.assert_close(bank.vectors[row], moved / moved.norm())
    others = torch.ones(12, dtype=torch.bool)
    others[index] = False
    assert torch.equal(bank.vectors[others], before[others])
    torch.testing.assert_close(bank.vectors.norm(dim=1), torch.ones(12))


def test_momentum_1_freezes_and_0_replaces() -> None:
    index, new = torch.arange(12), v(12)
    frozen = MemoryBank(12, 5, momentum=1.0)
    before = frozen.vectors.clone()
    frozen.update(index, new)
    assert torch.equal(frozen.vectors, before)
    replaced = MemoryBank(12, 5, momentum=0.0)
    replaced.update(index, new)
    torch.testing.assert_close(replaced.vectors, F.normalize(new, dim=1))


def test_fill_replaces_whatever_the_momentum() -> None:
    bank = MemoryBank(12, 5, momentum=1.0)
    bank.fill(torch.tensor([2, 5]), v(2))
    torch.testing.assert_close(bank[torch.tensor([2, 5])], F.normalize(v(2), dim=1))


def test_a_bank_of_a_million_images_is_filled_at_once() -> None:
    bank, order = MemoryBank(1_000_000, 1), torch.arange(1_000_000)  # its square would take 8 TB
    bank.fill(order.flip(0), (order % 2 * 2.0 - 1)[:, None])
    assert torch.equal(bank.vectors[:, 0], (order.flip(0) % 2 * 2.0 - 1))


def test_drawing_negatives_block_by_block_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    bank, index = MemoryBank(40, 3), torch.arange(20)
    drawn = [bank.negatives(index, 7, generator=torch.Generator().manual_seed(0))]
    for most in (1, 100, 39 * 20):
        monkeypatch.setattr("sslmed.memory.bank._DRAWN", most)
        drawn.append(bank.negatives(index, 7, generator=torch.Generator().manual_seed(0)))
        assert torch.equal(drawn[0], drawn[-1])
        assert bank.negatives(index[:0], 7).shape == (0, 7, 3)


def test_of_a_repeated_index_the_last_counts(bank: MemoryBank) -> None:
    other = copy.deepcopy(bank)
    new = v(5)
    bank.update(torch.tensor([4, 1, 4, 9, 4]), new)
    other.update(torch.tensor([1, 9, 4]), new[[1, 3, 4]])
    torch.testing.assert_close(bank.vectors, other.vectors)


@pytest.mark.parametrize("bad", [0.0, float("nan"), float("inf")])
@pytest.mark.parametrize("write", ["update", "fill"])
def test_a_vector_without_direction_leaves_its_row(bank: MemoryBank, bad: float, write: str) -> None:
    before = bank.vectors.clone()
    getattr(bank, write)(torch.tensor([3, 8]), torch.stack([torch.full((5,), bad), v(1)[0]]))
    assert torch.equal(bank.vectors[3], before[3])
    assert not torch.equal(bank.vectors[8], before[8])
    bank.update(torch.tensor([6]), -before[6:7])
    assert torch.equal(bank.vectors[6], before[6])


def test_tiny_and_huge_vectors_have_a_direction(bank: MemoryBank) -> None:
    bank.fill(torch.tensor([0, 1]), torch.tensor([[1e-30] * 5, [1e30] * 5]))
    torch.testing.assert_close(bank[torch.tensor([0, 1])], torch.full((2, 5), 5**-0.5))


def test_no_gradient_enters_the_bank(bank: MemoryBank) -> None:
    new = v(2).requires_grad_()
    bank.update(torch.tensor([0, 1]), new)
    assert not bank.vectors.requires_grad
    assert new.grad is None
    loss = (bank[torch.tensor([0, 1])] * new).sum() + bank.negatives(torch.tensor([0, 1]), 3).sum()
    bank.update(torch.tensor([0, 1]), new)
    loss.backward()
    assert new.grad is not None


def test_all_negatives_in_order(bank: MemoryBank) -> None:
    index = torch.tensor([0, 5, 11, 5])
    got = bank.negatives(index)
    assert got.shape == (4, 11, 5)
    for i, own in enumerate(index.tolist()):
        assert torch.equal(got[i], bank.vectors[[r for r in range(12) if r != own]])


@pytest.mark.parametrize("k", [1, 4, 11])
def test_drawn_negatives_are_distinct_and_never_the_own(k: int) -> None:
    bank = MemoryBank(12, 12)
    bank.fill(torch.arange(12), torch.eye(12))
    index = torch.arange(12).repeat(20)
    drawn = bank.negatives(index, k).argmax(dim=2)
    assert drawn.shape == (240, k)
    assert not (drawn == index[:, None]).any()
    assert all(len(set(row.tolist())) == k for row in drawn)


def test_negatives_are_drawn_uniformly() -> None:
    bank = MemoryBank(6, 6)
    bank.fill(torch.arange(6), torch.eye(6))
    drawn = bank.negatives(torch.full((6000,), 2), 2, generator=torch.Generator().manual_seed(0)).argmax(dim=2)
    counts = drawn.flatten().bincount(minlength=6)
    assert counts[2] == 0
    assert ((counts[[0, 1, 3, 4, 5]] - 2400).abs() < 160).all()  # four standard deviations of 38


def test_the_generator_rules_the_draw(bank: MemoryBank) -> None:
    index = torch.tensor([0, 5, 11])
    torch.manual_seed(5)
    state = torch.get_rng_state()
    a, b = (bank.negatives(index, 4, generator=torch.Generator().manual_seed(3)) for _ in range(2))
    assert torch.equal(a, b)
    assert torch.equal(torch.get_rng_state(), state)
    assert not torch.equal(a, bank.negatives(index, 4, generator=torch.Generator().manual_seed(4)))


def test_state_survives_saving(bank: MemoryBank) -> None:
    bank.update(torch.tensor([1, 2]), v(2))
    file = io.BytesIO()
    torch.save(bank.state_dict(), file)
    file.seek(0)
    other = MemoryBank(12, 5)
    other.load_state_dict(torch.load(file, weights_only=True))
    for each in (bank, other):
        each.update(torch.tensor([2, 3]), v(2, seed=8))
    assert torch.equal(bank.vectors, other.vectors)
    assert torch.equal(pickle.loads(pickle.dumps(bank)).vectors, bank.vectors)
    assert list(bank.parameters()) == []


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_a_bank_in_another_dtype(dtype: torch.dtype, device: torch.device) -> None:
    bank = MemoryBank(12, 5).to(device, dtype)
    with torch.autocast(device.type, dtype=torch.bfloat16):
        bank.update(torch.tensor([1, 2]), v(2).to(device))
    rows = bank[torch.tensor([1, 2])]
    assert rows.dtype == dtype
    torch.testing.assert_close(rows.norm(dim=1).double(), torch.ones(2, device=device).double(), rtol=0, atol=1e-2)
    assert bank.negatives(torch.tensor([1]), 3).dtype == dtype


@pytest.mark.parametrize("k", [None, 3])
def test_an_empty_batch(bank: MemoryBank, k: int | None) -> None:
    none = torch.empty(0, dtype=torch.int64)
    before = bank.vectors.clone()
    bank.update(none, v(0))
    assert torch.equal(bank.vectors, before)
    assert bank[none].shape == (0, 5)
    assert bank.negatives(none, k).shape == (0, 11 if k is None else k, 5)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int16, torch.uint16, torch.uint32, torch.uint64])
def test_an_index_of_any_integers(bank: MemoryBank, dtype: torch.dtype) -> None:
    index = torch.tensor([3, 7]).to(dtype)
    bank.update(index, v(2))
    assert torch.equal(bank[index], bank.vectors[[3, 7]])
    assert torch.equal(bank.negatives(index), bank.negatives(index.long()))
    with pytest.raises(IndexError, match=r"index must be in 0\.\.11, got values from 3 to 12"):
        bank[torch.tensor([3, 12]).to(dtype)]


@pytest.mark.parametrize("index", [[12], [-1], [0, 99]])
def test_an_index_outside_the_bank(bank: MemoryBank, index: list[int]) -> None:
    bad = torch.tensor(index)
    before = bank.vectors.clone()
    for call in (
        lambda: bank[bad],
        lambda: bank.negatives(bad),
        lambda: bank.negatives(bad, 2),
        lambda: bank.update(bad, v(len(bad))),
        lambda: bank.fill(bad, v(len(bad))),
    ):
        with pytest.raises(IndexError, match=r"index must be in 0\.\.11, got values from"):
            call()
    assert torch.equal(bank.vectors, before)


def test_bad_input(bank: MemoryBank) -> None:
    index = torch.tensor([1, 2])
    with pytest.raises(TypeError, match=r"index must be a torch\.Tensor of shape"):
        bank[3]
    with pytest.raises(ValueError, match=r"index must have shape \(N,\), got \(1, 2\)"):
        bank[index[None]]
    for bad in (index.float(), index > 1):
        with pytest.raises(TypeError, match="index must be a tensor of integers"):
            bank[bad]
    for write in (bank.update, bank.fill):
        with pytest.raises(TypeError, match=r"index must be a torch\.Tensor of shape"):
            write(3, v(1))
        with pytest.raises(ValueError, match=r"index must have shape \(N,\), got \(\)"):
            write(index[0], v(1))
    with pytest.raises(ValueError, match=r"v must have shape \(N, D\) = \(2, 5\), got \(3, 5\)"):
        bank.update(index, v(3))
    with pytest.raises(ValueError, match=r"v must have shape \(N, D\) = \(2, 5\), got \(2, 4\)"):
        bank.update(index, v(2)[:, :4])
    with pytest.raises(TypeError, match="v must be a floating point tensor"):
        bank.update(index, v(2).long())
    with pytest.raises(ValueError, match="same device, got v on meta, bank on cpu"):
        bank.update(index, v(2).to("meta"))
    for k in (0, 12, -1):
        with pytest.raises(ValueError, match=r"k must be in 1\.\.11"):
            bank.negatives(index, k)
    for call in (lambda: bank.negatives(index, 2, generator=0), lambda: MemoryBank(4, 5, generator=0)):
        with pytest.raises(TypeError, match=r"generator must be a torch\.Generator or None, got int"):
            call()
    with pytest.raises(TypeError, match="k must be an integer"):
        bank.negatives(index, 2.0)
    with pytest.raises(ValueError, match="rows must be at least 2 for negatives"):
        MemoryBank(1, 5).negatives(torch.tensor([0]))
    with pytest.raises(ValueError, match="rows must be at least 1"):
        MemoryBank(0, 5)
    with pytest.raises(ValueError, match=r"momentum must be a finite number in \[0, 1\]"):
        MemoryBank(4, 5, momentum=1.5)
