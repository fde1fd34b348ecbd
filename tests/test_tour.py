"""The notebook of the tour runs, and is kept with small outputs."""

import pathlib

import nbformat
import pytest
from nbclient import NotebookClient

PATH = pathlib.Path(__file__).parent.parent / "examples" / "tour.ipynb"


def cells(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


@pytest.mark.slow
@pytest.mark.tensorflow
@pytest.mark.filterwarnings("default")
def test_every_cell_runs(tmp_path):
    notebook = nbformat.read(PATH, as_version=4)
    client = NotebookClient(
        notebook,
        timeout=900,
        kernel_name="python3",
        resources={"metadata": {"path": str(tmp_path)}},
    )
    client.execute()
    said = "".join(
        output.get("text", "")
        for cell in cells(notebook)
        for output in cell.outputs
    )
    assert "same outputs: True" in said
    assert "as the loaded model says: True" in said


def test_outputs_are_kept_and_small():
    assert PATH.stat().st_size < 200_000
    notebook = nbformat.read(PATH, as_version=4)
    nbformat.validate(notebook)
    kept = [output for cell in cells(notebook) for output in cell.outputs]
    assert kept and all(output.output_type != "error" for output in kept)
    for cell in cells(notebook):
        assert cell.execution_count is not None
