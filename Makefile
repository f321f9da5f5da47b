# make train · make test · make check · make docs · make help      (all of them use .venv/, which `make env` makes)
PYTHON ?= python3
PIP_INSTALL = .venv/bin/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt

.DEFAULT_GOAL := help
.PHONY: help env train test test-faults test-lowest check docs dist clean

help: ## this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

env: .venv/installed ## the environment that training needs, in .venv/

.venv/installed: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10) and "lmtrain needs Python 3.10 or newer: make $(MAKECMDGOALS) PYTHON=python3.11")'
	@echo "Installing lmtrain and PyTorch into .venv/ (once, a few minutes) ..."
	@test -x .venv/bin/python || $(PYTHON) -m venv .venv
	@$(PIP_INSTALL) --editable .
	@touch $@

.venv/installed-test: .venv/installed
	@echo "Installing what the tests need (real Flair among it) into .venv/ (once, a few minutes) ..."
	@$(PIP_INSTALL) --editable '.[test,check]'
	@touch $@

train: .venv/installed ## train the demo model: half a minute to two minutes on two cores, no download
	@.venv/bin/python train.py experiment=demo

test: .venv/installed-test ## the whole test suite (seven to eight minutes on two cores)
	@.venv/bin/python -m pytest -m "not slow" -n 2 --dist loadfile --no-loadscope-reorder

test-faults: .venv/installed-test ## the long fault tests: kills at random moments, two hosts (about 15 minutes)
	@.venv/bin/python -m pytest tests/faults

# third-party deprecations, which old releases give with what is new beside them, are not ours
LOWEST_TESTS = $(foreach name,training program output locks scoring generation dictionary encoding corpus build_dictionary \
	export embeddings,$(wildcard tests/*/test_$(name).py))
TORCH ?= 2.13.0

test-lowest: .venv-lowest/installed ## what training needs in its lowest versions (constraints-lowest.txt), in .venv-lowest/
	@.venv-lowest/bin/python -m pytest -W ignore::DeprecationWarning -W ignore::PendingDeprecationWarning $(LOWEST_TESTS)

.venv-lowest/installed: pyproject.toml constraints-lowest.txt
	@test -x .venv-lowest/bin/python || $(PYTHON) -m venv .venv-lowest
	@.venv-lowest/bin/python -m pip install --quiet --disable-pip-version-check --constraint constraints-lowest.txt \
		torch==$(TORCH) pytest pytest-timeout hypothesis --editable .
	@touch $@

check: .venv/installed-test ## lint, formatting, types and the direction of imports (a minute and a half the first time, then seconds)
	@.venv/bin/python -m ruff check .
	@.venv/bin/python -m ruff format --check .
	@.venv/bin/python -m mypy
	@.venv/bin/lint-imports --no-logo

docs: .venv/installed-test ## the documentation as a site in build/site/, without network
	@.venv/bin/python -m mkdocs build --quiet --strict --config-file .mkdocs.yml
	@echo "build/site/index.html"

dist: .venv/installed-test ## source distribution and wheel in dist/, checked
	@rm -rf dist
	@.venv/bin/python -m build --outdir dist . > /dev/null
	@.venv/bin/python -m twine check --strict dist/*

clean: ## remove the environment and the demo's run
	rm -rf .venv .venv-lowest build dist runs/small-demo-forward
