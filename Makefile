# Two commands: `make demo` runs the main job, `make test` passes the tests. Both install what they need.
PYTHON ?= python3.11
BIN := .venv/bin
INSTALLED := .venv/installed

.PHONY: demo test check setup clean
demo: $(INSTALLED)
	$(BIN)/glmops run demo
	$(BIN)/glmops status demo

test: check
	$(BIN)/pytest --numprocesses auto --maxprocesses 3 --dist loadfile --no-loadscope-reorder

# Everything that needs no running: style, types, and who may import whom.
check: $(INSTALLED)
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports

setup: $(INSTALLED)

# torch first and alone: its CPU build and its CUDA build share one version number, and whichever is
# there is kept by the second line.
$(INSTALLED): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --constraint constraints.txt torch
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[all,dev]'
	touch $(INSTALLED)

# Removes what runs made, and keeps the environment, the registry and the ledger.
clean:
	rm -rf data/prepared data/encoded models reports .glmops/runs .glmops/work
