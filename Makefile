PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: help setup demo test test-slow lint

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z%-]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(VENV)/.stamp ## Make the virtual environment .venv (again when pyproject.toml changes)

demo: $(VENV)/.stamp ## See what greenline does, on a small repository made for it
	@$(BIN)/python -m greenline.tools.demo

test: $(VENV)/.stamp ## Run the tests
	$(BIN)/python -m pytest -n auto tests

test-slow: $(VENV)/.stamp ## Run the tests that need servers, other programs or minutes
	$(BIN)/python -m pytest -n auto --dist loadfile -m slow tests

lint: $(VENV)/.stamp ## Check style and types
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

bench-%: $(VENV)/.stamp ## Run a benchmark: make bench-NAME runs benchmarks/NAME.py, with ARGS="…" as its arguments
	@$(BIN)/python benchmarks/$(subst -,_,$*).py $(ARGS)

$(VENV)/.stamp: pyproject.toml tools/pytest_greenline/pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "greenline needs Python 3.11 or later; '$(PYTHON)' is not. Name one that is: make setup PYTHON=python3.12" >&2; exit 2; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV) || { \
	  rm -rf $(VENV); echo "no virtual environment: install Python's venv module (Debian: apt install python3-venv)" >&2; exit 2; }
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e ./tools/pytest_greenline -e '.[dev]'
	@touch $@
