# make demo | test | check | test-slow. Each first installs into .venv, again when the kernels' sources change.
# make kernels builds those alone, with a compiler's every word.
PYTHON ?= python3
WORKERS ?= 2
BIN := .venv/bin
INSTALLED := .venv/.installed
KERNELS := offramp/native/src/CMakeLists.txt $(wildcard offramp/native/src/*.[ch])

.PHONY: demo test test-slow check clean kernels
.DEFAULT_GOAL := demo

demo: $(INSTALLED)
	HF_HUB_OFFLINE=1 $(BIN)/offramp demo --out demo

# One thread a worker: two processes with every core each only get in each other's way.
test: $(INSTALLED)
	OMP_NUM_THREADS=1 $(BIN)/pytest -n $(WORKERS) -m "not slow and not gpu"

test-slow: $(INSTALLED)
	OMP_NUM_THREADS=1 $(BIN)/pytest -n $(WORKERS) -m "slow and not gpu"

check: $(INSTALLED)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

kernels:
	cmake -S offramp/native/src -B build/kernels
	cmake --build build/kernels --parallel $(WORKERS)
	cmake --install build/kernels --prefix .

# What can be made again in minutes: runs/ holds trainings of hours and stays.
clean:
	rm -rf build demo dist .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis

$(INSTALLED): pyproject.toml constraints.txt $(KERNELS)
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --disable-pip-version-check -q -c constraints.txt -e ".[dev]"
	touch $@
