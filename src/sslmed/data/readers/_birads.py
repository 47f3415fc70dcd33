"""BI-RADS assessments as classes."""

from __future__ import annotations

_CLASSES = {
    "0": None,
    "1": "normal",
    "2": "benign",
    "3": "benign",
    "4": "malignant",
    "4a": "malignant",
    "4b": "malignant",
    "4c": "malignant",
    "5": "malignant",
    "6": "malignant",
}


def birads_class(assessment: str) -> str | None:
    """Map a BI-RADS assessment to a class, as is done where no biopsy tells.

    Args:
        assessment: "1" to "6", with "4a", "4b" and "4c", or "0".

    Returns:
        "normal" for 1, "benign" for 2 and 3, "malignant" for 4 to 6; None for 0, an incomplete assessment, to be left
        out.

    Raises:
        ValueError: another text.

    Example:
        >>> [birads_class(text) for text in ("1", "3", "4A", "0")]
        ['normal', 'benign', 'malignant', None]
    """
    key = assessment.strip().lower()
    if key not in _CLASSES:
        raise ValueError(f"assessment must be one of {', '.join(_CLASSES)}, got {assessment!r}")
    return _CLASSES[key]
