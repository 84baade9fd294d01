# The two commands of this repository are `make demo` and `make test`; the others measure.
# On a fresh Debian or Ubuntu with only git, make and Rust, each target first installs what it needs and says so.

# The compiler is rust-toolchain.toml's, also where rustup has it under another name and nothing can be fetched.
ifndef RUSTUP_TOOLCHAIN
toolchain := $(shell scripts/toolchain.sh)
ifneq ($(toolchain),)
export RUSTUP_TOOLCHAIN := $(toolchain)
endif
endif

.PHONY: demo test quick format clippy licences bench fuzz page sdk soak bus peer vm nspawn nvidia bare yocto help

help: ## List the targets
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/\1\t\2/p' $(MAKEFILE_LIST) | expand -t 12

demo: ## Build (release) and watch the bundled clip with the bundled model
	scripts/setup.sh build
	cargo run --locked --release -- demo

test: ## Everything CI runs: format, lints, licences, unit and process tests, Python clients, schemathesis
	scripts/setup.sh build test
	$(MAKE) --no-print-directory format clippy licences
	scripts/venv.sh
	cargo test --locked
	cargo test --locked --features tensorrt --test tensorrt
	EXAMPLES=25 SEED=1 timeout --kill-after=30 900 tests/schemathesis/run.sh

quick: ## Format, lints and unit tests only
	$(MAKE) --no-print-directory format clippy
	cargo test --locked --lib

format:
	cargo fmt --check

clippy:
	cargo clippy --locked --all-targets -- -D warnings
	cargo clippy --locked --features tensorrt --test tensorrt -- -D warnings

vm: ## The static binaries in machines with a real kernel's cameras: x86-64, then aarch64 (minutes)
	tests/vm/run.sh x86_64
	tests/vm/run.sh aarch64

.PHONY: m2m
m2m: ## Stateful V4L2 decoders in a machine with the kernel's own test codec, built from Debian's sources (x86-64, minutes)
	scripts/setup.sh build vm m2m
	cargo test --locked --test process --no-run
	WEIR_M2M=1 timeout 900 cargo test --locked --test process m2m:: -- --nocapture

licences: ## Licence and advisory check of all dependencies (deny.toml)
	scripts/check-dependencies.py

bench: ## The engine and the whole path on the bundled model and clip
	scripts/setup.sh build
	cargo build --locked --release
	target/release/weir bench engine --model assets/nanodet-coco-416.onnx
	target/release/weir bench pipeline --model assets/nanodet-coco-416.onnx --video assets/sample.mp4

.PHONY: versus
versus: ## The engine against onnxruntime (from PyPI, in its own environment) and tract, in turns
	scripts/setup.sh build bench
	cargo build --locked --release
	benches/versus.sh

# WEIR_FUZZ_GRAPHS says how many, WEIR_FUZZ_SEED where to begin (a failure names its seed); WEIR_FUZZ_FRAMES: messages at each listener.
fuzz: export WEIR_FUZZ_GRAPHS ?= 50000
fuzz: export WEIR_FUZZ_FRAMES ?= 1000000
fuzz: export WEIR_MUTATIONS ?= 500
fuzz: ## Random inputs for longer than `make test` has time
	scripts/setup.sh build
	cargo test --locked --lib random_graphs
	cargo test --locked --lib mutations
	cargo test --locked --test process hostile::random::
	EXAMPLES=2000 tests/schemathesis/run.sh

# Before each release, and whenever scripts/setup.sh or a tool that a test uses changes.
bare: ## Both commands in a Debian with nothing but git, make and Rust in it (root; half an hour a suite)
	tests/bare/run.sh bookworm trixie

# WEIR_ONNX_RANDOM says how many single operators, WEIR_ONNX_GRAPHS how many small graphs, WEIR_ONNX_SEED where to begin.
.PHONY: onnx
onnx: export WEIR_ONNX_RANDOM ?= 6000
onnx: export WEIR_ONNX_GRAPHS ?= 1000
onnx: export WEIR_ONNX_SEED ?= 0
onnx: ## ONNX's node tests and random operators against onnxruntime (both from PyPI, in their own environment)
	scripts/setup.sh build test
	cargo build --locked --release
	scripts/venv.sh onnx tests/onnx/requirements.txt
	target/onnx/bin/python tests/onnx/compare.py target/release/weir --random $(WEIR_ONNX_RANDOM) --graphs $(WEIR_ONNX_GRAPHS) --seed $(WEIR_ONNX_SEED)

nvidia: ## NVIDIA's own libraries under the GPU path, as far as it goes without a GPU (two gigabytes from PyPI)
	scripts/setup.sh build
	tests/nvidia/run.sh

nspawn: ## The packages and the unit under a real systemd, in a container (root, two minutes)
	scripts/setup.sh build nspawn
	cargo build --locked --release
	tests/nspawn/run.sh target/release/weir

# SHOTS=FOLDER keeps pictures of the page there (SHOTS=docs: those of the documentation).
page: ## The page in Debian's Chromium, steered over WebDriver, and judged by axe-core from the npm registry
	scripts/setup.sh build page
	cargo build --locked
	python3 tests/page/test_page.py target/debug/weir

sdk: ## Roboflow's own inference-sdk steers weir (650 MB from PyPI)
	scripts/setup.sh build test
	cargo build --locked
	scripts/venv.sh sdk tests/sdk/requirements.txt
	target/sdk/bin/python tests/sdk/test_sdk.py target/debug/weir

# WEIR_SOAK_KILLS says how often the service is killed.
soak: export WEIR_SOAK_KILLS ?= 200
soak: ## What takes long: 16 cameras, reconnecting, 1 000 times init and terminate, kills at any moment (quiet machine)
	scripts/setup.sh build test
	WEIR_SOAK=1 cargo test --locked --release --test process soak:: -- --nocapture --test-threads=1
	cargo test --locked --test process acknowledged

# WEIR_BUS_SOAK_S says how long, in seconds.
bus: export WEIR_BUS_SOAK_S ?= 600
bus: ## Ten minutes of four cameras over Debian's Mosquitto, which is killed and restarted in the middle
	scripts/setup.sh build test
	cargo test --locked --test process bus::soak -- --nocapture

yocto: ## Check the Yocto layer: oelint-adv and its agreement with this tree
	yocto/check.sh

# SUITES="bullseye bookworm trixie" says whose.
.PHONY: libavcodec
libavcodec: export SUITES ?= bullseye bookworm trixie
libavcodec: ## Every clip through the libavcodec of Debian 11, 12 and 13 (250 MB from Debian's mirrors, unpacked below target/)
	scripts/setup.sh build test bare
	cargo build --locked
	cargo test --locked --lib libavcodec
	tests/libavcodec/run.sh target/debug/weir $$SUITES

peer: ## The same requests to Roboflow's own programs (inference-cpu from PyPI, 1.5 GB) and to weir, shapes compared
	scripts/setup.sh build test
	cargo build --locked
	tests/peer/run.sh target/debug/weir
