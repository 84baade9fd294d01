# The two commands of this repository are `make demo` and `make test`; the others measure.
# On a fresh Debian or Ubuntu with only Rust and git, each target first installs what it needs and says so.
# Every variable can be given on the command line: make soak SOAK_MINUTES=60

SOAK_MINUTES ?= 10
FUZZ_MINUTES ?= 10

.PHONY: demo test quick format clippy licences soak fuzz versus bench goldens help

help: ## List the targets
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/\1\t\2/p' $(MAKEFILE_LIST) | expand -t 12

demo: ## Build (release) and watch the bundled clip with the bundled model
	scripts/setup.sh build
	cargo run --locked --release -- demo

test: ## Everything CI runs: format, lints, licences, unit and process tests, Python clients (about 20 minutes from nothing)
	scripts/setup.sh build test
	$(MAKE) --no-print-directory format clippy licences
	scripts/venv.sh
	cargo test --locked

quick: ## Format, lints and unit tests only
	$(MAKE) --no-print-directory format clippy
	cargo test --locked --lib

format:
	cargo fmt --check

clippy:
	cargo clippy --locked --all-targets -- -D warnings

licences: ## Licence and advisory check of all dependencies (deny.toml)
	scripts/check-dependencies.py

bench: ## The figures of docs/measurements.md
	scripts/setup.sh build bench
	cargo build --locked --release
	scripts/bench.sh

versus: ## The CPU engine against onnxruntime, interleaved, same thread count
	scripts/setup.sh build test
	cargo build --locked --release
	benches/versus.sh

soak: ## Pipelines, reconnects and init/terminate for SOAK_MINUTES; fails when memory, descriptors or processes grow
	scripts/setup.sh build test
	scripts/venv.sh
	cargo build --locked --release
	target/venv/bin/python tests/python/soak.py --minutes $(SOAK_MINUTES) target/release/weir

fuzz: ## Seeded hostile bytes on both doors for FUZZ_MINUTES; fails when the service dies, hangs or grows
	scripts/setup.sh build test
	scripts/venv.sh
	cargo build --locked --release
	target/venv/bin/python tests/python/fuzz.py --minutes $(FUZZ_MINUTES) target/release/weir
