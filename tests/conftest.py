"""Fixtures and rules shared by all tests."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Iterator

import pytest
import torch

torch.set_num_threads(1)  # the tests' tensors are small: threads cost more than they give


@pytest.fixture(params=["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
def device(request: pytest.FixtureRequest) -> torch.device:
    """Each device the machine has; CUDA skips where there is none."""
    if request.param == "cuda" and not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    return torch.device(request.param)


@pytest.fixture(autouse=True)
def fresh_compiler() -> Iterator[None]:
    """Forget the graphs of a test: with too many of one function, torch.compile falls back to eager calls."""
    yield
    if (dynamo := sys.modules.get("torch._dynamo")) is not None:
        dynamo.reset()


# Threads meet by chance: `pytest -m threads --repeat-threads 20` runs each test that starts some 20 times.


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--cases", type=int, help="of each parametrised test, run at most so many cases, evenly spread")
    parser.addoption("--repeat-threads", type=int, default=1, help="how often to run each test of threads")


def starts_threads(function: object) -> bool:
    code = getattr(inspect.unwrap(function), "__code__", None)  # type: ignore[arg-type]
    return code is not None and not {"Thread", "ThreadPoolExecutor"}.isdisjoint(code.co_names)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    repeats = metafunc.config.getoption("repeat_threads")
    if repeats > 1 and starts_threads(metafunc.function):
        metafunc.fixturenames.append("repeat")
        metafunc.parametrize("repeat", range(repeats))


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> Iterator[None]:
    for item in items:
        if isinstance(item, pytest.Function) and starts_threads(item.function):
            item.add_marker("threads")
    yield  # `-m` selects
    if (most := config.getoption("cases")) is not None:
        kept = some_cases(items, most)
        config.hook.pytest_deselected(items=list(set(items) - set(kept)))
        items[:] = kept


def some_cases(items: list[pytest.Item], most: int) -> list[pytest.Item]:
    """At most so many cases of each test, evenly spread."""
    tests: dict[str, list[pytest.Item]] = {}
    for item in items:
        tests.setdefault(item.nodeid.partition("[")[0], []).append(item)
    return [
        cases[k * len(cases) // count]
        for cases in tests.values()
        for count in [min(most, len(cases))]
        for k in range(count)
    ]
