# Every target works from nothing: Python 3.11 or later and make are enough, no root, no system service.
# Each writes build/report/<target>.json (tools/report.py): command, revision, date, seconds, exit code, counts.
#
#   make demo      one story of all five parts on real data, with two processes killed half-way; under three minutes
#                  (ARGS=--postgres: three processes on a PostgreSQL server from a wheel; ARGS=--certified: tokens of the
#                  certified oidc-provider; both out of the tests' environment)
#   make test      all tests, a file in one of two processes (ARGS="-k sweep" goes to pytest; ARGS="-n 0" for one process;
#                  BROWSER=0 leaves the browser's out and says so)
#   make check     lint, types, import law, sizes, docs
#   make bench     the benchmarks, peers beside  (ARGS goes to benchmarks/run.py)
#   make soak      long fault runs               (PART=name for one of them)
#   make controls  break the code on purpose: each promise's test must notice   (ARGS="--only ID", "--missing --jobs 2")
#   make env, make env-test    only build the environment: for the demo and the server, for everything
#   make lock      resolve requirements/*.in, keeping what still fits   (LOCKFLAGS=--upgrade for the newest)
#   make site      docs/ as a site, in build/site
#   make clean     remove what the targets made

VENV   := .venv
PY     := $(VENV)/bin/python
UV     := $(VENV)/bin/uv pip
REPORT := tools/report.py
# Where PYTHONDONTWRITEBYTECODE is set, every process would compile what it imports anew, which is a second of CPU for each. Not every
# file in a package is Python that this interpreter takes (templates, old syntax): what cannot be compiled is left as it is.
BYTECODE := $(PY) -m compileall -q -q -j 0

# The first interpreter that runs and is new enough; version managers leave shims that do neither.
PYTHON ?= $(shell for p in python3 python3.14 python3.13 python3.12 python3.11; do \
	"$$p" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1 && { echo "$$p"; break; }; done)

.PHONY: env env-test demo test check bench soak controls site lock clean python browser
.DEFAULT_GOAL := env
export BROWSER
.DELETE_ON_ERROR:

env: python
	@$(PYTHON) $(REPORT) env -- $(MAKE) --no-print-directory $(VENV)/.env
	@echo "The environment stands: $(VENV)/bin/netra"

env-test: python
	@$(PYTHON) $(REPORT) env-test -- $(MAKE) --no-print-directory $(VENV)/.env-test

demo: $(VENV)/.env $(if $(findstring --postgres,$(ARGS))$(findstring --certified,$(ARGS)),$(VENV)/.env-test)
	@$(PY) $(REPORT) demo -- $(PY) -m netra_backend.cli.main demo $(ARGS)

test: $(VENV)/.env-test browser
	@$(PY) $(REPORT) test --junit build/report/test.xml -- \
		$(PY) -m pytest --numprocesses=2 --dist=loadfile --junit-xml=build/report/test.xml $(ARGS) netra_backend/tests

check: $(VENV)/.env-test
	@$(PY) $(REPORT) check -- $(PY) -m tools.check

bench: $(VENV)/.env-test
	@$(PY) $(REPORT) bench -- $(PY) benchmarks/run.py $(ARGS)

soak: $(VENV)/.env-test
	@$(PY) $(REPORT) soak -- $(PY) -m tools.soak $(PART) $(ARGS)

controls: $(VENV)/.env-test
	@$(PY) $(REPORT) controls -- $(PY) -m tools.controls $(ARGS)

site: $(VENV)/.env-test
	@$(PY) $(REPORT) site -- $(PY) -m mkdocs build --strict --quiet

# Chromium for the dashboard's tests: the one on PATH, or Debian's where we may install it.
browser:
	@[ "$(BROWSER)" = 0 ] || command -v chromium >/dev/null || command -v chromium-browser >/dev/null || { \
		[ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null && echo "Installing Chromium for the browser tests" && \
		apt-get update -qq && apt-get install -y -qq --no-install-recommends chromium >/dev/null; } || { \
		echo "The browser tests need Chromium on PATH: sudo apt-get install chromium   (or leave them out: make test BROWSER=0)" >&2; exit 2; }

python:
	@test -n "$(PYTHON)" || { \
		echo "Netra needs Python 3.11 or later, and none was found on PATH." >&2; \
		echo "Install one (Debian: apt-get install python3 python3-venv), or name it: make $(MAKECMDGOALS) PYTHON=/path/to/python3" >&2; \
		exit 2; }

# Stamps, so that a second run starts at once. pip installs uv and nothing else.
$(VENV)/.bootstrap: requirements/bootstrap.txt | python
	@echo "Building $(VENV) with $(PYTHON)"
	@$(PYTHON) -m venv --clear $(VENV) || { echo "This Python has no venv module (Debian: apt-get install python3-venv)." >&2; exit 2; }
	@$(PY) -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/bootstrap.txt
	@touch $@

$(VENV)/.env: $(VENV)/.bootstrap requirements/env.txt requirements/data.txt pyproject.toml
	@$(UV) install --quiet --python $(PY) --require-hashes -r requirements/env.txt
	@$(UV) install --quiet --python $(PY) --require-hashes --no-deps --no-build-isolation -r requirements/data.txt
	@$(UV) install --quiet --python $(PY) --no-deps --no-build-isolation --editable .
	@$(BYTECODE) $(VENV)/lib netra_backend || true
	@touch $@

$(VENV)/.env-test: $(VENV)/.env requirements/test.txt requirements/svix1.txt $(wildcard requirements/node/*.json)
	@$(UV) install --quiet --python $(PY) --require-hashes -r requirements/test.txt
	@$(UV) install --quiet --python $(PY) --require-hashes --no-deps --target $(VENV)/svix1 -r requirements/svix1.txt
	@mkdir -p $(VENV)/node && cp requirements/node/*.json $(VENV)/node/
	@PATH="$(CURDIR)/$(VENV)/bin:$$PATH" npm ci --prefix $(VENV)/node --silent --ignore-scripts --no-audit --no-fund
	@$(BYTECODE) $(VENV)/lib $(VENV)/svix1 || true
	@touch $@

# One resolution for every platform and every Python that Netra claims. The files carry hashes and no address, so they
# install from whichever index the machine is set up for.
COMPILE := $(UV) compile --quiet --universal --python-version 3.11 --generate-hashes --no-header \
	--no-emit-index-url --no-emit-find-links --custom-compile-command "make lock" $(LOCKFLAGS)

lock: $(VENV)/.bootstrap
	$(COMPILE) requirements/bootstrap.in -o requirements/bootstrap.txt
	$(COMPILE) pyproject.toml requirements/env.in -o requirements/env.txt
	$(COMPILE) --no-deps requirements/data.in -o requirements/data.txt
	$(COMPILE) requirements/test.in -o requirements/test.txt
	$(COMPILE) --no-deps requirements/svix1.in -o requirements/svix1.txt
	cd requirements/node && PATH="$(CURDIR)/$(VENV)/bin:$$PATH" npm install --package-lock-only --omit-lockfile-registry-resolved --no-audit --no-fund
	$(PY) -c 'import json, pathlib; file = pathlib.Path("requirements/node/package-lock.json"); lock = json.loads(file.read_text()); \
		[each.pop("funding", None) for each in lock["packages"].values()]; file.write_text(json.dumps(lock, indent=2) + "\n")'

clean:
	rm -rf build .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find netra_backend tools -name __pycache__ -type d -prune -exec rm -rf {} +
