# The one way to run everything, on a laptop as in CI. `make help` lists the targets.

PYTHON ?= python3
# A pyenv's commands on PATH run only the versions that are switched on; its other ones are found by their files.
INTERPRETER := $(or $(shell $(PYTHON) -c 'import sys; print(sys.executable)' 2>/dev/null),$\
	$(lastword $(sort $(wildcard $(or $(PYENV_ROOT),$(HOME)/.pyenv)/versions/*/bin/$(PYTHON)))))
OLDEST := $(shell sed -n 's/^requires-python = ">=\(.*\)"/\1/p' pyproject.toml)
CHECK_VERSION := import sys; sys.version_info < tuple(int(part) for part in "$(OLDEST)".split(".")) \
	and sys.exit("sqlsessions needs Python $(OLDEST) or newer; %s is %d.%d" % ((sys.executable,) + sys.version_info[:2]))

# An environment for each Python that is named.
ifneq ($(PYTHON),python3)
VERSION := $(shell $(or $(INTERPRETER),false) -c 'import sys; print("%d.%d" % sys.version_info[:2])')
VENV ?= .venv-$(VERSION)
endif
VENV ?= .venv
CONSTRAINTS ?= constraints.txt
# dev has the tools besides, whose own needs keep other packages from being old; quick has no frameworks.
EXTRA ?= dev
BIN := $(VENV)/bin
export SQLSESSIONS_URL ?= sqlite+aiosqlite:///./sessions.db
WORKERS ?= 2
TESTS := $(BIN)/python -m pytest -n $(WORKERS) --dist worksteal

.PHONY: help run quick test variants faults soak check pythons lowest newest others ci docs lint types imports coverage wheel smoke \
	bench bench-quick migration release-check clean
.DEFAULT_GOAL := help

help: ## List the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /|/' | column -t -s '|'

$(BIN)/python:
	@[ -n "$(INTERPRETER)" ] || { echo "there is no $(PYTHON) here" >&2; exit 1; }
	@$(INTERPRETER) -c '$(CHECK_VERSION)'
	$(INTERPRETER) -m venv $(VENV) || { rm -rf $(VENV); exit 1; }

# One at a time, where there is flock: each writes the package's metadata beside the code.
ALONE := $(if $(shell command -v flock),flock Makefile)

$(VENV)/.example $(VENV)/.quick $(VENV)/.suite $(VENV)/.dev: $(VENV)/.%: pyproject.toml $(CONSTRAINTS) | $(BIN)/python
	$(ALONE) $(BIN)/python -m pip install --quiet --disable-pip-version-check -c $(CONSTRAINTS) -e '.[$*]'
	touch $@

PORT ?= 8000
run: $(VENV)/.example ## Start the example service on http://127.0.0.1:8000; another port: PORT=8001
	$(BIN)/sqlsessions upgrade
	$(BIN)/python -m examples.fastapi_service --port $(PORT)

smoke: $(VENV)/.dev ## Drive the example service over HTTP, with a new database
	$(BIN)/python -m examples.smoke

COVERAGE := --cov --cov-report=term:skip-covered --cov-fail-under=95

# Memory, in-memory SQL, caches and queues: no server, framework, browser or process of its own.
QUICK := -m 'not long and not server and not variant' tests/cache tests/sql tests/schema tests/archive/test_golden.py \
	tests/test_contract_memory.py tests/test_contract_sql.py::TestInMemory tests/test_delegating.py \
	tests/test_model.py tests/test_package.py tests/test_purging.py tests/test_pythons.py tests/test_release.py \
	tests/test_tasks.py
# More to run with them, as in `make lowest ALSO=tests/integrations`.
ALSO ?=

quick: $(VENV)/.$(EXTRA) ## Run the tests that need no server or framework, for the edit loop: a minute or two
	$(TESTS) $(QUICK) $(ALSO)

test: $(VENV)/.dev ## Run the tests
	@echo 'About 25 minutes with all servers, on two cores; `make quick` takes a minute or two.'
	$(TESTS)

variants: $(VENV)/.dev ## Run the contract on variants of the storages, and on the other pairs of driver and server
	$(TESTS) -m 'variant and not long'

coverage: $(VENV)/.dev ## Run the tests, and report what they do not reach
	$(TESTS) $(COVERAGE)

faults: $(VENV)/.dev ## Break things around the storages, at length: servers, connections, disks, clocks
	$(BIN)/python -m pytest -v -m 'long or not long' tests/faults

SECONDS ?= 1200
soak: $(VENV)/.dev ## Load and break things for 20 minutes, and watch memory and connections: SECONDS=1200
	$(BIN)/python -m tests.faults.soak --seconds $(SECONDS)

lint: $(VENV)/.dev ## Check style and formatting
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.dev ## Check types
	$(BIN)/mypy

imports: $(VENV)/.dev ## Check who imports whom
	$(BIN)/lint-imports

wheel: $(VENV)/.dev ## Build the wheel and use it from a fresh environment
	$(BIN)/python -m tests.wheel

docs: $(VENV)/.dev ## Build the documentation site, into build/site
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c $(CONSTRAINTS) -e '.[docs]'
	PYTHONPATH=. NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict --quiet

check: lint types imports coverage wheel smoke docs ## Everything, on one Python

pythons: $(VENV)/.dev ## Run the quick tests on every supported Python of this machine
	@found=$$($(BIN)/python -m tools.pythons $(PYTHONS)) && echo "$$found" | while read -r version path; do \
		echo "Python $$version: $$path"; \
		$(MAKE) quick PYTHON="$$path" VENV="$(VENV)-$$version" EXTRA=$(if $(ALSO),suite,quick) </dev/null || exit 1; \
	done

# Old libraries use what newer ones deprecate.
lowest: $(VENV)/.dev ## Run the quick tests with the lowest versions that pyproject.toml admits
	$(BIN)/python -m tools.lowest >$(VENV)-lowest.txt
	PYTEST_ADDOPTS='-W ignore::DeprecationWarning' \
		$(MAKE) quick PYTHON="$$($(BIN)/python -m tools.pythons --only oldest)" VENV=$(VENV)-lowest EXTRA=suite \
		CONSTRAINTS=$(VENV)-lowest.txt

newest: $(VENV)/.dev ## Run the quick tests with the newest versions of everything
	rm -rf $(VENV)-newest
	$(MAKE) quick PYTHON="$$($(BIN)/python -m tools.pythons --only newest)" VENV=$(VENV)-newest EXTRA=suite \
		CONSTRAINTS=/dev/null

# Side by side: tests wait for servers and other processes for a tenth of their time.
ci: ## Everything that CI runs
	@$(MAKE) -j2 --output-sync=target check others

others: $(VENV)/.dev
	@$(MAKE) WORKERS=1 PYTHONS=--others pythons
	@$(MAKE) WORKERS=1 lowest
	@$(MAKE) WORKERS=1 newest || echo 'warning: the quick tests fail with the newest versions of everything'

bench: $(VENV)/.dev ## Measure against other ways to keep sessions
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c $(CONSTRAINTS) -e '.[bench]'
	$(BIN)/python -m benchmarks

bench-quick: $(VENV)/.dev ## Measure the ratios that count, in two minutes, beside those of the last time
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c $(CONSTRAINTS) -e '.[bench]'
	$(BIN)/python -m benchmarks.regression

release-check: $(VENV)/.dev ## Check that this commit can be released, and build it
	$(BIN)/python -m tools.release
	rm -rf dist
	$(BIN)/python -m build

migration: $(VENV)/.dev ## Draft a revision from the models: make migration NAME=0002_what
	$(BIN)/alembic revision --autogenerate --rev-id sqlsessions_$(NAME) -m '$(NAME)'

clean: ## Remove what was built
	rm -rf $(VENV) $(VENV)-* build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
