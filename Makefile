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

.PHONY: install demo test test-slow test-all test-real test-torch test-release test-extras test-lowest licences docs check format figures lock clean

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
	$(PYTEST) -m "not slow and not real and not torch and not release and not extras"

test-slow: install
	$(PYTEST) -m "slow and not real and not torch and not release and not extras"

test-all: test test-slow

test-real: install
	$(BIN)/python -m pytest --numprocesses 2 --dist loadfile -m real $$(grep -rl --include 'test_*.py' 'mark\.real' tests)

# A second environment: PyTorch is large, and nothing but the export needs it. The
# packages of the first are below it, and only what they lack is installed.
.venv-torch/installed: .venv/installed
	$(BIN)/python -m venv --clear --without-pip .venv-torch
	$(BIN)/python -c '$(PACKAGES)' > "$$(.venv-torch/bin/python -c '$(PACKAGES)' | sed -n 1p)/below.pth"
	$(BIN)/python -m pip --python .venv-torch/bin/python $(INSTALL) --no-compile --editable '.[torch]'
	touch $@

test-torch: .venv-torch/installed
	$(THREADS) .venv-torch/bin/python -m pytest --numprocesses 2 -m torch

# Builds the wheel and the source archive, and installs the wheel alone, on each Python
# that is here.
test-release: install
	$(THREADS) $(BIN)/python -m pytest --numprocesses 2 --dist loadfile -m release tests/release

# Each extra alone, on the packages of the wheel and no development tool.
test-extras: install
	$(THREADS) $(BIN)/python -m pytest --numprocesses 2 -m extras tests/release

# The oldest versions that pyproject.toml admits; they must exist for every Python that
# it admits. ONLY="PATHS" runs some of the tests. The documents are run with the lock's.
UV := $(BIN)/python -m uv
LOWEST := --quiet --no-header --resolution lowest-direct
EXTRAS := cloud dask dicom export int8 parquet ray serve xlsx zarr
TOOLS := pytest|pytest-timeout|pytest-xdist|pytest-cov|hypothesis|moto|playwright|flask|flask-cors|nbclient|nbformat|ipykernel

test-lowest: install
	$(UV) venv --quiet --clear --python $(BIN)/python .venv-lowest
	grep -E '^($(TOOLS))==' requirements.lock | sed 's/^moto=/moto[s3]=/' > .venv-lowest/tools.txt
	for python in 3.13 3.12 3.11; do $(UV) pip compile $(LOWEST) --python-version $$python --output-file .venv-lowest/$$python.txt $(EXTRAS:%=--extra %) pyproject.toml .venv-lowest/tools.txt || exit 1; done
	$(UV) pip install --quiet --python .venv-lowest/bin/python --requirement .venv-lowest/$$($(BIN)/python -c 'import sys; print("%d.%d" % sys.version_info[:2])').txt
	$(UV) pip install --quiet --python .venv-lowest/bin/python --no-deps --editable .
	$(THREADS) .venv-lowest/bin/python -m pytest --numprocesses 2 -m "not slow and not real and not torch and not release and not extras" --ignore tests/docs --ignore tests/test_house.py $(ONLY)

# The page of the packages' licences.
licences: install
	$(BIN)/python docs/licences.py

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
	rm -rf .venv .venv-torch .venv-lowest .pytest_cache .mypy_cache .ruff_cache build dist
