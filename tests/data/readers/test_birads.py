from __future__ import annotations

import pytest

from sslmed.data import birads_class


def test_every_assessment() -> None:
    found = {text: birads_class(text) for text in ("0", "1", "2", "3", "4", "4a", "4b", "4c", "5", "6")}
    assert list(found.values()) == [None, "normal", "benign", "benign", *["malignant"] * 6]
    assert birads_class(" 4C ") == "malignant"


@pytest.mark.parametrize("text", ["", "7", "4d", "benign"])
def test_another_text(text: str) -> None:
    with pytest.raises(ValueError, match=f"assessment must be one of 0, 1.*got {text!r}"):
        birads_class(text)
