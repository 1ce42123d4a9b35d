# Two commands matter: `make demo` and `make test`. Both set up a virtual environment first.
PYTHON ?= python3
VENV ?= .venv
LABEL_VENV ?= .venv-label
FEDERATED_VENV ?= .venv-federated
RUN := $(VENV)/bin/python -m monai.bundle run --args_file
export MONAI_FAIL_ON_DUPLICATE_CONFIG := 1
# Threads that wait give their core away: beside another program, spinning ones slow a two-core machine a hundredfold.
export OMP_WAIT_POLICY := PASSIVE
# MONAI warns that configs are code; these are the repository's own.
export PYTHONWARNINGS := ignore:parsing config_file:UserWarning

.PHONY: help demo demo-images demo-volumes study test test-fast test-label label-env test-federated federated-env lint types flatten docs clean
.DELETE_ON_ERROR:

help:  ## list the commands
	@grep -E '^[a-z-]+:.*##' Makefile | sed -E 's/:.*## /\t/' | expand -t 14

$(VENV)/.installed: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(0 if (3, 10) <= v <= (3, 12) else f"Python must be 3.10 to 3.12, got {v[0]}.{v[1]}; run: make PYTHON=python3.11 ...")'
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt .
	@touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt '.[dev]'
	@touch $@

demo: $(VENV)/.installed  ## the whole method on simulated patients, in minutes on a CPU
	@$(RUN) configs/runs/study_quick.yaml --overwrite True

study: $(VENV)/.installed  ## the same at the smallest size whose samples a person recognises
	@$(RUN) configs/runs/study_small.yaml

demo-images: $(VENV)/.installed  ## real pictures (digits, stained tissue): trained on synthetic ones, tested on real ones
	@$(VENV)/bin/python -m bundle example digits runs/pictures/digits
	@$(VENV)/bin/python -m bundle example histology runs/pictures/histology
	@$(RUN) configs/runs/study_digits.yaml --overwrite True
	@$(RUN) configs/runs/study_histology.yaml --overwrite True

demo-volumes: $(VENV)/.installed  ## whole heads in 3D: generators without classes, measured and audited, in minutes on a CPU
	@$(RUN) configs/runs/study_volumes.yaml --overwrite True

test: $(VENV)/.installed-dev lint types  ## lint, types and all tests
	OMP_NUM_THREADS=1 $(VENV)/bin/python -m pytest -n 2 --dist loadscope --no-loadscope-reorder

test-fast: $(VENV)/.installed-dev  ## the unit tests alone
	OMP_NUM_THREADS=1 $(VENV)/bin/python -m pytest -n 2 --dist loadscope --no-loadscope-reorder -m "not slow"

$(LABEL_VENV)/.installed: bundle/label_app/requirements.txt bundle/label_app/requirements-torch.txt
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(0 if v == (3, 11) else f"Python must be 3.11 for MONAI Label, got {v[0]}.{v[1]}; run: make PYTHON=python3.11 ...")'
	$(PYTHON) -m venv $(LABEL_VENV)
	$(LABEL_VENV)/bin/python -m pip install --quiet --disable-pip-version-check -r bundle/label_app/requirements-torch.txt
	$(LABEL_VENV)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps -r bundle/label_app/requirements.txt
	@touch $@

$(LABEL_VENV)/.installed-test: $(LABEL_VENV)/.installed bundle/label_app/requirements-test.txt
	$(LABEL_VENV)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps -r bundle/label_app/requirements-test.txt
	@touch $@

label-env: $(LABEL_VENV)/.installed  ## the environment of MONAI Label, for python -m bundle label

test-label: $(LABEL_VENV)/.installed-test  ## MONAI Label over HTTP, the stock app and ours
	OMP_NUM_THREADS=1 $(LABEL_VENV)/bin/python -m pytest tests/label

$(FEDERATED_VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(FEDERATED_VENV)
	$(FEDERATED_VENV)/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt '.[federated]'
	@touch $@

$(FEDERATED_VENV)/.installed-test: $(FEDERATED_VENV)/.installed
	$(FEDERATED_VENV)/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt pytest pytest-timeout
	@touch $@

test-federated: $(FEDERATED_VENV)/.installed-test  ## a job of NVFlare's simulator to its end
	OMP_NUM_THREADS=1 $(FEDERATED_VENV)/bin/python -m pytest tests/federated

federated-env: $(FEDERATED_VENV)/.installed  ## the environment of NVFlare, for federated training

lint: $(VENV)/.installed-dev  ## ruff
	$(VENV)/bin/python -m ruff check .
	$(VENV)/bin/python -m ruff format --check .

types: $(VENV)/.installed-dev  ## mypy
	$(VENV)/bin/python -m mypy

flatten: $(VENV)/.installed  ## write the flat configs and the page of keys from the YAML
	$(VENV)/bin/python -m bundle flatten

docs: $(VENV)/.installed-dev  ## docs/ as a site in site/; a dead link or anchor is an error
	NO_MKDOCS_2_WARNING=1 $(VENV)/bin/python -m mkdocs build --strict

clean:  ## remove builds and the demo; studies in runs/ and the environment stay
	rm -rf dist build *.egg-info runs/demo
