"""What is kept of the file that was decoded last."""

from __future__ import annotations

import copy
import pickle

from sslmed._latest import Latest


def test_a_key_is_computed_once_while_it_is_the_latest() -> None:
    latest, computed = Latest[str, str](), list[str]()

    def value(key: str) -> str:
        def compute() -> str:
            computed.append(key)
            return key.upper()

        return latest.of(key, compute)

    assert [value(key) for key in "aabba"] == ["A", "A", "B", "B", "A"]
    assert computed == ["a", "b", "a"]


def test_each_caller_gets_the_value_of_its_own_key() -> None:
    latest = Latest[str, str]()

    class Key(str):
        """Another thread comes between the comparison of the key and the use of its value."""

        __hash__ = str.__hash__

        def __ne__(self, other: object) -> bool:
            latest._held = ("other", "of the other")
            return str.__ne__(self, other)

    latest.of(Key("own"), lambda: "of the own")
    assert latest.of("own", lambda: "computed anew") == "of the own"
    assert latest.of("own", lambda: "computed anew") == "computed anew"


def test_copies_begin_empty() -> None:
    latest = Latest[str, str]()
    latest.of("a", lambda: "held")
    for other in (copy.deepcopy(latest), pickle.loads(pickle.dumps(latest))):
        assert other.of("a", lambda: "computed anew") == "computed anew"
    assert latest.of("a", lambda: "computed anew") == "held"
