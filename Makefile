# nictune's commands. `make help` lists them; CONTRIBUTING.md says when to use which.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

# What is being built. Both stay honest when git is absent or the tree is a tarball.
VERSION ?= $(shell git describe --tags --match 'v[0-9]*' --dirty 2>/dev/null || echo v0.0.0-dev)
COMMIT ?= $(shell git describe --always --abbrev=12 --exclude '*' --dirty 2>/dev/null || echo unknown)

# The version comes through -X, so Go need not ask git (which refuses a checkout owned by another user). With -trimpath
# and without C everywhere but in what the race detector runs, each package is compiled once for the program and the tests.
export GOFLAGS := $(strip $(filter-out -buildvcs=% -trimpath,$(GOFLAGS)) -buildvcs=false -trimpath)
export CGO_ENABLED ?= 0
LDFLAGS := -s -w -X main.version=$(VERSION) -X main.commit=$(COMMIT)

# Pinned tools (tools/go.mod) are built once per set of pins.
TOOLS := .cache/bin/$(shell cat tools/go.mod tools/go.sum | cksum | cut -d' ' -f1)

# How much `make test-fuzz` does: executions per target, and seconds after which a target counts as hung.
FUZZ_EXECS ?= 10000
FUZZ_LIMIT ?= 120

# How many images of module memory it decodes; make test-module-images decodes a million.
MODULE_IMAGES ?= 50000

LISTEN ?= 127.0.0.1:9810
BENCH ?= .
BENCH_COUNT ?= 1

.PHONY: help
help: ## List these commands
	@awk -F':.*## ' '/^[a-z-]+:.*## /{printf "  make %-16s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: build
build: ## Build bin/nictune, static, with version and commit in it, and its manual pages in bin/man
	CGO_ENABLED=0 go build -ldflags '$(LDFLAGS)' -o bin/nictune ./cmd/nictune
	CGO_ENABLED=0 go run -tags man -ldflags '$(LDFLAGS)' ./cmd/nictune man bin/man

# Below DESTDIR and PREFIX. It doesn't build, so that root needs no Go: make build comes first.
PREFIX ?= /usr/local
UNITS := $(PREFIX)/lib/systemd/system
SHARE = $(DESTDIR)$(PREFIX)/share

.PHONY: install
install: ## Install what make build left, manual pages, completion and systemd units (PREFIX, DESTDIR)
	@test -x bin/nictune || { echo 'install: there is no bin/nictune: run make build first' >&2; exit 1; }
	install -D -m 0755 bin/nictune '$(DESTDIR)$(PREFIX)/bin/nictune'
	install -d '$(SHARE)/man/man8' '$(SHARE)/bash-completion/completions' '$(SHARE)/zsh/site-functions' '$(SHARE)/fish/vendor_completions.d' '$(DESTDIR)$(UNITS)'
	install -m 0644 bin/man/*.8 '$(SHARE)/man/man8'
	umask 022; bin/nictune completion bash >'$(SHARE)/bash-completion/completions/nictune'
	umask 022; bin/nictune completion zsh >'$(SHARE)/zsh/site-functions/_nictune'
	umask 022; bin/nictune completion fish >'$(SHARE)/fish/vendor_completions.d/nictune.fish'
	install -m 0644 packaging/nictune-agent.socket packaging/nictune-unconfirmed.path '$(DESTDIR)$(UNITS)'
	umask 022; for unit in nictune-agent nictune-recover nictune-unconfirmed; do sed 's|/usr/local/bin/|$(PREFIX)/bin/|' packaging/$$unit.service >'$(DESTDIR)$(UNITS)'/$$unit.service; done
	install -d '$(SHARE)/nictune'
	umask 022; sed 's|/usr/local/bin/|$(PREFIX)/bin/|' packaging/enforce.conf >'$(SHARE)/nictune/enforce.conf'

.PHONY: run
run: build ## Show this host's inventory, then serve its metrics on loopback (reads only)
	bin/nictune inventory
	exec bin/nictune agent --web.listen-address=$(LISTEN)

.PHONY: setup
setup: ## Install what the tests need (apt, as root) or say what is missing
	@scripts/setup

.PHONY: test
test: setup ## Run every test: units, namespaces, fuzz targets, the lab
	@scripts/test

.PHONY: test-unit
test-unit: ## Unit tests and namespace tests
	@scripts/test-unit

.PHONY: test-race
test-race: ## The same with the race detector
	@RACE=true scripts/test-unit

.PHONY: test-fuzz
test-fuzz: ## Run every fuzz target for FUZZ_EXECS executions
	@scripts/fuzz $(FUZZ_EXECS) $(FUZZ_LIMIT)
	go test -vet=off -count=1 -run RandomImages -v ./inventory/module -args -images $(MODULE_IMAGES)

.PHONY: test-module-images
test-module-images: MODULE_IMAGES = 1000000
test-module-images: ## Decode a million random images of module memory (minutes; test-fuzz does a part of them)
	go test -vet=off -count=1 -timeout 2h -run RandomImages -v ./inventory/module -args -images $(MODULE_IMAGES)

.PHONY: bench
bench: setup ## Run the benchmarks (BENCH=regexp, BENCH_COUNT=n)
	go test -run '^$$' -bench '$(BENCH)' -benchmem -count $(BENCH_COUNT) -timeout 40m ./...

.PHONY: lint
lint: $(TOOLS)/golangci-lint ## Run golangci-lint (go vet is in it) and check that go.mod is tidy
	$(TOOLS)/golangci-lint run --allow-parallel-runners ./...
	go vet -tags labhost ./...
	go mod tidy -diff
	go mod verify

.PHONY: vulncheck
vulncheck: $(TOOLS)/govulncheck ## Look for known vulnerabilities (VULNDB=file:///path for a local database)
	@scripts/vulncheck $(TOOLS)/govulncheck

.PHONY: generate
generate: ## Rewrite every generated and golden file
	go generate ./...
	go run -C tools ./generate $(CURDIR)

.PHONY: check-generated
check-generated: ## Fail when a generated or golden file is stale
	@scripts/check-generated

.PHONY: clean
clean: ## Remove what the build and the tools left here
	rm -rf bin .cache

$(TOOLS)/golangci-lint: MODULE := github.com/golangci/golangci-lint/v2/cmd/golangci-lint
$(TOOLS)/govulncheck: MODULE := golang.org/x/vuln/cmd/govulncheck
$(TOOLS)/benchstat: MODULE := golang.org/x/perf/cmd/benchstat
$(TOOLS)/%:
	@mkdir -p $(@D)
	go build -C tools -o $(abspath $@) $(MODULE)

# lab, lab-test, lab-run, lab-clean
include lab/lab.mk
