"""Use the result of a few-labels run: its networks as one model, and outlines of a folder of scans."""

from .ensemble import Ensemble, load_model, write_model
from .prediction import Prediction

__all__ = ["Ensemble", "Prediction", "load_model", "write_model"]
