"""The torchrun example trains two processes on this machine."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLE = Path(__file__).parents[2] / "examples" / "simclr_ddp.py"


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
    done = subprocess.run(
        [*command, "--steps", "20"], capture_output=True, text=True, timeout=200, check=False
    )
    assert done.returncode == 0, done.stderr
    losses = [float(x) for x in re.findall(r"loss ([0-9.]+)", done.stdout)]
    assert len(losses) == 2
    assert losses[-1] < 4.8  # log 127 = 4.84 where all embeddings are equal
