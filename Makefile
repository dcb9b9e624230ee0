# The commands of the project. Each target creates the environment it needs, so that `make demo` and `make test` work on a fresh clone.

VENV ?= .venv
PYTHON ?= python3
PIP_ARGS ?=
WORKERS ?= auto
BIN := $(VENV)/bin
KERNELS := $(wildcard trak_cli/projection/kernels/*.[ch])

.PHONY: help setup demo lds experiments test coverage check format docs dist clean

help:
	@echo "make demo    train, attribute and evaluate on handwritten digits; draws runs/digits/attributions.png"
	@echo "make lds     measure the quality of the scores on twenty settings, compared with other libraries (pip install .[peers]); an hour on 2 cores"
	@echo "make experiments  small models of every kind: train, attribute, evaluate; prints the figures (minutes each)"
	@echo "make test    run the test suite on all cores"
	@echo "make coverage  the same, and print which lines and branches the tests miss (twice the time)"
	@echo "make check   lint, format check, types, import contracts"
	@echo "make format  format the code"
	@echo "make docs    generate the API reference from docstrings: build/api/index.html"
	@echo "make dist    build the wheel and the sdist in dist/, check them and install the wheel"
	@echo "make clean   remove the virtual environment and build products; runs/ is kept"

setup: $(VENV)/.ready

# PIP_ARGS passes anything on to pip, for example: make demo PIP_ARGS="--find-links /my/wheels"
# An edited kernel is compiled again by the same install.
$(VENV)/.ready: setup.cfg setup.py pyproject.toml constraints.txt $(KERNELS)
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt $(PIP_ARGS) \
		--editable '.[dev]'
	touch $@

demo: setup
	$(BIN)/python scripts/demo.py

# What is there already is kept; other libraries take part where they are installed: $(BIN)/pip install '.[peers]'
lds: setup
	OMP_NUM_THREADS=1 $(BIN)/python scripts/bench_lds.py

experiments: setup
	for config in scripts/experiments/*.yaml; do $(BIN)/python $${config%.yaml}.py || exit 1; done

# One worker per core. WORKERS=0 runs the tests in one process, which a debugger needs.
test: setup
	$(BIN)/python -m pytest -n $(WORKERS) --dist worksteal

# Separate from `make test`, because measuring the coverage takes as much time as the tests themselves.
coverage: setup
	$(BIN)/python -m pytest -n $(WORKERS) --dist worksteal --cov --cov-report=term:skip-covered

check: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: setup
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: setup
	$(BIN)/python scripts/docs/api_reference.py

# The wheel is installed into a folder of its own and run from there, with the dependencies of this environment.
dist: setup
	rm -rf dist build/installed
	$(BIN)/python -m build --no-isolation
	$(BIN)/python -m twine check --strict dist/*
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --target build/installed dist/*.whl
	cd build/installed && $(abspath $(BIN))/python -c "import trak_cli; assert trak_cli.__file__.startswith('$(CURDIR)/build/installed')"
	cd build/installed && $(abspath $(BIN))/python -m trak_cli config experiment=digits > /dev/null

clean:
	rm -rf $(VENV) build dist *.egg-info
