"""With the core dependencies alone everything imports, and whatever needs an extra says how to install it."""

from __future__ import annotations

import ast
import importlib.metadata
import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

import sslmed
from sslmed import _compat

SRC = Path(sslmed.__file__).parent
STUDIES = {"filelock", "jinja2", "jsonargparse", "lightning", "matplotlib", "pandas", "rich", "sklearn", "tensorboard"}
OPTIONAL = STUDIES | {"markupsafe", "nibabel", "onnx", "onnxruntime", "onnxscript", "openpyxl", "pydicom", "timm"}

# Calls that fail where the packages are blocked, how the message begins, and what else to install it names.
CALLS = {
    "plots.curves({'a': ([0, 1], [1.0, 0.5])})": ("sslmed.plots needs matplotlib", "matplotlib"),
    "data.read_dicom('scan.dcm')": ("scan.dcm: DICOM files need pydicom", "pydicom"),
    "data.read_nifti('scan.nii')": ("scan.nii: NIfTI files need nibabel", "nibabel"),
    "data.UnlabelledImages('dicom')[0]": ("dicom/scan.dcm: DICOM files need pydicom", "pydicom"),
    "data.UnlabelledImages('nifti')[0]": ("nifti/scan.nii: NIfTI files need nibabel", "nibabel"),
    "read_xlsx(Path('table.xlsx'), ['a'])": ("table.xlsx: XLSX tables need openpyxl", "openpyxl"),
    "import_module('sslmed.studies')": ("sslmed.studies needs filelock", "lightning"),
    "import_module('sslmed.studies.engine')": ("sslmed.studies needs filelock", "matplotlib"),
}
SCRIPT = """
    import json, pkgutil, sys
    from importlib import import_module
    from importlib.machinery import PathFinder
    from pathlib import Path

    class WithoutExtras(PathFinder):
        @classmethod
        def find_spec(cls, name, path=None, target=None):
            return None if name.partition(".")[0] in OPTIONAL else super().find_spec(name, path, target)

    sys.meta_path = [WithoutExtras if finder is PathFinder else finder for finder in sys.meta_path]
    import sslmed
    from sslmed import data, plots
    from sslmed.data.formats._tables import read_xlsx

    for module in pkgutil.walk_packages(sslmed.__path__, "sslmed.", onerror=lambda name: None):
        if not module.name.startswith("sslmed.studies"):
            import_module(module.name)
    said = {}
    for call in CALLS:
        try:
            eval(call)
        except ImportError as error:
            said[call] = str(error)
    print(json.dumps(said))
"""


def test_the_core_imports_and_calls_name_the_extra(tmp_path: Path) -> None:
    for name in ("scan.dcm", "dicom/scan.dcm", "scan.nii", "nifti/scan.nii", "table.xlsx"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"\0" * 128 + b"DICM" + b"\0" * 512)
    script = f"OPTIONAL, CALLS = {OPTIONAL!r}, {list(CALLS)!r}\n" + textwrap.dedent(SCRIPT)
    path = os.environ | {"PYTHONPATH": os.pathsep.join([str(SRC.parent), os.environ.get("PYTHONPATH", "")])}
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path, env=path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    for call, (begins, package) in CALLS.items():
        assert said[call].startswith(f"{begins}. Install it with: python -m pip install "), said[call]
        assert f'"{package}>=' in said[call]


def test_every_optional_import_is_guarded() -> None:
    guarded = {  # where the calls above, a test of the command or of the room reach the import first
        "plots": {"matplotlib"},
        "tasks": {"matplotlib"},  # for the type checker
        "studies": STUDIES | {"markupsafe", "onnx", "onnxruntime", "onnxscript", "timm"},
        "data": {"nibabel", "openpyxl", "pydicom"},
    }
    for path in SRC.rglob("*.py"):
        names = set()
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                names |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and not node.level:
                names.add((node.module or "").partition(".")[0])
            elif isinstance(node, ast.Call) and getattr(node.func, "attr", "") == "import_module" and node.args:
                names |= (
                    {str(node.args[0].value).partition(".")[0]} if isinstance(node.args[0], ast.Constant) else set()
                )
        room = path.relative_to(SRC).parts[0]
        assert names & OPTIONAL <= guarded.get(room, set()), path


def test_the_hint_works_where_sslmed_is_on_the_path_but_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> list[str]:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(_compat.importlib.metadata, "requires", missing)
    assert _compat.install_hint("medical").endswith('pip install "sslmed[medical]"')
