"""Every chapter executed once in replay: the committed reference run, no server, no measuring."""

import pytest

from analysis import chapter, places


@pytest.fixture(scope="session")
def replayed(tmp_path_factory):
    """{chapter name: executed notebook} of the miniature's reference run."""
    folder = tmp_path_factory.mktemp("replay")
    study = places.RECORDS["reference"] / "miniature" / "study.yaml"
    out = {}
    for notebook in chapter.chapters(study):
        out[notebook.stem] = chapter.run(notebook, study, folder / "executed" / notebook.name)
    return out
