# The commands of this project. `make help` lists them.
PYTHON ?= python3
VENV ?= .venv
BENCH_ARGS ?=

BIN := $(VENV)/bin
PYTEST := $(BIN)/python -m pytest
RUST_SOURCES := Cargo.toml Cargo.lock pyproject.toml $(shell find rust -name '*.rs' -o -name Cargo.toml)
# Stamps: one for the virtual environment, one for each dependency group of pyproject.toml, one for the build.
CREATED := $(VENV)/.made-venv
TEST_TOOLS := $(VENV)/.made-group-test
LINT_TOOLS := $(VENV)/.made-group-lint
DOCS_TOOLS := $(VENV)/.made-group-docs
FRAMEWORKS := $(VENV)/.made-group-frameworks
# An environment of its own, so that no test finds packages that it has not asked for.
EXTRAS := .venv-extras
WHEEL_TOOLS := $(VENV)/.made-group-wheel
# Older versions of transformers, each in a folder that goes in front of the environment's own; groups of pyproject.toml.
TRANSFORMERS := 4.57.6 5.8.0 5.9.0 5.18.0
OVERLAYS := $(VENV)/overlays
BUILT := $(VENV)/.made-build
# The fuzz targets without nightly; see fuzz/README.md.
SECONDS ?= 60
FUZZ := prune decode preprocess pixel_values
CHECK := cargo run --quiet --locked --release --manifest-path fuzz/Cargo.toml -p pixelprune-checks --

.PHONY: help setup test test-minimum msrv test-extras test-frameworks test-newest test-published lint lint-rust lint-python docs fmt \
	bench bench-images bench-legibility bench-accuracy fuzz $(FUZZ:%=fuzz-%) fuzz-smoke fuzz-replay \
	sanitize wheel test-wheel clean

help:  ## list the commands
	@awk -F ':.*##' '/^[a-z-]+:.*##/ { printf "make %-16s%s\n", $$1, $$2 }' Makefile

setup: $(BUILT)  ## make .venv and build the package into it

test: $(BUILT)  ## set up what is missing and run all tests that need no deep-learning framework
	cargo test --locked -p pixelprune
	cargo test --locked -p pixelprune --no-default-features --lib
	$(PYTEST) --ignore=tests/frameworks --ignore=tests/extras -m 'not frameworks'

test-extras:  ## the tests that need pyarrow, pypdfium2, plotly, ray or a browser, but no deep-learning framework
	$(MAKE) VENV=$(EXTRAS) setup $(EXTRAS)/.made-group-extras
	$(EXTRAS)/bin/python tests/extras/report/browsers.py
	$(EXTRAS)/bin/python -m pytest tests/extras tests/scan tests/cli tests/test_docs.py tests/test_docs_pages.py

test-frameworks: test-newest $(TRANSFORMERS:%=test-transformers-%)  ## the tests that need torch and transformers, old and new

test-newest: $(BUILT) $(FRAMEWORKS)  # with the newest transformers
	$(PYTEST) -m frameworks tests/frameworks tests/images/test_decode.py

test-transformers-%: $(BUILT) $(FRAMEWORKS) $(OVERLAYS)/%/.made  # with an older one
	PYTHONPATH=$(abspath $(OVERLAYS))/$* $(PYTEST) tests/frameworks/hf

test-published: $(BUILT) $(FRAMEWORKS) $(OVERLAYS)/4.57.6/.made $(OVERLAYS)/5.2.0/.made  ## compare with PUBLISHED=PATH
	PYTHONPATH=$(abspath $(OVERLAYS))/4.57.6 $(PYTEST) tests/frameworks/hf/test_published.py --published $(PUBLISHED)
	PYTHONPATH=$(abspath $(OVERLAYS))/5.2.0 $(PYTEST) tests/frameworks/hf/test_published.py --published $(PUBLISHED)

# The oldest versions that Cargo.toml and pyproject.toml allow.
MSRV = $(shell sed -n 's/^rust-version = "\(.*\)"/\1/p' Cargo.toml)
MINIMUM := .venv-minimum

msrv:
	@echo $(MSRV)

test-minimum:  ## build with the oldest Rust and test with the oldest Python, numpy and pillow that are allowed
	@if rustup run $(MSRV) rustc --version; then \
		set -x; RUSTUP_TOOLCHAIN=$(MSRV) $(MAKE) VENV=$(MINIMUM) PYTHON=python3.10 setup; \
	else \
		echo 'Rust $(MSRV) is not installed: clippy looks for newer library functions instead'; \
		set -x; cargo clippy --locked --workspace --all-targets -- -D clippy::incompatible_msrv && \
		$(MAKE) VENV=$(MINIMUM) PYTHON=python3.10 setup; \
	fi
	$(MINIMUM)/bin/python -m pip install --quiet --group minimum
	$(MINIMUM)/bin/python -m pytest --ignore=tests/frameworks --ignore=tests/extras -m 'not frameworks'

lint: lint-rust lint-python  ## formatting, lints, documentation, types, and the stubs against the binary

