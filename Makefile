# One way in for people and for CI. Each target sets up what is missing first; tools/dev.ts does the work.
NODE = node_modules/node/bin/node
SETUP = @sh tools/setup.sh

.DEFAULT_GOAL := help
.PHONY: help setup test check unit go e2e e2e-boot e2e-fresh coverage lab bench fmt build clean

help: ## what can be made
	@sed -n 's/^\([a-z0-9-]*\):.*## /  make \1\t/p' $(MAKEFILE_LIST) | expand -t 16

setup: ## set up what is missing, and nothing else
	$(SETUP) all

test: ## every test that this machine can run
	$(SETUP) all
	@$(NODE) tools/dev.ts test

check: ## types, lint, format, go vet
	$(SETUP) all
	@$(NODE) tools/dev.ts check

unit: ## tests without VMs
	$(SETUP) npm
	@$(NODE) tools/dev.ts unit

go: ## tests of the guest agent
	$(SETUP) all
	@$(NODE) tools/dev.ts go

e2e: ## tests with real VMs
	$(SETUP) all
	@$(NODE) tools/dev.ts e2e

e2e-boot: ## some of them with VMs that boot, and another QEMU
	$(SETUP) all
	@$(NODE) tools/dev.ts e2e-boot

e2e-fresh: ## tests with real VMs, with images that are built anew
	$(SETUP) all
	@cache=$$(mktemp -d) && trap 'rm -rf "$$cache"' EXIT && HEARTH_E2E_CACHE=$$cache $(NODE) tools/dev.ts e2e

coverage: ## tests with real VMs, and what of the sources they reach
	$(SETUP) all
	@$(NODE) tools/dev.ts coverage

lab: ## tests in a nested host with KVM
	$(SETUP) all
	@$(NODE) tools/dev.ts lab

bench: ## paired measurements, into bench/results/
	$(SETUP) all
	@$(NODE) tools/dev.ts bench

fmt: ## format everything
	$(SETUP) all
	@$(NODE) tools/dev.ts fmt

build: ## the npm package, into dist/
	$(SETUP) all
	@$(NODE) tools/build.ts

clean: ## remove what was built; packages stay
	rm -rf build dist .setup/all
