from __future__ import annotations

import importlib
import pkgutil
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

import sslmed
from sslmed import _compat


def test_gives_the_module():
    assert _compat.torchvision("models.resnet").BasicBlock.expansion == 1


def test_a_mismatched_build_says_the_same_twice(monkeypatch):
    failures = [
        RuntimeError("operator torchvision::nms does not exist"),
        AttributeError("partially initialized module 'torchvision' has no attribute 'extension'"),
    ]

    def broken(name: str) -> None:
        raise failures.pop(0)

    monkeypatch.setattr(_compat.importlib, "import_module", broken)
    for reason in ("operator torchvision::nms does not exist", "has no attribute 'extension'"):
        with pytest.raises(ImportError, match=r"torchvision cannot be imported") as seen:
            _compat.torchvision()
        assert reason in str(seen.value)
        assert "python -m pip install torch torchvision" in str(seen.value)
        assert isinstance(seen.value.__cause__, (RuntimeError, AttributeError))


def test_a_broken_package_on_the_path_ends_in_the_repair_lines(tmp_path):
    package = tmp_path / "torchvision"
    package.mkdir()
    (package / "__init__.py").write_text("raise RuntimeError('operator torchvision::nms does not exist')\n")
    script = """
        from sslmed.models import ResNetEncoder
        for _ in range(2):
            try:
                ResNetEncoder()
            except ImportError as error:
                assert "operator torchvision::nms does not exist" in str(error), error
                assert "python -m pip install torch torchvision" in str(error), error
            else:
                raise SystemExit("no error")
    """
    run(script, path=tmp_path)


def test_every_submodule_imports_without_torchvision():
    names = [m.name for m in pkgutil.walk_packages(sslmed.__path__, "sslmed.")]
    names = [name for name in names if not name.startswith("sslmed.studies.")]  # Lightning may need it
    assert "sslmed.models.resnet" in names
    script = f"""
        import importlib, sys
        sys.modules["torchvision"] = None
        for name in {names!r}:
            importlib.import_module(name)
    """
    run(script)


def run(script: str, *, path: Path | None = None) -> None:
    source = Path(importlib.import_module("sslmed").__file__).parents[1]
    first = "" if path is None else f"sys.path.insert(0, {str(path)!r});"
    code = f"import sys; {first} sys.path.append({str(source)!r})\n" + textwrap.dedent(script)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
