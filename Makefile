# `make` alone lists the targets. Each sets up what it needs by itself, once, in $(VENV).
#
# Variables, on the command line or in the environment:
#   PYTHON      the interpreter to build the environment from (default: the active environment's,
#               else python3). If it has torch, that torch is used and none is installed.
#   TORCH_SPEC  what pip installs where no torch was brought, e.g. "torch==2.13.0 --index-url URL".
#   VENV        where the environment goes.
# They count when the environment is made: `make distclean` first to change them later.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-builtin-rules --no-print-directory

VENV ?= .venv
TORCH_SPEC ?= torch==2.13.0
CANDIDATES := $(if $(VIRTUAL_ENV)$(CONDA_PREFIX),python) python3 python3.13 python3.12 python3.11 python
PYTHON ?= $(shell for p in $(CANDIDATES); do \
	"$$p" -c 'import sys; sys.exit(sys.version_info < (3, 10))' 2>/dev/null && echo "$$p" && break; done)
RUN := $(VENV)/bin/python
DEMO_OUT := output/demo

# Tests run side by side, so each process keeps to one thread.
PYTEST := OMP_NUM_THREADS=1 MKL_NUM_THREADS=1 $(RUN) -m pytest -n 2 --dist loadfile --durations 10

.PHONY: help env demo digits test test-all quality style bench bench-inference compare finetune \
	results pins clean distclean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-16s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

env: ## set up the environment (every other target does so by itself)
	@test -n "$(PYTHON)" || { echo "no Python >= 3.10 found; name one: make PYTHON=/path/to/python" >&2; exit 1; }
	@"$(PYTHON)" scripts/environment.py --venv "$(VENV)" --torch-spec "$(TORCH_SPEC)"

demo: env ## train a small sparse translator, score it and translate with it (output/demo)
	@if test -e $(DEMO_OUT)/all_results.json; then rm -rf $(DEMO_OUT); fi
	$(RUN) recipes/translation.py configs/demo.yaml --output_dir $(DEMO_OUT)
	$(RUN) recipes/unseen.py $(DEMO_OUT) --count 3

digits: env ## train a sparse MLP on small images and cut its dead neurons out (output/digits)
	@if test -e output/digits/all_results.json; then rm -rf output/digits; fi
	$(RUN) recipes/image_classification.py configs/digits_mlp_chts_99.yaml --output_dir output/digits
	$(RUN) recipes/compact_mlp.py output/digits configs/digits_mlp_chts_99.yaml

test: env ## run the tests, all but the slow ones
	$(PYTEST) -m "not slow"

test-all: env ## run every test
	$(PYTEST)

quality: env ## lint, check the format and the types
	@status=0; for check in "ruff check ." "ruff format --check ." mypy; do \
		echo "$$check"; $(RUN) -m $$check || status=1; \
	done; exit $$status

style: env ## mend what lint and format can mend by themselves
	$(RUN) -m ruff check --fix .
	$(RUN) -m ruff format .

bench: env ## measure what sparse training costs beside dense training
	$(RUN) benchmarks/training.py

bench-inference: env ## measure how fast a sparse model generates on this CPU
	$(RUN) benchmarks/inference.py

compare: env ## compare ten methods in miniature, under half an hour (output/compare)
	$(RUN) recipes/compare.py configs/compare_demo.yaml --results_dir output/compare/demo_records \
		--commit unknown # where git cannot tell, as in an unpacked archive

finetune: env ## make a trained dense translator sparse: CHTss against pruning at once
	$(RUN) recipes/finetune.py configs/demo.yaml

results: env ## write docs/results.md and the README's table from docs/results/
	$(RUN) recipes/results.py

pins: env ## resolve every dependency anew and write constraints.txt
	$(RUN) scripts/pins.py --torch-spec "$(TORCH_SPEC)"

clean: ## remove caches and what the demo wrote
	rm -rf output/demo output/digits build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -not -path "./$(VENV)/*" -prune -exec rm -rf {} +

distclean: clean ## remove the environment too
	if test -f "$(VENV)/pyvenv.cfg"; then rm -rf "$(VENV)"; fi
