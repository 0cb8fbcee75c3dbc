# Everything a developer or a curious operator does with Pointsman; `make` alone lists it.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PEERS := build/peers/cidpeer
SYSTEM := build/.system
READY := build/.venv
C_FILES := $(shell find bpf peers bench tests -name '*.c' -o -name '*.h')

# What Debian packages hold: what runs (nftables, iproute2), what the lab and the tests need besides, what builds.
PROGRAMS := $(patsubst bpf/%.bpf.c,src/pointsman/programs/%.bpf.o,$(wildcard bpf/*.bpf.c))
PACKAGES := nftables iproute2 conntrack python3-venv gcc libc6-dev openssl iptables radvd ethtool procps iputils-ping \
	clang libbpf-dev libbpf1 linux-libc-dev nginx-light wrk mosquitto mosquitto-clients redis-server dnsmasq-base
BENCH_PACKAGES := llvm ipvsadm xdp-tools haproxy
KERNEL_PACKAGES := qemu-system-x86 busybox-static kmod

# For test-kernels: a kernel's package or .deb file, what to run in it, for how many seconds, and pytest's options.
KERNEL ?= linux-image-amd64
TESTS ?= tests/conformance
KERNEL_LIMIT ?= 7200
PYTEST_ARGS ?=

# For bench-kernels: what to measure there. Emulated, a packet takes some twenty times as long: a few cells are enough.
BENCH ?= xdp --quick --only 'IPv? forward, 2 nodes*60,000 flows'

# For fuzz: how long each libFuzzer target runs.
FUZZ_SECONDS ?= 60

# What is done to the daemon under load: minutes of all the machine, so apart from `make test`.
FAULTS := tests/conformance/test_halfway.py $(addprefix tests/e2e/,test_faults.py test_last_packet.py test_under_way.py \
	test_install.py test_unit.py test_daemon_soak.py test_soak.py)

# For soak: how long the daemon's lasts, on both data planes at once.
SOAK_SECONDS ?= 1800

.PHONY: help setup demo test unit netns-test test-kernels bench-kernels faults lint format bench fuzz soak programs wheel peers peers-wolfssl lock clean

help: ## List the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 16

setup: $(SYSTEM) $(READY) $(PEERS) $(PROGRAMS) ## Install what is needed: Debian packages (as root), a virtual environment, the DTLS peers

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

$(PROGRAMS) &: $(shell find bpf -name '*.[ch]') tools/build-programs | $(SYSTEM)
	@tools/build-programs src/pointsman/programs

programs: $(PROGRAMS) ## Compile the XDP programs

$(PEERS): $(wildcard peers/*) | $(SYSTEM)
	@peers/build.sh build/peers

peers: $(PEERS) ## Build the DTLS connection-ID peers (Mbed TLS)

wheel: $(READY) ## Build the wheel, with the XDP programs in it, in build/dist
	@$(BIN)/python -m pip wheel --quiet --disable-pip-version-check --no-deps --no-build-isolation -w build/dist .
	@ls build/dist/*.whl

peers-wolfssl: $(SYSTEM) ## Build the same peers on a second DTLS stack (optional)
	peers/build-wolfssl.sh build/peers

need-root-%:
	@sh tools/need-root $*

demo: need-root-demo $(READY) $(PEERS) $(PROGRAMS) ## Show it working: real DTLS peers, a real NAT, no session lost (root)
	@$(BIN)/python -m pointsman.lab.demo --peer $(PEERS) $(if $(DATAPLANE),--dataplane $(DATAPLANE))

test: $(READY) $(PEERS) $(PROGRAMS) ## All tests but faults and soak; without root those that need none, and it says so
	@if [ "$$(id -u)" = 0 ]; then $(MAKE) --no-print-directory --keep-going unit netns-test; else \
		$(MAKE) --no-print-directory unit; \
		echo "not run, as they make network namespaces and need root: tests/prog tests/differential tests/conformance tests/e2e"; fi

unit: $(READY) $(PROGRAMS) ## Tests that need no root, in seconds
	$(BIN)/pytest -q -n auto tests/unit tests/golden tests/native

# Four at a time, also on two processors: most cases wait, for time-outs or for what must not arrive.
netns-test: $(READY) $(PEERS) $(PROGRAMS) ## Programs, both planes against each other, conformance, end to end (root)
	$(BIN)/pytest -q -n 4 --dist worksteal tests/prog tests/differential tests/conformance tests/e2e \
		$(addprefix --ignore=,$(FAULTS))

faults: need-root-faults $(READY) $(PEERS) $(PROGRAMS) ## The daemon killed, starved, flooded, installed and upgraded under load (root)
	$(BIN)/pytest -q -n 2 -rP $(FAULTS)

test-kernels: need-root-test-kernels $(READY) $(PEERS) $(PROGRAMS) ## Conformance tests in Debian's kernel, emulated: KERNEL= TESTS= PYTEST_ARGS= (root)
	@sh tools/system-packages $(PACKAGES) $(KERNEL_PACKAGES)
	@$(BIN)/python tools/test-kernels $(KERNEL) --limit $(KERNEL_LIMIT) $(TESTS) $(PYTEST_ARGS)

bench-kernels: need-root-bench-kernels $(READY) $(PROGRAMS) ## The benchmark in that kernel, which has IPVS: KERNEL= BENCH= (root)
	@sh tools/system-packages $(PACKAGES) $(BENCH_PACKAGES) $(KERNEL_PACKAGES)
	@$(BIN)/python tools/test-kernels $(KERNEL) --limit $(KERNEL_LIMIT) --bench $(BENCH)

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

bench: need-root-bench $(READY) $(PEERS) $(PROGRAMS) ## Packet rates and TCP beside the iptables recipe, a flood, configuration at scale (root)
	@sh tools/system-packages $(PACKAGES) $(BENCH_PACKAGES)
	$(BIN)/python -m bench --json build/bench.json
	$(BIN)/python -m bench xdp --json build/bench-xdp.json
	$(BIN)/python -m bench filter --json build/bench-filter.json
	$(BIN)/python -m bench tcp --json build/bench-tcp.json
	$(BIN)/python -m bench dsr --json build/bench-dsr.json
	POINTSMAN_FLOOD=1 $(BIN)/pytest -q -s tests/e2e/test_flood.py
	$(BIN)/python -m bench scale --json build/bench-scale.json
	$(BIN)/python -m bench health --json build/bench-health.json

fuzz: $(READY) $(PROGRAMS) ## Property tests with many more examples; libFuzzer over bpf/, and hostile frames (root), for FUZZ_SECONDS each
	$(BIN)/pytest -q -n auto --hypothesis-profile=fuzz tests/unit tests/native
	@FUZZ_SECONDS=$(FUZZ_SECONDS) tools/fuzz
	@[ "$$(id -u)" != 0 ] || FUZZ_SECONDS=$(FUZZ_SECONDS) PYTHONPATH=src:. $(BIN)/python -m tests.prog.mutate
	@[ "$$(id -u)" != 0 ] || FUZZ_SECONDS=$(FUZZ_SECONDS) PYTHONPATH=src:. $(BIN)/python -m tests.prog.roles
	@[ "$$(id -u)" != 0 ] || POINTSMAN_FRAMES=300000 POINTSMAN_SEED=$$(date +%s) $(BIN)/pytest -q -s tests/differential

soak: need-root-soak $(READY) $(PEERS) $(PROGRAMS) ## Mixed load over kills, reloads, flapping, for SOAK_SECONDS; 200 kills, 1,000 reloads; rebinding sessions (root)
	POINTSMAN_SOAK_SECONDS=$(SOAK_SECONDS) $(BIN)/pytest -q -n 2 -rP tests/e2e/test_daemon_soak.py
	POINTSMAN_KILLS=200 POINTSMAN_RELOADS=1000 POINTSMAN_FLAPPING=60 $(BIN)/pytest -q -n 2 -rP \
		tests/e2e/test_faults.py tests/e2e/test_last_packet.py
	POINTSMAN_SOAK_SECONDS=600 $(BIN)/pytest -q -s tests/e2e/test_soak.py
	POINTSMAN_CONNECTIONS=10000 $(BIN)/pytest -q tests/e2e -k many_connections

lock: ## Write requirements/dev.lock anew from dev.in
	$(BIN)/python -m pip install --quiet pip-tools
	PIP_CONFIG_FILE=/dev/null $(BIN)/pip-compile -q --generate-hashes --no-header --no-emit-index-url \
		--no-emit-find-links --no-emit-trusted-host --no-emit-options --strip-extras --allow-unsafe --upgrade \
		-o requirements/dev.lock requirements/dev.in

clean: ## Remove what was built
	rm -rf build $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
