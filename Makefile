# No command names a package: cargo would compile its dependencies once more, with the features of that package alone.
# Every target is one command; `make demo` and `make test` are all that a fresh machine needs.
.PHONY: setup demo test check sim fuzz crash bench build package fleet fleet-down fleet-packages fleet-test upgrade-test pictures manual

setup:
	@deploy/setup.sh

demo: setup
	@cargo build --quiet --workspace && cargo run --quiet --bin demo

test: setup
	@tests/run.sh

check:
	@tests/check.sh && $(MAKE) --no-print-directory sim SEEDS=5000

# `make sim SEEDS=100000` runs so many schedules, `make sim SEED=7` runs one and tells it, `make sim MUTANTS=1`
# shows how soon each deliberate bug is caught.
sim:
	@cargo run --quiet --profile sim --package lockstep-sim --features simulate -- $(if $(MUTANTS),--mutants,$(if $(SEED),--seed $(SEED),--seeds $(or $(SEEDS),100000)))

# `make fuzz SECONDS=3600 TARGETS="wire pg_hba"` runs these for an hour each.
fuzz: setup
	@tests/fuzz.sh $(or $(SECONDS),60) $(TARGETS)

crash: setup
	@cargo build --quiet --workspace && CRASH_ALONE=1 cargo test --test scenarios recovery::crash -- --test-threads=1

# `make bench CASES="rollback_seconds"` measures some cases; `make bench FROM=REVISION` compares them with the programs
# of another revision.
bench: setup
	@cargo build --quiet --release --workspace --bins && cargo run --quiet --release --bin bench -- $(if $(FROM),--from $(FROM)) $(CASES)

# Debian packages in target/debian: lockstep, lockstep-agent, lockstep-coordinator.
package:
	@deploy/package.sh

# Eight hosts with systemd, our packages and what they drive, on a network of their own; they stay until `make fleet-down`.
fleet: setup fleet-packages
	@cargo run --quiet --bin fleet -- up

fleet-down:
	@cargo run --quiet --bin fleet -- down

# The same programs, of the debug build, under two numbers: to be installed, and to be upgraded to.
fleet-packages:
	@for version in 0.1.0-1 0.1.0-2; do \
	    PROFILE=dev VERSION=$$version OUTPUT=target/fleet/$$version deploy/package.sh >/dev/null || exit 1; done

fleet-test: setup fleet-packages
	@cargo test --test fleet -- --ignored --test-threads=1

# docs/pictures/*.svg, from what the programs show on a terminal of 80 columns.
pictures: setup
	@cargo build --quiet --workspace && cargo run --quiet --bin pictures

# What is made from cli/src/deployment_yml/typed.rs: the JSON Schema of deployment.yml and its reference.
manual:
	@cargo build --quiet --bin lockstep && mkdir -p target/manual
	@target/debug/lockstep schema > target/manual/deployment.schema.json && target/debug/lockstep package-files target/manual
	@cp target/manual/deployment.schema.json deploy/schema/ && cp target/manual/deployment.yml.md docs/

# From the packages of an earlier revision to those of this one, on a fleet under load: nothing is lost.
# `make upgrade-test FROM=<revision> UPGRADE_ORDER="app-1 c1 lb-1"` upgrades its hosts one by one.
upgrade-test: FROM ?= da8beec
upgrade-test: setup
	@tests/upgrade.sh $(FROM)

build:
	@cargo build --workspace
