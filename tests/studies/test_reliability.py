"""What stops a fit, and what it leaves: numbers that are not finite, a full disk, a kill, two runs in one folder."""

from __future__ import annotations

import os
import platform
import socket
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("lightning")

import torch
from torch import Tensor, nn
from torch.utils.data import TensorDataset
from torch.utils.tensorboard import SummaryWriter

from fits import held, trained
from sslmed.methods import Step
from sslmed.studies.engine import Fit, fit
from sslmed.studies.locks import Busy, folder_lock
from sslmed.studies.optimisers import Optimiser
from sslmed.studies.runs import read_csv
from sslmed.studies.seeding import order_of

SETTINGS = Fit(epochs=5, batch_size=8)
SGD = Optimiser("sgd", lr=0.1, momentum=0.0)


class Linear(nn.Module):
    """y = w x."""

    def __init__(self) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.zeros((), dtype=torch.float64))

    def forward(self, x: Tensor, y: Tensor) -> Step:
        loss = ((self.w * x - y) ** 2).mean()
        return Step(loss, {"loss": loss.detach()})

    def start(self, batches: Any) -> None:
        pass

    def after_step(self) -> None:
        pass

    def parameter_groups(self) -> list[dict[str, Any]]:
        return [{"params": [self.w]}]


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        ("loss", "toy: the loss is NaN or infinite in epoch 3 of 5, step 2;"),
        ("val_loss", "toy: the validation loss is NaN or infinite in epoch 3 of 5, step 3;"),
        ("weight", "toy: the loss is NaN or infinite in epoch 3 of 5, step 3;"),
    ],
)
def test_a_number_that_is_not_finite_stops_the_fit_and_keeps_the_checkpoint(
    tmp_path: Path, spoil: str, message: str
) -> None:
    error = trained(tmp_path, SETTINGS, 21, {"spoil": spoil})[4]
    assert error.startswith("FloatingPointError: " + message)
    assert "last.ckpt, if there is one, is from an earlier epoch and is kept" in error
    for name in ("last.ckpt", "best.ckpt"):
        kept = torch.load(tmp_path / name, weights_only=True)
        assert kept["epoch"] <= 1
        assert all(bool(value.isfinite().all()) for value in kept["state_dict"].values())
    assert len(read_csv(tmp_path / "curves.csv")) == 2


def test_a_weight_spoiled_by_the_last_step_of_an_epoch_reaches_no_checkpoint(tmp_path: Path) -> None:
    class Late(Linear):
        steps = 0

        def after_step(self) -> None:
            self.steps += 1
            if self.steps == 2:
                self.w.data.fill_(float("nan"))

    x = torch.rand(4, dtype=torch.float64)
    with pytest.raises(FloatingPointError, match=r"late: w is NaN or infinite in epoch 2 of 3, step 1;"):
        fit(Late(), TensorDataset(x, x), Fit(3, 4), optimiser=SGD, folder=tmp_path, seed=0, title="late")
    assert len(read_csv(tmp_path / "curves.csv")) == 1
    assert torch.load(tmp_path / "last.ckpt", weights_only=True)["epoch"] == 0


def test_checkpoints_load_without_code_and_tell_nothing_of_the_machine(tmp_path: Path) -> None:
    trained(tmp_path, SETTINGS, 21, {})
    for name in ("last.ckpt", "best.ckpt"):
        torch.load(tmp_path / name, weights_only=True)
        content = (tmp_path / name).read_bytes()
        for word in (
            str(tmp_path),
            str(Path.cwd()),
            str(Path.home()) + "/",
            socket.gethostname(),
            platform.node(),
        ):
            assert len(word) < 4 or word.encode() not in content, word


@pytest.mark.parametrize(("accumulate", "steps"), [(1, [4, 4, 4]), (2, [8, 4]), (3, [12]), (4, [12])])
def test_accumulated_gradients_are_means_of_all_their_batches(
    tmp_path: Path, accumulate: int, steps: list[int]
) -> None:
    x = torch.linspace(0, 1, 12, dtype=torch.float64)
    data = TensorDataset(x, 3 * x + x**2)
    settings = Fit(epochs=1, batch_size=4, accumulate=accumulate)
    module = Linear()
    fit(module, data, settings, optimiser=SGD, folder=tmp_path, seed=0, title="line")
    order, w = order_of(12, 0, 0), torch.zeros((), dtype=torch.float64)
    for size in steps:
        part, order = order[:size], order[size:]
        a, b = data.tensors[0][part], data.tensors[1][part]
        w = w - 0.1 * (2 * a * (w * a - b)).mean()
    torch.testing.assert_close(module.w.detach(), w)


