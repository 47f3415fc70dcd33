"""Check what `python -m build` left in a folder: contents, metadata, and tests of the unpacked sdist on the wheel.

python .ci/check_dist.py dist
"""

from __future__ import annotations

import email
import os
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
FAST = ["tests/test_layers.py", "tests/test_public_names.py"]


def run(*command: str, **settings: object) -> str:
    done = subprocess.run(command, check=False, text=True, stdout=subprocess.PIPE, **settings)  # type: ignore[call-overload]
    expect(done.returncode == 0, f"{' '.join(command)} failed:\n{done.stdout}")
    return str(done.stdout)


def expect(true: bool, otherwise: object) -> None:
    if not true:
        sys.exit(f"check_dist: {otherwise}")


def tracked() -> set[str]:
    """The files of the checkout."""
    return set(run("git", "-C", str(ROOT), "ls-files", "-z").split("\0")) - {""}


def check_sdist(path: Path) -> None:
    with tarfile.open(path) as archive:
        found = {member.name.partition("/")[2] for member in archive if member.isfile()}
    files = tracked()
    expect(found - files == {"PKG-INFO"}, f"{path.name} has stray files: {sorted(found - files - {'PKG-INFO'})}")
    expect(files <= found, f"{path.name} lacks {sorted(files - found)}; see tool.hatch.build in pyproject.toml")


def check_wheel(path: Path, version: str) -> None:
    info = f"sslmed-{version}.dist-info/"
    with zipfile.ZipFile(path) as archive:
        found = set(archive.namelist())
        about = email.message_from_bytes(archive.read(info + "METADATA"))
        scripts = archive.read(info + "entry_points.txt").decode()
    package = {name.removeprefix("src/") for name in tracked() if name.startswith("src/sslmed/")}
    expect("sslmed/py.typed" in found, f"{path.name} lacks sslmed/py.typed")
    stray = {name for name in found - package if not name.startswith(info)}
    expect(not stray, f"{path.name} has stray files: {sorted(stray)}")
    expect(package <= found, f"{path.name} lacks {sorted(package - found)}")
    expect(info + "licenses/LICENSE" in found, f"{path.name} lacks the licence")
    expect("sslmed = sslmed._command:main" in scripts, f"{path.name} does not install the command sslmed")
    expect((about["Name"], about["Version"]) == ("sslmed", version), f"{path.name}: {about['Name']} {about['Version']}")
    expect(about["License-Expression"] == "Apache-2.0", f"{path.name}: licence {about['License-Expression']}")
    extras = set(about.get_all("Provides-Extra", []))
    expect({"plots", "medical", "studies", "onnx", "test"} <= extras, f"{path.name}: extras {sorted(extras)}")
    expect(f"version: {version}\n" in (ROOT / "CITATION.cff").read_text(), f"CITATION.cff is not of version {version}")
    expect(f"## [{version}] - 20" in (ROOT / "CHANGELOG.md").read_text(), f"CHANGELOG.md has no section [{version}]")


def check_tests(sdist: Path, wheel: Path) -> None:
    """Collect the tests of the unpacked sdist and run a few, on what the wheel installs."""
    with tempfile.TemporaryDirectory() as folder:
        with tarfile.open(sdist) as archive:
            archive.extractall(folder, filter="data")
        source = Path(folder) / sdist.name.removesuffix(".tar.gz")
        site = Path(folder) / "site"
        run(sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--target", str(site), str(wheel))
        surroundings = os.environ | {"PYTHONPATH": str(site), "OMP_NUM_THREADS": "1"}
        command = (sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider")
        where = run(sys.executable, "-c", "import sslmed; print(sslmed.__file__)", cwd=source, env=surroundings).strip()
        expect(Path(where).is_relative_to(site), f"the tests would import {where}, not the wheel")
        print(run(*command, "--collect-only", "tests", cwd=source, env=surroundings).splitlines()[-1])
        print(run(*command, *FAST, cwd=source, env=surroundings).splitlines()[-1])


def main() -> None:
    folder = Path(sys.argv[1])
    sdists, wheels = list(folder.glob("*.tar.gz")), list(folder.glob("*.whl"))
    expect(len(sdists) == len(wheels) == 1, f"{folder} must hold one sdist and one wheel")
    version = sdists[0].name.removeprefix("sslmed-").removesuffix(".tar.gz")
    run(sys.executable, "-m", "twine", "check", "--strict", str(sdists[0]), str(wheels[0]))
    check_sdist(sdists[0])
    check_wheel(wheels[0], version)
    check_tests(sdists[0], wheels[0])


if __name__ == "__main__":
    main()
