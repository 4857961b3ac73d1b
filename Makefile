# `make demo` and `make test` set up everything they need in .venv (Python 3.11 or newer and make are enough).
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: demo test test-all check wheel docs-run site release-check setup clean

demo: $(STAMP)
	$(BIN)/python scripts/demo.py

# Tests wait a good part of their time for servers and processes, so several processes share them; JOBS=0 takes one.
JOBS ?= logical
test: $(STAMP)
	$(BIN)/python -m pytest -m "not slow" -n $(JOBS) --maxprocesses 4 --dist loadfile

test-all: $(STAMP)
	$(BIN)/python -m pytest

check: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python scripts/check_docs.py

wheel: $(STAMP)
	$(BIN)/python -m pip wheel --quiet --no-deps -w dist .

# What README, tutorials and how-to guides tell a reader to type, run beside an installed wheel.
docs-run: $(STAMP)
	$(BIN)/python scripts/run_docs.py

# The documentation as a site, built offline: build/site/index.html.
site: $(STAMP)
	$(BIN)/python scripts/build_site.py

# Twice, in fresh environments: with the newest dependencies that the wheel allows, and with the oldest.
release-check: $(STAMP)
	$(BIN)/python scripts/release_check.py
	$(BIN)/python scripts/release_check.py --lowest

setup: $(STAMP)

# torch goes first, alone and pinned: a plain "torch" may resolve to a build with several gigabytes of CUDA.
$(STAMP): pyproject.toml constraints.txt
	@command -v $(PYTHON) >/dev/null || { echo "$(PYTHON) is missing: install Python 3.11 (Debian: apt-get install python3.11 python3.11-venv), or name yours: make $(MAKECMDGOALS) PYTHON=python3"; exit 2; }
	$(PYTHON) -m venv $(VENV) || { echo "the venv module is missing (Debian: apt-get install python3.11-venv)"; exit 2; }
	$(BIN)/python -m pip install --quiet --disable-pip-version-check torch==2.13.0
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[dev]"
	@touch $(STAMP)

clean:
	rm -rf $(VENV) demo-output build dist
