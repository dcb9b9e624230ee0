# The commands of the house. Everything sets itself up: `make demo` and `make test` work on a fresh clone.

VENV ?= .venv
PYTHON ?= python3
PIP_ARGS ?=
BIN := $(VENV)/bin
KERNELS := $(wildcard trak_cli/projection/kernels/*.[ch])

.PHONY: help setup demo lds experiments test check format clean

help:
	@echo "make demo    train, attribute and evaluate on handwritten digits; draws runs/digits/attributions.png"
	@echo "make lds     measure the quality of the scores on twenty settings, beside other libraries (pip install .[peers]); an hour on 2 cores"
	@echo "make experiments  small models of every kind: train, attribute, evaluate; prints the figures (minutes each)"
	@echo "make test    run the test suite"
	@echo "make check   lint, format check, types, import contracts"
	@echo "make format  format the code"
	@echo "make clean   remove the virtual environment and build products (runs/ stays)"

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

test: setup
	$(BIN)/python -m pytest

check: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: setup
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf $(VENV) build dist *.egg-info
