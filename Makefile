# env, demo, test and bench work from a fresh clone on a fresh machine; each makes the environment first.
.PHONY: env demo test quick lint bench soak long clean test-pure test-rest

PYTHON ?= python3
SECONDS ?= 7200
BIN := .venv/bin

env: .venv/ready

.venv/ready: pyproject.toml tools/env
	tools/env $(PYTHON)

demo: env
	$(BIN)/python tools/demo.py

# Fresh seeds of the simulator for so long: two minutes with everything, seconds in `make quick`, an hour in `make soak`.
# What computes and nothing else goes beside what mounts, listens and waits, so that two cores are in use. Each tells
# what it found when it is through; one that fails does not keep the other from its end.
test: lint
	$(MAKE) --no-print-directory -j2 -k --output-sync=target test-pure test-rest

PURE := tests/sim tests/crash tests/properties tests/formats tests/transcripts

test-pure: env
	GAVEL_SIM_SECONDS=$${GAVEL_SIM_SECONDS:-120} $(BIN)/python -m pytest $(PURE) -o cache_dir=.pytest_cache/pure

test-rest: env
	$(BIN)/python -m pytest $(PURE:%=--ignore=%)

quick: env
	$(BIN)/python -m pytest tests/tidy tests/unit tests/contracts tests/transcripts tests/sim -x

lint: env
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

bench: env
	$(BIN)/python -m benchmarks --large

# A mount for so long, then a cluster for as long; SOAK=mount or SOAK=cluster is one of them.
SOAK ?= mount cluster
soak: env
	$(if $(filter mount,$(SOAK)),$(BIN)/python -m soak --seconds $(SECONDS))
	$(if $(filter cluster,$(SOAK)),$(BIN)/python -m soak --cluster --seconds $(SECONDS))

long: env
	GAVEL_SOAK=1 $(BIN)/python -m pytest tests/sim tests/crash tests/properties tests/integration --timeout=0

clean:
	rm -rf .venv build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
