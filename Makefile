# `make` alone lists the targets. Everything is installed into .venv, once, at the versions of
# constraints.txt; another interpreter is chosen with `make ... PYTHON=/path/to/python3.12`.

VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
SITE := .venv-site
PYTHON ?=
JOBS ?= 2
ARGS ?=

export PIP_DISABLE_PIP_VERSION_CHECK := 1
export TOKENIZERS_PARALLELISM := false
# Waiting threads must not spin: two processes of torch on two cores would starve each other.
export OMP_WAIT_POLICY := PASSIVE
notebooks demo quick unit doctest nbval ui picture: export OMP_NUM_THREADS ?= 1
notebooks demo quick unit doctest nbval ui picture: export HF_HUB_OFFLINE := 1

.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help notebooks lab demo quick test lint unit doctest nbval ui picture site clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' Makefile

notebooks: $(READY) ## run every notebook; executed copies land in build/notebooks/
	@$(BIN)/python notebooks/run.py $(ARGS)

lab: $(READY) ## open the course in JupyterLab
	@$(BIN)/jupyter lab $(ARGS) $(firstword $(wildcard notebooks/00_*.ipynb) notebooks)

demo: $(READY) ## serve the decode explorer and the race as a page without code
	@cd notebooks && $(abspath $(BIN))/python -m voila demo.ipynb $(ARGS)

quick: lint doctest ## lint, doctest and the fast unit tests: a few minutes on two cores
	@$(BIN)/pytest tests -q -m "not slow and not ui" -n $(JOBS) $(ARGS)

test: lint doctest unit nbval ui ## lint, doctest, unit, nbval and ui, in this order

lint: $(READY) ## ruff and mypy
	@$(BIN)/ruff check --quiet
	@$(BIN)/ruff format --check --quiet || { echo "Not formatted: run '$(BIN)/ruff format'." >&2; exit 1; }
	@$(BIN)/mypy

unit: $(READY) ## the tests that need no browser
	@$(BIN)/pytest tests -q -m "not ui" -n $(JOBS) $(ARGS)

doctest: $(READY) ## run the examples in the docstrings
	@$(BIN)/pytest nezha_lite -q --doctest-modules

nbval: $(READY) ## run the notebooks again and compare every stored output
	@$(BIN)/pytest notebooks -q --nbval --nbval-current-env --nbval-cell-timeout 300 --timeout 330 \
	    --nbval-sanitize-with notebooks/nbval_sanitize.cfg \
	    -p no:cacheprovider -n $(JOBS) --dist loadfile $(ARGS)

ui: $(READY) ## drive the widgets in JupyterLab with Chromium
	@$(BIN)/pytest tests/ui -q -m ui $(ARGS)

picture: $(READY) ## take the README's picture from the demo page, with Chromium
	@$(BIN)/python -m tests.ui.picture

site: $(SITE)/.ready ## the course and docs/ as a website in build/site/, from the stored outputs
	@$(SITE)/bin/python tools/build_site.py $(ARGS)

clean: ## remove build/ and caches (.venv stays; delete it to install afresh)
	@rm -rf build .pytest_cache .mypy_cache .ruff_cache .hypothesis *.egg-info
	@find . -name .venv -prune -o -type d \( -name __pycache__ -o -name .ipynb_checkpoints \) \
	    -prune -exec rm -rf {} +

# Without PYTHON the oldest supported interpreter is taken first: constraints.txt was made with it.
define FIND_PYTHON
set -eu; \
check='import sys; sys.exit(sys.version_info < (3, 11))'; \
python="$(PYTHON)"; \
for name in python3.11 python3.12 python3.13 python3 python; do \
    if [ -z "$$python" ] && $$name -c "$$check" 2>/dev/null; then python=$$name; fi; \
done; \
if [ -z "$$python" ]; then \
    echo "No Python 3.11 or newer found; install one, or name it: make PYTHON=/path/to/python3.11" >&2; \
    exit 1; \
fi; \
if ! $$python -c "$$check"; then \
    echo "nezha-lite needs Python 3.11 or newer, but $$python is $$($$python --version 2>&1)" >&2; \
    exit 1; \
fi
endef

$(READY): pyproject.toml constraints.txt
	@$(FIND_PYTHON); \
	echo "Installing into $(VENV): about 2 GB (some more where PyTorch comes with CUDA), a few minutes, once."; \
	if [ ! -x $(BIN)/pip ]; then $$python -m venv $(VENV); fi; \
	$(BIN)/pip install --quiet --constraint constraints.txt torch; \
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[notebooks,test]'; \
	touch $(READY)

# Not into .venv: the course runs and is tested without Sphinx, and the website is built without PyTorch.
WANTED := import tomllib; \
	print(*tomllib.load(open("pyproject.toml", "rb"))["dependency-groups"]["site"], sep="\n")
$(SITE)/.ready: pyproject.toml constraints.txt
	@$(FIND_PYTHON); \
	echo "Installing Sphinx into $(SITE): about 250 MB, a minute, once."; \
	if [ ! -x $(SITE)/bin/pip ]; then $$python -m venv $(SITE); fi; \
	$(SITE)/bin/python -c '$(WANTED)' > $(SITE)/requirements.txt; \
	$(SITE)/bin/pip install --quiet --constraint constraints.txt --requirement $(SITE)/requirements.txt; \
	touch $(SITE)/.ready
