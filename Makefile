# Two commands do everything on a fresh clone: `make demo` and `make test`. `make docs` makes the site of the pages.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test lint docs clean

demo: .venv/.installed
	$(BIN)/lumos demo --out demo

# One thread per test process: there is a process for each core.
test: lint
	OMP_NUM_THREADS=1 $(BIN)/pytest

lint: .venv/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m numpydoc.hooks.validate_docstrings $$(git ls-files 'src/*.py')

docs: .venv/.installed-docs
	$(BIN)/sphinx-build -q -W --keep-going -d build/doctrees docs build/site
	@echo build/site/index.html

.venv/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable .
	touch $@

.venv/.installed-docs: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[docs]'
	touch .venv/.installed $@

.venv/.installed-dev: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch .venv/.installed .venv/.installed-docs $@

clean:
	rm -rf .venv build demo .mypy_cache .pytest_cache .ruff_cache src/*.egg-info
