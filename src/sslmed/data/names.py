"""File names: which ones say that a file is a mask, and how names become text that any file can hold."""

from __future__ import annotations

import re
import unicodedata
from pathlib import PurePath

_WORDS = (
    "mask|annotation|annot|label|labelmap|seg|segm|segmentation|gt|groundtruth|contour|labelstr|labelsts|"
    "ground[\\W_]*truth"
)
_MASK_WORD = re.compile(f"(?:{_WORDS})s?", re.IGNORECASE)
_MASK_ENDING = re.compile(rf"[\W_]*(?<![^\W_])(?:{_WORDS})s?[\W_]*$", re.IGNORECASE)
_PARTS = {
    "tr",
    "ts",
    "train",
    "training",
    "val",
    "validation",
    "test",
    "testing",
    "image",
    "png",
    "all",
    "manual",
}
_NEGATIONS = {"no", "non", "not", "without"}


def named_as_mask(path: PurePath) -> bool:
    """Tell whether a relative path names a mask: a file with such a word in its name, or one in a folder of masks.

    The words are mask, annotation, label, seg, segmentation, gt, groundtruth and contour, in singular or plural and any
    case, parted from others by anything but letters, or by a capital: `a-mask.png`, `b_Annotation 2.png`,
    `scanMask.png`, `GroundTruth/c.png`; not `Seger_01.png`. A folder's name must hold nothing else but numbers and the
    names of parts: `masks/`, `labels_train/`; not `scans without masks/` or `label study/`.
    """
    *folders, name = path.parts
    stem = name.removesuffix(".gz").rpartition(".")[0] or name
    words = _words(stem)
    return any(_is_mask_word(words, k) for k in range(len(words))) or any(
        _all_of_masks(_words(folder)) for folder in folders
    )


def without_mask_word(name: str) -> str:
    """Drop the word that names a mask from the end of a name: `scan 1-mask` becomes `scan 1`."""
    return _MASK_ENDING.sub("", name)


def readable(name: str) -> str:
    r"""Write a file's name as text that JSON, CSV, HTML and UTF-8 hold, and that tells which file it is.

    Names are returned as they are, but for backslashes, which are doubled, and for what no text should hold: control
    characters and ends of lines, and bytes that are no UTF-8 (as of names in Latin-1), which become `\n`-like escapes
    `\x0a`, `\u2028` and `\xe9`. No two names become one.
    """
    if name.isascii() and name.isprintable() and "\\" not in name:
        return name
    return "".join(_escaped(letter) for letter in name)


def encodable(text: str) -> str:
    r"""Write what UTF-8 cannot hold, as of paths in Latin-1, as `\udce9`; for messages, and for paths as given."""
    return text.encode("utf-8", "backslashreplace").decode()


def _escaped(letter: str) -> str:
    code = ord(letter)
    if letter == "\\":
        return "\\\\"
    if 0xDC80 <= code <= 0xDCFF:  # a byte that could not be decoded
        return f"\\x{code - 0xDC00:02x}"
    if unicodedata.category(letter) in ("Cc", "Cs", "Zl", "Zp"):
        return f"\\x{code:02x}" if code < 0x80 else f"\\u{code:04x}"
    return letter


def _words(name: str) -> list[str]:
    """Split a name into words and numbers, at capitals too."""
    found = re.findall(r"[^\W\d_]+|\d+", re.sub(r"([a-z])([A-Z])", r"\1 \2", name))
    joined = " ".join(found).lower().replace("ground truth", "groundtruth")
    return joined.split()


def _is_mask_word(words: list[str], k: int) -> bool:
    return _MASK_WORD.fullmatch(words[k]) is not None and (not k or words[k - 1] not in _NEGATIONS)


def _all_of_masks(words: list[str]) -> bool:
    marks = [_is_mask_word(words, k) for k in range(len(words))]
    others = {word for word, mark in zip(words, marks, strict=True) if not mark and not word.isdigit()}
    return any(marks) and others <= _PARTS
