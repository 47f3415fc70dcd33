"""The command `sslmed`, with and without the packages of its extra."""

from __future__ import annotations

import runpy
import subprocess
import sys
from pathlib import Path

import pytest

from sslmed import _compat


def command(*arguments: str, before: str = "pass") -> subprocess.CompletedProcess[str]:
    code = f"import sys; {before}; sys.argv = ['sslmed', *{list(arguments)}]; from sslmed._command import main; main()"
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)


def test_usage_version_and_unknown_commands() -> None:
    assert "pretrain" in command("--help").stdout
    assert command().stdout == command("--help").stdout
    assert command("--version").stdout.startswith("sslmed 0.")
    unknown = command("train")
    assert (unknown.returncode, unknown.stderr.count("\n")) == (2, 1)
    assert "unknown command 'train'" in unknown.stderr


def test_the_package_runs_as_the_command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "argv", ["sslmed", "--version"])
    runpy.run_module("sslmed", run_name="__main__")
    assert capsys.readouterr().out.startswith("sslmed 0.")


@pytest.mark.parametrize("name", ["pretrain", "predict", "report"])
def test_without_the_extra_one_line_says_what_to_install(name: str) -> None:
    done = command(name, "--help", before="sys.modules['lightning'] = None")
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert done.stderr.startswith(f"sslmed {name} needs lightning")
    assert "python -m pip install" in done.stderr


def test_the_hint_names_the_packages_themselves(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = [
        "torch>=2.5",
        'matplotlib>=3.8; extra == "plots"',
        'lightning>=2.5 ; extra == "studies"',
        'sslmed[plots]; extra == "studies"',
        'pydicom>=3.0; extra == "medical"',
    ]
    monkeypatch.setattr(_compat.importlib.metadata, "requires", lambda _: lines)
    assert _compat.install_hint("studies").endswith('install "lightning>=2.5" "matplotlib>=3.8"')
    assert _compat.install_hint("medical").endswith('install "pydicom>=3.0"')


def test_audit_needs_no_extra(tmp_path: Path) -> None:
    done = command("audit", str(tmp_path / "nowhere"), before="sys.modules['lightning'] = None")
    assert done.returncode == 2
    assert done.stderr.startswith("sslmed audit: ")
