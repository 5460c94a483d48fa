# One command for each use of the book. `make help` lists them.
PROFILE ?= mini
DATA_ROOT ?=
TILES ?=
PORT ?= 8866
BENCH ?=
# constraints.txt: the very versions of the recorded results
CONSTRAINTS ?=
# runs side by side: one a core, but one at a time where they share a GPU
JOBS ?= $(if $(filter full%,$(PROFILE)),1,$(shell nproc 2>/dev/null || echo 2))
PYTHON ?= python3
BIN := .venv/bin
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.PHONY: help env city train grid book report refresh app lab verify-results test bench check clean

help: ## this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 16
	@echo "Variables: PROFILE=$(PROFILE) (smoke, mini, full), DATA_ROOT (your VIGOR folder), JOBS=$(JOBS), PYTHON=$(PYTHON)"

$(BIN)/.made: pyproject.toml
	$(PYTHON) -c 'import sys; assert sys.version_info >= (3, 11), f"Python 3.11 or newer is needed, this is {sys.version}"'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --progress-bar on -e '.[dev]' $(if $(CONSTRAINTS),-c $(CONSTRAINTS))
	@touch $@

env: $(BIN)/.made ## the environment in .venv, from pyproject.toml

city: env ## the embedded city of PROFILE in data/, unless DATA_ROOT is given
	@$(if $(DATA_ROOT)$(filter full%,$(PROFILE)),:,$(BIN)/python -m data_prep.city --size $(PROFILE))

train: city ## every run that the chapters show, in runs/
	$(BIN)/python -m vigorlib train --chapters --profile $(PROFILE) --data-root "$(DATA_ROOT)" --jobs $(JOBS)

grid: city ## every run of the book, ablations included; says first how long it takes
	$(BIN)/python -m vigorlib grid --profile $(PROFILE) --data-root "$(DATA_ROOT)" --jobs $(JOBS)

book: train ## city, training, every chapter afresh into build/PROFILE, the report
	$(BIN)/python book/chapters.py run --profile $(PROFILE) --data-root "$(DATA_ROOT)" --jobs $(JOBS)
	$(BIN)/python book/chapters.py report --profile $(PROFILE)
	$(BIN)/python -m vigorlib runs --profile $(PROFILE) --summary

report: env ## the static report of the stored chapters, in _build/html
	$(BIN)/jupyter-book build book/ -W -n --keep-going -q

refresh: train ## run the chapters in mini and store their outputs in book/
	$(BIN)/python book/chapters.py run --profile mini --store --jobs $(JOBS)

app: city ## the localization system as a page, on this machine only (PORT, TILES)
	$(BIN)/python -m vigorlib app --profile $(PROFILE) --data-root "$(DATA_ROOT)" --tiles "$(TILES)" --port $(PORT)

lab: env ## JupyterLab, opened on the book
	$(BIN)/jupyter lab book/

verify-results: env ## train a recorded result again (PROFILE) and compare within its interval
	$(BIN)/python -m vigorlib verify --profile $(PROFILE) --data-root "$(DATA_ROOT)"

test: env ## all tests, one process a core
	$(BIN)/python -m pytest -n auto --dist loadfile

bench: env ## an hour: what searching, reading and training cost; BENCH=--quick for a look
	$(BIN)/python benchmarks $(BENCH)

check: env ## formatting, types, notebook hygiene
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python book/chapters.py check

clean: ## remove what was built (keeps runs/ and data/)
	rm -rf build _build
