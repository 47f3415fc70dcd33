"""Run the tutorials and store their outputs in them; needs nbclient and ipykernel (extra `test`).

    python docs/run_notebooks.py                    # all of them
    python docs/run_notebooks.py dicom_folder       # one

Each is run in an empty folder. Times of the run are removed, so that only a change of a result changes a file.
"""

from __future__ import annotations

import argparse
import base64
import re
import tempfile
from io import BytesIO
from pathlib import Path
from typing import Any

import nbformat
from nbclient import NotebookClient
from PIL import Image

TUTORIALS = Path(__file__).parent / "tutorials"
TIMES = re.compile(r"  \([\d.]+ s/epoch[^)]*\)")


def run(file: Path, folder: Path) -> Any:
    """Run a notebook in a folder.

    Returns:
        The notebook with its outputs.

    Raises:
        nbclient.exceptions.CellExecutionError: a cell raised.
        RuntimeError: a command of the package failed in a cell.
    """
    notebook: Any = nbformat.read(file, as_version=4)
    NotebookClient(
        notebook, timeout=600, coalesce_streams=True, resources={"metadata": {"path": str(folder)}}
    ).execute()
    for cell in notebook.cells:
        for output in cell.get("outputs", ()):
            if output.output_type == "error":  # IPython's %run shows the error of a program and continues
                raise RuntimeError(f"{file.name}: {output.ename}: {output.evalue} in\n{cell.source}")
    return notebook


def cleaned(notebook: Any) -> Any:
    """The notebook with small pictures, and without what differs from run to run: times and versions."""
    notebook.metadata = {"kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"}}
    for cell in notebook.cells:
        cell.metadata = {}
        for output in cell.get("outputs", ()):
            if output.output_type == "stream":
                output.text = TIMES.sub("", output.text)
                continue
            output.metadata = {}
            if "image/png" in output.data:
                output.data["image/png"] = _small(output.data["image/png"])
    return notebook


def _small(png: str) -> str:
    """The picture with 32 levels of each colour, which makes it half as large."""
    picture = Image.open(BytesIO(base64.b64decode(png))).convert("RGB")
    picture = picture.point([round(round(value * 31 / 255) * 255 / 31) for value in range(256)] * 3)
    if all(red == green == blue for _, (red, green, blue) in picture.getcolors(maxcolors=2**15)):
        picture = picture.convert("L")
    file = BytesIO()
    picture.save(file, "PNG", optimize=True)
    return base64.b64encode(file.getvalue()).decode()


def main() -> None:
    """Run the notebooks that the command line names, or all."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    known = sorted(file.stem for file in TUTORIALS.glob("*.ipynb"))
    parser.add_argument("names", nargs="*", choices=[*known, []], metavar="NAME", help=", ".join(known))
    for name in parser.parse_args().names or known:
        file = TUTORIALS / f"{name}.ipynb"
        with tempfile.TemporaryDirectory() as folder:
            nbformat.write(cleaned(run(file, Path(folder))), file)
        print(f"{file}: {file.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
