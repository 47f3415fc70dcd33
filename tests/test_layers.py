"""The house's arrows: who may import whom, and what importing the package must not load."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SRC = ROOT / "src" / "sslmed"
LEAVES = {"_checks", "_compat", "_latest", "_step", "_tensor"}
PIECES = {"augment", "data", "distributed", "losses", "memory", "metrics", "models", "plots"}
ARROWS = {
    "metrics": {"distributed"},  # metrics of a training loop are of the cases of all processes
    "methods": PIECES - {"data", "plots"},
    "tasks": PIECES - {"data"},
    "studies": PIECES | {"methods", "tasks"},
    "_command": {"__version__", "data", "studies"},
    "__main__": {"_command"},
}
HEAVY = ("torchvision", "matplotlib", "lightning", "pydicom", "nibabel", "openpyxl", "sklearn", "scipy.stats")
EXTRA = {"lightning", "filelock", "rich", "jinja2", "jsonargparse", "pandas"}  # of the studies
MODULES = sorted(SRC.rglob("*.py"))


def room_of(path: Path) -> str:
    return path.relative_to(SRC).parts[0].removesuffix(".py")


def imported_rooms(path: Path) -> set[str]:
    """Rooms of sslmed that `path` imports, anywhere in it, relatively or absolutely."""
    package = ["sslmed", *path.relative_to(SRC).parts[:-1]]
    rooms: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            module = ".".join([*base, *([node.module] if node.module else [])])
            names = [f"{module}.{alias.name}" for alias in node.names]
        rooms |= {name.split(".")[1] for name in names if name.startswith("sslmed.")}
    return rooms


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(SRC)))
def test_a_room_imports_only_itself_and_the_checks(path: Path) -> None:
    if path == SRC / "__init__.py":
        return
    room = room_of(path)
    allowed = LEAVES if room in LEAVES else LEAVES | {room} | ARROWS.get(room, set())
    assert imported_rooms(path) <= allowed


@pytest.mark.parametrize("folder", ["formats", "phantoms"])
def test_formats_and_phantoms_know_no_reader(folder: str) -> None:
    for path in (SRC / "data" / folder).glob("*.py"):
        levels = {n.level for n in ast.walk(ast.parse(path.read_text())) if isinstance(n, ast.ImportFrom)}
        assert 2 not in levels, path  # `from ..` would be the rest of `data`


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(SRC)))
def test_only_distributed_speaks_to_torch_distributed(path: Path) -> None:
    if path.name != "distributed.py" and room_of(path) != "studies":  # which starts the processes
        assert "torch.distributed" not in path.read_text()


def test_the_library_never_imports_examples_or_tests() -> None:
    for path in MODULES:
        tree = ast.parse(path.read_text())
        tops = {a.name.split(".")[0] for n in ast.walk(tree) if isinstance(n, ast.Import) for a in n.names}
        tops |= {
            (n.module or "").split(".")[0] for n in ast.walk(tree) if isinstance(n, ast.ImportFrom) and not n.level
        }
        assert not tops & {"examples", "pipeline", "tests", "reference"}, path


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(SRC)))
def test_only_studies_import_what_their_extra_installs(path: Path) -> None:
    names = {
        name.split(".")[0]
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Import | ast.ImportFrom)
        for name in ([a.name for a in node.names] if isinstance(node, ast.Import) else [node.module or ""])
    }
    allowed = EXTRA if room_of(path) == "studies" else set()
    assert names & EXTRA <= allowed


def loaded_after(code: str) -> set[str]:
    command = f"import sys; {code}; print(*sys.modules)"
    return set(
        subprocess.run([sys.executable, "-c", command], capture_output=True, text=True, check=True).stdout.split()
    )


def test_import_sslmed_loads_nothing_but_itself() -> None:
    loaded = loaded_after("import sslmed")
    assert not {name for name in loaded if name.startswith(("torch", "numpy", "kornia", *HEAVY))}


def test_rooms_load_no_heavy_library() -> None:
    rooms = sorted({room_of(p) for p in MODULES} - {"__init__"})
    loaded = loaded_after("; ".join(f"import sslmed.{room}" for room in rooms))
    assert not {name for name in loaded if name.startswith(HEAVY)}


def test_rooms_load_lazily_as_attributes() -> None:
    loaded = loaded_after("import sslmed; sslmed.metrics.dice")
    assert "sslmed.metrics.overlap" in loaded
    assert "sslmed.augment" not in loaded


def test_an_unknown_attribute_raises() -> None:
    import sslmed

    with pytest.raises(AttributeError, match="no attribute 'loses'"):
        _ = sslmed.loses
    assert {*PIECES, "methods", "tasks"} <= set(dir(sslmed))
