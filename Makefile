# One virtual environment in the project; every target sets it up first if it is not there.
PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/.installed

.PHONY: install demo test check bench docs clean

install: $(STAMP)

# torch first and pinned: where a CPU build of that version is at hand, pip takes it.
$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --constraint constraints.txt torch
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $(STAMP)

demo: install
	rm -rf demo
	$(BIN)/cosim run scenarios/quickstart.toml --out demo
	$(BIN)/cosim timeline demo --png demo/timeline.png
	@echo "Look at demo/timeline.png, or ask: $(BIN)/cosim explain demo 5"

test: install
	$(BIN)/pytest -n 2 --dist worksteal

check: install
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/pytest -n 2 --dist worksteal --hypothesis-profile=default

bench: install
	$(BIN)/python -m bench

docs: install
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[docs]'
	rm -rf docs/_build
	$(BIN)/python -m sphinx -W --keep-going -q -j auto docs docs/_build

clean:
	rm -rf .venv demo docs/_build docs/jupyter_execute runs studies .pytest_cache .mypy_cache .ruff_cache .hypothesis
