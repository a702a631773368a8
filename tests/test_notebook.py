"""The notebook runs from top to bottom on the shipped domain, and its edits are edits."""

from pathlib import Path

import nbformat
from nbclient import NotebookClient

NOTEBOOK = Path(__file__).resolve().parent.parent / "notebook" / "StyleFeatureEditor_inference.ipynb"
OUTPUT = "results_dir/notebook"

CHECK = """
import numpy as np

def change(a, b):
    return np.abs(np.asarray(a, dtype=int) - np.asarray(b, dtype=int)).max()

assert all(change(image, inversion) > 20 for image in [*edited.values(), *single.values(), stacked, free, masked])
assert all(change(stacked, image) > 0 for image in single.values()) and change(free, masked) > 0
with Image.open(OUTPUT / "sweep.gif") as sweep:
    assert sweep.n_frames == 24
"""


def test_the_notebook_runs(tmp_path: Path) -> None:
    """An error in any of its cells is raised here."""
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    assert sum(OUTPUT in cell.source for cell in notebook.cells) == 1
    for cell in notebook.cells:
        cell.source = cell.source.replace(OUTPUT, tmp_path.as_posix())
    notebook.cells.append(nbformat.v4.new_code_cell(CHECK))
    resources = {"metadata": {"path": str(NOTEBOOK.parent)}}
    NotebookClient(notebook, timeout=600, kernel_name="python3", resources=resources).execute()


def test_its_outputs_are_stored() -> None:
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    nbformat.validate(notebook)
    cells = [cell for cell in notebook.cells if cell.cell_type == "code" and cell.id != "install"]
    for cell in cells:
        assert cell.outputs and all(output.output_type != "error" for output in cell.outputs), cell.id
    kinds = {kind for cell in cells for output in cell.outputs for kind in output.get("data", {})}
    assert {"image/png", "image/gif"} <= kinds
