# The one way to run everything, on a laptop as in CI. `make help` lists the targets.

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
export SQLSESSIONS_URL ?= sqlite+aiosqlite:///./sessions.db
WORKERS ?= 2
TESTS := $(BIN)/python -m pytest -n $(WORKERS) --dist worksteal

.PHONY: help run test faults soak check lint types imports coverage wheel smoke bench migration clean
.DEFAULT_GOAL := help

help: ## List the targets
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/:/' | column -t -s:

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.example: pyproject.toml constraints.txt | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[example]'
	touch $@

$(VENV)/.dev: pyproject.toml constraints.txt | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	touch $@

run: $(VENV)/.example ## Start the example service on http://127.0.0.1:8000
	$(BIN)/sqlsessions upgrade
	$(BIN)/python -m examples.fastapi_service

smoke: $(VENV)/.dev ## Drive the example service over HTTP, with a new database
	$(BIN)/python -m examples.smoke

# Traced for coverage in `make check`. The rest is the contract on every driver, which runs the same lines
# again, and what runs in processes of its own: tracing those too would double the time.
TRACED := tests/cache tests/schema tests/sql tests/integrations tests/archive tests/commands tests/observability \
	tests/test_purging.py tests/faults/test_pgbouncer.py tests/faults/test_replicas.py \
	tests/test_contract_memory.py tests/test_contract_sql.py::TestInMemory
COVERAGE := --cov --cov-report=term:skip-covered --cov-fail-under=95

test: $(VENV)/.dev ## Run the tests
	$(TESTS) $(TRACE) $(TRACED)
	$(TESTS) $(TRACED:%=--deselect=%)

coverage: $(VENV)/.dev ## Report what the quick tests do not reach
	$(TESTS) $(COVERAGE) $(TRACED)

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

check: TRACE := $(COVERAGE)
check: lint types imports test wheel smoke ## Everything that CI runs

bench: $(VENV)/.dev ## Measure against other ways to keep sessions
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[bench]'
	$(BIN)/python -m benchmarks

migration: $(VENV)/.dev ## Draft a revision from the models: make migration NAME=0002_what
	$(BIN)/alembic revision --autogenerate --rev-id sqlsessions_$(NAME) -m '$(NAME)'

clean: ## Remove what was built
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
