"""Write the inventories that the build reads: python docs/inventories/make.py.

Packages do not ship the inventories of their documentation, and the build uses no network. So this is a list of the
objects that our signatures and pages name, each with its page there. An alias names the module in which a class is
defined, as autodoc finds it, or is the short name in a docstring.
"""

from __future__ import annotations

import zlib
from pathlib import Path

FOLDER = Path(__file__).parent

# Project -> (address, {name: (page, kind, aliases)}). Sphinx replaces $ in a page by the name.
PROJECTS: dict[str, tuple[str, dict[str, tuple[str, str, tuple[str, ...]]]]] = {
    "torch": (
        "https://docs.pytorch.org/docs/stable/",
        {
            "torch.Tensor": ("tensors.html#$", "class", ("Tensor",)),
            "torch.Generator": ("generated/$.html#$", "class", ("torch._C.Generator",)),
            "torch.device": ("tensor_attributes.html#$", "class", ()),
            "torch.dtype": ("tensor_attributes.html#$", "class", ()),
            "torch.cat": ("generated/$.html#$", "function", ()),
            "torch.compile": ("generated/$.html#$", "function", ()),
            "torch.load": ("generated/$.html#$", "function", ()),
            "torch.manual_seed": ("generated/$.html#$", "function", ()),
            "torch.autograd.grad": ("generated/$.html#$", "function", ()),
            "torch.nn.Module": ("generated/$.html#$", "class", ("torch.nn.modules.module.Module", "nn.Module")),
            "torch.nn.Sequential": ("generated/$.html#$", "class", ("nn.Sequential",)),
            "torch.nn.Conv2d": ("generated/$.html#$", "class", ("nn.Conv2d",)),
            "torch.nn.SyncBatchNorm": ("generated/$.html#$", "class", ()),
            "torch.nn.SyncBatchNorm.convert_sync_batchnorm": (
                "generated/torch.nn.SyncBatchNorm.html#$",
                "method",
                (),
            ),
            "torch.nn.parallel.DistributedDataParallel": ("generated/$.html#$", "class", ()),
            "torch.optim.Optimizer": ("optim.html#$", "class", ("torch.optim.optimizer.Optimizer",)),
            "torch.utils.data.DataLoader": ("data.html#$", "class", ()),
            "torch.utils.data.Dataset": ("data.html#$", "class", ("torch.utils.data.dataset.Dataset",)),
            "torch.utils.data.Subset": ("data.html#$", "class", ()),
        },
    ),
    "kornia": (
        "https://kornia.readthedocs.io/en/latest/",
        {
            "kornia.augmentation.AugmentationSequential": (
                "augmentation.container.html#kornia.augmentation.container.AugmentationSequential",
                "class",
                ("kornia.augmentation.container.AugmentationSequential",),
            ),
            "kornia.augmentation.IntensityAugmentationBase2D": (
                "augmentation.base.html#$",
                "class",
                ("kornia.augmentation._2d.intensity.base.IntensityAugmentationBase2D",),
            ),
            "kornia.augmentation.GeometricAugmentationBase2D": (
                "augmentation.base.html#$",
                "class",
                ("kornia.augmentation._2d.geometric.base.GeometricAugmentationBase2D",),
            ),
        },
    ),
    "numpy": (
        "https://numpy.org/doc/stable/",
        {
            "numpy.ndarray": ("reference/generated/$.html#$", "class", ("np.ndarray",)),
            "numpy.dtype": ("reference/generated/$.html#$", "class", ()),
            "numpy.floating": ("reference/arrays.scalars.html#$", "class", ()),
            "numpy.int64": ("reference/arrays.scalars.html#$", "class", ()),
            "numpy.uint8": ("reference/arrays.scalars.html#$", "class", ("np.uint8",)),
            "numpy.typing.NDArray": ("reference/typing.html#$", "data", ("npt.NDArray",)),
            "numpy.random.Generator": ("reference/random/generator.html#$", "class", ()),
        },
    ),
    "scipy": (
        "https://docs.scipy.org/doc/scipy/",
        {
            "scipy.stats.wilcoxon": ("reference/generated/$.html#$", "function", ()),
            "scipy.stats.ttest_rel": ("reference/generated/$.html#$", "function", ()),
        },
    ),
    "matplotlib": (
        "https://matplotlib.org/stable/",
        {"matplotlib.figure.Figure": ("api/figure_api.html#$", "class", ("Figure",))},
    ),
    "python": (
        "https://docs.python.org/3/",
        {
            **{name: ("library/functions.html#$", "class", ()) for name in ("bool", "float", "int", "object", "type")},
            **{
                name: ("library/stdtypes.html#$", "class", ())
                for name in ("bytes", "dict", "frozenset", "list", "range", "set", "str", "tuple")
            },
            **{
                f"collections.abc.{name}": ("library/collections.abc.html#$", "class", ())
                for name in ("Callable", "Hashable", "Iterable", "Iterator", "Mapping", "Sequence")
            },
            **{
                name: ("library/exceptions.html#$", "exception", ())
                for name in ("FileNotFoundError", "ImportError", "KeyError", "OSError", "RuntimeError", "TypeError")
            },
            "IndexError": ("library/exceptions.html#$", "exception", ()),
            "ValueError": ("library/exceptions.html#$", "exception", ()),
            "None": ("library/constants.html#$", "data", ()),
            "abc.ABC": ("library/abc.html#$", "class", ()),
            "argparse.ArgumentParser": ("library/argparse.html#$", "class", ()),
            "os.PathLike": ("library/os.html#$", "class", ()),
            "pathlib.Path": ("library/pathlib.html#$", "class", ("Path",)),
            "typing.Any": ("library/typing.html#$", "data", ()),
            "typing.Literal": ("library/typing.html#$", "data", ()),
            "typing.NamedTuple": ("library/typing.html#$", "class", ()),
        },
    ),
}


def inventory(project: str, objects: dict[str, tuple[str, str, tuple[str, ...]]]) -> bytes:
    """The file in Sphinx's format, version 2."""
    lines = [
        f"{known} py:{kind} 1 {page.replace('$', name)} -"
        for name, (page, kind, aliases) in sorted(objects.items())
        for known in (name, *aliases)
    ]
    head = f"# Sphinx inventory version 2\n# Project: {project}\n# Version: \n"
    head += "# The remainder of this file is compressed using zlib.\n"
    return head.encode() + zlib.compress("".join(f"{line}\n" for line in lines).encode(), 9)


def main() -> None:
    """Write a file for each project."""
    for project, (_, objects) in PROJECTS.items():
        (FOLDER / f"{project}.inv").write_bytes(inventory(project, objects))


if __name__ == "__main__":
    main()
