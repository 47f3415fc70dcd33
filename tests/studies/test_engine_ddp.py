"""Two processes train as one does: batches, losses, weights, checkpoints, stops."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("lightning")

import torch
from torch import nn

from fits import held, met, spoken, trained, validated
from ranks import Ranks
from sslmed.studies import fabric
from sslmed.studies.engine import Fit
from sslmed.studies.locks import folder_lock
from sslmed.studies.runs import read_csv, read_json
from sslmed.studies.seeding import EvenBatches

SETTINGS = Fit(epochs=5, batch_size=8)


@pytest.fixture(scope="module")
def ranks() -> Iterator[Ranks]:
    pool = Ranks(2)
    yield pool
    pool.close()


def same(one: Path, two: Path, file: str) -> None:
    """Losses and weights of two folders agree to 1e-5."""
    rows = read_csv(one / "curves.csv"), read_csv(two / "curves.csv")
    assert len(rows[0]) == len(rows[1])
    for row, other in zip(*rows, strict=True):
        assert row.keys() == other.keys()
        for name in row:
            assert float(row[name]) == pytest.approx(float(other[name]), abs=1e-5), (row["epoch"], name)
    a, b = (torch.load(folder / file, weights_only=True) for folder in (one, two))
    assert a["epoch"] == b["epoch"]
    assert a["state_dict"].keys() == b["state_dict"].keys()
    for name, value in a["state_dict"].items():
        torch.testing.assert_close(value, b["state_dict"][name], rtol=0, atol=1e-5, msg=name)


@pytest.mark.parametrize(("count", "batch_size", "world"), [(21, 4, 2), (17, 16, 3), (16, 16, 4), (33, 5, 3)])
def test_slices_make_up_the_batches_of_one_process(count: int, batch_size: int, world: int) -> None:
    whole = list(EvenBatches(count, batch_size, seed=0))
    parts = [list(EvenBatches(count, batch_size, seed=0, rank=r, world=world)) for r in range(world)]
    for batch, *slices in zip(whole, *parts, strict=True):
        assert [i for piece in slices for i in piece] == batch
        sizes = [len(piece) for piece in slices]
        assert min(sizes) > 0
        assert max(sizes) - min(sizes) <= 1


def test_a_batch_of_fewer_cases_than_processes_is_refused() -> None:
    with pytest.raises(ValueError, match=r"5 cases in batches of at most 2 leave 1 for a batch, too few for 2 proc"):
        EvenBatches(5, 2, seed=0, rank=0, world=2)


@pytest.mark.ddp
@pytest.mark.parametrize("accumulate", [1, 2])
def test_two_processes_learn_what_one_does(tmp_path: Path, ranks: Ranks, accumulate: int) -> None:
    settings = Fit(epochs=5, batch_size=8, accumulate=accumulate)  # 21 cases: three batches of 7
    alone = trained(tmp_path / "one", settings, 21, {})
    both = ranks.run(2, trained, tmp_path / "two", settings, 21, {})
    assert [result[4] for result in both] == ["", ""]
    assert alone[0] == both[0][0] == both[1][0] == "best.ckpt"
    same(tmp_path / "one", tmp_path / "two", "last.ckpt")
    same(tmp_path / "one", tmp_path / "two", "best.ckpt")
    assert both[0][1] == both[1][1] == pytest.approx(alone[1], abs=1e-5)
    assert [a + b for a, b in zip(both[0][3], both[1][3], strict=True)] == alone[3] == [7] * 15
    assert set(both[0][3]) == {3}
    assert both[0][2] == alone[2]  # the first process draws what one alone draws
    assert not set(both[0][2]) & set(both[1][2])


@pytest.mark.ddp
def test_a_fit_begun_in_one_process_goes_on_in_two(tmp_path: Path, ranks: Ranks) -> None:
    trained(tmp_path / "one", SETTINGS, 21, {})
    with pytest.raises(RuntimeError, match="killed"):
        trained(tmp_path / "both", SETTINGS, 21, {"die_at": 2})
    results = ranks.run(2, trained, tmp_path / "both", SETTINGS, 21, {})
    assert len(results[0][2]) == 9  # steps of the three epochs that were left
    same(tmp_path / "one", tmp_path / "both", "last.ckpt")
    same(tmp_path / "one", tmp_path / "both", "best.ckpt")


@pytest.mark.ddp
def test_two_machines_of_one_process_learn_what_one_does(tmp_path: Path, ranks: Ranks) -> None:
    trained(tmp_path / "one", SETTINGS, 21, {})
    results = ranks.run(2, trained, tmp_path / "two", SETTINGS, 21, {}, 2)
    assert [result[4] for result in results] == ["", ""]
    same(tmp_path / "one", tmp_path / "two", "last.ckpt")


@pytest.mark.parametrize(("cuda", "local", "nodes"), [(True, 2, 3), (False, 6, 1)])
def test_fabric_is_told_machines_and_gpus(monkeypatch: pytest.MonkeyPatch, cuda: bool, local: int, nodes: int) -> None:
    monkeypatch.setattr(fabric, "world_size", lambda: 6)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", str(local))
    told = fabric.machines()
    assert (told["devices"], told["num_nodes"], told["accelerator"]) == (
        local,
        nodes,
        "cuda" if cuda else "cpu",
    )
    module = nn.Sequential(nn.Conv2d(1, 1, 1), nn.BatchNorm2d(1))
    fabric.prepare_for_processes(module)
    assert isinstance(module[1], nn.SyncBatchNorm) == cuda


@pytest.mark.ddp
def test_batch_statistics_of_the_first_process_are_validated_and_saved(tmp_path: Path, ranks: Ranks) -> None:
    results = ranks.run(2, trained, tmp_path, Fit(epochs=2, batch_size=8), 21, {"norm": "batch"})
    assert results[0][1] == results[1][1]
    row = read_csv(tmp_path / "curves.csv")[-1]
    assert float(row["val_loss"]) == pytest.approx(results[0][1], abs=1e-7)


@pytest.mark.ddp
def test_the_dice_of_validation_counts_each_case_once(ranks: Ranks) -> None:
    logits = torch.randn(3, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    target = torch.zeros(3, 8, 8, dtype=torch.int64)  # two structures are absent, whose Dice is all smoothing
    assert ranks.run(2, validated, logits, target) == [pytest.approx(validated(logits, target), abs=1e-6)] * 2


@pytest.mark.ddp
def test_batch_statistics_are_sent_each_step_and_queues_are_not(tmp_path: Path, ranks: Ranks) -> None:
    first, second = ranks.run(2, met, tmp_path)
    assert set(first.values()) == {0.0}
    assert {name for name, value in second.items() if value == 1} == {"queue.keys", "queue.key_ids", "queue.count"}
    assert second.keys() == first.keys() > {"net.1.running_mean", "net.1.running_var"}


@pytest.mark.ddp
def test_nan_on_one_process_stops_both_before_any_checkpoint(tmp_path: Path, ranks: Ranks) -> None:
    results = ranks.run(2, trained, tmp_path, SETTINGS, 21, {"spoil": "loss"})
    for result in results:
        assert result[4].startswith("FloatingPointError: toy: the loss is NaN or infinite in epoch 3 of 5, step 2;")
    kept = torch.load(tmp_path / "last.ckpt", weights_only=True)
    assert kept["epoch"] == 1
    assert all(bool(value.isfinite().all()) for value in kept["state_dict"].values())


@pytest.mark.ddp
def test_too_many_processes_are_told_before_training(tmp_path: Path, ranks: Ranks) -> None:
    results = ranks.run(2, trained, tmp_path, Fit(epochs=1, batch_size=1), 4, {})
    assert all("too few for 2 processes" in result[4] for result in results)
    assert not list(tmp_path.iterdir())


@pytest.mark.ddp
def test_a_folder_in_use_is_told_to_all_processes(tmp_path: Path, ranks: Ranks) -> None:
    with folder_lock(tmp_path / "cell"):
        assert ranks.run(2, held, tmp_path / "cell") == [f"{tmp_path / 'cell'} is in use by another process"] * 2
    assert ranks.run(2, held, tmp_path / "cell") == ["held"] * 2


@pytest.mark.ddp
def test_processes_share_agree_and_write_as_one(tmp_path: Path, ranks: Ranks) -> None:
    assert spoken(tmp_path, [5]) == (1.0, "of 0", [False, False, True])
    both = ranks.run(2, spoken, tmp_path, [3, 5])
    assert both == [(0.75, "of 0", [False, True, True]), (1.25, "of 0", [False, True, True])]
    assert read_json(tmp_path / "rank.json") == 0


@pytest.mark.ddp
@pytest.mark.slow
def test_an_example_runs_under_torchrun_and_speaks_once(tmp_path: Path) -> None:
    example = Path(__file__).parents[2] / "examples" / "ultrasound_relation.py"
    command = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc-per-node",
        "2",
        str(example),
    ]
    done = subprocess.run(
        [*command, "--preset", "smoke", "--methods", "supervised", "--out", str(tmp_path / "run")],
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count(f"report: {tmp_path / 'run' / 'report.html'}") == 1
    assert read_json(tmp_path / "run" / "cells" / "supervised-l50-s0" / "result.json")["epochs"] == 3
    assert not list((tmp_path / "run").rglob("*.part"))
