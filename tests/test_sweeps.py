"""The sweeps of speed, in tiny sizes: every job of each, what is left out, and how a point is judged."""

from __future__ import annotations

import importlib
import json
import math
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
Load = Callable[[str], ModuleType]
# Smaller than any point of a real sweep.
TINY: dict[str, dict[str, Any]] = {
    "losses_sweep": {"n": 32, "k": 64, "dim": 16},
    "metrics_sweep": {"size": (24, 24), "number": 2},
    "augment_sweep": {"batch": 2, "size": 64},
}


@pytest.fixture
def load(monkeypatch: pytest.MonkeyPatch) -> Iterator[Load]:
    """Import a benchmark by its name; some of the names are those of other modules too."""
    names = {path.stem for path in BENCHMARKS.glob("*.py")}
    for name in names:
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    yield importlib.import_module
    for name in names & set(sys.modules):
        del sys.modules[name]


@pytest.mark.parametrize("script", list(TINY))
@pytest.mark.filterwarnings("ignore")  # of other libraries
def test_every_job_runs_beside_what_is_installed(
    load: Load, script: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.manual_seed(0)
    module = load(script)
    for name, value in TINY[script].items():
        monkeypatch.setitem(module.START, name, value)
    sweep = module.SWEEP
    # The axes of sizes are left at their smallest point, the others at their first.
    jobs = {job: {axis: values[:1] for axis, values in axes.items()} for job, axes in sweep.jobs.items()}
    found = dict(sweep.timed(jobs, "cpu", 1, {}))
    assert found.keys() == jobs.keys()
    without_floor = {"local", "BYOL", "masked L1"}
    for job, tables in found.items():
        assert tables.keys() == jobs[job].keys()
        for table in tables.values():
            (point,) = table.values()
            assert point["pairs"] > 0
            assert point["ways"]["sslmed"]["median_ms"] > 0
            assert any(name.startswith("floor") for name in point["ways"]) == (job not in without_floor)
    printed = capsys.readouterr().out
    assert all(f"{job} against {axis}" in printed for job in jobs for axis in jobs[job])
    assert "without sslmed" not in printed


def test_a_run_writes_times_and_memory_and_a_picture(
    load: Load, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    pytest.importorskip("matplotlib")
    module, sweeps, written = load("losses_sweep"), load("sweeps"), {}
    old = tmp_path / "before.json"  # without a level between point and contenders, as in older files
    old.write_text(json.dumps({"jobs": {"BYOL": {"grad": {"0": {"sslmed": {"median_ms": 1.0}}}}}}))
    monkeypatch.setattr(sweeps, "settle", lambda threads: None)
    monkeypatch.setattr(sweeps, "write", lambda name, content: written.update({name: content}))
    monkeypatch.setattr(sweeps, "RESULTS", tmp_path)
    command = [module.__file__, "--rounds", "1", "--jobs", "BYOL", "masked L1", "--axes", "grad", "--before", str(old)]
    monkeypatch.setattr(sys, "argv", command)
    module.SWEEP.main(module.__doc__)
    jobs = written["losses-sweep-cpu"]["jobs"]
    assert list(jobs["BYOL"]["grad"]) == ["0", "1"]
    rows = jobs["masked L1"]["grad"]["1"]["ways"]
    assert {"sslmed", "torch: times mask", "torch: indexed"} <= rows.keys()
    measures = Path("/proc/self/clear_refs").exists()
    assert all(("peak_mib" in row) == measures for row in rows.values())
    assert (tmp_path / "losses-sweep-cpu.png").stat().st_size > 1000


def test_a_peer_that_fails_or_is_slow_is_left_out(load: Load, monkeypatch: pytest.MonkeyPatch) -> None:
    sweeps = load("sweeps")

    def fails() -> None:
        raise RuntimeError("no foreground")

    ready, left_out = sweeps.usable({"sslmed": int, "quick": int, "broken": fails})
    assert list(ready) == ["sslmed", "quick"]
    assert left_out == ["broken, RuntimeError: 'no foreground'"]
    monkeypatch.setattr(sweeps, "LONGEST_MS", -1.0)
    ready, left_out = sweeps.usable({"sslmed": int, "slow": int})
    assert list(ready) == ["sslmed"]
    assert "slow, which takes" in left_out[0]
    with pytest.raises(RuntimeError, match="no foreground"):
        sweeps.usable({"sslmed": fails})


def test_a_point_is_judged_by_peers_and_the_point_before(load: Load) -> None:
    module = load("standings")

    def point(pairs: int, **rows: tuple[float, float]) -> dict[str, Any]:
        return {"pairs": pairs, "ways": {name: {"median_ms": ms, "peak_mib": mib} for name, (ms, mib) in rows.items()}}

    table = {
        "1": point(10, floor=(1.0, 1.0), sslmed=(2.0, 3.0), slow=(8.0, 1.0), quick=(4.0, 6.0)),
        "2": point(20, floor=(1.0, 1.0), sslmed=(8.0, 3.0), slow=(8.0, 1.0), quick=(4.0, 0.5)),
    }
    (_, first), (_, second) = module.standings("n", table, {"n"})
    assert (first.floor, first.peer, first.who, first.memory) == (2.0, 0.5, "quick", 0.5)
    assert not first.slower
    assert not first.steps
    assert (second.step, second.peer) == (2.0, 2.0)
    assert math.isnan(second.memory)  # a peak below a MiB is not exact enough
    assert "SLOWER THAN A PEER  STEP" in str(second)
    assert module.summary({"n": table}, {"n"}) == "2 points, 1 slower than the best peer, 1 steps"
    assert not any(standing.steps for _, standing in module.standings("dtype", table, {"n"}))
    ((_, alone),) = module.standings("n", {"1": {"sslmed": {"median_ms": 2.0}, "floor: copy": {"median_ms": 1.0}}})
    assert alone.floor == 2.0
    assert not alone.who
    assert not alone.slower


def test_floors_multiply_what_the_loss_multiplies(load: Load) -> None:
    products = load("losses_floors").products
    rows, others = torch.randn(4, 3), torch.randn(5, 3)
    similar = rows @ others.T
    torch.testing.assert_close(products(rows, others, backward=False)(), similar)
    of_rows, of_others = products(rows, others, both=True)()
    torch.testing.assert_close(of_rows, similar @ others)
    torch.testing.assert_close(of_others, similar.T @ rows)
    assert products(rows, others)()[1] is None


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="needs Linux")
def test_the_peak_is_what_a_call_takes_at_once() -> None:
    code = (
        "import torch, measure\n"
        "def call():\n"
        "    for _ in range(3):\n"
        "        a = torch.ones(2**23)\n"  # 32 MiB, and given back before the next
        "        del a\n"
        "call()\n"
        "print(measure.peak_mib(call))"
    )
    settings = dict.fromkeys(("MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_"), "65536")
    paths = os.pathsep.join((str(BENCHMARKS), *sys.path))
    environment = {**os.environ, **settings, "PYTHONPATH": paths}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert 31 < float(done.stdout) < 36
