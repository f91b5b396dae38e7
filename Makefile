# make demo   the whole line on real images        make test   the fast tests
# make setup lint test-all docs                     for developers; .ci/run calls the same

.PHONY: demo test setup lint test-all clean
PYTHON ?= python3
BIN := .venv/bin
TESTS := tests/unit tests/property

demo: .venv/.ready
	@PATH="$(CURDIR)/$(BIN):$$PATH" sh pipelines/configs/demo/run.sh

test: .venv/.ready
	$(BIN)/python -m pytest -n auto $(TESTS)

setup: .venv/.ready
	$(BIN)/pre-commit install

lint: .venv/.ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/lint-imports
	$(BIN)/pyright

test-all: .venv/.ready
	$(BIN)/python -m pytest -n auto --dist loadfile $(TESTS) tests/integration
	$(BIN)/python -m pytest -n auto --dist loadfile tests/cluster tests/browser

.venv/.ready: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import ensurepip' || { echo "error[no-venv]: $(PYTHON) lacks ensurepip; install python3-venv"; exit 2; }
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' || { echo "error[python]: Python 3.11 to 3.13 is needed; name one with PYTHON=..."; exit 2; }
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[all,dev]'
	touch $@

clean:
	rm -rf .venv runs
