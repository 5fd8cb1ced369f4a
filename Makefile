# Everything a fresh machine needs is Python 3.11 or later with its headers, a C compiler and make.
# Each target sets up what it uses in folders of its own below this one.

PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
# Two at a time: the machines this is built on have two cores.
JOBS   ?= 2

CORE   := $(wildcard flatstream/_core/*/*.p[yx]* flatstream/_core/*/*.h)
STAMP  := $(VENV)/.built

.PHONY: help build demo test test-long test-sanitize test-wheel coverage check bench bench-history chart wheel clean

help:
	@echo "make demo            build, and run the telemetry agent on this machine's metrics for 10 seconds"
	@echo "make test            build, and run all tests that take minutes"
	@echo "make test-long       the tests that take longer"
	@echo "make test-sanitize   the tests against modules built with address and undefined-behaviour sanitizers"
	@echo "make test-wheel      the tests against a wheel in an empty environment"
	@echo "make coverage        which lines of the compiled modules the tests run"
	@echo "make check           ruff, mypy, cython-lint, stubtest"
	@echo "make bench           the performance goals beside their yardsticks, in one table"
	@echo "make bench-history   asv over the last commits (COMMITS=5), and its site in build/asv/html"
	@echo "make chart           the chart of the README, measured on this machine"
	@echo "make wheel           a wheel and a source distribution in dist/"
	@echo "make clean           remove what these made"

build: $(STAMP)

# A new environment's pip may be as old as its Python; an old one neither reads the licence fields nor builds editable
# installs of this kind.
$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "flatstream needs Python 3.11 or later; try make PYTHON=python3.12"; exit 1; }
	@$(PYTHON) -m venv $(VENV) || { echo "cannot make a virtual environment: is the venv module there (Debian: python3-venv)?"; rm -rf $(VENV); exit 1; }
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --upgrade pip

$(STAMP): $(VENV)/bin/python $(CORE) setup.py pyproject.toml
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@touch $@

demo: build
	$(BIN)/python examples/telemetry_agent.py --rate 1000 --seconds 10

# Each process takes a whole file at a time, in the order of the files (tests/conftest.py).
PARALLEL := -n $(JOBS) --dist loadgroup --no-loadscope-reorder

# Assertions are rewritten once and kept, whatever the environment says of bytecode: it takes each process 10 s.
test: build
	PYTHONDONTWRITEBYTECODE= $(BIN)/python -m pytest $(PARALLEL) --durations=15 -m "not long"

test-long: build
	PYTHONDONTWRITEBYTECODE= FLATSTREAM_HYPOTHESIS=long $(BIN)/python -m pytest $(PARALLEL) --durations=15 -m "long or not long"

# The modules are built into a copy of the package, so that the ordinary ones stay. Python itself is not built with the
# sanitizers: their run time has to be there before it starts (LD_PRELOAD), memory must come from malloc to be watched,
# and leaks are left to tests/robustness/test_leaks.py, since the interpreter itself never frees everything.
PROJECT   := flatstream asv_benchmarks setup.py pyproject.toml README.md CHANGELOG.md LICENSE-MIT LICENSE-APACHE docs examples tests
SANITIZED := build/sanitized
test-sanitize: build
	rm -rf $(SANITIZED) && mkdir -p $(SANITIZED)
	cp -r $(PROJECT) $(SANITIZED)/
	find $(SANITIZED) -name '*.so' -delete
	cd $(SANITIZED) && FLATSTREAM_SANITIZE=1 $(abspath $(BIN))/python setup.py --quiet build_ext --inplace --parallel $(JOBS)
	cd $(SANITIZED) && LD_PRELOAD="$$($(CC) -print-file-name=libasan.so) $$($(CC) -print-file-name=libubsan.so)" \
		ASAN_OPTIONS=detect_leaks=0:abort_on_error=1:allocator_may_return_null=1 UBSAN_OPTIONS=print_stacktrace=1:halt_on_error=1 \
		PYTHONMALLOC=malloc PYTHONPATH=$(abspath $(SANITIZED)) FLATSTREAM_SANITIZED=1 \
		$(abspath $(BIN))/python -m pytest $(PARALLEL) -p no:cacheprovider -m "not long" $(PYTEST_ARGS)

