"""Docstrings and signatures as the reference shows them."""

from __future__ import annotations

import inspect
import re
import sys
from typing import Any, Protocol

from torch import nn


def escape(app: Any, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    """Shapes such as (B, *S) and absolute values |x| are no markup; docstrings are written for `help()` first."""
    for i, line in enumerate(lines):
        if not line.lstrip().startswith((">>>", "...")):
            lines[i] = re.sub(r"(`[^`]*`)|([*|])", lambda m: m[1] or "\\" + m[2], line)


def readable_signature(
    app: Any, what: str, name: str, obj: Any, options: Any, signature: str | None, returns: str | None
) -> tuple[str, str | None] | None:
    """Leave out of signatures what says nothing.

    A module without an `__init__` of its own takes no arguments, though `torch.nn.Module` accepts any names; a protocol
    is never called. Defaults such as <function Study.<lambda>> are no Python, and Sphinx would not read the types.
    """
    if inspect.isclass(obj) and Protocol in obj.__bases__:
        return "", None
    if inspect.isclass(obj) and obj.__init__ is nn.Module.__init__:
        return "()", None
    if signature and "<" in signature:
        return re.sub(r"<(?:[^<>]|<[^<>]*>)*>", "...", signature), returns
    return None


def public_base(app: Any, name: str, obj: Any, options: Any, bases: list[Any]) -> None:
    """Show the nearest class that a reader can import, in place of a private one."""
    if bases != [tuple]:
        bases[:] = [next(cls for cls in obj.__mro__[1:] if exported(cls))]


def exported(cls: type) -> bool:
    """Whether a class is another library's, or a public name of a module around it."""
    parts = cls.__module__.split(".")
    around = (sys.modules[".".join(parts[:k])] for k in range(2, len(parts) + 1))
    return parts[0] != "sslmed" or any(cls.__name__ in getattr(module, "__all__", ()) for module in around)


def setup(app: Any) -> dict[str, bool]:
    """Connect the functions above to Sphinx's events."""
    app.connect("autodoc-process-docstring", escape, priority=400)  # before napoleon reads the sections
    app.connect("autodoc-process-signature", readable_signature)
    app.connect("autodoc-process-bases", public_base)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
