"""Names of classes and functions in code font become links, in docstrings and in Markdown alike.

`NTXent`, `losses.NTXent`, `sslmed.losses.NTXent(temperature=0.2)` and `torch.nn.Module` are found without markup. A
name that means nothing here, or several things, stays as it is; so nothing has to be marked, and nothing can break a
build.
"""

from __future__ import annotations

import re
from collections import defaultdict
from typing import Any, ClassVar

from docutils import nodes
from sphinx.addnodes import pending_xref
from sphinx.ext.intersphinx import InventoryAdapter
from sphinx.transforms.post_transforms import SphinxPostTransform
from sphinx.util.nodes import make_refnode

NAME = re.compile(r"([A-Za-z_][\w.]*\w)(\(.*\))?", flags=re.DOTALL)
TOP = {"class", "function", "data", "exception"}


def endings(name: str, kind: str) -> list[str]:
    """What a full name may be shortened to: a method to Class.method, a class or function to its bare name."""
    parts = name.split(".")
    shortest = 1 if kind in TOP else 2
    return [".".join(parts[-k:]) for k in range(shortest, len(parts) + 1)]


class LinkNames(SphinxPostTransform):
    """Put a reference around each literal that names one known object."""

    default_priority = 5
    known: ClassVar[dict[str, set[str]]] = {}

    def run(self, **kwargs: Any) -> None:
        """Change one page; Sphinx calls it."""
        for node in list(self.document.findall(nodes.literal)):
            if not inside(node, (nodes.reference, pending_xref, nodes.title)):
                reference = self.reference(node)
                if reference is not None:
                    node.replace_self(reference)

    def reference(self, node: nodes.literal) -> nodes.reference | None:
        """The link for a literal, or None."""
        match = NAME.fullmatch(node.astext())
        if not match:
            return None
        name = self.resolved(match[1])
        if name is None:
            return self.external(match[1], node)
        entry = self.env.domains.python_domain.objects[name]
        here = self.env.current_document.docname
        if entry.docname == here:
            return None
        return make_refnode(self.app.builder, here, entry.docname, entry.node_id, node.deepcopy(), name)

    def resolved(self, name: str) -> str | None:
        """The full name of one object of this library that `name` means on this page."""
        *_, page = self.env.current_document.docname.split("/")
        module = page if page.startswith("sslmed.") else f"sslmed.{page}"
        found = self.known.get(name, set())
        near = {full for full in found if full in self.nearby(name, module)}
        if not near and not ("_" in name or "." in name or name[0].isupper()):
            return None  # `mask` or `dice` may be anything on another module's page
        (only,) = near if len(near) == 1 else found if len(found) == 1 else (None,)
        return only

    def nearby(self, name: str, module: str) -> list[str]:
        """The full names that `name` has in the page's module and in those around it."""
        parts = module.split(".")
        return [".".join([*parts[:k], name]) for k in range(2, len(parts) + 1)]

    def external(self, name: str, node: nodes.literal) -> nodes.reference | None:
        """The link to another project's object, by its full name only."""
        for kind, objects in InventoryAdapter(self.env).main_inventory.items():
            if "." in name and kind.startswith("py:") and name in objects:
                return nodes.reference("", "", node.deepcopy(), internal=False, refuri=objects[name].uri, reftitle=name)
        return None


def inside(node: nodes.Node, kinds: tuple[type[nodes.Node], ...]) -> bool:
    """Whether a node is in one of these."""
    while node.parent is not None:
        node = node.parent
        if isinstance(node, kinds):
            return True
    return False


def collect(app: Any, env: Any) -> None:
    """Index the objects by all endings of their names, once all pages are read."""
    known = defaultdict(set)
    for name, entry in env.domains.python_domain.objects.items():
        if not entry.aliased:
            for ending in endings(name, entry.objtype):
                known[ending].add(name)
    LinkNames.known = dict(known)


def setup(app: Any) -> dict[str, bool]:
    """Connect this extension to Sphinx's events."""
    app.connect("env-updated", collect)
    app.add_post_transform(LinkNames)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
