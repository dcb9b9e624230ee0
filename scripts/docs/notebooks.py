"""Execute docs/notebooks/*.ipynb in place, without output that depends on the machine.

``make docs`` does not run this; a test checks that the notebooks have output of every cell and none of a machine.
"""

from __future__ import annotations

import re
import tempfile
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parents[2] / "docs" / "notebooks"

#: Text of an output that differs from machine to machine -> what stands for it.
_MACHINE = {r"/tmp/[\w/.-]*": "STORE", re.escape(str(FOLDER.parents[1])): "trak"}


def stripped(notebook: Any) -> Any:
    """The notebook without stderr, progress widgets, times and paths of the machine."""
    notebook.metadata = {"kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"}}
    for cell in notebook.cells:
        cell.metadata = {}
        if cell.cell_type == "code":
            cell.outputs = [output for output in cell.outputs if not _is_progress(output)]
            for output in cell.outputs:
                output.pop("metadata", None)
                if output.output_type in ("execute_result", "display_data"):
                    output.metadata = {}
                    output.data = {kind: _clean(text) for kind, text in output.data.items()}
                elif "text" in output:
                    output.text = _clean(output.text)
    return notebook


def _is_progress(output: Any) -> bool:
    if output.output_type == "stream":
        return bool(output.name == "stderr")
    return any("widget" in kind for kind in output.get("data", {}))


def _clean(text: str) -> str:
    for pattern, replacement in _MACHINE.items():
        text = re.sub(pattern, replacement, text)
    return text


def main() -> None:
    import nbformat
    from nbclient import NotebookClient

    for path in sorted(FOLDER.glob("*.ipynb")):
        notebook = nbformat.read(path, as_version=4)
        with tempfile.TemporaryDirectory() as folder:
            NotebookClient(notebook, timeout=600, resources={"metadata": {"path": folder}}).execute()
        nbformat.write(stripped(notebook), path)
        print(path)


if __name__ == "__main__":
    main()
