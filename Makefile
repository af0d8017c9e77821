# Every command of the project; needs only make (GNU 3.81 or newer) and Python 3.11-3.13.
# Everything is installed into .venv, at the versions of constraints.txt.

PYTHON ?= python3
PORT ?= 5006
PYTEST_ARGS ?=
BENCH_ARGS ?=
LOAD_ARGS ?=
REPRODUCE_ARGS ?=

VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check

# A browser window is opened only on a machine with a screen.
SCREEN := $(or $(DISPLAY),$(WAYLAND_DISPLAY),$(filter Darwin,$(shell uname -s)))

# JupyterLab refuses to run as root without --allow-root, and containers often have no other user. It listens on this
# machine only and asks for its token.
ROOT := $(if $(filter 0,$(shell id -u)),--allow-root)

.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help app lab bench load reproduce docs docs-serve test lint types imports pytest slow constraints clean distclean free-port

help: ## List the commands
	@echo "Usage: make COMMAND"
	@echo
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' Makefile
	@echo
	@echo "Settings: PYTHON=python3.12 (the interpreter), PORT=5007 (the app's port), PYTEST_ARGS='tests/base/test_rng.py -x'"
	@echo "          BENCH_ARGS='--json bench.json --only fc-mdfa-sgd' (options of mdfa bench)"

app: $(VENV)/.app free-port ## Start the app and open it in the browser (installs what it needs first)
	@echo "The app is at http://localhost:$(PORT)/app - press Ctrl+C to stop it."
	@MDFA_DOWNLOADS=1 $(BIN)/panel serve app/ --address localhost --port $(PORT) $(if $(SCREEN),--show)

lab: $(VENV)/.notebooks ## Open the notebooks in JupyterLab
	@$(BIN)/jupyter lab --ServerApp.root_dir=. --LabApp.default_url=/lab/tree/notebooks $(if $(SCREEN),,--no-browser) $(ROOT)

bench: $(VENV)/.bench ## Measure this project beside torch.nn (three minutes); BENCH_ARGS adds options
	@$(BIN)/mdfa bench $(BENCH_ARGS)

load: $(VENV)/.dev ## Measure the app under visitors' load (over an hour; needs a Chromium); LOAD_ARGS='--minutes 5' or '--only click'
	@$(BIN)/python benchmarks/app_load.py $(LOAD_ARGS)

reproduce: $(VENV)/.notebooks ## Run every table of the paper at toy size; REPRODUCE_ARGS='--profile quick --data-dir data' uses real data
	@$(BIN)/mdfa reproduce $(REPRODUCE_ARGS)

docs: $(VENV)/.docs ## Build the documentation into build/site, and fail on every warning; it runs the tutorials
	@$(BIN)/sphinx-build -E --fail-on-warning --keep-going --quiet docs build/site
	@echo "The documentation is in build/site/index.html."

docs-serve: docs free-port ## Build the documentation and show it at http://localhost:5006; PORT=5007 takes another port
	@echo "The documentation is at http://localhost:$(PORT) - press Ctrl+C to stop it."
	@$(BIN)/python -m http.server --bind localhost --directory build/site $(PORT)

test: lint types imports pytest ## Run linters, types, import rules and the tests that are not slow (about eight minutes on two cores)

lint: $(VENV)/.dev ## Check style and formatting (ruff)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.dev ## Check the types (mypy)
	$(BIN)/mypy

imports: $(VENV)/.dev ## Check that imports go downward only (import-linter)
	$(BIN)/lint-imports --no-cache

pytest: $(VENV)/.dev ## Run the tests that are not slow, a process a core; PYTEST_ARGS chooses some of them
	$(BIN)/python -m pytest -n logical --dist loadfile -m "not slow" $(PYTEST_ARGS)

slow: $(VENV)/.dev ## Run the slow tests: every notebook, JupyterLab, clusters, the app's presets, the wheel
	$(BIN)/python -m pytest -n logical --dist loadgroup -m slow $(PYTEST_ARGS)

constraints: ## Pin the tested set again after pyproject.toml changed (needs uv; UPGRADE=--upgrade takes new versions)
	@command -v uv >/dev/null 2>&1 || { \
	  echo "uv is missing, which resolves for every platform at once: install it with 'python3 -m pip install uv'." >&2; exit 1; }
	uv pip compile pyproject.toml --extra dev --universal --python-version 3.11 $(UPGRADE) --quiet \
	  --annotation-style line --no-emit-index-url --no-emit-find-links \
	  --no-emit-package pip --no-emit-package setuptools --no-emit-package wheel \
	  --custom-compile-command "make constraints   (needs uv; UPGRADE=--upgrade takes new versions)" --output-file constraints.txt

clean: ## Delete caches and build products
	rm -rf build dist .pytest_cache .hypothesis .mypy_cache .ruff_cache .import_linter_cache
	find . -path ./$(VENV) -prune -o -type d \( -name __pycache__ -o -name .ipynb_checkpoints \) -prune -exec rm -rf {} +

distclean: clean ## Delete .venv too
	rm -rf $(VENV)

free-port:
	@$(BIN)/python -c "import socket, sys; sys.exit(socket.socket().connect_ex(('127.0.0.1', $(PORT))) == 0)" || { \
	  echo "Port $(PORT) is in use: choose another one, for example 'make app PORT=$$(($(PORT) + 1))'." >&2; exit 1; }

# Stamps: only a change of pyproject.toml or constraints.txt installs again.
$(VENV)/.bench: pyproject.toml constraints.txt | $(BIN)/python
	$(PIP) install -c constraints.txt -e .
	@touch $@

$(VENV)/.app: pyproject.toml constraints.txt | $(BIN)/python
	$(PIP) install -c constraints.txt -e ".[app]"
	@touch $(VENV)/.bench $@

$(VENV)/.notebooks: pyproject.toml constraints.txt | $(BIN)/python
	$(PIP) install -c constraints.txt -e ".[notebooks]"
	@touch $(VENV)/.bench $(VENV)/.app $@

$(VENV)/.docs: pyproject.toml constraints.txt | $(BIN)/python
	$(PIP) install -c constraints.txt -e ".[docs]"
	@touch $(VENV)/.bench $(VENV)/.app $(VENV)/.notebooks $@

$(VENV)/.dev: pyproject.toml constraints.txt | $(BIN)/python
	$(PIP) install -c constraints.txt -e ".[dev]"
	@touch $(VENV)/.bench $(VENV)/.app $(VENV)/.notebooks $(VENV)/.docs $@

$(BIN)/python:
	@command -v "$(PYTHON)" >/dev/null 2>&1 || { \
	  echo "There is no '$(PYTHON)' here: install Python 3.11 or newer, or name yours, for example 'make PYTHON=python3.12 $(MAKECMDGOALS)'." >&2; exit 1; }
	@"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "'$(PYTHON)' is $$("$(PYTHON)" --version 2>&1), but Python 3.11 or newer is needed: name one, for example 'make PYTHON=python3.12 $(MAKECMDGOALS)'." >&2; exit 1; }
	@"$(PYTHON)" -c 'import ensurepip, venv' >/dev/null 2>&1 || { \
	  echo "'$(PYTHON)' lacks the modules venv and ensurepip: install them (on Debian and Ubuntu: 'apt install python3-venv')." >&2; exit 1; }
	"$(PYTHON)" -m venv $(VENV)
