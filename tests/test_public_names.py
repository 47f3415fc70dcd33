"""The public names and their parameters are those of tests/public_names.txt: users rely on them."""

from __future__ import annotations

import difflib

import pytest

import public_names

HOW = """the public names differ from tests/public_names.txt ("-" is listed there, "+" is found in the package):
{difference}
If this is intended, run `python tests/public_names.py` and commit the list. A "-" without a compatible "+" breaks the
code of users: keep the name for now, with a DeprecationWarning, as CONTRIBUTING.md says under "Deprecations"."""


def test_the_public_names_are_those_of_the_list() -> None:
    pytest.importorskip("lightning")  # of which studies are made
    listed = public_names.LISTED.read_text().splitlines()
    difference = [
        line
        for line in difflib.unified_diff(listed, public_names.lines(), n=0, lineterm="")
        if not line.startswith(("---", "+++", "@@"))
    ]
    assert not difference, HOW.format(difference="\n".join(difference))


def test_a_removed_name_or_parameter_shows_in_the_list(monkeypatch: pytest.MonkeyPatch) -> None:
    from sslmed import losses, memory

    before = public_names.lines()
    monkeypatch.setattr(losses, "__all__", [name for name in losses.__all__ if name != "NTXent"])
    monkeypatch.setattr(memory, "update_ema", lambda target, online: None)
    removed = set(before) - set(public_names.lines())
    assert {"class NTXent", "update_ema"} <= {line.partition("(")[0].strip() for line in removed}
