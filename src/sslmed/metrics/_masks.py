"""What all metrics of masks share: the check of the masks, and the words for empty ones."""

from __future__ import annotations

import torch

from .. import _checks

EMPTY = ("worst", "inf", "nan")
_SHAPES = "(B, H, W), (B, D, H, W), or with a channel (B, 1, H, W), (B, 1, D, H, W)"


def masks(pred: torch.Tensor, target: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return both masks as bool (B, H, W) or (B, D, H, W), without a channel.

    Raises unless they are zeros and ones of one shape on one device, and of one class.
    """
    both = []
    for name, mask in (("pred", pred), ("target", target)):
        _checks.shaped(name, mask, _SHAPES, ndim=(3, 4, 5))
        if 0 in mask.shape[1:]:
            raise ValueError(f"{name} must have pixels, got shape {tuple(mask.shape)}")
        if mask.is_floating_point() or mask.is_complex():
            raise TypeError(
                f"{name} must be a bool mask, got {mask.dtype}; threshold first, e.g. logits > 0 or probability > 0.5"
            )
        mask = comparable(mask)
        # A label map, or a mask stored as 0 and 255, would otherwise count every label as foreground.
        low, high = (0, 1) if mask.dtype == torch.bool or not mask.numel() else map(int, mask.aminmax())
        if not 0 <= low <= high <= 1:
            raise ValueError(
                f"{name} must hold 0 and 1 only, got values from {low} to {high}; select a label, e.g. {name} == 1"
            )
        both.append(_one_class(name, mask.bool()))
    _checks.same_shape("pred", pred, "target", target)
    _checks.same_device(pred=pred, target=target)
    return both[0], both[1]


def _one_class(name: str, mask: torch.Tensor) -> torch.Tensor:
    """Drop a channel of one; raise where the masks of several classes come as channels."""
    if mask.ndim == 3:
        return mask
    if mask.shape[1] == 1:
        return mask[:, 0]
    if mask.ndim == 5:
        raise ValueError(
            f"{name} must have shape {_SHAPES}, got {tuple(mask.shape)};"
            f" score each class alone, e.g. {name}[:, 1] against that of the other mask"
        )
    if _is_one_hot(mask):
        raise ValueError(
            f"{name} of shape {tuple(mask.shape)} looks one-hot: of its {mask.shape[1]} channels exactly one is set at"
            " every pixel. Score class by class with metrics.per_class(metrics.dice, pred, target), or one class with"
            " dice(pred[:, 1], target[:, 1]). If it is a volume"
            " (B, D, H, W) whose slices happen to divide every pixel, add a channel: dice(pred[:, None],"
            " target[:, None])"
        )
    return mask


def _is_one_hot(mask: torch.Tensor) -> bool:
    """Whether exactly one channel of (B, C, H, W) is set at every pixel.

    The corner goes first: volumes of organs and lesions are empty there, so a single pixel answers for them.
    """
    corner = mask[:, :, 0, 0].sum(1) == 1
    return bool(corner.all()) and bool((mask.sum(1) == 1).all()) and len(mask) > 0


def comparable(labels: torch.Tensor) -> torch.Tensor:
    """Return labels in a type that torch can compare: 16-bit files give uint16, for which it has no minimum."""
    return labels.long() if labels.dtype in (torch.uint16, torch.uint32, torch.uint64) else labels
