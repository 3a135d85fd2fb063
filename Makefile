# Everything a newcomer needs: `make demo`, `make test`. Only Python 3.11+ and make are asked for.
PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/.installed
NODE_STAMP := tests/clients/node_modules/.installed

.PHONY: help setup node clients demo serve check test test-all test-fast test-gpu fuzz bench bench-report docs bulk train clean

help:
	@echo "make demo       remove the background of a clip, results in demo-output/"
	@echo "make serve      run the service on http://127.0.0.1:8000 until Ctrl-C"
	@echo "make test       the heart of everything, in at most 10 minutes on 2 cores (test-fast: without a cluster)"
	@echo "make test-all   the tests that make test leaves out: every combination, restarts, clients, fuzz, browsers"
	@echo "make test-gpu   the tests that need a CUDA device, and fail without one"
	@echo "make fuzz       20,000 broken files through the media processes (half an hour; the long tests take 1,000)"
	@echo "make node       the official JavaScript client, for the tests that drive it (needs Node and npm)"
	@echo "make clients    the table of clients in docs/2-clients.md: installs and tries each version (needs Node, npm, Chromium)"
	@echo "make check      ruff, mypy, and the order of the packages"
	@echo "make bench      the benchmarks behind the tables of README and docs, and these tables (bench-report: them alone)"
	@echo "make docs       write docs/9-api-reference.md from the code"
	@echo "make bulk       memory under a 1 GB upload and a slow reader of 1 GB (18 minutes)"
	@echo "make train      train the embedded checkpoint again (hours; see training/README.md)"

setup: $(STAMP)

$(STAMP): pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --upgrade pip
	$(BIN)/pip install --quiet --editable '.[test]'
	@touch $(STAMP)

node: $(NODE_STAMP)

$(NODE_STAMP): tests/clients/package.json tests/clients/package-lock.json
	npm --prefix tests/clients ci --no-audit --no-fund
	@touch $(NODE_STAMP)

clients: setup
	$(BIN)/python -m tests.clients.versions

demo: setup
	$(BIN)/birefnet-serve demo

serve: setup
	$(BIN)/birefnet-serve up --config config/local.yaml

check: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo --no-cache

test: setup
	$(BIN)/python -m pytest -m "not long"

test-all: setup
	$(BIN)/python -m pytest -m long

test-fast: setup
	$(BIN)/python -m pytest -m "not long and not cluster"

test-gpu: setup
	FAIL_WITHOUT_CUDA=1 $(BIN)/python -m pytest tests/gpu

fuzz: setup
	$(BIN)/python -m tests.sandbox.fuzz 20000

bench: setup
	$(BIN)/python -m benchmarks.network
	$(BIN)/python -m benchmarks.frame_path
	$(BIN)/python -m benchmarks.pipeline
	$(BIN)/python -m benchmarks.dials
	$(BIN)/python -m benchmarks.api
	$(BIN)/python -m benchmarks.scale
	$(BIN)/python -m benchmarks.quality
	$(BIN)/python -m benchmarks.report

bench-report: setup
	$(BIN)/python -m benchmarks.report

docs: setup
	$(BIN)/python -W ignore -m docs.reference

bulk: setup
	$(BIN)/python -m benchmarks.bulk
	$(BIN)/python -m benchmarks.report

train: setup
	$(BIN)/pip install --quiet --editable '.[train]'
	nice -n 19 $(BIN)/python -m training.train

clean:
	rm -rf .venv tests/clients/node_modules demo-output .pytest_cache .mypy_cache .ruff_cache build dist *.egg-info
