"""Checkpoints that survive a move of the run, a kill and a full disk, and that load without running code."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.plugins.io import TorchCheckpointIO

from .runs import write_bytes


class PortableCheckpoint(ModelCheckpoint):
    """A ModelCheckpoint that keeps file names without their folder, so that a run may be moved and then resumed.

    Lightning's own forgets the best score when the folder has another path, and carries that path in every checkpoint.
    """

    _PATHS = ("best_model_path", "kth_best_model_path", "last_model_path")

    def state_dict(self) -> dict[str, Any]:
        """Lightning's hook."""
        state = super().state_dict()
        state |= {key: Path(state[key]).name for key in self._PATHS}
        state["best_k_models"] = {Path(file).name: score for file, score in state["best_k_models"].items()}
        return state | {"dirpath": ""}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Lightning's hook."""

        def here(file: str) -> str:
            return str(Path(str(self.dirpath), file)) if file else file

        state = state_dict | {key: here(state_dict[key]) for key in self._PATHS} | {"dirpath": self.dirpath}
        state["best_k_models"] = {here(file): score for file, score in state_dict["best_k_models"].items()}
        super().load_state_dict(state)


class WholeFiles(TorchCheckpointIO):
    """Checkpoints that are whole or absent: Lightning's go by the system's temporary folder, often another disk."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        """Lightning's hook."""
        buffer = io.BytesIO()
        torch.save(checkpoint, buffer)
        write_bytes(Path(path), buffer.getvalue())

    def load_checkpoint(
        self, path: Any, map_location: Any = "cpu", weights_only: bool | None = True
    ) -> dict[str, Any]:
        """Lightning's hook; a checkpoint is numbers and names, and nothing else is let in."""
        content: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
        return content
