# The verbs of this repository. `make run` and `make test` need nothing but Python 3.11+ and PyPI.
# DATA: where `make run` keeps its state.  DEMO: how many simulated machines to add.  PORT: where the page is.
# BROKER: what `make bench` measures on, `embedded` or `kafka`.

DATA ?= .labkeeper
PORT ?= 8000
PY := .venv/bin/python

.PHONY: run test check lint bench screenshot contracts lock clean

# On a terminal Labkeeper gets a process group of its own, so that Ctrl-C is for it alone and make sees it end well.
run:
	@sh infra/bootstrap.sh run
	@set -- .venv/bin/labkeeper up --data "$(DATA)" --port "$(PORT)" $(if $(DEMO),--demo "$(DEMO)"); \
	if [ -t 0 ]; then set -m; "$$@"; else exec "$$@"; fi

# Tests mostly wait: three at a time keep two cores busy. Files are taken in their order, which has the long tests first and the
# quick ones, in tests/unit, for whoever is done early. Bytecode is kept, for the hundreds of processes that the tests start.
test:
	@sh infra/bootstrap.sh test
	@PYTHONDONTWRITEBYTECODE= $(PY) -m pytest -n 3 --dist loadfile --no-loadscope-reorder

lint:
	@sh infra/bootstrap.sh test
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) -m mypy
	.venv/bin/lint-imports --no-cache

check: lint
	$(PY) -m pytest tests/unit -q -n auto -m "not slow"

bench:
	@sh infra/bootstrap.sh test
	@$(PY) -m tests.bench $(if $(BROKER),--broker "$(BROKER)")

screenshot:
	@sh infra/bootstrap.sh test
	@LABKEEPER_SCREENSHOT=docs/screenshot.png $(PY) -m pytest tests/e2e/test_page.py -q

contracts:
	@sh infra/bootstrap.sh run
	@.venv/bin/labkeeper schemas write docs/contracts

COMPILE := $(PY) -m uv pip compile --universal --python-version 3.11 --generate-hashes --no-header --no-annotate -q
EXTRAS := --extra kafka --extra pubsub --extra faust --extra snmp --extra modbus --extra mqtt --extra mail

lock:
	$(COMPILE) --extra build $(EXTRAS) pyproject.toml -o requirements/scale.txt
	$(COMPILE) --extra build -c requirements/scale.txt pyproject.toml -o requirements/run.txt
	$(COMPILE) --extra build $(EXTRAS) --extra test -c requirements/scale.txt pyproject.toml -o requirements/test.txt
	$(COMPILE) --group pyproject.toml:charts -o requirements/charts.txt

clean:
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis dist build
