# What can be done here, each in a line or two; the work is in scripts/. Local and CI are the same.
SHELL := /bin/bash
export CARGO_TARGET_DIR ?= $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/driftless/target

.PHONY: help demo test quick simulate conformance crash soak services-up services-down docs new-connector audit
help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## /  make \1\t/p' Makefile | expand -t 24

demo: ## two SQLite files and a directory, kept the same: needs no server
	@scripts/setup.sh build
	cargo run --release -- demo

test: ## everything that CI gates; installs what is missing
	@scripts/test.sh

quick: ## formatting, lints, house rules, unit tests: under a minute when warm
	cargo fmt --check
	cargo clippy --all-targets -- -D warnings
	cargo test --lib --test tidy

simulate: ## N=schedules, SECONDS=limit, FIRST=seed; or SEED=one to replay (docs/guides/simulation.md)
	cargo test --release --test simulation no_schedule -- --nocapture

conformance: ## one behaviour suite for all connectors, on the real engines
	cargo test --lib conformance

crash: ## a node killed ten times while three write; nothing may be lost
	cargo test --test it killed -- --nocapture

soak: ## MINUTES=… KILLS=…: the real run, longer
	@scripts/setup.sh
	MINUTES=$(or $(MINUTES),30) KILLS=$(or $(KILLS),20) cargo test --release --test real -- --nocapture

services-up: ## S="kafka registry postgres15 postgres17"
	@scripts/setup.sh services
	@scripts/services.sh up $(S)

services-down: ## S=… for some of them only
	@scripts/services.sh down $(S)

docs: ## the reference of the code, in the target folder
	cargo doc --no-deps --document-private-items

new-connector: ## NAME=x: copies the example connector
	@scripts/new-connector.sh "$(NAME)"

audit: ## licences, bans and sources of all crates; installs cargo-deny once (minutes)
	@scripts/audit.sh
