# make serve    serve the example application from one process
# make test     run all tests
#
# make build    the release extension, in .venv
# make check    formats, lints, types
# make bench    compare with the peers
# make test-all the Python tests on every CPython that can be had
# make clean    remove what the others made
#
# PYTHON=... chooses the interpreter (default: the newest supported one found); HOST and PORT say
# where to serve.

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DELETE_ON_ERROR:
.PHONY: serve test build check bench test-all test-environment clean

HOST ?= 127.0.0.1
PORT ?= 8000
WORKERS ?= 1

ifeq ($(filter clean,$(MAKECMDGOALS)),)
ifndef PYTHON
PYTHON := $(shell .ci/pythons --newest)
endif
TAG := $(if $(PYTHON),$(shell .ci/pythons --tag $(PYTHON)))
ifeq ($(TAG),)
$(error No usable Python; see the message above)
endif
endif

TEST_VENV := .venv-test/$(TAG)
SOURCES := Cargo.toml $(wildcard Cargo.lock) pyproject.toml README.md .ci/install .ci/pythons \
	$(shell find runtime pybindings -type f -not -name '*.pyc' -not -name '*.so')

serve: .venv/installed-$(TAG)
	@printf '\nTry  http://$(HOST):$(PORT)/  and  http://$(HOST):$(PORT)/slow  (Ctrl-C ends it)\n\n'
	@exec .venv/bin/gunicorn -k rgevent -w $(WORKERS) -b $(HOST):$(PORT) \
		--chdir examples/python rocket:app

test: test-environment
	@.ci/test $(PYTHON)

build: .venv/installed-$(TAG)

check: $(TEST_VENV)/checkers
	@.ci/check $(PYTHON) $(TEST_VENV)

bench: .venv/peers-$(TAG)
	.venv/bin/python benches/python/run.py $(BENCH)

test-all:
	@.ci/test-all

test-environment: $(TEST_VENV)/installed

clean:
	rm -rf target dist .venv .venv-test .cache/wheels .mypy_cache .pytest_cache .ruff_cache

# The stamp's name holds the interpreter's, so that another PYTHON makes the environment anew.
.venv/installed-$(TAG): $(SOURCES)
	@.ci/install .venv $(PYTHON) release serve
	@rm -f .venv/installed-*
	@touch $@

.venv/peers-$(TAG): .venv/installed-$(TAG)
	@.venv/bin/python -m pip install --quiet --group bench
	@touch $@

$(TEST_VENV)/installed: $(SOURCES)
	@.ci/install $(TEST_VENV) $(PYTHON) test-release test
	@touch $@

$(TEST_VENV)/checkers: $(TEST_VENV)/installed
	@$(TEST_VENV)/bin/python -m pip install --quiet --group check
	@touch $@
