"""A fit killed at chosen moments, each as bad as can be, ends like an unbroken one."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

pytest.importorskip("lightning")

import torch

from fits import finished, killed, trained
from sslmed.studies.engine import Fit
from sslmed.studies.runs import read_csv

SETTINGS = Fit(epochs=5, batch_size=8)
MOMENTS = [  # an epoch of this fit takes three steps and writes two or three files: best.ckpt, curves.csv, last.ckpt
    ("step", 1),
    ("half", 2),
    ("after", 2),
    ("before", 3),
    ("step", 4),
    ("half", 5),
    ("after", 3),
    ("before", 1),
]


@pytest.mark.slow
def test_a_fit_killed_again_and_again_ends_like_an_unbroken_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(sys.path))  # for the preload
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["fits"])

    def alone(target: Callable[..., object], *arguments: object) -> int | None:
        """The exit code of a fresh process: what ran in this one before (its threads) moves the last digits."""
        process = context.Process(target=target, args=arguments)
        process.start()
        process.join(600)
        return process.exitcode

    assert alone(trained, tmp_path / "whole", SETTINGS, 21, {}) == 0
    folder, left = tmp_path / "broken", 0
    for moment in MOMENTS:
        assert alone(killed, folder, SETTINGS, *moment) == -signal.SIGKILL, moment
        left += len(list(folder.glob(".*.part")))
        for file in folder.glob("*.ckpt"):
            torch.load(file, weights_only=True)
        for file in folder.glob("*.csv"):
            assert all(None not in row.values() for row in read_csv(file))
    assert left >= 4  # those moments were met
    assert alone(finished, folder, SETTINGS) == 0
    assert (folder / "curves.csv").read_text() == (tmp_path / "whole" / "curves.csv").read_text()
    for name in ("last.ckpt", "best.ckpt"):
        ours, theirs = (torch.load(place / name, weights_only=True) for place in (folder, tmp_path / "whole"))
        assert ours["epoch"] == theirs["epoch"]
        assert all(torch.equal(value, theirs["state_dict"][key]) for key, value in ours["state_dict"].items())
    assert not list(folder.glob(".*.part"))
