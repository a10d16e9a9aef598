# Sets up what it needs by itself: Python 3.11 or newer, for the tests of the JavaScript SDK Node.js, for those of
# the console chromium, which is installed where there is apt.
# The packages go to .venv and to the node_modules of two folders, other versions of the SDK to .venv-sdks,
# the lowest of other packages to .venv-lowest, Ray to .venv-ray; nowhere else.

PYTHON = python3
HANDLER = handlers/echo.py
ARGS =
# Tests at a time: most of them wait for the processes that they have started.
JOBS := $(shell $(PYTHON) -c 'import os; print(2 * (os.cpu_count() or 1))')
# For test-lowest: what is not run.
NOT_LOWEST = ci console cost docs examples $(addprefix docker/test_,action.py compose.py docker_page.py image_files.py) \
	$(addprefix conformance/test_,js_sdk.py openai_clients.py readme.py table.py)
# For test-repeat: how many times, and beside how many busy processes.
N = 10
BUSY = 0

# The tests start hundreds of Pythons, each of which would compile everything again.
unexport PYTHONDONTWRITEBYTECODE

BIN = .venv/bin
PIP = $(BIN)/python -m pip -qq --disable-pip-version-check
# Projects of ours in JavaScript, and the mark that npm leaves once their packages are there.
NODE = tests/conformance examples/vitest console
NODE_MODULES = $(NODE:=/node_modules/.package-lock.json)

.PHONY: help run test test-docker test-ray test-long test-lowest test-repeat mutants lint console bench conformance soak clean

help: ## say what there is
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-11s %s\n", $$1, $$2 }' Makefile

run: .venv/installed ## serve a handler: make run [HANDLER=path/to/handler.py] [ARGS="--port 9000"]
	@exec $(BIN)/runpod-emulator serve $(HANDLER) $(ARGS)

test: .venv/installed-dev $(NODE_MODULES) ## run all tests, on all cores: make test [ARGS="-k webhook"]
	@tests/console/install_browser.sh
	$(BIN)/python -m pytest -n $(JOBS) --dist worksteal $(ARGS)

# Each file starts all its jobs at once and then sleeps, so all files are run at once.
test-long: .venv/installed-dev $(NODE_MODULES) ## run the tests that take minutes: what is slow, in real time
	$(BIN)/python -m pytest -n $(words $(wildcard tests/long/test_*.py)) --dist loadfile tests/long $(ARGS)

# Left out is what says nothing more with other versions: pages and workflows, which are read; what runs in a
# browser or in Node.js; images, whose packages are their own; OpenAI's clients, which ask for a newer anyio; and what
# a job costs, whose budgets are those of the newest.
test-lowest: .venv-lowest/installed ## run all tests that depend on them with the lowest versions that pyproject.toml allows
	.venv-lowest/bin/python -m pytest -n $(JOBS) --dist worksteal $(addprefix --ignore=tests/,$(NOT_LOWEST)) $(ARGS)

test-docker: .venv/installed-dev ## build and run the images, and workers in containers, by a Docker engine, which is installed if there is none
	@tests/engine/run.sh $(ARGS)

test-ray: .venv-ray/installed ## run the tests of workers on Ray clusters, which are made on this machine one after the other
	.venv-ray/bin/python -m pytest tests/ray $(ARGS)

test-repeat: .venv/installed-dev $(NODE_MODULES) ## run all tests again and again: make test-repeat N=20 [BUSY=4]
	@tests/console/install_browser.sh
	@tests/repeat.sh $(N) $(BUSY)

mutants: .venv/installed-mutants ## plant small faults and see which no test notices: make mutants [ARGS="--count 20 --in core"]
	$(BIN)/python -m tests.mutants $(ARGS)

lint: .venv/installed-dev $(NODE_MODULES) ## check style, types, imports, the Dockerfiles, the compose files and the workflows
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/mypy examples/pytest
	$(BIN)/mypy examples/unittest
	$(BIN)/mypy examples/worker
	$(BIN)/lint-imports
	cd console && npm run --silent check && node bundle.mjs --check
	$(BIN)/hadolint Dockerfile examples/worker/Dockerfile
	$(BIN)/check-jsonschema --builtin-schema vendor.compose-spec docker-compose*.yml
	node tests/conformance/lint_workflows.mjs .github/workflows/*.yml

console: $(NODE_MODULES) ## bundle what the console's pages need from npm, with its licences
	cd console && npm run --silent check && node bundle.mjs

bench: .venv/installed-bench ## measure, beside the SDK's dev server and a bare ASGI app
	$(BIN)/python -m benchmarks $(ARGS)

soak: .venv/installed-bench ## five minutes of everything at 60 times the speed: is what it took given back?
	$(BIN)/python -m benchmarks.soak $(ARGS)

conformance: .venv/installed-dev $(NODE_MODULES) ## test what production sends, and rewrite docs/conformance.md
	$(BIN)/python -m pytest -n $(JOBS) --dist worksteal --ignore=tests/conformance/test_table.py \
		--junitxml=.pytest_cache/conformance.xml tests/api tests/conformance tests/workers
	$(BIN)/python -m tests.conformance.table .pytest_cache/conformance.xml

clean: ## remove all that was made here, the installed packages too
	rm -rf .venv .venv-sdks .venv-lowest .venv-ray $(NODE:=/node_modules) build dist .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

.venv/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=python3.12 …")'
	$(PYTHON) -m venv .venv

.venv/installed: pyproject.toml | .venv/bin/python
	@echo "installing the emulator and the SDK into .venv, which takes up to a minute"
	$(PIP) install --editable '.[sdk]'
	@touch $@

.venv/installed-dev: pyproject.toml | .venv/bin/python
	@echo "installing what the tests need into .venv, which takes some minutes"
	$(PIP) install --editable '.[dev]'
	@touch $@ .venv/installed

.venv-lowest/installed: pyproject.toml tests/lowest.py
	$(PYTHON) -m venv .venv-lowest
	.venv-lowest/bin/python -m pip -qq --disable-pip-version-check install --editable '.[test]' packaging
	.venv-lowest/bin/python -m tests.lowest > .venv-lowest/lowest.txt
	# In a second step: of what the tests need beside it, pip only says that it would like newer ones.
	.venv-lowest/bin/python -m pip -qq --disable-pip-version-check install -r .venv-lowest/lowest.txt
	@touch $@

.venv/installed-bench: pyproject.toml | .venv/bin/python
	$(PIP) install --editable '.[dev,bench]'
	@touch $@

.venv-ray/installed: pyproject.toml
	@echo "installing Ray into .venv-ray, 240 MB, with what the tests need"
	$(PYTHON) -m venv .venv-ray
	.venv-ray/bin/python -m pip -qq --disable-pip-version-check install --editable '.[test,ray]'
	@touch $@

.venv/installed-mutants: pyproject.toml | .venv/bin/python
	$(PIP) install --editable '.[dev,mutants]'
	@touch $@

$(NODE_MODULES): %/node_modules/.package-lock.json: %/package.json %/package-lock.json
	@if command -v npm >/dev/null; then \
		echo "npm ci ($*)" && cd $* && npm ci --no-audit --no-fund --loglevel=error && touch node_modules/.package-lock.json; \
	else \
		echo "npm is not installed: the tests of JavaScript clients will fail; install Node.js 20.19 or newer"; \
	fi
