# Everything here installs what it needs into .venv, and again when that is stale.
# For another Python: make test PYTHON=python3.12 VENV=.venv-3.12
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
# One constraints file per series of jax: Python 3.11 stays at jax 0.10.
SERIES := $(shell p=$(BIN)/python; [ -x $$p ] || p=$(PYTHON); $$p -c 'import sys; print("3.11" if sys.version_info[:2] == (3, 11) else "3.12")')
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints/$(SERIES).txt

# Without PyTorch, which only comparisons with it need: make test TEST_EXTRAS=test
TEST_EXTRAS ?= test,test-torch

# Scripts are not annotated in full: they must call what exists, with the arguments that it takes.
LOOSELY := $(addprefix --disable-error-code=,arg-type assignment call-overload dict-item index misc operator return-value str-unpack union-attr var-annotated)

.PHONY: demo test lint docs release web clean

demo: $(VENV)/.installed
	$(BIN)/hypernet-jax demo $(ARGS)

test: $(VENV)/.installed-test
	$(BIN)/python -m pytest -n 3 --dist loadfile --no-loadscope-reorder

lint: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/mypy benchmarks experiments --no-warn-unused-ignores $(LOOSELY)

# The documentation site, in build/site; a broken link is an error.
docs: $(VENV)/.installed-docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

# Wheel and source archive in dist/, each installed into an empty environment and tried.
release: $(BIN)/python
	$(INSTALL) build
	$(BIN)/python tools/release.py --constraints constraints/$(SERIES).txt $(ARGS)

# The page that restores photographs in the browser, in build/web; needs npm.
web: $(VENV)/.installed
	$(INSTALL) -e '.[onnx]'
	rm -rf build/web
	$(BIN)/python web/assemble.py -o build/web

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or newer is needed, and $(PYTHON) is %d.%d; run: make PYTHON=python3.12 ..." % sys.version_info[:2] if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: $(BIN)/python pyproject.toml constraints/$(SERIES).txt
	$(INSTALL) -e .
	@touch $@

$(VENV)/.installed-test: $(VENV)/.installed
	$(INSTALL) -e '.[train,$(TEST_EXTRAS)]'
	@touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	$(INSTALL) -e '.[train,$(TEST_EXTRAS),dev]'
	@touch $@

$(VENV)/.installed-docs: $(VENV)/.installed
	$(INSTALL) -e '.[docs]'
	@touch $@

clean:
	rm -rf $(VENV) build dist *.egg-info
