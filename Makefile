# On a machine with Python and make:
#   make demo   the whole job at small scale; look at demo/index.html
#   make test   lint, layer check and tests
# Every target sets up .venv first, once.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
<<<<<<< HEAD
EXTRAS := dev,train,viz,imagenet,prepare,video,synthetic,export,browser
=======
EXTRAS := dev,train,viz,imagenet,prepare,synthetic,export,view,browser
>>>>>>> 6646d70 (Look through a data set in a web page, with or without a network)
PIP_FLAGS ?=

.PHONY: setup demo test lint benchmark clean

setup: $(VENV)/.ready

$(VENV)/.ready: setup.cfg pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check $(PIP_FLAGS) --constraint constraints.txt --editable ".[$(EXTRAS)]"
	touch $@

demo: setup
	$(BIN)/margipose demo demo

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

test: lint
	$(BIN)/python -m pytest -q -n auto --maxprocesses 8 --dist loadfile

benchmark: setup
	$(BIN)/python benchmarks/data.py
	$(BIN)/python benchmarks/lite.py

clean:
	rm -rf demo build .pytest_cache .ruff_cache
