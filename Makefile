# Everything runs from a virtual environment that is made when it is missing or when its inputs have changed.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.stamp
HOME_FOLDER := $(or $(FORETASTE_HOME),.foretaste)
PYTHON ?= $(firstword $(foreach name,python3 python3.12 python3.11 python3.13,$(if $(shell $(name) -c 'import sys, venv; sys.version_info >= (3, 11) and print(1)' 2>/dev/null),$(name))))
PYTEST_ARGS ?=
# Three at a time on two cores: many tests wait for servers. With four, trainings of low priority hardly get any time. Tests of one file stay together, with the servers that they share.
PYTEST_PARALLEL ?= -n 3 --dist loadfile --no-loadscope-reorder
ARGS ?=
FAULTS ?= all
SEEDS ?= 500

# Else each of the hundreds of processes that the tests start compiles all of the sources anew.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help demo up test faults simulate fuzz check audit container-test images compose-test bench-test docs lock clean environment packages triton

help: ## Show what can be made
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

demo: environment ## Run the whole system on MovieLens: sign-ups in, ranked lists out
	@$(BIN)/foretaste demo $(ARGS)

up: environment ## Start the embedded stack, until Ctrl-C
	@$(BIN)/foretaste up

test: environment ## Run the tests (PYTEST_ARGS="-k name" chooses)
	$(BIN)/python -m pytest $(PYTEST_PARALLEL) $(PYTEST_ARGS)

faults: environment ## Hurt each part under load and at each step of a refresh, on Apache Kafka (KAFKA_HOME); FAULTS=few for six cases
ifeq ($(FAULTS),all)
	$(BIN)/python -m pytest tests/faults --faults all --kafka home --faults-out docs/results/swap-faults.json \
	  --stream-faults-out docs/results/faults.json $(PYTEST_ARGS)
else
	$(BIN)/python -m pytest tests/faults --faults $(FAULTS) $(PYTEST_ARGS)
endif

simulate: environment ## Run the stream core on simulated parts, SEEDS of them; ARGS="--seed N" replays one, ARGS=--search seeks every planted fault
	$(BIN)/python -m tests.simulation --seeds $(SEEDS) $(ARGS)

fuzz: environment ## A million inputs for the decoders and for single ports
	$(BIN)/python -m pytest tests/fuzz --hypothesis-profile nightly --timeout 0 $(PYTEST_ARGS)

check: $(STAMP) ## Lint (ruff's security rules among them), format, types and layers
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

audit: ## Ask the advisory service of PyPI about each pinned package; fails where it does not answer for one
	@if [ ! -x build/audit/bin/pip-audit ]; then $(PYTHON) -m venv build/audit; \
	  build/audit/bin/python -m pip install --disable-pip-version-check -q 'pip-audit>=2.9,<3'; fi
	build/audit/bin/pip-audit --strict --no-deps --disable-pip -r constraints.txt

container-test: $(STAMP) ## The integration tests on Kafka and Redis in containers
	$(BIN)/python -m pytest tests/contract tests/integration --kafka container --redis container $(PYTEST_ARGS)

images: ## What the containers need, as `kind image` pairs
	@$(PYTHON) tests/images.py

compose-test: $(STAMP) ## Bring docker-compose.yml up, use it from outside, and take it down
	$(BIN)/python -m pytest tests/containers/test_compose.py $(PYTEST_ARGS)

bench-test: $(STAMP) ## Try the benchmarks with the libraries that they compare
	$(BIN)/python -m pip install --disable-pip-version-check -q -c constraints.txt -e '.[embedded,train,study,dev,bench]'
	$(BIN)/python -m pytest tests/benchmarks_peers $(PYTEST_ARGS)

docs: $(STAMP) ## Write the pages of all commands and all settings
	$(BIN)/typer foretaste.cli.main utils docs --name foretaste > docs/commands.md
	$(BIN)/foretaste settings --markdown > docs/settings.md

lock: ## Write constraints.txt from what the environment holds
	@{ echo "# Made by 'make lock' from a tested environment; pip installs from it with -c."; \
	  $(BIN)/python -m pip list --format=freeze --exclude-editable --exclude pip \
	  | sed -E 's/\+[A-Za-z0-9.]+$$//' | LC_ALL=C sort -f; } > constraints.txt.new
	@mv constraints.txt.new constraints.txt

clean: ## Remove the environment and every cache; what the system stored in .foretaste stays
	rm -rf $(VENV) build dist .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -not -path './.foretaste/*' -prune -exec rm -rf {} +

# Both environments are made at the same time, which saves a minute on two cores.
environment:
	@$(MAKE) -j2 packages triton

packages: $(STAMP)

$(BIN)/python:
	@if ! { [ -n "$(PYTHON)" ] && $(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))'; }; then \
	  echo "Foretaste needs Python 3.11 or newer with its venv module; name one with: make PYTHON=/path/to/python3"; \
	  exit 1; fi
	$(PYTHON) -m venv $(VENV)

$(STAMP): pyproject.toml constraints.txt | $(BIN)/python
	$(BIN)/python -m pip install --disable-pip-version-check --progress-bar on -c constraints.txt \
	  -e '.[embedded,train,study,dev]'
	@touch $@

# With nothing installed but Python; where Triton cannot be had, it says so and what runs instead.
triton: | $(BIN)/python
	@if [ -z "$${FORETASTE_TRITON:-}" ]; then $(BIN)/python -m foretaste.stack.environment "$(HOME_FOLDER)"; fi
