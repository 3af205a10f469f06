# What a developer runs. Nothing outside this folder changes, but for Debian packages that `slurm` installs
# (and `test`, `stress`, `bench` as root).

PYTHON3 ?= python3
VENV := .venv
PYTHON := $(VENV)/bin/python
INSTALLED := $(VENV)/.installed
# Most tests wait for other processes; with PARALLEL= they run one after the other and their prints are seen.
PARALLEL ?= -n 4 --dist worksteal

.PHONY: help demo test lint bench stress chaos setup slurm

help:
	@echo "make demo    run an example pipeline, on Slurm where a controller answers, else on this machine"
	@echo "make test    run all tests; PYTEST_ARGS='-k chain' for some"
	@echo "make lint    ruff and mypy"
	@echo "make bench   measure and print the numbers of benchmarks/"
	@echo "make stress  run the long form of tests/stress"
	@echo "make chaos   run the fault campaign and 300 random runs under random faults, and print the tables"
	@echo "make setup   create $(VENV) only"
	@echo "make slurm   install Debian's Slurm packages, which tests/cluster needs"

demo: $(INSTALLED)
	$(PYTHON) examples/demo.py

test: $(INSTALLED)
	@test "$$(id -u)" -ne 0 || tools/install-slurm.sh || true
	@test "$$(id -u)" -ne 0 || tools/install-native.sh || true
	$(PYTHON) -m pytest $(PARALLEL) $(PYTEST_ARGS)

lint: $(INSTALLED)
	$(PYTHON) -m ruff check .
	$(PYTHON) -m ruff format --check .
	$(PYTHON) -m mypy

bench: $(INSTALLED)
	@test "$$(id -u)" -ne 0 || tools/install-native.sh || true
	$(PYTHON) -m benchmarks $(BENCH_ARGS)

stress: $(INSTALLED)
	@test "$$(id -u)" -ne 0 || tools/install-native.sh || true
	REFLOW_KILL_ROUNDS=$${REFLOW_KILL_ROUNDS:-300} $(PYTHON) -m pytest tests/stress $(PYTEST_ARGS)
	REFLOW_LAW_EXAMPLES=$${REFLOW_LAW_EXAMPLES:-200} $(PYTHON) -m pytest tests/flows/test_reuse_law.py $(PYTEST_ARGS)

chaos: $(INSTALLED)
	REFLOW_CHAOS=1 $(PYTHON) -m pytest tests/chaos $(PYTEST_ARGS)

setup: $(INSTALLED)

slurm:
	tools/install-slurm.sh

$(INSTALLED): pyproject.toml
	tools/make-venv.sh $(VENV) $(PYTHON3)
	$(PYTHON) -m pip install --quiet --disable-pip-version-check --editable '.[test,lint]'
	@touch $@