lint-rust:
	cargo fmt --all --check
	cargo clippy --locked --workspace --all-targets -- -D warnings
	cargo clippy --locked -p pixelprune --no-default-features -- -D warnings
	cargo fmt --manifest-path fuzz/Cargo.toml --all --check
	cargo clippy --locked --manifest-path fuzz/Cargo.toml -p pixelprune-checks -- -D warnings
	RUSTDOCFLAGS='-D warnings' cargo doc --locked -p pixelprune --no-deps

lint-python: $(BUILT) $(LINT_TOOLS)
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/stubtest pixelprune._core

docs: $(DOCS_TOOLS)  ## build the documentation into target/site; warnings are errors
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

fmt: $(LINT_TOOLS)  ## format the Rust and the Python code
	cargo fmt --all
	$(BIN)/ruff check --select I --fix
	$(BIN)/ruff format

bench: $(BUILT)  ## measure selection; BENCH_ARGS="--data IMAGES --record --readme" goes to benches/core.py
	cargo bench --locked -p pixelprune
	$(BIN)/python benches/core.py $(BENCH_ARGS)

bench-images: $(BUILT) $(FRAMEWORKS)  ## measure preprocessing; BENCH_ARGS goes to benches/preprocess.py
	$(BIN)/python -m pip install --quiet hf-processors-rs kornia-rs opencv-python-headless cykooz-resizer
	$(BIN)/python benches/preprocess.py $(BENCH_ARGS)

bench-legibility: $(BUILT)  ## what OCR reads on pruned pages; BENCH_ARGS="--data IMAGES" goes to benches/legibility.py
	$(BIN)/python -m pip install --quiet rapidocr onnxruntime
	$(BIN)/python benches/legibility.py $(BENCH_ARGS)

fuzz: $(FUZZ:%=fuzz-%)  ## run every fuzz target on random bytes, SECONDS=60 each

$(FUZZ:%=fuzz-%): fuzz-%:
	$(CHECK) $* --seconds $(SECONDS)

fuzz-smoke:  ## the same, a few seconds each
	$(MAKE) --no-print-directory fuzz SECONDS=5

fuzz-replay:  ## run TARGET=prune on one INPUT=FILE, such as a failure of make fuzz
	$(CHECK) $(TARGET) --input $(INPUT)

# Flags for sanitizers are not stable yet; the compiler is.
HOST = $(shell rustc -vV | sed -n 's/^host: //p')
ASAN := RUSTC_BOOTSTRAP=1 RUSTFLAGS=-Zsanitizer=address CARGO_TARGET_DIR=target/sanitize
RUNNER = CARGO_TARGET_$(shell echo $(HOST) | tr a-z- A-Z_)_RUNNER

sanitize:  ## look for wrong memory accesses: AddressSanitizer, then valgrind (which has to be installed)
	$(ASAN) cargo test --locked -p pixelprune --target $(HOST) --lib --tests
	for target in preprocess pixel_values; do $(ASAN) $(CHECK:--=--target $(HOST) --) $$target --seconds 30 || exit 1; done
	$(RUNNER)='valgrind --quiet --error-exitcode=9' cargo test --locked -p pixelprune --target $(HOST) --lib

# Zig would link an unwinder of its own, with which daemon threads crash when Python exits: name the system's.
wheel: UNWINDER = $(shell cc -print-file-name=libgcc_s.so.1)
wheel: $(WHEEL_TOOLS)  ## build an abi3 wheel for manylinux 2.17 and the source distribution into dist/
	rm -rf dist
	PATH="$(abspath $(BIN)):$$PATH" RUSTFLAGS='-C link-arg=$(UNWINDER)' $(BIN)/maturin build --release --locked --zig \
		--compatibility manylinux_2_17 --sdist --out dist -i $(BIN)/python
	$(BIN)/auditwheel show dist/*.whl | tee $(VENV)/wheel-tags
	grep -q '^"manylinux_2_17_' $(VENV)/wheel-tags && grep -q 'libgcc_s' $(VENV)/wheel-tags

test-wheel:  ## test the wheels of dist/ in empty environments without Rust; PYTHONS="..." names interpreters
	bash .ci/test-wheel dist $(PYTHONS)

clean:  ## remove everything that these commands made
	rm -rf $(VENV) $(MINIMUM) $(EXTRAS) target fuzz/target dist .hypothesis .mypy_cache .pytest_cache .ruff_cache
	find python -name '_core*.so' -delete

$(CREATED):
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade 'pip>=25.1'
	@touch $@

$(VENV)/.made-group-%: pyproject.toml $(CREATED)
	$(BIN)/python -m pip install --quiet --group $*
	@touch $@

$(OVERLAYS)/%/.made: pyproject.toml $(CREATED)
	rm -rf $(@D)
	$(BIN)/python -m pip install --quiet --no-deps --target $(@D) --group transformers-$*
	@touch $@

$(BUILT): $(RUST_SOURCES) $(TEST_TOOLS)
	VIRTUAL_ENV="$(abspath $(VENV))" $(BIN)/maturin develop --release --locked
	@touch $@
