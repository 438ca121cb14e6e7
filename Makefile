# edgec. Everything here sets itself up: Python 3.11+ and make are enough, with the package registries reachable.
# Another Python than python3: make PYTHON=python3.12 …
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
MODELS := build/models

.PHONY: setup models demo test fuzz test-arm test-board emulator lint format bench bench-quantization node-suite wheels device-wheel constraints clean

# A folder that is no environment or has no pip is what an interrupted run left behind, so it is made anew. The build
# backend comes first and pinned: with build isolation pip would fetch one with unpinned dependencies, twice.
setup: $(VENV)/.ready
$(VENV)/.ready: pyproject.toml runtime/pyproject.toml constraints.txt
	@$(BIN)/python -c 'import pip, sys; sys.exit(sys.prefix == sys.base_prefix)' 2>/dev/null || { \
		$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
			echo "edgec needs Python 3.11 or newer, and '$(PYTHON)' is not: make PYTHON=python3.12 $(MAKECMDGOALS)" >&2; exit 1; }; \
		$(PYTHON) -m venv --clear $(VENV); }
	$(BIN)/python -m pip install -q -c constraints.txt hatchling editables
	$(BIN)/python -m pip install -q -c constraints.txt --no-build-isolation -e ./runtime -e '.[dev]'
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

# The properties alone, with examples that no run had before and ten times as many (tests/conftest.py): not part of `test`,
# which is the same each time. What fails here is written down as a test of its own (or `@example`), then mended.
fuzz: setup models
	HYPOTHESIS_PROFILE=explore $(BIN)/python -m pytest -m hypothesis -n 2 --dist worksteal --timeout 3600 tests

# An x86-64 CPU without VNNI for the tests that ask for one (they skip without): Debian's package, unpacked under build/.
# It is found in the package lists that `apt-get update` has made.
emulator: setup
	$(BIN)/python -c 'from pathlib import Path; from edgec_toolchains import x86_emulation; print(x86_emulation.fetch(Path("build/qemu")))'

# The emulated ARM cores: made under build/aarch64 at the first call (a minute, 80 MB to download, no root), then kept.
test-arm: setup models
	EDGEC_AARCH64=build/aarch64 $(BIN)/python -m pytest -n 2 --dist worksteal tests/arm

# Virtual arm64 boards under QEMU, flashed, cut off from power, flashed again: made under build/boards at the first call
# (two minutes, 110 MB to download, no root), then kept.
test-board: setup models
	EDGEC_TEST_BOARD=1 EDGEC_AARCH64=build/aarch64 $(BIN)/python -m pytest -n 2 --dist worksteal tests/board

# Every tool runs, so that one failing call shows everything there is to mend.
lint: setup
	@failed=0; run() { echo "$$*"; "$$@" || failed=1; }; \
	run $(BIN)/ruff check .; \
	run $(BIN)/ruff format --check .; \
	run $(BIN)/vermin -q --no-tips --eval-annotations -t=3.9- --violations runtime/edgec_runtime; \
	run $(BIN)/mypy; \
	cd runtime && run ../$(BIN)/mypy --config-file pyproject.toml; \
	exit $$failed

format: setup
	$(BIN)/ruff check --fix-only .
	$(BIN)/ruff format .

# The figures, side by side with peers in one run; run it on a quiet machine. Writes benchmarks/results/*.json.
bench: setup models
	$(BIN)/python -m benchmarks.all

# Quantization beside its peers, each in an environment of its own under build/peers.
bench-quantization: setup
	$(BIN)/python -m benchmarks.quantization

# All 1,884 one-operator cases of the ONNX backend suite, through bundle and runtime, beside plain ONNX Runtime.
node-suite: setup
	$(BIN)/python benchmarks/node_suite.py --engine onnxruntime --engine bundle

# Both distributions, each wheel built from its source distribution.
wheels: setup
	$(BIN)/python -m build -q --no-isolation --outdir dist runtime
	$(BIN)/python -m build -q --no-isolation --outdir dist .

# One wheel with all that a device needs, edgec-runtime and LiteRT's library: dist/edgec_runtime-*+litert*.whl.
# Others: make device-wheel ARCH=x86_64 ENGINE=onnxruntime
ARCH ?= aarch64
ENGINE ?= litert
device-wheel: setup
	$(BIN)/python -m edgec_toolchains.wheelhouse -o dist --downloads build/wheelhouse --arch $(ARCH) --engine $(ENGINE)

# New pins: the newest releases that pyproject.toml allows, resolved in an environment of their own. Then: make lint test.
constraints:
	$(PYTHON) -m venv --clear build/pins
	build/pins/bin/python -m pip install -q -e ./runtime -e '.[dev]' editables
	{ head -1 constraints.txt; build/pins/bin/python -m pip freeze --exclude-editable; } > build/constraints.txt
	mv build/constraints.txt constraints.txt

clean:
	rm -rf build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis
