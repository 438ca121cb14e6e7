# edgec. Everything here sets itself up: Python 3.11+ and make are enough, with the package registries reachable.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
MODELS := build/models
ZOO ?= ../shared/zoo

.PHONY: setup models demo test lint format bench clean node-suite

setup: $(VENV)/.ready
$(VENV)/.ready: pyproject.toml runtime/pyproject.toml constraints.txt
	@test -x $(BIN)/python || $(PYTHON) -c 'import sys; assert sys.version_info >= (3, 11), "edgec needs Python 3.11 or newer"; import venv; venv.create("$(VENV)", with_pip=True)'
	$(BIN)/python -m pip install -q -c constraints.txt -e './runtime' -e '.[dev]'
	@touch $@

# Real models that the registry brings; nothing of them is in the repository.
models: $(MODELS)/.ready
$(MODELS)/.ready: models.txt | $(VENV)/.ready
	$(BIN)/python -m pip install -q --no-deps --upgrade --target $(MODELS) -r models.txt
	@touch $@

demo: setup models
	@$(BIN)/python examples/file_type/demo.py

test: setup models
	$(BIN)/python -m pytest -n 2 --dist worksteal tests

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/vermin -q --no-tips --eval-annotations -t=3.9- --violations runtime/edgec_runtime
	$(BIN)/mypy
	cd runtime && ../$(BIN)/mypy --config-file pyproject.toml

format: setup
	$(BIN)/ruff check --fix-only .
	$(BIN)/ruff format .

# The figures, side by side with peers in one run; run it on a quiet machine. Writes benchmarks/results/*.json.
bench: setup models
	$(BIN)/python -m benchmarks.all

# All 1,884 one-operator cases of the ONNX backend suite, through edgec and through plain ONNX Runtime.
node-suite: setup
	$(BIN)/python benchmarks/node_suite.py

clean:
	rm -rf build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis
