# Everything runs from a bare clone: the virtual environment is made by whichever target first needs it.
# What is installed is fixed in requirements/*.txt (exact versions with hashes), so that it is the same tomorrow.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
SEED ?= 0
SAMPLE ?= 1
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check
# Without isolation the build takes the locked hatchling, not the newest.
PROJECT := --no-deps --no-build-isolation -e .
# A test that hangs has failed when its time is up: its process ends with it, and another one goes on with the others.
BOUNDED := -p no:nbval --dist worksteal -o faulthandler_timeout=400 -o faulthandler_exit_on_timeout=true
# Kernels and browsers wait for each other and for moments; beside other tests on a loaded machine they would miss them.
ALONE := -n 2 tests/browser tests/kernel tests/test_notebooks.py
BESIDE := -n auto $(BOUNDED) $(addprefix --ignore=,$(filter tests/%,$(ALONE)))
# Of a function with many cases the fast loop runs one; another SEED chooses others.
FAST := -q $(BESIDE) -m 'not (crash or slow)' --sample $(SAMPLE)

# Some machines have Python keep no compiled code: each of the many processes of the tests would compile all of it.
unexport PYTHONDONTWRITEBYTECODE
.NOTPARALLEL:
.PHONY: demo lab notebooks docs test check lint fast parallel alone again proof bench lock test-newest test-oldest clean

$(BIN)/python:
	$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or newer is needed; try: make PYTHON=python3.12 $(MAKECMDGOALS)" if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv $(VENV)

$(VENV)/.demo $(VENV)/.lab $(VENV)/.test: $(VENV)/.%: requirements/%.txt pyproject.toml | $(BIN)/python
	$(PIP) --require-hashes -r $<
	$(PIP) $(PROJECT)
	touch $@

demo: $(VENV)/.demo  ## run the main job: a flow whose kernel is killed and that continues
	$(BIN)/python -m notebooks.demo

lab: $(VENV)/.lab  ## open the notebooks in JupyterLab
	$(BIN)/jupyter lab --notebook-dir notebooks

notebooks: $(VENV)/.test  ## execute the notebooks and store them with their outputs, for who reads them on a code host
	$(BIN)/python -m notebooks.renew

docs: $(VENV)/.test  ## build the documentation as a site into build/site
	$(BIN)/mkdocs build --strict

check: lint fast  ## the fast loop: lint, types, architecture, unit tests

lint: $(VENV)/.test  ## lint, format and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

fast: $(VENV)/.test  ## the unit tests alone, also for another Python: make fast PYTHON=python3.13 VENV=.venv-3.13
	IRONFLOW_SEED=$(SEED) $(BIN)/pytest $(FAST)

test: lint parallel alone  ## everything, with samples of the long proofs; another SEED draws others

parallel: $(VENV)/.test  ## the tests that run beside each other
	IRONFLOW_SEED=$(SEED) $(BIN)/pytest $(BESIDE)

alone: $(VENV)/.test  ## the tests of kernels, browsers and notebooks, two at a time
	$(BIN)/pytest $(BOUNDED) $(ALONE)

again: $(VENV)/.test  ## the tests that failed last, one after the other
	IRONFLOW_SEED=$(SEED) $(BIN)/pytest -n 1 $(BOUNDED) --last-failed --last-failed-no-failures none

proof: $(VENV)/.test  ## the long crash and interrupt runs, many requests of Schemathesis, every case of every test: it takes hours
	IRONFLOW_PROOF=full IRONFLOW_SEED=$(SEED) $(BIN)/pytest $(BESIDE) -o faulthandler_timeout=0

bench: $(VENV)/.test  ## measure against raw sqlite3 in the same run
	$(BIN)/python -m benchmarks.run

# One resolution for every Python and platform that pyproject.toml promises; demo and lab are parts of test.
LOCK = $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-annotate \
	--custom-compile-command 'make lock' pyproject.toml requirements/build.in --upgrade
lock: | $(BIN)/python  ## renew requirements/*.txt; then run test-newest and test-oldest
	$(PIP) uv
	$(LOCK) --extra test -o requirements/test.txt
	$(LOCK) --extra lab -c requirements/test.txt -o requirements/lab.txt
	$(LOCK) --extra demo -c requirements/test.txt -o requirements/demo.txt

test-newest:  ## the unit tests with the newest release of everything
	$(PYTHON) -m venv --clear .venv-newest
	.venv-newest/bin/python -m pip install --quiet --disable-pip-version-check -e '.[test]'
	.venv-newest/bin/pytest $(FAST)

test-oldest:  ## the unit tests with the lower bounds that pyproject.toml states
	$(PYTHON) -m venv --clear .venv-oldest
	.venv-oldest/bin/python -m pip install --quiet --disable-pip-version-check uv
	.venv-oldest/bin/uv pip install --quiet --python .venv-oldest/bin/python --resolution lowest-direct -e '.[test]'
	.venv-oldest/bin/pytest $(FAST)

clean:
	rm -rf $(VENV) .venv-* build dist .ruff_cache .mypy_cache .pytest_cache .hypothesis
