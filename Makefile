# make demo   the whole path, headless, on the sample pictures
# make run    open the app
# make test   all checks
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
PIP    := $(BIN)/python -m pip --disable-pip-version-check install --quiet

.PHONY: demo run test lint setup dev pocket docs bench clean

demo: setup
	$(BIN)/python -m studio demo

run: setup
	$(BIN)/python -m streamlit run streamlit_app.py

# WORKERS: tests that run side by side; those of one file stay together, and files with slow ones come first.
WORKERS ?= 3
test: dev
	$(BIN)/python -m pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder

# ruff and mypy: the same commands as in the pre-commit hooks and in CI.
lint: dev
	$(BIN)/python -m ruff check .
	$(BIN)/python -m ruff format --check .
	$(BIN)/python -m mypy

setup: $(VENV)/.ready-run
dev: $(VENV)/.ready-dev

$(VENV)/.ready-run: requirements.txt
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "Installing the studio's packages into $(VENV). This takes a few minutes the first time."
	@$(PIP) -r requirements.txt
	@touch $@

$(VENV)/.ready-dev: requirements-dev.txt $(VENV)/.ready-run
	@echo "Installing the packages for tests and checks into $(VENV)."
	@$(PIP) -r requirements-dev.txt
	@touch $@

# The reference pages in docs/ are made from the code.
docs: setup
	$(BIN)/python -m studio.cli.docs

bench: dev
	$(BIN)/python -m benchmarks.train_steps
	$(BIN)/python -m benchmarks.grid
	$(BIN)/python -m benchmarks.demo

# Rebuilds the built-in base model from fonts-noto-color-emoji and emojibase-data; about an hour on two cores.
pocket: dev
	$(BIN)/python -m scripts.pocket all --work build/pocket

clean:
	rm -rf build .mypy_cache .ruff_cache .pytest_cache
