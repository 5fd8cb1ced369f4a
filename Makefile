# Everything a fresh machine needs is Python 3.11 or later with its headers, a C compiler and make.
# Each target installs the packages that it uses into .venv, and compiles the modules that changed.

PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
JOBS   ?= $(shell getconf _NPROCESSORS_ONLN 2>/dev/null || echo 2)
PIP    := $(BIN)/python -m pip --quiet --disable-pip-version-check

# The tests or the module that a target is about: make test T="tests/stream -k torn", make annotate F=flatstream/_core/...
T ?=
F ?=

# One file for each set of packages, newer than pyproject.toml if the set is up to date.
BASE     := $(VENV)/.installed
EXAMPLES := $(VENV)/.installed-examples
DEV      := $(VENV)/.installed-dev
DEV_FULL := $(VENV)/.installed-dev-full

.DEFAULT_GOAL := help
.PHONY: help build rebuild debug profile annotate demo cli-page test test-long test-faults test-engines run-test-engines test-sanitize test-wheel coverage check fmt bench \
	bench-history chart corruption-table wheel clean

help: ## this list
	@awk 'BEGIN { FS = ":.*## " } /^##@/ { printf "\n%s\n", substr($$0, 5) } \
		/^[a-z-]+:.*## / { printf "  make %-15s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))
	@echo
	@echo "Variables: PYTHON=python3.12 (which Python), VENV=.venv (where to install), JOBS=2 (how many compilers at a time)."

# The environment, with what compiles the modules (from pyproject.toml, so that it is stated once) and the package
# itself: an editable install of the Python sources, beside which `make rebuild` puts the compiled modules. pip would
# compile all of them whenever it runs. A new environment's pip may be as old as its Python; an old one neither reads
# the licence fields nor makes editable installs of this kind.
$(VENV)/.created:
	@command -v $(PYTHON) >/dev/null || { echo "Python ($(PYTHON)) is missing: install 3.11 or later (Debian: apt install python3)."; exit 1; }
	@$(PYTHON) tools/check_machine.py
	@echo "Making a virtual environment in $(VENV) (10 seconds) ..."
	@$(PYTHON) -m venv $(VENV)
	@$(PIP) install --upgrade pip
	@touch $@

$(BASE): pyproject.toml | $(VENV)/.created
	@echo "Installing Cython, and flatstream itself as a link to this folder, into $(VENV) (10 seconds) ..."
	@$(BIN)/python -c 'import tomllib; print(*tomllib.load(open("pyproject.toml", "rb"))["build-system"]["requires"], sep="\n")' > $@-requires
	@$(PIP) install --requirement $@-requires
	@PYTHONWARNINGS=ignore FLATSTREAM_NO_MODULES=1 $(PIP) install --no-build-isolation --editable .
	@touch $@

$(VENV)/.installed-%: $(BASE)
	@echo "Installing the packages of '$*' into $(VENV) (first time, or pyproject.toml changed; up to $(if $(filter dev,$*),1 minute,3 minutes)) ..."
	@PYTHONWARNINGS=ignore FLATSTREAM_NO_MODULES=1 $(PIP) install --no-build-isolation --editable '.[$*]'
	@touch $@ $(if $(filter dev-full,$*),$(DEV) $(EXAMPLES))

##@ Building

build: $(DEV) rebuild ## set up the light development environment, and compile what changed

rebuild: $(BASE) ## compile what changed (this is part of all other targets that use the package)
	@$(BIN)/python -u setup.py --quiet build_ext --inplace --parallel $(JOBS)

debug: $(DEV) ## compile without optimization, with bounds checks and data for gdb, until the next other target
	@FLATSTREAM_DEBUG=1 $(MAKE) --no-print-directory rebuild

profile: $(DEV) ## compile with optimization and data for perf, until the next other target
	@FLATSTREAM_PROFILE=1 $(MAKE) --no-print-directory rebuild

annotate: $(BASE) ## show the C code of a module's lines: make annotate F=flatstream/_core/stream/decoder.pyx
	@test -f "$(F)" || { echo "name a module: make annotate F=flatstream/_core/stream/decoder.pyx"; exit 1; }
	@mkdir -p build/annotate/$(dir $(F))
	@$(BIN)/cython -3 --annotate -I . --output-file build/annotate/$(F:.pyx=.c) $(F)
	@echo "build/annotate/$(F:.pyx=.html)"

wheel: $(VENV)/.created ## a wheel and a source distribution in dist/
	@$(PIP) install build
	$(BIN)/python -m build --outdir dist .

clean: ## remove everything that these targets made
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis .coverage
	find . -name '*.so' -delete
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

##@ Running

demo: $(EXAMPLES) rebuild ## record this machine's metrics for 10 seconds, with a kill in the middle, and replay them
	$(BIN)/python examples/telemetry_demo.py --rate 1000 --seconds 10

