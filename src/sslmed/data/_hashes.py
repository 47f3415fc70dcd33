"""Hashes of files' contents, remembered so that a file that has not changed is not read again."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import time
import uuid
from collections.abc import Iterable
from pathlib import Path

_RECENT_NS = 2_000_000_000  # a change within the same tick of a file system's clock leaves the time as it was

Stamp = list[int]


class FileHashes:
    """SHA-256 of files, by their paths.

    A hash is stored with the file's size, inode and times of change, and computed again if any of them differs.
    The time of a status change (ctime) cannot be set back, so a file that was replaced under its old name, size and
    time is noticed. What changed less than two seconds ago is not remembered.

    Args:
        file: where hashes are remembered between processes; `save` writes it.
    """

    def __init__(self, file: Path) -> None:
        self.file = file
        self._known: dict[str, tuple[Stamp, str]] = {}
        self._grown = False
        with contextlib.suppress(OSError, ValueError, AttributeError):  # a damaged file is replaced
            found = json.loads(file.read_text(encoding="utf-8"))
            self._known = {name: (list(stamp), str(digest)) for name, (stamp, digest) in found.items()}

    def of(self, files: Iterable[Path]) -> list[str]:
        """Return the hash of each file, in hexadecimal digits."""
        return [self._of(file) for file in files]

    def save(self) -> None:
        """Write the known hashes, atomically; if the folder cannot be written, the next process only takes longer."""
        if not self._grown:
            return
        part = self.file.with_name(f".{self.file.name}.{uuid.uuid4().hex[:8]}.part")
        with contextlib.suppress(OSError):
            try:
                part.write_text(json.dumps(self._known), encoding="utf-8")
                os.replace(part, self.file)
            finally:
                part.unlink(missing_ok=True)

    def _of(self, file: Path) -> str:
        status = os.stat(file)
        stamp = [status.st_size, status.st_ino, status.st_mtime_ns, status.st_ctime_ns]
        known = self._known.get(name := os.path.abspath(file))
        if known is not None and known[0] == stamp:
            return known[1]
        now = time.time_ns()
        with open(file, "rb") as content:
            digest = hashlib.file_digest(content, "sha256").hexdigest()
        if max(stamp[2:]) < now - _RECENT_NS:
            self._known[name] = stamp, digest
            self._grown = True
        return digest
