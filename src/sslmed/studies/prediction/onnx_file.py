"""An ensemble as an ONNX file, for programs without PyTorch."""

from __future__ import annotations

import importlib
import json
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from ..._compat import install_hint
from ..runs import write_bytes

if TYPE_CHECKING:
    from .ensemble import Ensemble

TOLERANCE = 1e-3  # of probabilities and confidences: other libraries sum in another order


def write_onnx(path: Path, ensemble: Ensemble, images: Tensor, description: Mapping[str, Any]) -> str:
    """Write an ensemble as ONNX, and compare the file with it.

    Its input `images` is (B, 1, S, S) in [0, 1], its outputs `probabilities` (B, 1, S, S) and `confidence` (B,). Its
    metadata hold the description as JSON, under the key `sslmed`.

    Args:
        path: of the file.
        ensemble: in evaluation mode, on the CPU.
        images: (B, 1, S, S), B at least 2, to compare both on.
        description: of the ensemble.

    Returns:
        A line that says what was written and compared, or what is missing.

    Raises:
        RuntimeError: the file computes something else.
    """
    try:
        onnx = importlib.import_module("onnx")
        importlib.import_module("onnxscript")
    except ImportError as error:
        return f"{path.name} was not written: it needs {error.name}. {install_hint('onnx')}"
    model = _exported(ensemble, images)
    onnx.helper.set_model_props(model, {"sslmed": json.dumps(description)})
    write_bytes(path, model.SerializeToString())
    try:
        runtime = importlib.import_module("onnxruntime")
    except ImportError:
        onnx.checker.check_model(str(path))
        return f"model: {path}, not compared with model.pt: onnxruntime is not installed"
    _compare(path, runtime, ensemble, images)
    return f"model: {path}, compared with model.pt"


def _exported(ensemble: Ensemble, images: Tensor) -> Any:
    """The ensemble as `onnx.ModelProto`."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the exporter about itself
        program = torch.onnx.export(
            ensemble,
            (images,),
            input_names=["images"],
            output_names=["probabilities", "confidence"],
            dynamic_shapes=({0: torch.export.Dim("batch")},),
            dynamo=True,
            verbose=False,
        )
        assert program is not None
        return program.model_proto


def _compare(path: Path, runtime: Any, ensemble: Ensemble, images: Tensor) -> None:
    """Raise RuntimeError, and remove the file, where it computes something else than the ensemble."""
    session = runtime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    for batch in (images, images[:1]):  # of another number of images too
        with torch.inference_mode():
            expected = ensemble(batch)
        found = session.run(None, {"images": batch.numpy()})
        for name, a, b in zip(("probabilities", "confidence"), expected, found, strict=True):
            worst = float(np.abs(a.numpy() - b).max())
            if not worst <= TOLERANCE:
                path.unlink()
                raise RuntimeError(f"{path} was removed: its {name} differ from those of the networks by {worst:.2g}")