def test_accumulate_below_one_is_refused() -> None:
    with pytest.raises(ValueError, match="accumulate must be at least 1, got 0"):
        Fit(epochs=1, batch_size=1, accumulate=0)


FULL = """
import resource, sys
from pathlib import Path
from sslmed.studies.runs import write_bytes
folder = Path(sys.argv[1])
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
write_bytes(folder / "small", b"new")
write_bytes(folder / "file", b"x" * 2000)
"""


def test_a_write_that_the_disk_refuses_says_where_and_leaves_the_old_file(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"old")
    done = subprocess.run(
        [sys.executable, "-c", FULL, str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert done.returncode == 1
    line = done.stderr.splitlines()[-1]
    assert f"cannot write {tmp_path / 'file'}, 2,000 bytes: File too large; " in line
    assert line.endswith(" bytes are free there; the earlier file is unchanged")
    assert {file.name: file.read_bytes() for file in tmp_path.iterdir()} == {"file": b"old", "small": b"new"}


def test_a_disk_that_fills_up_during_a_fit_leaves_the_checkpoint_of_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, synced = os.fsync, []

    def fsync(file: int) -> None:
        synced.append(file)
        if len(synced) > 4:  # two files an epoch
            raise OSError(28, "No space left on device")
        real(file)

    monkeypatch.setattr(os, "fsync", fsync)
    data = TensorDataset(torch.rand(8, dtype=torch.float64), torch.rand(8, dtype=torch.float64))
    with pytest.raises(OSError, match=r"cannot write .*curves.csv, .* bytes: No space left on device; .* free") as full:
        fit(Linear(), data, SETTINGS, optimiser=SGD, folder=tmp_path, seed=0, title="line")
    assert full.value.errno == 28
    monkeypatch.undo()
    assert torch.load(tmp_path / "last.ckpt", weights_only=True)["epoch"] == 1
    assert not list(tmp_path.glob(".*.part"))
    fit(Linear(), data, SETTINGS, optimiser=SGD, folder=tmp_path, seed=0, title="line")
    assert torch.load(tmp_path / "last.ckpt", weights_only=True)["epoch"] == 4


def test_tensorboard_that_cannot_write_is_done_without(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(SummaryWriter, "add_scalar", full)
    assert trained(tmp_path, SETTINGS, 21, {})[0] == "best.ckpt"
    assert len(read_csv(tmp_path / "curves.csv")) == 5
    said = capfd.readouterr().err
    assert (
        said.count("TensorBoard's files cannot be written: [Errno 28] No space left on device; curves.csv continues")
        == 1
    )


def test_a_folder_is_held_by_one_and_freed_by_death(tmp_path: Path) -> None:
    folder = tmp_path / "deep" / "cell"
    with (
        folder_lock(folder),
        pytest.raises(Busy, match="cell is in use by another process") as busy,
        folder_lock(folder),
    ):
        pass
    assert isinstance(busy.value, OSError)
    assert held(folder) == "held"


HOLD = """
import signal, sys
from pathlib import Path
from sslmed.studies.locks import folder_lock
with folder_lock(Path(sys.argv[1])):
    (Path(sys.argv[1]) / ".half.1.part").touch()
    print("held", flush=True)
    signal.pause()
"""


def test_a_folder_that_all_write_in_turn_is_waited_for(tmp_path: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path)],
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert process.stdout is not None
    with process.stdout as out:
        assert out.readline() == "held\n"
    ending = threading.Timer(0.3, process.kill)
    ending.start()
    with folder_lock(tmp_path, wait=True):
        assert process.wait() < 0
    ending.join()


def test_a_killed_holder_leaves_no_lock(tmp_path: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path)],
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert process.stdout is not None
    with process.stdout as out:
        assert out.readline() == "held\n"
    assert held(tmp_path) == f"{tmp_path} is in use by another process"
    process.kill()
    process.wait()
    assert held(tmp_path) == "held"
    assert {file.name for file in tmp_path.iterdir()} <= {".lock"}
