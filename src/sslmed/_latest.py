"""The file that was decoded last: frames of a clip and slices of a volume are mostly read in order."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Generic, TypeVar

K = TypeVar("K")
V = TypeVar("V")


class Latest(Generic[K, V]):
    """The value that was computed last, by its key.

    Threads that share it may compute a value anew, but none gets the value of another key. Copies, as those in worker
    processes, begin empty.
    """

    def __init__(self) -> None:
        self._held: tuple[K, V] | None = None

    def of(self, key: K, compute: Callable[[], V]) -> V:
        """The value of a key: the one that is held, or a new one, which is then held."""
        held = self._held  # another thread may replace it at any time
        if held is None or held[0] != key:
            held = self._held = key, compute()
        return held[1]

    def __getstate__(self) -> dict[str, Any]:
        return {"_held": None}
