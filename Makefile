# The commands of the README. Each makes .venv from the lock first.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: install demo test test-fast test-real check format lock clean

install: .venv/installed

.venv/installed: pyproject.toml requirements.lock
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint requirements.lock --editable '.[dev]'
	touch $@

demo: install
	$(BIN)/featcache demo

test: install
	$(BIN)/python -m pytest -m "not real"

test-fast: install
	$(BIN)/python -m pytest -m "not real and not slow"

test-real: install
	$(BIN)/python -m pytest -m real

check: install
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/python -m pytest -m "not real"

format: install
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

# Rewrites the lock with the newest releases.
lock:
	$(PYTHON) -m venv .venv-lock
	.venv-lock/bin/python -m pip install --quiet pip-tools
	.venv-lock/bin/pip-compile --quiet --upgrade --strip-extras --all-extras --no-emit-find-links --no-emit-index-url --no-header --output-file requirements.lock pyproject.toml
	rm -rf .venv-lock

clean:
	rm -rf .venv .pytest_cache .mypy_cache .ruff_cache build dist
