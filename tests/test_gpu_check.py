"""The check for machines with a GPU, rehearsed on the CPU in tiny sizes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SCRIPT = ROOT / "benchmarks" / "gpu_check.sh"


def rehearse(out: Path, *options: str) -> subprocess.CompletedProcess[str]:
    command = ["bash", str(SCRIPT), "no-wheels-needed", "--device", "cpu", "--quick", "--out", str(out), *options]
    environment = {**os.environ, "PYTHON": sys.executable}
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


@pytest.mark.slow
def test_a_rehearsal_writes_rows_and_a_picture(tmp_path: Path) -> None:
    done = rehearse(tmp_path, "--checks", "augmentations", "losses", "waits", "tests", "processes", "--minutes", "60")
    assert not done.returncode, done.stdout + done.stderr
    content = json.loads((tmp_path / "gpu-check-cpu.json").read_text())
    checks = content["checks"]
    assert content["quick"]
    assert list(checks) == ["augmentations", "losses", "waits", "tests", "processes"]
    assert "CUDA" in checks["waits"]["skipped"]
    for name in checks.keys() - {"waits"}:
        for row in checks[name]["rows"].values():
            assert row["value"] >= 0
            assert row["met"] is (None if row["goal"] is None else row["value"] <= row["goal"])
    assert checks["processes"]["rows"]["largest difference of a gradient"]["met"]
    assert checks["tests"]["rows"]["tests that failed"]["met"]
    assert (tmp_path / "gpu-check-cpu.png").stat().st_size > 1000


@pytest.mark.slow
def test_a_check_without_time_is_skipped_and_said(tmp_path: Path) -> None:
    done = rehearse(tmp_path, "--checks", "losses", "--minutes", "0")
    assert not done.returncode, done.stdout + done.stderr
    checks = json.loads((tmp_path / "gpu-check-cpu.json").read_text())["checks"]
    assert checks == {"losses": {"skipped": "no time was left"}}
