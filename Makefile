# Every target is one command; `make demo` and `make test` are all that a fresh machine needs.
.PHONY: setup demo test check build

setup:
	@deploy/setup.sh

demo: setup
	@cargo build --quiet --workspace && cargo run --quiet --package lockstep-tests --bin demo

test: setup
	@tests/run.sh

check:
	@tests/check.sh

build:
	@cargo build --workspace
