"""The tutorials are valid notebooks with small outputs, and run as they are."""

from __future__ import annotations

import importlib.util
import json
import re
from pathlib import Path
from types import ModuleType

import pytest

nbformat = pytest.importorskip("nbformat")
pytest.importorskip("nbclient")

DOCS = Path(__file__).parent.parent / "docs"
NOTEBOOKS = sorted((DOCS / "tutorials").glob("*.ipynb"))
PATH = re.compile(r"(?<![\w.])/(home|root|tmp|usr|Users|private|work)/|\b[A-Z]:\\\\")


def runner() -> ModuleType:
    spec = importlib.util.spec_from_file_location("run_notebooks", DOCS / "run_notebooks.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_there_are_tutorials() -> None:
    assert len(NOTEBOOKS) == 4


@pytest.mark.parametrize("file", NOTEBOOKS, ids=lambda file: file.stem)
def test_a_tutorial_is_stored_with_small_outputs(file: Path) -> None:
    notebook = nbformat.read(file, as_version=4)
    nbformat.validate(notebook)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))
    outputs = [output for cell in code for output in cell.outputs]
    assert any("image/png" in output.get("data", {}) for output in outputs)
    assert not [output for output in outputs if output.output_type == "error" or output.get("name") == "stderr"]
    text = json.dumps([o.get("text", "") or o.data.get("text/html", "") + o.data["text/plain"] for o in outputs])
    assert not PATH.search(text)
    assert "s/epoch" not in text
    assert file.stat().st_size < 300_000


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of Jupyter
@pytest.mark.parametrize("file", NOTEBOOKS, ids=lambda file: file.stem)
def test_a_tutorial_runs(file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    (tmp_path / "empty").mkdir()
    notebook = runner().run(file, tmp_path / "empty")
    assert all(cell.execution_count for cell in notebook.cells if cell.cell_type == "code")


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("line", ["1 / 0", "%run -m sslmed pretrain --data not_there --out run"])
def test_what_fails_in_a_notebook_is_an_error(line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    file = tmp_path / "failing.ipynb"
    nbformat.write(nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(line, id="a")]), file)
    with pytest.raises(Exception, match=r"ZeroDivisionError|SystemExit: 2"):
        runner().run(file, tmp_path)


def test_times_are_removed_from_outputs() -> None:
    text = "epoch 1/3  loss 3.2  (1.9 s/epoch, 2 s left)\nepoch 3/3  loss 3.1  (12 s/epoch)\n"
    output = nbformat.v4.new_output("stream", text=text)
    cell = nbformat.v4.new_code_cell("", outputs=[output], metadata={"execution": {"started": "now"}})
    notebook = runner().cleaned(nbformat.v4.new_notebook(cells=[cell]))
    assert notebook.cells[0].outputs[0].text == "epoch 1/3  loss 3.2\nepoch 3/3  loss 3.1\n"
    assert notebook.cells[0].metadata == {}
