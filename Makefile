# Front doors of the study. `make` alone lists them.
PYTHON ?= python3
VENV   ?= $(if $(STUDY_HOME),$(STUDY_HOME)/.venv,.venv)
PARAMS ?= papermill_params/miniature.yaml
LOCK   ?=
TESTS  ?=
BREAK  ?=

py    := "$(VENV)/bin/python"
setup := $(PYTHON) tools/setup_env.py --venv "$(VENV)" $(if $(LOCK),--lock "$(LOCK)")

.DEFAULT_GOAL := help
.SILENT:
.PHONY: help setup study test break lab report bench lint lock clean

help: ## this list
	echo "make <what> [PARAMS=papermill_params/X.yaml] [LOCK=cpu-x86_64|cuda-x86_64|cuda-aarch64|...]"
	sed -n 's/^\([a-z]*\):.*## \(.*\)/  \1\t\2/p' $(firstword $(MAKEFILE_LIST)) | expand -t 12

setup: ## make .venv from the lock that fits this machine (does nothing when it is there)
	$(setup)
	@# outputs of notebooks are no change of the study: git config --remove-section filter.nbstripout undoes it
	@# without the environment (make clean) notebooks pass as they are
	if [ -e .git ]; then p="$$(cd "$(VENV)" && pwd)/bin/python"; \
	  git config filter.nbstripout.clean "if [ -x '$$p' ]; then '$$p' -m nbstripout --keep-id; else cat; fi" || true; fi

study: setup ## measure, run every notebook, write reports/<study>/index.html
	$(py) -m analysis study "$(PARAMS)"

test: setup ## every test (TESTS="-k name" narrows the first run)
	@# most tests wait for a process of theirs: four at a time, each file in one worker
	$(py) -m pytest -n 4 --dist loadfile $(TESTS)
	@# two plug-ins that both take over notebooks: their flags never meet in one run
	if ls tests/golden/*.ipynb >/dev/null 2>&1; then \
	  echo "== golden notebooks, nbval" && $(py) -m pytest --nbval -p no:nb_regression tests/golden/*.ipynb && \
	  echo "== golden notebooks, pytest-notebook" && \
	  $(py) -m pytest --nb-test-files -p no:nbval -o nb_exec_timeout=600 \
	    -o nb_diff_ignore="$$(printf '/metadata\n/cells/*/metadata\n/cells/*/execution_count\n/cells/*/outputs/*/execution_count')" \
	    tests/golden/*.ipynb; \
	fi
	echo "All tests passed."

break: setup ## the long break test: 200 kills, 10,000 damaged files, hostile and sound programs (BREAK="--kills 20" for less)
	$(py) tests/faults/breaking.py $(BREAK)

lab: setup ## JupyterLab on the notebooks
	$(py) -m analysis lab

report: setup ## render the report from what is measured; starts no server
	$(py) -m analysis report "$(PARAMS)"

bench: setup ## the performance comparison
	$(py) -m analysis bench "$(PARAMS)"

lint: setup ## ruff over code and notebooks, imports one way, notebooks stripped
	$(py) -m ruff check .
	$(py) -m ruff format --check .
	$(VENV)/bin/lint-imports --no-cache
	git ls-files -z '*.ipynb' ':!tests/golden' ':!reports' | xargs -0 -r $(py) -m nbstripout --verify --keep-id

lock: ## write requirements/*.txt anew from pyproject.toml (needs uv; UPGRADE=1 takes newest versions)
	if [ -x $(py) ]; then python=$(py); else python=$(PYTHON); fi; "$$python" tools/lock.py $(if $(UPGRADE),--upgrade)

clean: ## remove .venv and caches; measurements (data/runs) and reports stay
	rm -rf .venv build src/*.egg-info .pytest_cache .ruff_cache .hypothesis .snakemake/log
	find . -name __pycache__ -type d -not -path './.git/*' -prune -exec rm -rf {} +
