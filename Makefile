# make demo, make test: each sets up .venv by itself; a second call does not set up again.

PYTHON ?= python3
BIN := .venv/bin
SETUP := .venv/.setup
CLIENT := neuroglancer==2.41.2# its page and server, which need tornado alone: hence --no-deps
LONG := $(patsubst %,benchmarks/%.py,ablation faults sets suggest volume)

.PHONY: setup demo test check bench faults figures docs clean

setup: $(SETUP)

$(SETUP): requirements.lock pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed; set PYTHON=")'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --requirement requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable . \
		--config-settings editable_mode=compat $(CLIENT)
	touch $@

demo: $(SETUP)
	$(BIN)/unetpipe demo-data runs/demo/data
	$(BIN)/snakemake --configfile config/demo/config.yaml --directory runs/demo --quiet rules
	$(BIN)/unetpipe summary runs/demo/results --otsu runs/demo/data

test: $(SETUP)
	$(BIN)/python -m pytest --numprocesses 3 --dist loadfile --no-loadscope-reorder

check: $(SETUP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/snakefmt --check Snakefile workflow/rules
	$(BIN)/snakemake --lint --configfile tests/lint/config.yaml
	$(BIN)/mypy

bench: $(SETUP)
	for script in $(filter-out $(LONG),$(wildcard benchmarks/*.py)); do $(BIN)/python $$script || exit 1; done

faults: $(SETUP)
	PYTHONPATH=tests $(BIN)/python benchmarks/faults.py
	$(BIN)/python -m pytest -m long

docs: .docs-venv/.setup
	.docs-venv/bin/mkdocs build

.docs-venv/.setup: docs/requirements.txt requirements.lock
	$(PYTHON) -m venv .docs-venv
	.docs-venv/bin/python -m pip install --quiet --disable-pip-version-check --requirement docs/requirements.txt \
		--constraint requirements.lock
	touch $@

figures: demo
	$(BIN)/unetpipe figures docs
	$(BIN)/python docs/figures.py

clean:
	rm -rf .venv .docs-venv site .snakemake runs *.egg-info .pytest_cache .ruff_cache .mypy_cache .hypothesis