##@ Testing

# Each process takes a whole file at a time, in the order of the files (tests/conftest.py).
PARALLEL := -n $(JOBS) --dist loadgroup --no-loadscope-reorder

# Assertions are rewritten once and kept, whatever the environment says of bytecode: it takes each process 10 s.
test: $(DEV_FULL) rebuild ## all tests but the long ones, or some of them: make test T="tests/stream -k torn"
	PYTHONDONTWRITEBYTECODE= $(BIN)/python -m pytest $(if $(T),,$(PARALLEL)) --durations=15 -m "not long and not faults and not engines" $(T) $(PYTEST_ARGS)

test-long: $(DEV_FULL) rebuild ## all tests, including those that take longer
	PYTHONDONTWRITEBYTECODE= FLATSTREAM_HYPOTHESIS=long $(BIN)/python -m pytest $(if $(T),,$(PARALLEL)) --durations=15 \
		-m "not faults and not engines" $(T) $(PYTEST_ARGS)

# Root, strace, FUSE, loop devices and mkfs.ext4 or mkfs.xfs are used where they are; a case that lacks one is skipped, and
# says which. A full run writes the table of docs/reliability.md; SHARE=0.1 runs a tenth of the cases.
SHARE ?= 1
test-faults: $(DEV_FULL) rebuild ## kills, failing system calls, full disks and power cuts against the journal (15 minutes)
	PYTHONDONTWRITEBYTECODE= FLATSTREAM_FAULT_SHARE=$(SHARE) \
		FLATSTREAM_FAULT_TABLE=$(if $(T)$(filter-out 1,$(SHARE)),,docs/reliability.md) \
		$(BIN)/python -m pytest $(PARALLEL) -p no:cacheprovider -m faults $(or $(T),tests/faults) $(PYTEST_ARGS)

# Dask, Ray and Spark are 1 GB of packages, in an environment of their own. Spark needs Java 17; its tests are skipped without.
ENGINES_VENV ?= .venv-engines
test-engines: ## the tests of flatstream.engines against Dask, Ray and Spark, with two workers each (5 minutes)
	@$(MAKE) --no-print-directory VENV=$(ENGINES_VENV) run-test-engines

run-test-engines: $(VENV)/.installed-engines rebuild
	PYTHONDONTWRITEBYTECODE= $(BIN)/python -m pytest --durations=5 -p no:cacheprovider -m engines \
		$(or $(T),tests/engines) $(PYTEST_ARGS)

# The modules are built into a copy of the package, so that the ordinary ones stay. Python itself is not built with the
# sanitizers: their run time has to be there before it starts (LD_PRELOAD), memory must come from malloc to be watched,
# and leaks are left to tests/robustness/test_leaks.py, since the interpreter itself never frees everything. pytest does
# not keep the standard error output (--capture=sys): a report that it held would be lost with the process.
PROJECT   := flatstream asv_benchmarks setup.py pyproject.toml README.md CHANGELOG.md LICENSE-MIT LICENSE-APACHE docs examples tests
SANITIZED := build/sanitized
test-sanitize: $(DEV_FULL) ## the tests on modules with address and undefined-behaviour sanitizers
	rm -rf $(SANITIZED) && mkdir -p $(SANITIZED)
	cp -r $(PROJECT) CONTRIBUTING.md $(SANITIZED)/
	find $(SANITIZED) -name '*.so' -delete
	cd $(SANITIZED) && FLATSTREAM_SANITIZE=1 $(abspath $(BIN))/python setup.py --quiet build_ext --inplace --parallel $(JOBS)
	cd $(SANITIZED) && LD_PRELOAD="$$($(CC) -print-file-name=libasan.so) $$($(CC) -print-file-name=libubsan.so)" \
		ASAN_OPTIONS=detect_leaks=0:abort_on_error=1:allocator_may_return_null=1 \
		UBSAN_OPTIONS=print_stacktrace=1:halt_on_error=1:abort_on_error=1 \
		PYTHONMALLOC=malloc PYTHONPATH=$(abspath $(SANITIZED)) FLATSTREAM_SANITIZED=1 \
		$(abspath $(BIN))/python -m pytest $(PARALLEL) -p no:cacheprovider --capture=sys -m "not long and not faults and not engines" $(PYTEST_ARGS)

