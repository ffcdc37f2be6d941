# The commands of this project. `make` alone lists them.
#
# Everything that a target needs besides make, a C compiler and a Rust toolchain is installed by the target itself.

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

# More arguments for cargo test, for example: make test TESTS="--test real gunicorn"
TESTS ?=

.PHONY: help
help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: test
test: real-servers chart-tools ## install what the tests need and run all of them
	REAL_SERVERS=.venv cargo test --locked --no-fail-fast $(TESTS)

.PHONY: real-servers
real-servers: ## install the real servers that tests/real/ runs the proxy in front of
	@tests/real/install

.PHONY: image
image: ## build the image as an archive, target/image/lameduck-VERSION.tar, without a container engine
	@image/build

.PHONY: chart-tools
chart-tools: ## install Helm, kubectl and the schemas that tests/chart/ and tests/inject/ need
	@tests/chart/install

HELM := tests/chart/node_modules/helm/helm

.PHONY: chart
chart: chart-tools ## check the Helm chart, and render it with the values of each of its examples
	@for values in charts/lameduck/ci/*.yaml; do \
		$(HELM) lint --strict charts/lameduck --values "$$values" --quiet; \
		$(HELM) template lameduck charts/lameduck --namespace lameduck-system --values "$$values" >/dev/null; \
		echo "$$values"; \
	done

# How long each fuzz target runs, in seconds.
FUZZ_SECONDS ?= 60

.PHONY: fuzz
fuzz: ## feed random input to everything that reads bytes or text of others
	@fuzz/run $(FUZZ_SECONDS)

.PHONY: bench
bench: ## compare the proxy's cost with its peers'
	@if [[ -x benches/peers/run ]]; then benches/peers/run; else echo "benches/peers/run is not there yet" >&2; exit 1; fi

.PHONY: lint
lint: fmt clippy docs deny ## check formatting, lints, documentation and dependencies

.PHONY: fmt
fmt: ## check the formatting
	cargo fmt --check
	cargo fmt --check --manifest-path fuzz/Cargo.toml

.PHONY: clippy
clippy: ## check the lints
	cargo clippy --locked --all-targets -- -D warnings

.PHONY: docs
docs: ## check the documentation
	RUSTDOCFLAGS="-D warnings" cargo doc --locked --no-deps

.PHONY: deny
deny: ## check advisories, bans, licences and sources of the dependencies
	@.ci/deny
