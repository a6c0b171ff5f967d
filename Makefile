# The commands of the README. Each makes .venv from the lock first.
PYTHON ?= python3
BIN := .venv/bin
INSTALL := install --quiet --disable-pip-version-check --constraint requirements.lock
# Where an environment has its packages.
PACKAGES := import sysconfig; print(*map(sysconfig.get_path, ["purelib", "platlib"]), sep="\n")

# What Python compiled of the package and the tests is kept, whatever the caller's
# environment says: each test process and each command would compile it again.
export PYTHONDONTWRITEBYTECODE :=

# Tests run side by side, so each process keeps to one thread.
POOLS := OMP OPENBLAS MKL BLIS NUMEXPR
THREADS := $(POOLS:%=%_NUM_THREADS=1) VECLIB_MAXIMUM_THREADS=1 FEATCACHE_THREADS=1
PYTEST := $(THREADS) $(BIN)/python -m pytest --numprocesses auto --maxprocesses 4

.PHONY: install demo test test-slow test-all test-real test-torch docs check format figures lock clean

install: .venv/installed

.venv/installed: pyproject.toml requirements.lock
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip $(INSTALL) --no-compile --editable '.[dev]'
	# pip would compile on one core; some packages have templates that are no Python.
	$(BIN)/python -m compileall -qq -j 0 .venv/lib || true
	touch $@

demo: install
	$(BIN)/featcache demo

test: install
	$(PYTEST) -m "not slow and not real and not torch"

test-slow: install
	$(PYTEST) -m "slow and not real and not torch"

test-all: test test-slow

test-real: install
	$(BIN)/python -m pytest -m real

# A second environment: PyTorch is large, and nothing but the export needs it. The
# packages of the first are below it, and only what they lack is installed.
.venv-torch/installed: .venv/installed
	$(BIN)/python -m venv --clear --without-pip .venv-torch
	$(BIN)/python -c '$(PACKAGES)' > "$$(.venv-torch/bin/python -c '$(PACKAGES)' | head -1)/below.pth"
	$(BIN)/python -m pip --python .venv-torch/bin/python $(INSTALL) --no-compile --editable '.[torch]'
	touch $@

test-torch: .venv-torch/installed
	$(THREADS) .venv-torch/bin/python -m pytest --numprocesses 2 -m torch

# Every warning is an error; nothing is fetched.
docs: install
	$(BIN)/python -m sphinx --builder html --fail-on-warning --keep-going --quiet docs build/docs

check: install
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(MAKE) test

format: install
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

# OTHERS="--aucmedi PYTHON" names an environment of benchmarks/others.txt.
figures: install
	$(BIN)/python benchmarks/figures.py --run $(if $(ONLY),--only $(ONLY)) $(OTHERS)

# Rewrites the lock with the newest releases.
lock:
	$(PYTHON) -m venv .venv-lock
	.venv-lock/bin/python -m pip install --quiet pip-tools
	.venv-lock/bin/pip-compile --quiet --upgrade --strip-extras --all-extras --no-emit-find-links --no-emit-index-url --no-header --output-file requirements.lock pyproject.toml
	rm -rf .venv-lock

clean:
	rm -rf .venv .venv-torch .pytest_cache .mypy_cache .ruff_cache build dist