# Not the tests with threads, nor those that count blocks of memory: a tracer is called at every line and keeps notes, so
# that compiled code which otherwise runs no Python, and relies on that, can be interrupted anywhere. They run in all
# other targets. A test that has a tracer of its own fails here (exit status 1 of pytest), which is for `make test` to judge.
TRACED := build/traced
coverage: $(DEV_FULL) ## which lines of the compiled modules the tests run
	rm -rf $(TRACED) && mkdir -p $(TRACED)
	cp -r $(PROJECT) CONTRIBUTING.md $(TRACED)/
	find $(TRACED) -name '*.so' -delete
	cd $(TRACED) && FLATSTREAM_COVERAGE=1 $(abspath $(BIN))/python setup.py --quiet build_ext --inplace --parallel $(JOBS)
	cd $(TRACED) && PYTHONPATH=$(abspath $(TRACED)) FLATSTREAM_TRACED=1 COVERAGE_CORE=ctrace \
		$(abspath $(BIN))/python -m coverage run -m pytest -p no:cacheprovider -m "not long and not faults and not engines" \
		--ignore=tests/robustness/test_concurrency.py --ignore=tests/robustness/test_signals_and_forks.py \
		--ignore=tests/checksums/test_lock_release.py --ignore=tests/checksums/test_lock_release_threads.py \
		--ignore=tests/robustness/test_leaks.py --ignore=tests/stream/test_allocation.py \
		$(PYTEST_ARGS) || [ $$? -eq 1 ]
	cd $(TRACED) && $(abspath $(BIN))/python -m coverage report --show-missing --skip-empty --include='flatstream/*'
	cd $(TRACED) && $(abspath $(BIN))/python tests/project/check_coverage.py

# The wheel as a user gets it: in an empty environment, away from the source tree, with the tests run against it there.
WHEELED := build/wheeled
test-wheel: $(DEV_FULL) ## the tests on a wheel in an empty environment
	rm -rf $(WHEELED) && mkdir -p $(WHEELED)
	$(BIN)/python -m build --wheel --outdir $(WHEELED)/dist .
	$(PYTHON) -m venv $(WHEELED)/venv
	$(WHEELED)/venv/bin/python -m pip install --quiet --disable-pip-version-check --upgrade pip
	$(WHEELED)/venv/bin/python -m pip install --quiet --disable-pip-version-check "$$(ls $(WHEELED)/dist/*.whl)[test]"
	folder=$$(mktemp -d) && trap 'rm -rf "$$folder"' EXIT && \
		cp -r README.md CHANGELOG.md CONTRIBUTING.md LICENSE-MIT LICENSE-APACHE asv_benchmarks docs examples tests pyproject.toml "$$folder"/ && \
		cd "$$folder" && $(abspath $(WHEELED))/venv/bin/python -m pytest $(PARALLEL) -p no:cacheprovider -m "not long and not faults and not engines" $(PYTEST_ARGS)

# Half an hour on two cores.
corruption-table: $(DEV_FULL) rebuild ## damage streams in every way, and write docs/corruption.md (SEEDS=10000)
	$(BIN)/python tools/corruption_table.py --seeds $(SEEDS)

SEEDS ?= 10000

cli-page: $(DEV_FULL) rebuild ## write docs/cli.md from the commands
	$(BIN)/python tools/make_cli_page.py

##@ Checking

# The tests have few annotations: they are checked as they are, without asking for more.
check: $(DEV_FULL) rebuild ## ruff, mypy, cython-lint, and the stubs against the compiled modules
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/mypy --allow-untyped-defs --allow-incomplete-defs --allow-untyped-calls --allow-untyped-decorators tests asv_benchmarks
	PATH="$(abspath $(BIN)):$$PATH" $(BIN)/cython-lint flatstream
	$(BIN)/python -m mypy.stubtest flatstream --mypy-config-file pyproject.toml --allowlist tests/project/stubtest_allowlist.txt

fmt: $(DEV) ## format the Python sources, and mend what ruff can mend
	@$(BIN)/ruff check --fix --exit-zero --quiet .
	$(BIN)/ruff format .
	$(BIN)/ruff check .

##@ Measuring

# Some four minutes, on a machine that does nothing else.
bench: $(DEV_FULL) rebuild ## the performance goals beside their yardsticks, in one table
	$(BIN)/python -m asv_benchmarks.goals --growth $(BENCH_ARGS)

# Each commit is built into a wheel and run in an environment of its own, so the first time takes long.
COMMITS ?= 5
bench-history: $(DEV_FULL) ## asv over the last commits (COMMITS=5), and its site in build/asv/html
	mkdir -p build/asv
	cd asv_benchmarks && $(abspath $(BIN))/asv machine --yes
	cd asv_benchmarks && PATH="$(abspath $(BIN)):$$PATH" $(abspath $(BIN))/asv run --skip-existing $(ASV_ARGS) HEAD~$(COMMITS)..HEAD
	cd asv_benchmarks && $(abspath $(BIN))/asv publish

chart: $(DEV_FULL) rebuild ## the chart of the README, measured on this machine
	$(BIN)/python asv_benchmarks/chart.py --measure docs/benchmarks.json
	$(BIN)/python asv_benchmarks/chart.py docs/benchmarks.json docs/benchmarks.svg
