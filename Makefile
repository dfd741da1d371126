# Needs Python >= 3.11, git and make, and nothing else: the environment is made here, in .venv.
# Another interpreter: make run PYTHON=python3.12
# More arguments:      make test ARGS="-k adam"      make run ARGS="--help"

PYTHON ?= python3
ARGS ?=

VENV := .venv
BIN := $(VENV)/bin
# At least two test workers, even on one core: what only works in one process shows.
WORKERS ?= $(shell $(BIN)/python -c 'import os; n = getattr(os, "sched_getaffinity", None); \
	print(min(16, max(2, len(n(0)) if n else os.cpu_count())))')
# Every module by its name: given the package alone, pdoc stops at what __all__ lists. (Where there is no
# __all__ it finds a module twice, and says so.) With jaxtyping imported first, annotations show shapes.
MODULES = $(shell find jaxopt_study -name '*.py' ! -name '__main__.py' | LC_ALL=C sort | \
	sed -e 's/\.py$$//' -e 's:/__init__$$::' -e 's:/:.:g')

.DEFAULT_GOAL := help
.PHONY: help run test lint format bench docs clean
# Two installations into one environment must not run at once.
.NOTPARALLEL:

help: ## list the targets
	@echo "make TARGET, where TARGET is one of:"
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/\1|\2/p' $(MAKEFILE_LIST) | \
		while IFS='|' read -r target what; do printf '  %-8s %s\n' "$$target" "$$what"; done

# Ten of the config's twenty starts: half a minute is enough of a first look.
run: $(VENV)/.installed-study ## run the main study; says where its record and pictures are
	$(BIN)/jaxopt-study run configs/rosenbrock_network.toml --starts 10 $(ARGS)

test: $(VENV)/.installed-study,test ## run all the tests, the slow ones too
	$(BIN)/python -m pytest -q -n $(WORKERS) --dist worksteal -m "slow or not slow" $(ARGS)

lint: $(VENV)/.installed-study,test,lint ## check style, format, types and the floors of the package
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(VENV)/.installed-study,test,lint ## put the code into the house format
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

bench: $(VENV)/.installed-study,peers ## measure all suites against other packages
	$(BIN)/jaxopt-study bench $(ARGS)

docs: $(VENV)/.installed-study,docs ## write the reference pages into site/
	@PYTHONWARNINGS='ignore:The module specification' \
		$(BIN)/python -c 'import jaxtyping; from pdoc.__main__ import cli; cli()' \
		--math --output-directory site $(MODULES)

clean: ## remove all that make has made, .venv too; runs/ stays
	rm -rf $(VENV) site build dist *.egg-info
	rm -rf .pytest_cache .ruff_cache .mypy_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# The package, editable, with the extras that the stamp's name lists. Again only when pyproject.toml changes.
$(VENV)/.installed-%: pyproject.toml | $(BIN)/pip
	@echo "Installing jaxopt_study[$*] into $(VENV); the first time this takes a minute or more."
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[$*]'
	@touch '$@'

# bin/pip comes last into a new environment: without it, one was begun and not finished.
$(BIN)/pip:
	@command -v '$(PYTHON)' >/dev/null || { \
		echo "$(PYTHON) was not found. Name a Python >= 3.11: make PYTHON=/path/to/python3.12 ..." >&2; exit 1; }
	@'$(PYTHON)' -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
		echo "jaxopt_study needs Python >= 3.11, but $(PYTHON) is `'$(PYTHON)' --version 2>&1`." >&2; \
		echo "Name a newer one: make PYTHON=python3.12 ..." >&2; exit 1; }
	@'$(PYTHON)' -m venv $(VENV) || { \
		echo "$(PYTHON) could not make an environment in $(VENV)." >&2; \
		echo "On Debian and Ubuntu the package python3-venv is needed." >&2; exit 1; }
