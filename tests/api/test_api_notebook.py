"""The notebook of the examples: short, and executed."""

from pathlib import Path

import nbclient
import nbformat
import pytest

ROOT = Path(__file__).parents[2]
NOTEBOOK = ROOT / "examples/quickstart.ipynb"


def lines_of_code(book):
    """Lines of the code cells that are not empty."""
    sources = [cell.source for cell in book.cells if cell.cell_type == "code"]
    return [line for text in sources for line in text.splitlines() if line.strip()]


def test_the_notebook_is_short():
    """Twelve lines go from a folder to a leaderboard and a picture."""
    assert len(lines_of_code(nbformat.read(NOTEBOOK, 4))) <= 12


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*:DeprecationWarning")
def test_the_notebook_runs(toy_network, tmp_path, monkeypatch):
    """Executed with a toy network, each cell shows a card, a table or a picture."""
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.delenv("FEATCACHE_CACHE", raising=False)
    book = nbformat.read(NOTEBOOK, 4)
    for cell in book.cells:
        cell.source = cell.source.replace('"densenet121"', repr(str(toy_network)))
        cell.source = cell.source.replace("images=60", "images=36")
    resources = {"metadata": {"path": str(tmp_path)}}
    nbclient.NotebookClient(book, timeout=600, resources=resources).execute()
    shown = [
        "".join(output.data.get("text/html", output.data.get("text/plain", "")))
        for cell in book.cells
        if cell.cell_type == "code"
        for output in cell.outputs
        if output.output_type == "execute_result"
    ]
    for word, text in zip(
        (
            "Dataset phantoms",
            "runs",
            "Baselines and controls",
            "data:image/png",
            "(4, 12)",
        ),
        shown,
        strict=True,
    ):
        assert word.lower() in text.lower()
    assert "progress" not in nbformat.writes(book), "bars go when the work is done"
    nbformat.write(book, tmp_path / "executed.ipynb")
