# `make example` and `make test` need nothing but Python and make; see README.md.
#
# Variables (make test PYTHON=python3.12 ...):
#   PYTHON       the interpreter that makes the environment
#   VENV         where the environment is
#   TORCH_INDEX  package index for PyTorch, e.g. the CPU-only one; empty: pip's own configuration
#   PYTEST_ARGS  added to every run of pytest
PYTHON      ?= python3
VENV        ?= .venv
TORCH_INDEX ?=
PYTEST_ARGS ?=

BIN        := $(VENV)/bin
INSTALLED  := $(VENV)/.installed-dev
WHEEL_VENV := build/wheel-env
INDEX_ARGS := $(if $(TORCH_INDEX),--extra-index-url $(TORCH_INDEX))
PIP_ARGS   := --quiet --constraint constraints-dev.txt $(INDEX_ARGS)
WORKERS    := --numprocesses=auto --maxprocesses=8

# Small tensors are slower on many threads, and the test workers share the cores.
export OMP_NUM_THREADS ?= 1
export MPLBACKEND ?= Agg

.DEFAULT_GOAL := help
.PHONY: help install example examples test check test-slow lint format types docs-test wheel wheel-check wheel-test bench clean

help:  ## list the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

install: $(INSTALLED)  ## make the environment and install the package into it

$(INSTALLED): pyproject.toml setup.cfg constraints-dev.txt
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "installing into $(VENV) (a few minutes the first time)"
	$(BIN)/python -m pip install $(PIP_ARGS) --editable '.[dev]'
	@touch $@

example: $(INSTALLED)  ## fit an autoregressive model to the flow of the Nile
	$(BIN)/python examples/autoregressive.py

examples: $(INSTALLED)  ## run every example
	@for script in examples/*.py; do echo "== $$script"; $(BIN)/python $$script || exit 1; done

test: lint types check docs-test wheel-check  ## everything that must pass

check: $(INSTALLED)  ## the tests
	$(BIN)/python -m pytest $(WORKERS) $(PYTEST_ARGS)

test-slow: $(INSTALLED)  ## the slow tests too
	$(BIN)/python -m pytest $(WORKERS) -m "not peers" $(PYTEST_ARGS)

lint: $(INSTALLED)  ## style and formatting, changing nothing
	$(BIN)/python -m ruff check .
	$(BIN)/python -m ruff format --check .

format: $(INSTALLED)  ## mend style and formatting
	$(BIN)/python -m ruff check --fix .
	$(BIN)/python -m ruff format .

types: $(INSTALLED)  ## mypy, strict
	$(BIN)/python -m mypy

docs-test: $(INSTALLED)  ## the examples in docstrings, README and docs
	$(BIN)/python -m pytest --doctest-modules --doctest-glob='*.md' $(PYTEST_ARGS) brancher README.md docs

wheel: $(INSTALLED)  ## build the wheel into dist/
	rm -rf build/lib build/bdist.* dist
	@mkdir -p build
	$(BIN)/python -m build --wheel --outdir dist . > build/wheel.log 2>&1 || { cat build/wheel.log; exit 1; }

# $(call in_wheel_env,extras,arguments of pytest): a clean environment that holds the wheel, and no checkout near it.
define in_wheel_env
	rm -rf $(WHEEL_VENV) build/wheel-run
	$(PYTHON) -m venv $(WHEEL_VENV)
	$(WHEEL_VENV)/bin/python -m pip install $(PIP_ARGS) "$$(ls $(CURDIR)/dist/*.whl)$(1)" pytest
	mkdir -p build/wheel-run
	cp -r tests examples benchmarks conftest.py pyproject.toml README.md build/wheel-run/
	cd build/wheel-run && ../wheel-env/bin/python -m pytest $(2) $(PYTEST_ARGS)
endef

wheel-check: wheel  ## build the wheel; does it hold everything, and do the hard dependencies suffice?
	$(call in_wheel_env,,tests/test_package.py)

wheel-test: wheel  ## build the wheel and run all tests against it, in a clean environment
	$(call in_wheel_env,[dev],$(WORKERS))

bench: $(INSTALLED)  ## every benchmark against its peers
	$(BIN)/python -m pip install $(PIP_ARGS) --editable '.[dev,bench]'
	@for script in $$(grep -l __main__ benchmarks/*.py); do echo "== $$script"; $(BIN)/python $$script || exit 1; done

clean:  ## remove what was built, not the environment
	rm -rf build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis examples/output
