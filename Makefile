# Every target works on a fresh clone: the environment .venv is made and filled when it is needed.
# make PYTHON=python3.13 VENV=.venv-3.13 uses another interpreter beside it.

PYTHON ?= python3
VENV ?= .venv
CC ?= cc
export PIP_DISABLE_PIP_VERSION_CHECK = 1

BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet
C_SOURCES := $(filter-out csrc/python/%,$(wildcard csrc/*.c csrc/*/*.c))
C_CORE := $(filter-out csrc/spawn/launcher.c,$(C_SOURCES))
C_HEADERS := $(wildcard csrc/*.h csrc/*/*.h)
C_HARNESS := $(wildcard tests/c/*.c)
C_PYTHON := $(wildcard csrc/python/*.c)
C_OTHERS := $(C_HARNESS) $(C_PYTHON) $(wildcard tests/programs/*.c benchmarks/*.c benchmarks/peers/*.c)
SANITIZE := $(CC) -std=gnu11 -D_GNU_SOURCE -DFP_FAULTS=1 -g -O1 -fno-omit-frame-pointer -Icsrc

# What pyproject.toml asks for: a Python expression over its tables `build` and `project`.
REQUIRE = $(BIN)/python -c 'import tomllib; t = tomllib.load(open("pyproject.toml", "rb")); \
    build, project = t["build-system"], t["project"]; print("\n".join($(1)))' >$(VENV)/requirements.txt \
    && $(PIP) --requirement $(VENV)/requirements.txt

# Stamps. They lie in the environment, so that another one builds its own.
RUNTIME := $(VENV)/.fastproc-runtime
TOOLS := $(VENV)/.fastproc-tools
EXTENSION := $(VENV)/.fastproc-extension
FAULTS := $(VENV)/.fastproc-faults
DEBIAN := $(VENV)/.fastproc-debian

help:  ## print this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-13s %s\n", $$1, $$2 }' Makefile

dev: $(TOOLS) build  ## make .venv with all tools and build in place

build: $(EXTENSION)  ## build the extension in place

demo: $(EXTENSION)  ## run real programs and report
	$(BIN)/python demo/demo.py

test: $(TOOLS) $(EXTENSION) $(FAULTS) $(DEBIAN)  ## run all tests (PYTEST_ARGS=... to choose)
	$(BIN)/python -m pytest $(PYTEST_ARGS)

suite: $(EXTENSION)  ## run CPython's tests of subprocess and asyncio's children (SUITE_ARGS="asyncio 3.13")
	$(BIN)/python tests/cpython/run_suite.py $(SUITE_ARGS)

packages: $(RUNTIME)  ## run other packages' tests with fastproc.subprocess installed (PACKAGES=sarge)
	$(BIN)/python tests/packages/run_packages.py $(PACKAGES)

soak: $(TOOLS) $(EXTENSION) $(FAULTS) $(DEBIAN)  ## run the tests that take minutes
	$(BIN)/python -m pytest -m soak -s

sweep: $(TOOLS) $(EXTENSION)  ## one exception at every line that each public call goes through (SWEEP_ARGS="lines run")
	$(BIN)/python tests/soak/injection.py $(SWEEP_ARGS)

bench: bench-spawn bench-streams bench-aio bench-pipeline bench-credentials bench-snapshot  ## measure; writes benchmarks/results

bench-spawn: $(EXTENSION)  ## what one run costs
	$(BIN)/python benchmarks/bench_spawn.py
	$(BIN)/python benchmarks/bench_waiting.py

bench-pool: $(EXTENSION)  ## many children at once, beside tokio and Rust's threads; needs cargo
	$(BIN)/python benchmarks/bench_pool.py

bench-aio: $(TOOLS) $(EXTENSION)  ## what a child costs in an event loop
	$(BIN)/python benchmarks/bench_aio.py
	$(BIN)/python benchmarks/bench_loops.py

bench-pipeline: $(EXTENSION)  ## what pipelines cost
	$(BIN)/python benchmarks/bench_pipeline.py

bench-credentials: $(EXTENSION)  ## what another identity costs; as root
	$(BIN)/python benchmarks/bench_credentials.py

bench-snapshot: $(EXTENSION)  ## what looking at all processes costs
	$(BIN)/python benchmarks/bench_snapshot.py
	$(BIN)/python benchmarks/bench_monitor.py

bench-streams: $(EXTENSION)  ## what output costs (BENCH_ARGS=--realtime on a busy machine)
	$(BIN)/python benchmarks/bench_streams.py $(BENCH_ARGS)

bench-map: $(EXTENSION) $(DEBIAN)  ## fastproc map beside xargs and GNU parallel
	$(BIN)/python benchmarks/bench_map.py

bench-peers: $(EXTENSION) $(DEBIAN)  ## fastproc beside everything else that starts programs; writes docs/peers.md
	$(BIN)/python benchmarks/bench_peers.py

lint: $(TOOLS)  ## ruff and clang-format, checking only
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/clang-format --dry-run --Werror $(C_SOURCES) $(C_HEADERS) $(C_OTHERS)

format: $(TOOLS)  ## rewrite the files as lint wants them
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(BIN)/clang-format -i $(C_SOURCES) $(C_HEADERS) $(C_OTHERS)

types: $(TOOLS)  ## mypy, strict
	$(BIN)/mypy

c-check:  ## the compiler's static analyzer over csrc
	for file in $(C_SOURCES); do \
	    $(CC) -std=gnu11 -D_GNU_SOURCE -O2 -Wall -Wextra -Wshadow -Wvla -Werror -fanalyzer \
	        -Wno-analyzer-use-of-uninitialized-value -Icsrc -c -o /dev/null $$file || exit 1; \
	done
	for file in $(C_PYTHON); do \
	    $(CC) -std=gnu11 -DPy_LIMITED_API=0x030B0000 -O2 -Wall -Wextra -Wshadow -Wvla -Werror -fanalyzer \
	        -Wno-missing-field-initializers -Wno-cast-function-type \
	        $$($(PYTHON) -c 'import sysconfig; print("-isystem" + sysconfig.get_path("include"))') -c -o /dev/null $$file || exit 1; \
	done

asan:  ## the C harness under the address and undefined-behaviour sanitizers
	mkdir -p build/asan
	$(SANITIZE) -fsanitize=address,undefined -fno-sanitize-recover=undefined -o build/asan/harness $(C_CORE) $(C_HARNESS) -lpthread
	build/asan/harness

# The sanitizer replaces clone by a version that takes every child for a fork; __clone is the same function without it.
tsan:  ## the C harness under the thread sanitizer
	mkdir -p build/tsan
	$(SANITIZE) -fsanitize=thread -Dclone=__clone -o build/tsan/harness $(C_CORE) $(C_HARNESS) -lpthread
	build/tsan/harness

clean:  ## remove what was built, and the environment
	rm -rf build dist .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis src/*.egg-info src/fastproc/_native/*.so
	find src tests benchmarks demo -name __pycache__ -type d -prune -exec rm -rf {} +

$(RUNTIME): pyproject.toml setup.py tools/venv.sh
	tools/venv.sh $(PYTHON) $(VENV)
	@$(call REQUIRE,build["requires"] + project["dependencies"])
	touch $@

$(EXTENSION): $(RUNTIME) build_ffi.py $(C_SOURCES) $(C_PYTHON) $(C_HEADERS)
	$(BIN)/python build_ffi.py
	$(PIP) --no-build-isolation --no-deps --editable .
	touch $@

$(TOOLS): $(RUNTIME)
	@$(call REQUIRE,project["optional-dependencies"]["test"] + project["optional-dependencies"]["lint"])
	touch $@

$(FAULTS): $(RUNTIME) build_ffi.py $(C_SOURCES) $(C_PYTHON) $(C_HEADERS)
	FASTPROC_FAULTS=1 $(BIN)/python build_ffi.py --dest build/faults
	touch $@

$(DEBIAN): $(RUNTIME) tests/debian.txt tools/debian.sh
	tools/debian.sh tests/debian.txt
	touch $@

.PHONY: help dev build demo test suite packages soak sweep bench bench-spawn bench-streams bench-aio bench-pool bench-pipeline bench-credentials bench-peers bench-map bench-snapshot lint format types c-check asan tsan clean
.DELETE_ON_ERROR:
