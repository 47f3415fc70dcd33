"""What all metrics of masks share: the check of the masks, and the words for empty ones."""

from __future__ import annotations

import torch

from .. import _checks

EMPTY = ("worst", "inf", "nan")


def masks(pred: torch.Tensor, target: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return both masks as bool; raise unless they are (B, *S) zeros and ones of one shape on one device."""
    both = []
    for name, mask in (("pred", pred), ("target", target)):
        _checks.shaped(name, mask, "(B, H, W) or (B, D, H, W)", ndim=(3, 4))
        if 0 in mask.shape[1:]:
            raise ValueError(f"{name} must have pixels, got shape {tuple(mask.shape)}")
        if mask.is_floating_point() or mask.is_complex():
            raise TypeError(
                f"{name} must be a bool mask, got {mask.dtype};"
                " threshold first, e.g. logits > 0 or probability > 0.5"
            )
        mask = comparable(mask)
        # A label map, or a mask stored as 0 and 255, would otherwise count every label as foreground.
        if mask.dtype != torch.bool and mask.numel() and not 0 <= int(mask.min()) <= int(mask.max()) <= 1:
            low, high = int(mask.min()), int(mask.max())
            raise ValueError(
                f"{name} must hold 0 and 1 only, got values from {low} to {high};"
                f" select a label, e.g. {name} == 1"
            )
        both.append(mask.bool())
    _checks.same_shape("pred", pred, "target", target)
    _checks.same_device(pred=pred, target=target)
    return both[0], both[1]


def comparable(labels: torch.Tensor) -> torch.Tensor:
    """Return labels in a type that torch can compare: 16-bit files give uint16, for which it has no minimum."""
    return labels.long() if labels.dtype in (torch.uint16, torch.uint32, torch.uint64) else labels
