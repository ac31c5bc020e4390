# The verbs of this project. `make` alone lists them.
#
# Nothing needs to be set up by hand: each target sees to the environment (.venv) that it needs, and does so at once
# when it is there already. DOLPHIN_PYTHON=/path/to/python chooses the interpreter.

.DEFAULT_GOAL := help
.PHONY: help setup setup-nautilus setup-dev demo test check lint bench nautilus-next lock clean

BIN := .venv/bin
DOLPHIN := $(BIN)/dolphin
DEMO_DAYS := 5
DEMO_TRIALS := 500
# Kernels compiled by Numba are invisible to coverage; the run without the JIT is what measures them.
JIT_OFF := NUMBA_DISABLE_JIT=1 $(BIN)/pytest -m jit_off
# The "ci" profile draws the same examples each time and sets no deadline, so a slow machine is not a failed test.
PYTEST_FLAGS := --hypothesis-profile=ci -rs
COVERAGE := --cov --cov-report=
# Per cent of lines and branches, both runs together; raise it when the tests do.
COVERAGE_FLOOR := 95

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-8s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

setup:
	@scripts/setup main

setup-nautilus: ## what `dolphin backtest --engine nautilus` and `dolphin parity` need on top
	@scripts/setup nautilus

setup-dev:
	@scripts/setup dev

demo: setup ## from nothing to a report: make a synthetic market, scan it, replay the champion, train a forewarner
	$(DOLPHIN) data make --out demo/market --days $(DEMO_DAYS) --force
	$(DOLPHIN) scan run demo/market --out demo/scans --force
	$(DOLPHIN) backtest --data demo/scans --out demo/run --force
	@$(DOLPHIN) forewarner train --data demo/scans --trials $(DEMO_TRIALS) --out demo/model --force --json >/dev/null
	@cp demo/run/report.html demo/report.html.new && mv demo/report.html.new demo/report.html
	@echo "A small forewarner, trained on that market: demo/model (try: $(DOLPHIN) forewarner assess --model demo/model)"
	@echo "The report: $(CURDIR)/demo/report.html (open it in a browser; it needs no network)"

test: check ## every linter and every test, with and without the JIT, and the coverage floor
	@scripts/browser
	@scripts/java
	@$(BIN)/coverage erase
	$(JIT_OFF) $(PYTEST_FLAGS) $(COVERAGE)
	$(BIN)/pytest -n 2 $(PYTEST_FLAGS) $(COVERAGE)term --cov-append --cov-fail-under=$(COVERAGE_FLOOR)

check: lint ## lint, types and import rules
	$(BIN)/mypy
	$(BIN)/lint-imports

lint: setup-dev ## style only: ruff's rules and its formatting
	$(BIN)/ruff check
	$(BIN)/ruff format --check

bench: setup-dev ## measure speed and memory against the yardsticks (bench/)
	$(BIN)/python bench/run.py

nautilus-next: ## which of our imports NautilusTrader's next version still has (asks the network, fails nothing)
	@"$$(scripts/find-python)" -I scripts/nautilus-next

lock: ## write requirements/*.lock anew from pyproject.toml
	@scripts/lock

clean: ## remove the environment, the demo and everything generated
	rm -rf .venv demo build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache .coverage .coverage.*
	find . -name .git -prune -o -name __pycache__ -type d -prune -exec rm -rf {} +
