"""Every chapter executed once in replay: the committed reference run, no server, no measuring."""

import pytest
import yaml

from analysis import chapter, places


@pytest.fixture(scope="session")
def replayed(tmp_path_factory):
    """{chapter name: executed notebook} of the miniature's reference run."""
    folder = tmp_path_factory.mktemp("replay")
    raw = yaml.safe_load((places.PARAMS / "miniature.yaml").read_text(encoding="utf-8"))
    study = folder / "miniature.yaml"
    study.write_text(yaml.safe_dump({**raw, "records": "reference", "measure": "never"}), encoding="utf-8")
    out = {}
    for notebook in chapter.chapters():
        out[notebook.stem] = chapter.run(notebook, study, folder / "executed" / notebook.name)
    return out
