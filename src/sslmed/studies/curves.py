"""Learning curves: means of an epoch, curves.csv, and TensorBoard's files."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

import torch
from torch import Tensor
from torch import distributed as dist

from .processes import rank, world_size
from .runs import write_csv


class Means:
    """Means of scalars over all cases of an epoch, kept on the device and read once."""

    def __init__(self, device: torch.device) -> None:
        self.sums: dict[str, Tensor] = {}
        self.device: torch.device = device
        self.count: int = 0

    def add(self, terms: dict[str, Tensor], count: int) -> None:
        """Add means over `count` cases."""
        for name, value in terms.items():
            total = value.detach().float() * count
            self.sums[name] = self.sums[name] + total if name in self.sums else total
        self.count += count

    def of_all_processes(self) -> dict[str, float]:
        """The means over the cases of all processes."""
        sums = torch.stack([torch.full((), float(self.count), device=self.device), *self.sums.values()])
        if world_size() > 1:
            dist.all_reduce(sums)
        return dict(zip(self.sums, (sums[1:] / sums[0]).tolist(), strict=True))


class Curves:
    """One row of values an epoch: curves.csv, and TensorBoard's files until they cannot be written.

    Args:
        folder: where both are written.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.rows: list[dict[str, float]] = []
        self._board: Any = None
        self._refused = rank() > 0

    def __enter__(self) -> Curves:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._board is not None and not self._refused:
            self._board.close()

    def add(self, row: dict[str, float]) -> None:
        """Add the row of an epoch, and write it."""
        self.rows.append(row)
        write_csv(self.folder / "curves.csv", self.rows, columns=list(self.rows[0]))
        self.show(row, int(row["epoch"]))

    def show(self, values: Mapping[str, float], step: int) -> None:
        """Add values to TensorBoard's files alone."""
        if self._refused:
            return
        try:
            if self._board is None:
                from torch.utils.tensorboard import SummaryWriter  # slow to import

                self._board = SummaryWriter(str(self.folder / "tensorboard"))
            for name, value in values.items():
                self._board.add_scalar(name, value, step)
            self._board.flush()
        except OSError as error:
            self._refused = True
            print(
                f"    TensorBoard's files cannot be written: {error}; curves.csv continues", file=sys.stderr, flush=True
            )
