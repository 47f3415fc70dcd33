"""Where draws come from: generators of one's own, in threads, in copies and in worker processes."""

from __future__ import annotations

import copy
import pickle
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import pytest
import torch
from kornia.augmentation import RandomHorizontalFlip, RandomResizedCrop
from torch import Tensor, nn
from torch.utils.data import DataLoader

from sslmed.augment import GrayJitter, MultiView, PatchWise, _source, views
from sslmed.augment.functional import correspond
from sslmed.augment.pairs import LocalPair


class Draws(nn.Module):
    """A user's transform: one number of each kind from torch's global generator."""

    def forward(self, x: Tensor) -> Tensor:
        n = len(x)
        parts = [
            torch.rand(n),
            torch.randn(n),
            torch.randint(9, (n,)),
            torch.randint(1, 9, (n,)),
            torch.randperm(n),
            torch.rand_like(x[:, 0, 0, 0]),
            torch.randn_like(x[:, 0, 0, 0]),
            torch.randint_like(x[:, 0, 0, 0], 9),
            torch.randint_like(x[:, 0, 0, 0], 2, 9),
            torch.empty(n).uniform_(),
            torch.empty(n).normal_(),
            torch.bernoulli(torch.full((n,), 0.5)),
            torch.normal(0.0, 1.0, (n,)),
            torch.multinomial(torch.ones(n), n),
            torch.empty(n).exponential_(),
            nn.functional.dropout(torch.ones(n)),
            torch.distributions.Normal(0.0, 1.0).sample((n,)),
        ]
        return torch.stack([part.float() for part in parts], dim=1)


Make = Callable[[torch.Generator | None], nn.Module]
RECIPES: dict[str, Make] = {
    "simclr": lambda g: views.simclr(8, generator=g),
    "local_pair": lambda g: views.local_pair(8, generator=g),
    "kornia": lambda g: MultiView(nn.Sequential(RandomResizedCrop((8, 8))), RandomHorizontalFlip(), generator=g),
    "own": lambda g: MultiView(PatchWise(GrayJitter(p=1.0), (2, 2)), Draws(), generator=g),
}
every = pytest.mark.parametrize("make", RECIPES.values(), ids=RECIPES)


def seeded(seed: int = 3) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def equal(a: list[Tensor], b: list[Tensor]) -> bool:
    return all(torch.equal(u, v) for u, v in zip(a, b, strict=True))


@every
def test_all_draws_come_from_the_generator(make: Make) -> None:
    x, state = torch.rand(6, 1, 12, 12), torch.get_rng_state()
    first, again, other = (make(seeded(seed))(x) for seed in (3, 3, 4))
    assert torch.equal(torch.get_rng_state(), state)
    assert equal(first, again)
    assert not any(torch.equal(u, v) for u, v in zip(first[:2], other[:2], strict=True))


def test_each_kind_of_draw_is_redirected_and_keeps_its_distribution() -> None:
    x = torch.rand(3000, 1, 2, 2)
    (y,) = MultiView(Draws(), generator=seeded())(x)
    torch.manual_seed(0)
    want = Draws()(x)
    for column, expected in zip(y.T, want.T, strict=True):
        assert column.unique().numel() > 1
        torch.testing.assert_close(column.mean(), expected.mean(), rtol=0.1, atol=0.1)
        torch.testing.assert_close(column.std(), expected.std(), rtol=0.1, atol=0.1)
        assert abs(float(torch.corrcoef(torch.stack([column, expected]))[0, 1])) < 0.1
    (again,) = MultiView(Draws(), generator=seeded())(x)
    assert torch.equal(again, y)


@every
def test_threads_that_replay_do_not_meet_nor_disturb_the_global_stream(make: Make) -> None:
    x, recipe = torch.rand(4, 1, 12, 12), make(None)
    params = [recipe.forward_parameters(x.shape) for _ in range(6)]
    want = [recipe(x, params=p) for p in params]
    state = torch.get_rng_state()
    with ThreadPoolExecutor(4) as pool:
        got = list(pool.map(lambda p: recipe(x, params=p), params * 4))
    assert torch.equal(torch.get_rng_state(), state)
    assert all(equal(g, w) for g, w in zip(got, want * 4, strict=True))


@pytest.mark.parametrize("own", [True, False])
@pytest.mark.parametrize(
    "make",
    [
        lambda g: views.local_pair(32, brightness=0.0, contrast=0.0, generator=g),
        lambda g: LocalPair([RandomResizedCrop((32, 32))], [RandomHorizontalFlip()], generator=g),
    ],
    ids=["recipe", "kornia"],
)
def test_matrices_belong_to_their_views_in_every_thread(make: Make, own: bool) -> None:
    side = torch.arange(48.0)
    x = torch.stack([side.expand(48, 48), side[:, None].expand(48, 48), torch.ones(48, 48)]).expand(2, 3, 48, 48)
    recipe = make(seeded() if own else None)

    def error(_: int) -> float:
        pair = recipe(x)
        source, _ = correspond(
            torch.tensor([[[5.0, 20.0]]]).expand(2, 1, 2),
            pair.matrix0,
            torch.eye(3).expand(2, 3, 3),
            size=(48, 48),
        )
        return float((source[:, 0] - pair.view0[:, :2, 20, 5]).abs().max())

    with ThreadPoolExecutor(4) as pool:
        assert max(pool.map(error, range(80))) < 1e-3


