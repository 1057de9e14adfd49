# The study as a graph: one rule a notebook, then the report. `make study` runs it; Snakemake's own executors can too:
#   snakemake --cores 1 --resources gpu=1 --config study=gb10-31b params=papermill_params/gb10-31b.yaml
# The store decides what is measured: the order of the chapters is only the order in which they are read.
import sys
from pathlib import Path

from analysis import chapter

STUDY = config.get("study", "miniature")
PARAMS = config.get("params", f"papermill_params/{STUDY}.yaml")
OUT = f"reports/{STUDY}/notebooks"
CODE = sorted(map(str, Path("src/analysis").rglob("*.py")))
CHAPTER = f"{sys.executable} -m analysis chapter {PARAMS} {{input[0]}} {{output}}"


rule report:
    input: [f"{OUT}/{notebook.name}" for notebook in chapter.chapters(PARAMS)]
    output: f"reports/{STUDY}/index.html"
    shell: f"{sys.executable} -m analysis report {PARAMS}"


rule setup:  # the machine, the plan, the checks
    input: "notebooks/00_setup.ipynb", PARAMS, CODE
    output: f"{OUT}/00_setup.ipynb"
    priority: 99
    shell: CHAPTER


rule baseline:  # the target alone
    input: "notebooks/01_baseline.ipynb", PARAMS, CODE
    output: f"{OUT}/01_baseline.ipynb"
    priority: 98
    resources: gpu=1
    shell: CHAPTER


rule mtp:  # with its drafter, at the study's K
    input: "notebooks/02_mtp.ipynb", PARAMS, CODE
    output: f"{OUT}/02_mtp.ipynb"
    priority: 97
    resources: gpu=1
    shell: CHAPTER


rule k_sweep:  # how many tokens to draft
    input: "notebooks/03_k_sweep.ipynb", PARAMS, CODE
    output: f"{OUT}/03_k_sweep.ipynb"
    priority: 96
    resources: gpu=1
    shell: CHAPTER


rule concurrency:  # under load
    input: "notebooks/04_concurrency.ipynb", PARAMS, CODE
    output: f"{OUT}/04_concurrency.ipynb"
    priority: 95
    resources: gpu=1
    shell: CHAPTER


rule acceptance:  # what is accepted, and where
    input: "notebooks/05_acceptance.ipynb", PARAMS, CODE
    output: f"{OUT}/05_acceptance.ipynb"
    priority: 94
    resources: gpu=1
    shell: CHAPTER


rule generated_python:  # do the programs work
    input: "notebooks/06_generated_python.ipynb", PARAMS, CODE
    output: f"{OUT}/06_generated_python.ipynb"
    priority: 93
    resources: gpu=1
    shell: CHAPTER


rule losslessness:  # is the text the same
    input: "notebooks/07_losslessness.ipynb", PARAMS, CODE
    output: f"{OUT}/07_losslessness.ipynb"
    priority: 92
    resources: gpu=1
    shell: CHAPTER


rule cost_model:  # what a step costs, and what to expect
    input: "notebooks/08_cost_model.ipynb", PARAMS, CODE
    output: f"{OUT}/08_cost_model.ipynb"
    priority: 91
    resources: gpu=1
    shell: CHAPTER


rule evidence:  # what others measured, and which claims hold
    input: "notebooks/09_evidence.ipynb", PARAMS, CODE
    output: f"{OUT}/09_evidence.ipynb"
    priority: 90
    shell: CHAPTER
