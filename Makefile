# Everything a newcomer needs: `make serve` and `make test`. Both make the environment first.
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
SERVES := $(VENV)/.serves
READY  := $(VENV)/.ready

.PHONY: serve test check bench docs clean env system codex lock build audit javascript

env: $(READY)

# What a server needs comes as requirements.lock has it, each file by its hash.
$(SERVES): requirements.lock pyproject.toml
	@echo "Making the environment in $(VENV) …"
	$(PYTHON) -c 'import sys; sys.exit("Antiphon needs Python 3.11 or newer; this is " + sys.version.split()[0]) if sys.version_info < (3, 11) else None'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -q --upgrade "pip>=25.1"
	$(BIN)/python -m pip install -q --no-deps --require-hashes -r requirements.lock
	$(BIN)/python -m pip install -q --no-deps --no-build-isolation -e .
	@touch $(SERVES)

$(READY): $(SERVES)
	@echo "Adding the tools that check and test …"
	$(BIN)/python -m pip install -q --group dev
	@touch $(READY)

serve: $(SERVES)
	$(BIN)/antiphon serve

# A browser and a sandbox for the tests of the runners: Debian's, where they may be installed; else those tests are skipped.
system:
	@command -v bwrap >/dev/null && command -v chromium >/dev/null || \
	{ [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null && echo "Installing bubblewrap and chromium …" && \
	  apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends bubblewrap chromium >/dev/null; } || \
	echo "bubblewrap or chromium is missing and cannot be installed here: what needs it is not tested."

# The Codex CLI for the tests with it: npm's, in a folder of the cache; without npm those tests are skipped.
CODEX_VERSION := 0.171.0
CODEX := $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/antiphon/codex
codex:
	@[ -x "$(CODEX)/node_modules/.bin/codex" ] || \
	{ command -v npm >/dev/null && echo "Installing the Codex CLI $(CODEX_VERSION) in $(CODEX) …" && \
	  npm install --silent --no-audit --no-fund --fetch-retries=1 --fetch-timeout=30000 --prefix "$(CODEX)" @openai/codex@$(CODEX_VERSION); } || \
	echo "Codex is missing and cannot be installed here: what needs it is not tested."

# The official JavaScript SDK for the test with it, in the same way.
JAVASCRIPT_SDK_VERSION := 6.49.0
JAVASCRIPT := $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/antiphon/javascript
javascript:
	@[ -d "$(JAVASCRIPT)/node_modules/openai" ] || \
	{ command -v npm >/dev/null && echo "Installing the JavaScript SDK $(JAVASCRIPT_SDK_VERSION) in $(JAVASCRIPT) …" && \
	  npm install --silent --no-audit --no-fund --fetch-retries=1 --fetch-timeout=30000 --prefix "$(JAVASCRIPT)" openai@$(JAVASCRIPT_SDK_VERSION); } || \
	echo "The JavaScript SDK is missing and cannot be installed here: what needs it is not tested."

# Models, kills and Codex have the machine for themselves; all other tests run side by side, a file at a time.
ALONE := tests/codex tests/crash tests/real
test: check system codex javascript
	$(BIN)/python -m pytest -n auto --dist loadfile $(addprefix --ignore=,$(ALONE))
	$(BIN)/python -m pytest $(ALONE)

check: env
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright
	$(BIN)/lint-imports

bench: env
	$(BIN)/python -m bench.overhead

docs: env
	$(BIN)/python docs/reference/generate.py

# The newest packages that pyproject.toml allows, for every Python and system that it names.
lock: env
	$(BIN)/python -m pip install -q uv
	$(BIN)/uv pip compile -q --universal --python-version 3.11 --upgrade --generate-hashes --no-header --no-annotate \
	  --no-emit-index-url --no-emit-find-links --group build -o requirements.lock pyproject.toml

# What is given to others: the wheel, and the list of all that it is installed with.
build: env
	$(BIN)/python -m pip wheel -q --no-deps --no-build-isolation -w dist .
	$(BIN)/cyclonedx-py requirements --pyproject pyproject.toml --output-reproducible -o dist/antiphon.cdx.json requirements.lock

# Known vulnerabilities of what is locked; asks a service, so not a part of `make test`.
audit: env
	$(BIN)/python -m pip install -q pip-audit
	$(BIN)/pip-audit --strict --disable-pip --require-hashes -r requirements.lock

clean:
	rm -rf $(VENV) .pytest_cache .ruff_cache .hypothesis
