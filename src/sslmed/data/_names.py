"""Names that people write in tables: two that look alike are one patient, and a column of another name is not read."""

from __future__ import annotations

import difflib
import re
import unicodedata
from collections.abc import Hashable, Iterable, Sequence
from itertools import groupby

# Cyrillic and Greek small letters that look like Latin ones, or whose capitals do.
_TWINS = str.maketrans("авеёкмнорстухіјѕαβεζηικμνορτυχ", "abeekmhopctyxijsabezhikmnoptyx")
_MEANT = {
    "class": ("label", "diagnosis", "pathology", "category", "type", "target", "classification"),
    "group": ("patient", "subject", "case", "person", "study", "pid", "patientid", "subjectid", "caseid"),
    "image": ("file", "filename", "path", "name", "imageid", "picture", "scan"),
}


def lookalikes(names: Iterable[Hashable], *, strict: bool = True) -> tuple[str, str] | None:
    """Return two different names that look alike, or None.

    Args:
        names: other values than text are passed over.
        strict: alike are names that differ in case, in spaces and punctuation, in leading zeros, in the Unicode form
            of their characters or in letters of another alphabet with the same look; and a whole number with and
            without decimals, as 7 and 7.0. Else only names that differ in case, in spaces and in Unicode form.
    """
    seen: dict[Hashable, str] = {}
    for name in names:
        if isinstance(name, str):
            first = seen.setdefault(_letters(name) if strict else _plain(name), name)
            if first != name:
                return first, name
    return None


def refuse_unread(place: object, head: Iterable[str], known: Sequence[str]) -> None:
    """Raise ValueError naming the first column that is not `known`, and the one that was probably meant."""
    for name in head:
        if name in known:
            continue
        plain = "".join(_letters(name))
        meant = [one for one in known if plain == one or plain in _MEANT.get(one, ())]
        meant = meant or difflib.get_close_matches(plain, known, n=1, cutoff=0.8)
        advice = f"call it {meant[0]!r}" if meant else f"the columns are {', '.join(known)}; remove it"
        raise ValueError(f"{place}: the column {name!r} would not be read; {advice}")


def _plain(name: str) -> str:
    return " ".join(unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", name).casefold()).split())


def _letters(name: str) -> tuple[str, ...]:
    """Return the runs of letters and of digits in a name, as they look."""
    text = re.sub(r"^(\d+)\.0+$", r"\1", _plain(name).translate(_TWINS))  # 7.0, as spreadsheets write a 7
    parts = ["".join(part) for kind, part in groupby(text, _kind) if kind != "between"]
    return tuple(part.lstrip("0") or "0" if part.isdecimal() else part for part in parts) or (name,)


def _kind(character: str) -> str:
    if character.isdecimal():
        return "digit"
    return "between" if unicodedata.category(character)[0] in "ZPC" else "letter"
