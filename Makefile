# `make demo` and `make test` each work alone in a fresh clone, with nothing but Python 3.10-3.13 and make:
# they build an environment in .venv, once, and do their job there.

PYTHON ?= python3
VENV ?= .venv
# Two processes are as many as a small machine bears; PYTEST_ARGS="-k margin" runs a few tests in one.
PYTEST_ARGS ?= -n 2 --dist loadfile
PHOTOS ?=
SET ?=

BIN := $(VENV)/bin
READY := $(VENV)/.ready
UNFINISHED := $(VENV)/.unfinished
PIP_INSTALL = $(BIN)/python -m pip --disable-pip-version-check install --constraint constraints.txt

.PHONY: help demo test results format docs release-check clean

help:
	@echo "make demo                train the tiny model with margin rewards and show what it learned, in outputs/demo"
	@echo "make demo PHOTOS=DIR     the same with your own folder of photographs too"
	@echo "make demo SET=labelled   the same on five labelled distortions, in outputs/demo_labelled"
	@echo "make test                check the format, the types, who imports whom and every test"
	@echo "make results             measure the tables of docs/results.md that are missing, at most three hours"
	@echo "make format              put the code in its format"
	@echo "make docs                build the documents as a site, in site/; a warning is an error"
	@echo "make release-check       build the distributions, install each into an empty environment, and score with it"
	@echo "make clean               remove the environment, build files and caches; outputs/ stays"
	@echo "PYTHON=python3.12        the Python that the environment is made from (3.10 to 3.13)"

demo: $(READY)
	$(BIN)/python recipes/demo.py $(if $(PHOTOS),--photos "$(PHOTOS)") $(if $(SET),--set $(SET))

test: $(READY)
	$(BIN)/python -m ruff format --check .
	$(BIN)/python -m ruff check .
	$(BIN)/python -m mypy
	$(BIN)/python .ci/import_contracts.py
	$(BIN)/python -m pytest $(PYTEST_ARGS)

results: $(READY)
	$(BIN)/python recipes/results.py $(RESULTS_ARGS)

format: $(READY)
	$(BIN)/python -m ruff format .
	$(BIN)/python -m ruff check --fix .

docs: $(READY)
	$(BIN)/python .ci/build_docs.py

# PYTHONS="python3.10 python3.13" names the Pythons; pyenv's and uv's are found too.
release-check: $(READY)
	$(BIN)/python .ci/release_check.py --work build/release $(if $(PYTHONS),--pythons $(PYTHONS))

# The stamp is there only when every step below is done: an environment that was left half-made is thrown away, one
# that is merely older than the files named here is brought up to date. torch comes first and exactly as pinned, so
# that no other package's wish can bring a different build of it.
$(READY): pyproject.toml constraints.txt
	@command -v $(PYTHON) >/dev/null || { echo "$(PYTHON) was not found: name a Python 3.10 to 3.13, as in 'make PYTHON=python3.12 test'." >&2; exit 1; }
	@$(PYTHON) -c 'import sys; v = sys.version_info; sys.exit(None if (3, 10) <= v[:2] <= (3, 13) else "$(PYTHON) is Python %d.%d, but this project needs 3.10 to 3.13: name another, as in \"make PYTHON=python3.12 test\"." % v[:2])'
	@if [ -e $(UNFINISHED) ]; then rm -rf $(VENV); fi
	@mkdir -p $(VENV) && rm -f $@ && touch $(UNFINISHED)
	$(PYTHON) -m venv $(VENV)
	$(PIP_INSTALL) torch==2.13.0
	$(PIP_INSTALL) --editable '.[dev]'
	$(BIN)/python -m mriqa.torchvision_hook
	@mv $(UNFINISHED) $@

clean:
	rm -rf $(VENV) build dist site *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -not -path './$(VENV)/*' -prune -exec rm -rf {} +
