# The two targets that a newcomer needs are "demo" and "test"; both make what they need in .venv.
# Nothing outside the checkout is touched, and "make clean" removes all of it.

PYTHON ?= $(shell for p in python3 python3.14 python3.13 python3.12 python3.11; do \
    "$$p" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo "$$p" && exit; \
    done; echo python3)
VENV ?= .venv
BIN = $(VENV)/bin
PYTEST_ARGS ?=
POINTS ?= 200
# What asks about cgroups; not what needs a whole cluster, compares prices, or has the emulated
# machine start Python again and again.
V2_ARGS ?= -m "not slow" -k "not price and not own_user and not signals_everybody and not at_once" \
    --durations=5 $(addprefix tests/kernel/test_, \
    isolation_cgroups.py isolators_cgroups.py spawner_root.py hostile_ends.py hostile_neighbours.py)
V2_LIMIT ?= 600
# "make test COVERAGE=1" measures branches, also in the processes that the tests start.
COVERAGE ?=
# Files of tests run side by side, one process for each core; JOBS=0 runs all in one process.
JOBS ?= auto
TESTS = $(if $(COVERAGE),$(BIN)/coverage run -m pytest,$(BIN)/python -m pytest) \
    -n $(JOBS) --dist loadfile
PIP = $(BIN)/python -m pip --disable-pip-version-check -qq
PYTHON_DIRS = mesosctl tests tools $(wildcard bench examples)

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help demo test test-all test-v2 lint style format imports types check docs man bench compare chaos sweep clean python-is-fit

# A stamp holds the path for which it was made: scripts of a virtual environment name it, so a
# checkout that was moved, or whose Python is gone, gets a new one.
INSTALLED = $(VENV)/.installed
DEV = $(VENV)/.installed-dev
STALE := $(shell if [ -e "$(INSTALLED)" ]; then \
    { [ "$$(cat "$(INSTALLED)")" = "$$PWD" ] && "$(BIN)/python" -c '' 2>/dev/null; } \
    || rm -f "$(INSTALLED)" "$(DEV)"; fi)

help: ## This list.
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1|\2/p' Makefile | awk -F'|' '{printf "%-18s %s\n", $$1, $$2}'

demo: $(INSTALLED) ## A cluster on this machine runs a batch of shell jobs; leaves nothing behind.
	@$(BIN)/python tools/demo.py

test: $(DEV) ## Unit and integration tests (a few minutes).
	@$(TESTS) -m "not slow" $(PYTEST_ARGS)

test-all: $(DEV) ## The slow tests too.
	@$(TESTS) $(PYTEST_ARGS)

# "make test-v2 V2_ARGS=tests/kernel V2_LIMIT=7200" runs everything there, with the full counts.
test-v2: $(DEV) ## The kernel tests under cgroup v2, in an emulated guest (its packages go to .vm).
	@$(BIN)/python tests/vm/guest.py --limit-s $(V2_LIMIT) $(BIN)/python -m pytest -q -s -x \
	    -p no:cacheprovider --timeout=$(V2_LIMIT) $(V2_ARGS) || [ $$? -eq 77 ]

sweep: $(DEV) ## kill -9 at system calls of each process, POINTS=200 of each (0: all of them).
	@MESOSCTL_SWEEP_POINTS=$(POINTS) $(BIN)/python -m pytest -s -q $(PYTEST_ARGS) \
	    tests/faults/test_kill_sweep.py -k every_system_call

lint: style format imports ## Style, formatting, and the direction of imports.

style: $(DEV)
	@$(BIN)/ruff check $(PYTHON_DIRS)

format: $(DEV)
	@$(BIN)/ruff format --check $(PYTHON_DIRS)

imports: $(DEV)
	@$(BIN)/lint-imports --no-cache

types: $(DEV) ## mypy --strict.
	@$(BIN)/mypy mesosctl tools $(wildcard bench)

docs: $(DEV) ## Links, names, versions; man pages and completions as the commands say.
	@$(BIN)/python tools/docs_check.py
	@for tool in manpages completions; do \
	    if [ -e "tools/$$tool.py" ]; then $(BIN)/python "tools/$$tool.py" --check || exit 1; \
	    else echo "tools/$$tool.py is not there: skipped"; fi; done

check: lint types docs test ## All of lint, types, docs, test.

man: $(DEV) ## Write man/ and completions/ anew from the commands.
	@$(BIN)/python tools/manpages.py
	@$(BIN)/python tools/completions.py

bench: $(INSTALLED) ## Allocation, throughput, latency, submission, start-up time, idle cost: JSON, one object each.
	@for name in allocator startup latency submission throughput idle; do $(BIN)/python "bench/$$name.py" || exit 1; done

compare: $(INSTALLED) ## Ours beside HyperQueue, GNU parallel, xargs and a bare loop: JSON.
	@$(BIN)/python bench/compare.py

# "make chaos CHAOS_ARGS='--seconds 600 --jobs 10000 --seed 7'" repeats what the seed 7 does.
chaos: $(DEV) ## Kills, stops and cuts on a cluster of real processes for a minute; prints its seed.
	@$(BIN)/python -m tests.faults.chaos $(CHAOS_ARGS)

clean: ## Remove everything that make, pip and the tools have made.
	@rm -rf "$(VENV)" .ci/out .vm build dist .mypy_cache .ruff_cache .pytest_cache \
	    .import_linter_cache .hypothesis htmlcov .coverage .coverage.*
	@find $(wildcard mesosctl tests tools bench examples) -name __pycache__ -type d -prune \
	    -exec rm -rf {} +

# One line each: a fresh machine stumbles over exactly these two.
python-is-fit:
	@command -v "$(PYTHON)" >/dev/null || { echo "mesosctl needs Python 3.11 or newer, and there is no $(PYTHON): install it (apt install python3 python3-venv) or name one: make PYTHON=/path/to/python3" >&2; exit 1; }
	@"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "mesosctl needs Python 3.11 or newer, and $(PYTHON) is $$("$(PYTHON)" -V 2>&1): install a newer one, or name one: make PYTHON=/path/to/python3.11" >&2; exit 1; }
	@"$(PYTHON)" -c 'import ensurepip, venv' 2>/dev/null || { echo "$(PYTHON) cannot make virtual environments (it has no ensurepip): apt install python3-venv, then try again" >&2; exit 1; }

# The stamp is written last, so an environment whose making was interrupted is made anew. The
# installation is an editable one: the tests and the demo always run the sources as they are.
$(INSTALLED): pyproject.toml mesosctl/__init__.py | python-is-fit
	@echo "Making a virtual environment in $(VENV) and installing mesosctl (under a minute)..." >&2
	@rm -f "$(INSTALLED)" "$(DEV)"
	@"$(PYTHON)" -m venv --clear "$(VENV)"
	@$(PIP) install --editable .
	@printf '%s\n' "$$PWD" > "$(INSTALLED)"

$(DEV): $(INSTALLED)
	@echo "Installing the development tools in $(VENV)..." >&2
	@$(PIP) install --editable '.[dev]'
	@touch "$(DEV)"
