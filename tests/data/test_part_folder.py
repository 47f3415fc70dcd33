"""Folders that appear under their name only when they are complete."""

from __future__ import annotations

from pathlib import Path

import pytest

from sslmed.data import _part_folder
from sslmed.data._part_folder import part_folder


def test_the_folder_appears_at_the_end(tmp_path: Path) -> None:
    with part_folder(tmp_path / "one" / "cache") as part:
        (part / "file").touch()
        assert not (tmp_path / "one" / "cache").exists()
    assert [file.relative_to(tmp_path).as_posix() for file in sorted(tmp_path.rglob("*"))] == [
        "one",
        "one/cache",
        "one/cache/file",
    ]


def test_an_error_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="absent"), part_folder(tmp_path / "cache") as part:
        (part / "absent" / "file").touch()
    assert list(tmp_path.iterdir()) == []


def test_folders_in_use_stay_and_the_first_to_finish_wins(tmp_path: Path) -> None:
    with part_folder(tmp_path / "cache") as slow:
        (slow / "file").write_text("slow")
        with part_folder(tmp_path / "cache") as fast:
            (fast / "file").write_text("fast")
        assert (slow / "file").read_text() == "slow"
    assert [file.name for file in tmp_path.iterdir()] == ["cache"]
    assert (tmp_path / "cache" / "file").read_text() == "fast"


def test_without_locks_other_folders_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_part_folder, "fcntl", None)
    other = tmp_path / ".cache.0123abcd.part"
    other.mkdir()
    with part_folder(tmp_path / "cache"):
        pass
    assert sorted(file.name for file in tmp_path.iterdir()) == [other.name, "cache"]