# Not the tests with threads, nor those that count blocks of memory: a tracer is called at every line and keeps notes, so
# that compiled code which otherwise runs no Python, and relies on that, can be interrupted anywhere. They run in all
# other targets. A test that has a tracer of its own fails here (exit status 1 of pytest), which is for `make test` to judge.
TRACED := build/traced
coverage: build
	rm -rf $(TRACED) && mkdir -p $(TRACED)
	cp -r $(PROJECT) $(TRACED)/
	find $(TRACED) -name '*.so' -delete
	cd $(TRACED) && FLATSTREAM_COVERAGE=1 $(abspath $(BIN))/python setup.py --quiet build_ext --inplace --parallel $(JOBS)
	cd $(TRACED) && PYTHONPATH=$(abspath $(TRACED)) FLATSTREAM_TRACED=1 COVERAGE_CORE=ctrace \
		$(abspath $(BIN))/python -m coverage run -m pytest -p no:cacheprovider -m "not long" \
		--ignore=tests/robustness/test_concurrency.py --ignore=tests/robustness/test_signals_and_forks.py \
		--ignore=tests/checksums/test_lock_release.py --ignore=tests/checksums/test_lock_release_threads.py \
		--ignore=tests/robustness/test_leaks.py --ignore=tests/stream/test_allocation.py \
		$(PYTEST_ARGS) || [ $$? -eq 1 ]
	cd $(TRACED) && $(abspath $(BIN))/python -m coverage report --show-missing --skip-empty --include='flatstream/*'
	cd $(TRACED) && $(abspath $(BIN))/python tests/project/check_coverage.py

# The tests have few annotations: they are checked as they are, without asking for more.
check: build
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/mypy --allow-untyped-defs --allow-incomplete-defs --allow-untyped-calls --allow-untyped-decorators tests asv_benchmarks
	PATH="$(abspath $(BIN)):$$PATH" $(BIN)/cython-lint flatstream
	$(BIN)/python -m mypy.stubtest flatstream --allowlist tests/project/stubtest_allowlist.txt

# Some two minutes, on a machine that does nothing else.
bench: build
	$(BIN)/python -m asv_benchmarks.goals --growth $(BENCH_ARGS)

# Each commit is built into a wheel and run in an environment of its own, so the first time takes long.
COMMITS ?= 5
bench-history: build
	mkdir -p build/asv
	cd asv_benchmarks && $(abspath $(BIN))/asv machine --yes
	cd asv_benchmarks && PATH="$(abspath $(BIN)):$$PATH" $(abspath $(BIN))/asv run --skip-existing $(ASV_ARGS) HEAD~$(COMMITS)..HEAD
	cd asv_benchmarks && $(abspath $(BIN))/asv publish

chart: build
	$(BIN)/python asv_benchmarks/chart.py --measure docs/benchmarks.json
	$(BIN)/python asv_benchmarks/chart.py docs/benchmarks.json docs/benchmarks.svg

wheel: build
	$(BIN)/python -m build --outdir dist .

# The wheel as a user gets it: in an empty environment, away from the source tree, with the tests run against it there.
WHEELED := build/wheeled
test-wheel: build
	rm -rf $(WHEELED) && mkdir -p $(WHEELED)
	$(BIN)/python -m build --wheel --outdir $(WHEELED)/dist .
	$(PYTHON) -m venv $(WHEELED)/venv
	$(WHEELED)/venv/bin/python -m pip install --quiet --disable-pip-version-check --upgrade pip
	$(WHEELED)/venv/bin/python -m pip install --quiet --disable-pip-version-check "$$(ls $(WHEELED)/dist/*.whl)[test]"
	folder=$$(mktemp -d) && trap 'rm -rf "$$folder"' EXIT && \
		cp -r README.md CHANGELOG.md LICENSE-MIT LICENSE-APACHE asv_benchmarks docs examples tests pyproject.toml "$$folder"/ && \
		cd "$$folder" && $(abspath $(WHEELED))/venv/bin/python -m pytest $(PARALLEL) -p no:cacheprovider -m "not long" $(PYTEST_ARGS)

clean:
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis .coverage
	find . -name '*.so' -delete
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
