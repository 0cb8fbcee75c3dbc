# Everything a developer or a curious operator does with Pointsman; `make` alone lists it.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PEERS := build/peers/cidpeer
SYSTEM := build/.system
READY := build/.venv
C_FILES := $(shell find peers bench -name '*.c' -o -name '*.h')

# What Debian packages hold: what runs (nftables, iproute2), what the lab and the tests need besides, what builds.
PACKAGES := nftables iproute2 conntrack python3-venv gcc libc6-dev openssl iptables radvd ethtool procps iputils-ping
BENCH_PACKAGES := clang llvm libbpf-dev libbpf1 linux-libc-dev

.PHONY: help setup demo test unit netns-test lint format bench fuzz soak peers peers-wolfssl lock clean

help: ## List the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 16

setup: $(SYSTEM) $(READY) $(PEERS) ## Install what is needed: Debian packages (as root), a virtual environment, the DTLS peers

$(SYSTEM): Makefile
	@mkdir -p build
	@sh tools/system-packages $(PACKAGES)
	@touch $@

$(READY): requirements/dev.lock pyproject.toml | $(SYSTEM)
	@echo "virtual environment in $(VENV), about 200 MB"
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/dev.lock
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

$(PEERS): $(wildcard peers/*) | $(SYSTEM)
	@peers/build.sh build/peers

peers: $(PEERS) ## Build the DTLS connection-ID peers (Mbed TLS)

peers-wolfssl: $(SYSTEM) ## Build the same peers on a second DTLS stack (optional)
	peers/build-wolfssl.sh build/peers

need-root-%:
	@sh tools/need-root $*

demo: need-root-demo $(READY) $(PEERS) ## Show it working: real DTLS peers, a real NAT, no session lost (root)
	@$(BIN)/python -m pointsman.lab.demo --peer $(PEERS)

test: $(READY) $(PEERS) ## All tests; without root those that need none, and it says so
	@if [ "$$(id -u)" = 0 ]; then $(MAKE) --no-print-directory --keep-going unit netns-test; else \
		$(MAKE) --no-print-directory unit; \
		echo "not run, as they make network namespaces and need root: tests/conformance tests/e2e"; fi

unit: $(READY) ## Tests that need no root, in seconds
	$(BIN)/pytest -q -n auto tests/unit tests/golden

netns-test: $(READY) $(PEERS) ## Conformance and end-to-end tests in network namespaces (root)
	$(BIN)/pytest -q -n 2 tests/conformance tests/e2e

lint: $(READY) ## ruff, mypy --strict, import-linter, clang-format, codespell
	$(BIN)/ruff check src tests bench
	$(BIN)/ruff format --check src tests bench
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/clang-format --dry-run -Werror $(C_FILES)
	$(BIN)/codespell src tests bench peers docs examples tools *.md Makefile

format: $(READY) ## Format Python and C
	$(BIN)/ruff check --fix-only src tests bench
	$(BIN)/ruff format src tests bench
	$(BIN)/clang-format -i $(C_FILES)

bench: need-root-bench $(READY) ## Packet rates beside the iptables recipe, and configuration at scale (root)
	@sh tools/system-packages $(PACKAGES) $(BENCH_PACKAGES)
	$(BIN)/python -m bench --json build/bench.json
	$(BIN)/python -m bench scale --json build/bench-scale.json

fuzz: $(READY) ## Property tests with many more examples
	$(BIN)/pytest -q -n auto --hypothesis-profile=fuzz tests/unit

soak: need-root-soak $(READY) $(PEERS) ## Hundreds of sessions rebinding for ten minutes while nodes drain and configurations change (root)
	POINTSMAN_SOAK_SECONDS=600 $(BIN)/pytest -q -s tests/e2e -k soak

lock: ## Write requirements/dev.lock anew from dev.in
	$(BIN)/python -m pip install --quiet pip-tools
	PIP_CONFIG_FILE=/dev/null $(BIN)/pip-compile -q --generate-hashes --no-header --no-emit-index-url \
		--no-emit-find-links --no-emit-trusted-host --no-emit-options --strip-extras --allow-unsafe --upgrade \
		-o requirements/dev.lock requirements/dev.in

clean: ## Remove what was built
	rm -rf build $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
