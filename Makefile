# Everything runs from a bare clone: the virtual environment is made by whichever target first needs it.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
SEED ?= 0
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check

.PHONY: demo lab test check proof bench clean

$(VENV)/.demo: pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or newer is needed; try: make PYTHON=python3.12 $(MAKECMDGOALS)" if sys.version_info < (3, 11) else 0)'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP) -e '.[demo]'
	touch $@

$(VENV)/.lab: $(VENV)/.demo
	$(PIP) -e '.[lab]'
	touch $@

$(VENV)/.test: $(VENV)/.demo
	$(PIP) -e '.[test]'
	touch $@

demo: $(VENV)/.demo  ## run the main job: a flow whose kernel is killed and that continues
	$(BIN)/python -m notebooks.demo

lab: $(VENV)/.lab  ## open the notebooks in JupyterLab
	$(BIN)/jupyter lab --notebook-dir notebooks

check: $(VENV)/.test  ## the fast loop: lint, types, architecture, unit tests
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/pytest -q -p no:nbval -n auto --dist worksteal -m 'not kernel and not browser and not crash and not notebook and not slow'

test: $(VENV)/.test  ## everything, with fixed samples of the long proofs
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/pytest

proof: $(VENV)/.test  ## the long crash and interrupt runs
	IRONFLOW_PROOF=full IRONFLOW_SEED=$(SEED) $(BIN)/pytest -m crash

bench: $(VENV)/.test  ## measure against raw sqlite3 in the same run
	$(BIN)/python -m benchmarks.run

clean:
	rm -rf $(VENV) build dist .ruff_cache .mypy_cache .pytest_cache .hypothesis
