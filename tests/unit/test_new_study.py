"""`python -m analysis new`: a study file that runs as it stands, for the machine that was found."""

import pytest

from analysis import new_study
from analysis.__main__ import main
from analysis.errors import ParamsError
from analysis.servers.machine import Gpu, Machine
from analysis.study import own, plan
from analysis.study.study_file import load_study

MACHINES = {
    "none": (Machine(total_gib=16), "data/miniature/dense", "miniature"),
    "gb10": (Machine((Gpu("NVIDIA GB10"),), total_gib=121), "RedHatAI/gemma-4-26B-A4B-it-FP8-Dynamic", "measured"),
    "h100": (Machine((Gpu("NVIDIA H100", 79.6),)), "RedHatAI/gemma-4-26B-A4B-it-FP8-Dynamic", "measured"),
    "4090": (Machine((Gpu("NVIDIA RTX 4090", 24.0),)), "google/gemma-4-E4B-it", "measured"),
    "small": (Machine((Gpu("NVIDIA T4", 15.0),)), "data/miniature/dense", "miniature"),
}


@pytest.mark.parametrize("name", MACHINES)
def test_the_file_is_a_plan_with_own_prompts_for_the_machine(name, tmp_path):
    here, target, stamp = MACHINES[name]
    own.read.cache_clear()
    file, prompts = new_study.write("demo", here, tmp_path)
    study = load_study(file)
    assert (study.target.model, study.stamp, study.workloads) == (target, stamp, ("mine",))
    made = plan.make(study)
    assert {r.prompt_id for c in made.cells for r in c.requests} == {"example-1", "example-2", "example-3"}
    assert prompts.read_text().count("\n") == 3
    memory = study.server.gpu_memory_utilization
    assert name != "gb10" or memory == 0.5


def test_every_key_that_is_off_may_be_used_by_taking_its_comment_away(tmp_path):
    file, _ = new_study.write("demo", Machine(), tmp_path)
    lines = file.read_text().splitlines()
    off = [
        n for n, line in enumerate(lines) if line.startswith(("# context_tokens", "# output_tokens", "# speculators"))
    ]
    assert len(off) == 3
    for n in off:
        lines[n] = lines[n][2:].replace("[512, 4096]", "[512, 1024]")
    file.write_text("\n".join(lines))
    own.read.cache_clear()
    made = plan.make(load_study(file))
    assert {"context", "output"} <= {c.experiment for c in made.cells} and "ngram-k8" in {a.name for a in made.arms}


def test_nothing_is_overwritten(tmp_path):
    file, prompts = new_study.write("demo", Machine(), tmp_path)
    prompts.write_text('{"prompt": "mine"}\n')
    with pytest.raises(ParamsError, match="There is a study demo"):
        new_study.write("demo", Machine(), tmp_path)
    file.unlink()
    assert new_study.write("demo", Machine(), tmp_path) == [file]
    assert prompts.read_text() == '{"prompt": "mine"}\n'


@pytest.mark.parametrize("name", ["../a", "My Study", "", "-x"])
def test_a_name_that_is_no_name_is_one_screen(name, capsys):
    with pytest.raises(ParamsError, match="cannot be the name"):
        new_study.write(name, Machine())
    if name and not name.startswith("-"):
        assert main(["new", name]) == 1
        assert "Fix:" in capsys.readouterr().err
