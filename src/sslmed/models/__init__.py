"""Encoders, segmentation networks, heads, and the loading of pretrained weights."""

from __future__ import annotations

from .encoders import FeatureEncoder
from .features import UNetFeatures, feature_width, pooled_features
from .heads import ImageHead, PatchHead, PredictionHead, ProjectionHead
from .resnet import ResNetEncoder
from .unet import ResUNet, UNet
from .weights import MatchReport, load_encoder

__all__ = [
    "FeatureEncoder",
    "ImageHead",
    "MatchReport",
    "PatchHead",
    "PredictionHead",
    "ProjectionHead",
    "ResNetEncoder",
    "ResUNet",
    "UNet",
    "UNetFeatures",
    "feature_width",
    "load_encoder",
    "pooled_features",
]
