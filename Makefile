# The two doors are `make run` and `make test`. Each sets up what it needs.
.DEFAULT_GOAL := help
BINARY := target/release/tidewatch
# What is put behind `make run`, such as ARGS="--json".
ARGS ?=

.PHONY: help run test setup build lint bench demo clean

help: ## Show this list
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## (.*)/  make \1\t\2/' | expand -t 16

run: build ## Watch this host: builds, installing what is missing, and starts (ARGS="--json")
	@if [ "$$(id -u)" = 0 ] || ! command -v sudo >/dev/null; then exec $(BINARY) run $(ARGS); else exec sudo $(BINARY) run $(ARGS); fi

test: ## Run every test (those that need root, eBPF or Docker say so when they skip)
	@scripts/setup test
	@scripts/test

setup:
	@scripts/setup

build: setup ## Build target/release/tidewatch
	@cargo build --release --quiet --package tidewatch

lint: setup ## Check format and lints
	cargo fmt --all --check
	cargo clippy --workspace --all-targets -- -D warnings

bench: setup ## Measure the cost on this host (needs root)
	@cargo build --release --quiet --package tidewatch --package tidewatch-bench
	@target/release/tidewatch-bench

demo: build ## Play three attacks on containers and watch the alarms (needs root and Docker)
	@scripts/setup test
	@.ci/docker-up
	@demo/play $(BINARY)

clean: ## Remove what was built
	cargo clean
