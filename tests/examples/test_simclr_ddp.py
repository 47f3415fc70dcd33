"""The torchrun example trains two processes on this machine."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLE = Path(__file__).parents[2] / "examples" / "simclr_ddp.py"


def test_without_torchrun_it_says_so_in_one_line() -> None:
    outside = {name: value for name, value in os.environ.items() if name != "RANK"}
    done = subprocess.run([sys.executable, str(EXAMPLE)], capture_output=True, text=True, check=False, env=outside)
    assert done.returncode == 2
    assert done.stderr == "simclr_ddp.py: error: start it with torchrun, as --help says\n"


@pytest.mark.ddp
@pytest.mark.slow
def test_two_processes_train() -> None:
    command = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc-per-node",
        "2",
        str(EXAMPLE),
    ]
    done = subprocess.run([*command, "--steps", "20"], capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stderr
    losses = [float(x) for x in re.findall(r"loss ([0-9.]+)", done.stdout)]
    assert len(losses) == 2
    assert losses[-1] < 4.8  # log 127 = 4.84 where all embeddings are equal
