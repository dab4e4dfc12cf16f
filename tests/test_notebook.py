"""The notebook of examples/: every cell runs, and what it shows is small."""

import json
import os
import sys
from pathlib import Path

import pytest

NOTEBOOK = Path(__file__).resolve().parents[1] / "examples" / "notebook.ipynb"


def test_the_notebook_holds_small_outputs():
    """Each cell shows what it gave to those who read it without running it, and no path of this machine."""
    text = NOTEBOOK.read_text(encoding="utf-8")
    cells = [cell for cell in json.loads(text)["cells"] if cell["cell_type"] == "code"]
    assert all(cell["outputs"] for cell in cells)
    assert len(text) < 40_000
    assert "/tmp" not in text
    assert "/root" not in text


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of the libraries of notebooks
def test_every_cell_of_the_notebook_runs(tmp_path, monkeypatch):
    """From training to the exported folder's predictions, in a new kernel and an empty folder."""
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    nbformat, nbclient = pytest.importorskip("nbformat"), pytest.importorskip("nbclient")
    pytest.importorskip("onnxscript")
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    place = {"metadata": {"path": str(tmp_path)}}
    nbclient.NotebookClient(notebook, timeout=600, kernel_name="python3", resources=place).execute()
    assert (tmp_path / "exported" / "model.onnx").is_file()
    last = "".join(output["text"] for output in notebook.cells[-1].outputs)
    assert "prediction,probability class_0" in last
    assert "Traceback" not in last  # where `head` closes the pipe