def test_a_view_that_raises_leaves_the_thread_as_it_was() -> None:
    with pytest.raises(ValueError, match="x must have 1 or 3 channels"):
        MultiView(GrayJitter(p=1.0), Draws(), generator=seeded())(torch.rand(2, 2, 8, 8))
    assert getattr(_source._thread, "generator", None) is None
    assert torch._C._len_torch_dispatch_stack() == 0


# Copies


def test_copies_that_shared_a_generator_share_one_again() -> None:
    shared = seeded()
    pair = nn.ModuleList([GrayJitter(p=1.0, generator=shared), GrayJitter(p=1.0, generator=shared)])
    for other in (copy.deepcopy(pair), pickle.loads(pickle.dumps(pair))):
        assert other[0].generator is other[1].generator
        assert other[0].generator is not shared
        assert torch.equal(other[0].generator.get_state(), shared.get_state())


# Worker processes

IMAGES = list(torch.ones(8, 1, 6, 6))


def drawn(transform: nn.Module, *, workers: int = 2, start: str = "fork", epochs: int = 2) -> list[list[float]]:
    """Brightness of every image, a list for each epoch; the workers take turns."""
    loader = DataLoader(
        IMAGES, batch_size=None, collate_fn=transform, num_workers=workers, multiprocessing_context=start
    )
    return [[float(y.mean()) for y in loader] for _ in range(epochs)]


def test_workers_and_epochs_draw_apart_and_repeat_with_the_global_seed() -> None:
    torch.manual_seed(1)
    first = drawn(GrayJitter(p=1.0, generator=seeded()))
    assert len({value for epoch in first for value in epoch}) == 16
    torch.manual_seed(1)
    assert drawn(GrayJitter(p=1.0, generator=seeded())) == first
    torch.manual_seed(2)
    assert drawn(GrayJitter(p=1.0, generator=seeded())) != first
    torch.manual_seed(1)
    assert drawn(GrayJitter(p=1.0, generator=seeded(4))) != first


def test_workers_that_are_spawned_draw_what_forked_ones_do() -> None:
    torch.manual_seed(1)
    forked = drawn(GrayJitter(p=1.0, generator=seeded()), workers=1, epochs=1)
    torch.manual_seed(1)
    assert drawn(GrayJitter(p=1.0, generator=seeded()), workers=1, epochs=1, start="spawn") == forked


def test_a_worker_moves_a_shared_generator_once(monkeypatch: pytest.MonkeyPatch) -> None:
    shared = seeded()
    one, two = GrayJitter(p=1.0, generator=shared), MultiView(nn.Identity(), generator=shared)
    monkeypatch.setattr(_source, "get_worker_info", lambda: SimpleNamespace(seed=11))
    one.forward_parameters((1, 1, 4, 4))
    start = shared.initial_seed()
    two.forward_parameters((1, 1, 4, 4))
    one.forward_parameters((1, 1, 4, 4))
    assert shared.initial_seed() == start
    monkeypatch.setattr(_source, "get_worker_info", lambda: SimpleNamespace(seed=12))
    one.forward_parameters((1, 1, 4, 4))
    assert shared.initial_seed() != start


def test_threads_that_overlap_leave_torch_compile_at_work() -> None:
    first, second, left = threading.Event(), threading.Event(), threading.Event()

    class Meets(nn.Module):
        def __init__(self, arrived: threading.Event, leaves_after: threading.Event) -> None:
            super().__init__()
            self.arrived, self.leaves_after = arrived, leaves_after

        def forward(self, x: Tensor) -> Tensor:
            self.arrived.set()
            assert self.leaves_after.wait(60)
            return x

    def one() -> None:  # arrives first and leaves first
        MultiView(Meets(first, second), generator=seeded())(torch.zeros(1, 1, 4, 4))
        left.set()

    def other() -> None:
        assert first.wait(60)
        MultiView(Meets(second, left), generator=seeded())(torch.zeros(1, 1, 4, 4))

    with ThreadPoolExecutor(2) as pool:
        for call in [pool.submit(one), pool.submit(other)]:
            call.result()

    compiled: list[object] = []

    def backend(graph: torch.fx.GraphModule, _: list[Tensor]) -> Callable[..., object]:
        compiled.append(graph)
        return graph.forward

    torch.compile(lambda x: x + 1, backend=backend)(torch.zeros(2))
    assert compiled
