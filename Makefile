# The verbs that people and CI type. `make demo` and `make test` are all a newcomer needs.
# Needs: Python 3.11 or 3.12 and a C++20 compiler. Everything else is installed into .venv.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

PYTHON ?= $(shell for candidate in python3.12 python3.11 python3 python; do \
	$$candidate -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null \
	&& echo $$candidate && break; done)
BIN := .venv/bin
JOBS ?= 2
NATIVE_SOURCES := $(shell find native protos CMakeLists.txt -type f \( -name '*.[ch]pp' -o -name '*.cu*' -o -name '*.h' -o -name '*.proto' -o -name 'CMakeLists.txt' \))
CODE := src services pipelines tests benchmarks

.PHONY: help setup demo up down fmt lint types test e2e native cuda asan fuzz wheel bench docs proto ci clean

help: ## show the verbs
	@grep -E '^[a-z0-9]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 10

# ---- environment ----

.venv/pyvenv.cfg:
	@test -n "$(PYTHON)" || { echo "Bowerbird needs Python 3.11 or 3.12; none was found on PATH. Set PYTHON=/path/to/python3." >&2; exit 1; }
	@command -v $${CXX:-c++} >/dev/null || { echo "Bowerbird needs a C++20 compiler (c++); install g++ 12 or clang 15, or newer." >&2; exit 1; }
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade pip

# The build tools live in the environment, so that a rebuild is incremental (no isolated build).
.venv/build-tools: .venv/pyvenv.cfg pyproject.toml
	$(BIN)/python -c 'import tomllib; print("\n".join(tomllib.load(open("pyproject.toml", "rb"))["build-system"]["requires"]))' > .venv/build-requires.txt
	$(BIN)/python -m pip install --quiet -r .venv/build-requires.txt 'cmake>=3.30' ninja
	@touch $@

.venv/ready: .venv/build-tools $(NATIVE_SOURCES)
	@echo "Building the native module and the gRPC stubs ..."
	$(BIN)/python -m pip install --quiet --no-build-isolation -e '.[corpora]'
	@touch $@

.venv/dev: .venv/ready
	$(BIN)/python -m pip install --quiet --no-build-isolation -e '.[dev]'
	@touch $@

.venv/bench: .venv/dev
	$(BIN)/python -m pip install --quiet --no-build-isolation -e '.[dev,bench]'
	@touch $@

setup: .venv/dev ## environment in .venv: native module, stubs, tools

# ---- use ----

demo: .venv/ready ## fetch pictures, start the services, index, search, write demo.html
	$(BIN)/python -m bowerbird.cli.demo

up: .venv/ready ## start all services in the background
	$(BIN)/bowerbird up

down: ## stop them
	$(BIN)/bowerbird down

# ---- check ----

fmt: .venv/dev ## format the code
	$(BIN)/ruff format $(CODE)
	$(BIN)/ruff check --fix --quiet $(CODE)
	$(BIN)/buf format --write

lint: .venv/dev ## style, layers, protos (lint and breaking changes)
	$(BIN)/ruff format --check $(CODE)
	$(BIN)/ruff check $(CODE)
	$(BIN)/lint-imports
	$(BIN)/buf lint
	$(BIN)/buf format --diff --exit-code
	$(BIN)/buf breaking --against protos/released.binpb

types: .venv/dev ## mypy, strict
	$(BIN)/mypy

test: .venv/dev ## unit, contract and property tests; those of the CUDA kernels where a GPU is
	$(BIN)/python -m pytest tests/unit tests/contract tests/property tests/device -n $(JOBS) --dist worksteal

e2e: .venv/dev ## user stories against real processes on loopback
	$(BIN)/python -m pytest tests/e2e

native: .venv/ready ## rebuild the native module
	$(BIN)/python -m pip install --quiet --no-build-isolation -e '.[corpora]'

cuda: .venv/dev ## CUDA kernels: test them on the emulated device, and compile them where nvcc is (no GPU needed)
	bash native/tests/run_emulated.sh
	@command -v nvcc >/dev/null || { echo "make cuda: not compiled for a GPU, nvcc is not on PATH"; exit 0; }; \
	rm -rf build/cuda && $(BIN)/python -m pip wheel --quiet --no-build-isolation --no-deps -w build/cuda \
		-Ccmake.define.BOWERBIRD_CUDA=ON -Cbuild-dir=build/cuda/cmake . && \
	$(BIN)/python -m pip install --quiet --no-deps --target build/cuda/site build/cuda/*.whl && \
	packages=$$($(BIN)/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))') && \
	PYTHONPATH=build/cuda/site:$$packages $(BIN)/python -S -c 'import bowerbird.native as n; assert "build/cuda" in n.__file__; print("CUDA build imports; devices:", n.cuda_device_count())'

asan: .venv/dev ## native tests, those of CUDA kernels too, under AddressSanitizer, UndefinedBehaviorSanitizer and ThreadSanitizer
	bash native/tests/run_sanitized.sh

fuzz: .venv/dev ## random arguments through every kernel, for SECONDS (5; 60 at night)
	$(BIN)/python -m tests.fuzz.fuzz_native --seconds $(or $(SECONDS),5)

wheel: .venv/build-tools ## build the wheel, install it clean, serve from it without torch and without this tree
	bash tests/wheel/run.sh

bench: .venv/bench ## benchmarks: all, or WHAT=native|native-gpu|rpc|search|embed|index|sampled-softmax|loader|search-by-image|train|vit-gpu
	$(BIN)/python -m benchmarks $(WHAT)

docs: .venv/dev ## check the pages: links, commands, reasons
	$(BIN)/python -m pytest tests/contract/test_docs.py

proto: .venv/dev ## record the present contract as released (only when releasing)
	$(BIN)/buf build -o protos/released.binpb

ci: setup lint types test fuzz cuda wheel e2e ## what CI runs

clean: ## remove what was built, not the downloaded pictures
	rm -rf build dist .venv src/bowerbird/v1/*_pb2*
