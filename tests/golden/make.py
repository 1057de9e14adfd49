"""Write the golden notebooks anew: chapters executed in replay from the reference runs.

    .venv/bin/python tests/golden/make.py

Sources are stripped; what nbval and pytest-notebook compare are these. Figures are left out of the comparison (their
numbers stand in the tables beside them, rounded): the last bit of a float may differ between processors.
"""

from pathlib import Path

import nbformat

from analysis import chapter, places

#: Chapter -> the reference run that it is executed from.
CHAPTERS = {
    **dict.fromkeys(["01_baseline", "03_k_sweep", "05_acceptance", "07_losslessness"], "miniature"),
    "10_context": "miniature-context",
    "11_methods": "miniature-methods",
}


def main() -> None:
    for name, run in CHAPTERS.items():
        study = places.RECORDS["reference"] / run / "study.yaml"
        out = Path(__file__).parent / f"{name}.ipynb"
        chapter.run(places.NOTEBOOKS / f"{name}.ipynb", study, out)
        notebook = nbformat.read(out, as_version=4)
        for cell in notebook.cells:
            if cell.cell_type == "code" and any("figure" in o.get("metadata", {}) for o in cell.outputs):
                cell.metadata["tags"] = [*cell.metadata.get("tags", []), "nbval-ignore-output"]
                cell.metadata["nbreg"] = {"diff_ignore": ["/outputs"]}
        nbformat.write(notebook, out)


if __name__ == "__main__":
    main()
