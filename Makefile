# The two doors are `make run` and `make test`. Each sets up what it needs.
.DEFAULT_GOAL := help
BINARY := target/release/tidewatch
# What is put behind `make run`, such as ARGS="--json".
ARGS ?=
PREFIX ?= /usr/local
# The image's binary brings its C library along.
STATIC := $(shell uname -m)-unknown-linux-gnu

.PHONY: help run test setup build lint bench endure demo install uninstall deb image clean

help: ## Show this list
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## (.*)/  make \1\t\2/' | expand -t 18

run: build ## Watch this host: builds, installing what is missing, and starts (ARGS="--json")
	@if [ "$$(id -u)" = 0 ] || ! command -v sudo >/dev/null; then exec $(BINARY) run $(ARGS); else exec sudo $(BINARY) run $(ARGS); fi

test: ## Run every test (those that need root, eBPF or Docker say so when they skip)
	@scripts/setup test
	@scripts/test

setup:
	@scripts/setup

build: setup ## Build target/release/tidewatch
	@test -x $(BINARY) || echo "building $(BINARY): some minutes the first time" >&2
	@cargo build --release --quiet --package tidewatch

lint: setup ## Check format and lints
	cargo fmt --all --check
	cargo clippy --workspace --all-targets -- -D warnings

bench: ## Measure the cost on this host (needs root; ARGS=all: servers, rates, memory beside containers too)
	@scripts/setup $(if $(ARGS),bench)
	@cargo build --release --quiet --package tidewatch --package tidewatch-bench
	@target/release/tidewatch-bench $(ARGS)

endure: setup ## Findings at a steady rate through the service: none lost, none doubled (root; ARGS="1000 600 0")
	@cargo build --release --quiet --package tidewatch --package tidewatch-bench
	@target/release/tidewatch-bench endure $(ARGS)

demo: build ## Play three attacks on containers and watch the alarms (needs root and Docker)
	@scripts/setup test
	@.ci/docker-up
	@demo/play $(BINARY)

install: ## Install on this host, or bring up to date (root; PREFIX=/usr/local, DESTDIR=)
	@test -x $(BINARY) || $(MAKE) --no-print-directory build
	@BINARY="$(BINARY)" PREFIX="$(PREFIX)" DESTDIR="$(DESTDIR)" scripts/install

uninstall: ## Remove what was installed; keeps configuration and state (PURGE=1: removes them)
	@PREFIX="$(PREFIX)" DESTDIR="$(DESTDIR)" PURGE="$(PURGE)" LIFT="$(LIFT)" KEEP="$(KEEP)" scripts/uninstall

deb: build ## Build target/debian/tidewatch_VERSION_ARCH.deb
	@BINARY="$(BINARY)" scripts/package-deb

image: setup ## Build the container image tidewatch:VERSION (needs Docker)
	@RUSTFLAGS='-C target-feature=+crt-static' cargo build --release --quiet --package tidewatch --target $(STATIC) \
	  --target-dir target/static
	@BINARY=target/static/$(STATIC)/release/tidewatch scripts/package-image

clean: ## Remove what was built
	cargo clean
