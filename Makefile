# The one entry. `make help` lists what there is.
MAKEFLAGS += --no-builtin-rules --no-print-directory
.SUFFIXES:
.DEFAULT_GOAL := help
.PHONY: help run test soak machines recording screenshots check bench questions idle fuzz schema lock clean

VENV := .venv
PY := $(VENV)/bin/python

# For `make run`; if one is empty, the server uses its own default.
GITHUB :=
USER_NAME :=
PORT :=
CONFIG :=

# For `make fuzz`: for how long each target of fuzz/ runs.
FUZZ_SECONDS := 60
FUZZ_TARGETS := authorized_keys certificates revoked_lists proxy_protocol

help: ## what can be made
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-9s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
	@echo "  make run GITHUB=<login>     let in the keys of that GitHub account"
	@echo "           USER_NAME=<user>   as this account (as root; made if missing; else dev)"
	@echo "           PORT=<n>           on this port instead of 2222"
	@echo "           CONFIG=<file>      with this configuration"

# exec: the server takes the shell's place, so make's signals and the server's exit status reach the right process.
run: $(VENV)/.runtime ## try it: serve here until idle
	@exec $(VENV)/bin/pyssh-gateway serve --trial \
		$(if $(GITHUB),--github '$(GITHUB)') \
		$(if $(USER_NAME),--user '$(USER_NAME)') \
		$(if $(PORT),--port '$(PORT)') \
		$(if $(CONFIG),--config '$(CONFIG)')

test: $(VENV)/.dev ## the tests, with real clients
	@scripts/test-deps.sh
	@scripts/test.sh $(PY) test

soak: $(VENV)/.dev ## the tests that wait for long, or do the same many times
	@scripts/test-deps.sh
	@scripts/test.sh $(PY) soak

machines: $(VENV)/.dev ## the image, and newcomers on fresh machines: minutes, as root
	@scripts/test-deps.sh
	$(PY) -m pytest -m machine -o faulthandler_timeout=600 tests/machines

recording: $(VENV)/.dev ## docs/first-minutes.cast anew, as root
	@scripts/test-deps.sh
	$(PY) -m tests.machines.record

screenshots: $(VENV)/.dev ## docs/report-*.png anew
	@scripts/test-deps.sh
	$(PY) -m tests.machines.screenshots

check: $(VENV)/.dev $(VENV)/.lint ## format, lint, types, imports, unit tests with the core's coverage
	@scripts/test-deps.sh
	$(PY) -m ruff format --check .
	$(PY) -m ruff check .
	$(PY) -m mypy
	PYTHONPATH=$(VENV)/lint $(PY) $(VENV)/lint/bin/lint-imports
	$(PY) -m coverage run -m pytest tests/unit/core
	$(PY) -m coverage report

bench: $(VENV)/.dev ## the figures, each beside OpenSSH's
	@scripts/test-deps.sh
	$(PY) -m bench

questions: $(VENV)/.dev ## how long questions to a log of a million events take, and the index before them
	$(PY) -m bench.audit

idle: $(VENV)/.dev ## how long the machine is awake, and for whom: simulated weeks
	$(PY) -m bench.idle

fuzz: $(VENV)/.dev $(VENV)/.fuzz ## the property tests, deeply, then each target of fuzz/ for FUZZ_SECONDS
	$(PY) -m pytest -m hypothesis --hypothesis-profile=deep
	@set -e; for target in $(FUZZ_TARGETS); do \
		echo "fuzz.$$target for $(FUZZ_SECONDS) s"; \
		PYTHONPATH=$(VENV)/fuzz $(PY) -m fuzz.$$target build/fuzz/$$target -max_total_time=$(FUZZ_SECONDS); \
	done

schema: $(VENV)/.dev ## docs/events.schema.json anew, after a change of an event
	$(PY) -m tests.support.event_schema

lock: ## pin the dependencies anew
	scripts/lock.sh

clean: ## remove what was made; keys/ and audit/ stay
	rm -rf $(VENV) build dist .coverage .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# Each stamp file depends on the files that its environment is made from: when one of them is newer, it is made again.
$(VENV)/.runtime: requirements/runtime.txt requirements/build.txt scripts/venv.sh
	@scripts/venv.sh runtime

$(VENV)/.dev: $(VENV)/.runtime requirements/dev.txt
	@scripts/venv.sh dev

$(VENV)/.lint: $(VENV)/.dev requirements/lint.txt
	@scripts/venv.sh lint

$(VENV)/.fuzz: $(VENV)/.dev requirements/fuzz.txt
	@scripts/venv.sh fuzz
