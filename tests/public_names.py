"""The public names of the package with their parameters, as `public_names.txt` lists them.

Run `python tests/public_names.py` to write that file again after an intended change.
"""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

LISTED = Path(__file__).with_suffix(".txt")

# Each public module, and its public names where it has no `__all__`.
MODULES: dict[str, tuple[str, ...] | None] = {
    "sslmed": None,
    "sslmed.augment": None,
    "sslmed.augment.functional": None,
    "sslmed.augment.joint": ("JointView", "segmentation"),
    "sslmed.augment.pairs": ("LocalPair", "Pair", "correspond"),
    "sslmed.augment.views": None,
    "sslmed.data": None,
    "sslmed.data.audit": ("Audit", "audit"),
    "sslmed.data.splits": None,
    "sslmed.distributed": ("ddp_weight", "gather", "gather_results", "rank", "world_size"),
    "sslmed.losses": None,
    "sslmed.losses.functional": None,
    "sslmed.memory": None,
    "sslmed.methods": None,
    "sslmed.metrics": None,
    "sslmed.metrics.compare": ("Comparison", "Spread", "bootstrap", "holm", "paired", "spread"),
    "sslmed.metrics.stateful": None,
    "sslmed.models": None,
    "sslmed.plots": None,
    "sslmed.studies.data_spec": ("TRAIN", "DataSpec"),
    "sslmed.studies.engine": ("Fit", "Trainable", "fit"),
    "sslmed.studies.galleries": ("masked_gallery", "pair_gallery"),
    "sslmed.studies.optimisers": ("Optimiser",),
    "sslmed.studies.options": ("add_sets", "add_study", "reading", "sets"),
    "sslmed.studies.prediction": None,
    "sslmed.studies.program": ("run_study",),
    "sslmed.studies.report": None,
    "sslmed.studies.sources": ("Source",),
    "sslmed.studies.study": None,
    "sslmed.studies.tables": ("Published",),
    "sslmed.tasks": None,
    "sslmed.tasks.metrics": ("METRICS", "Metric", "metric", "metrics_of", "table_metrics"),
}
# Methods that torch, kornia or a base class calls; users do not.
_HOOKS = {
    "apply_non_transform_mask",
    "apply_transform",
    "apply_transform_mask",
    "draws",
    "extra_repr",
    "fields_from",
    "fit",
    "gated",
    "generate_transformation_matrix",
    "inverse_transform",
    "parameters_from",
    "persistent",
    "source",
    "train",
    "transform",
    "transform_boxes",
    "transform_inputs",
    "transform_keypoints",
    "transform_masks",
}


def lines() -> list[str]:
    """A line for each module; below it, indented, a line for each name and for each method that a class adds."""
    modules = {name: importlib.import_module(name) for name in MODULES}
    public = {
        name: {key: getattr(module, key) for key in MODULES[name] or module.__all__} for name, module in modules.items()
    }
    classes = {value for values in public.values() for value in values.values() if inspect.isclass(value)}
    found: list[str] = []
    for name, values in public.items():
        found.append(name)
        for key, value in sorted(values.items()):
            found += [f"    {line}" for line in _described(key, value, classes)]
    return found


def _described(name: str, value: object, classes: set[type]) -> Iterator[str]:
    if isinstance(value, ModuleType):
        yield f"{name}: module"
    elif inspect.isclass(value):
        yield f"class {name}{_parameters(value)}"
        for method, member in sorted(_members(value, classes).items()):
            if isinstance(member, property):
                yield f"    {method}: property"
            else:
                first = 0 if isinstance(member, staticmethod) else 1  # without self or cls
                yield f"    {method}{_parameters(getattr(member, '__func__', member), first)}"
    elif callable(value):
        yield f"{name}{_parameters(value)}"
    else:
        yield f"{name}: {type(value).__name__}"


def _members(kind: type, classes: set[type]) -> dict[str, object]:
    """Public methods and properties that a class adds to those of the public classes it inherits from."""
    found: dict[str, object] = {}
    for base in reversed(kind.__mro__):
        if base.__module__.startswith("sslmed.") and (base is kind or base not in classes):
            found |= {n: m for n, m in vars(base).items() if inspect.isroutine(m) or isinstance(m, property)}
    return {name: member for name, member in found.items() if not name.startswith("_") and name not in _HOOKS}


def _parameters(value: object, first: int = 0) -> str:
    """The parameters of a callable with their defaults; types are another check's."""
    signature = inspect.signature(value, follow_wrapped=True)  # type: ignore[arg-type]
    kept = [_plain(parameter) for parameter in list(signature.parameters.values())[first:]]
    return str(signature.replace(parameters=kept, return_annotation=inspect.Signature.empty))


def _plain(parameter: inspect.Parameter) -> inspect.Parameter:
    default = parameter.default
    if inspect.isfunction(default):  # whose repr has an address
        default = _Name(default.__name__)
    return parameter.replace(annotation=parameter.empty, default=default)


class _Name(str):
    def __repr__(self) -> str:
        return str(self)


if __name__ == "__main__":
    LISTED.write_text("\n".join(lines()) + "\n")
