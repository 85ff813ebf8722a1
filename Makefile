# On a machine with Python and make:
#   make demo   the whole job at small scale; look at demo/index.html
#   make test   lint, layer check and tests
#   make docs   the documentation as a site, in build/site
#   make claims measure what both papers' abstracts claim; rewrites that section of experiments/RESULTS.md
# Every target sets up .venv first, once.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
EXTRAS := dev,docs,hosts,train,viz,imagenet,blazepose,prepare,video,synthetic,export,view,notebooks,browser,sql
PIP_FLAGS ?=

.PHONY: setup demo test lint docs docker-check benchmark claims notebooks clean

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
	$(BIN)/python -m pytest -q -n auto --maxprocesses 8 --dist loadfile --no-loadscope-reorder

docs: setup
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

# Linters, and the Dockerfile's steps in an empty environment; PyTorch from pip's own index unless CPU_INDEX says another.
docker-check: setup
	$(BIN)/python docker/check.py
	$(BIN)/python docker/check.py install --build-arg DEVICE=cpu --build-arg CPU_INDEX=$(CPU_INDEX)

benchmark: setup
	$(BIN)/python benchmarks/data.py
	$(BIN)/python benchmarks/lite.py
	$(BIN)/python benchmarks/infer.py

notebooks: setup
	$(BIN)/jupyter execute --inplace notebooks/0*.ipynb

claims: setup
	$(BIN)/python -m experiments.claims

clean:
	rm -rf demo build .pytest_cache .ruff_cache
