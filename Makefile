# otlp-relay: everything a user or a developer runs. `make` alone lists it.
GO      ?= go
RELEASE := CGO_ENABLED=0 $(GO) build -trimpath -buildvcs=false -ldflags='-s -w'
# The race detector needs cgo and a C compiler.
CC_HERE := $(shell command -v $$($(GO) env CC) 2>/dev/null)
RACE    := $(if $(CC_HERE),-race)
FUZZTIME ?= 30s

.DEFAULT_GOAL := help
.PHONY: help build layer demo tools test test-go bench fuzz lint clean race-note

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

build: ## build the extension for both architectures, and relayctl
	@mkdir -p build/x86_64 build/arm64
	GOOS=linux GOARCH=amd64 $(RELEASE) -o build/x86_64/otlp-relay ./extension
	GOOS=linux GOARCH=arm64 $(RELEASE) -o build/arm64/otlp-relay ./extension
	$(GO) build -buildvcs=false -o build/relayctl ./cmd/relayctl

layer: build ## write build/layer-{x86_64,arm64}.zip, the same bytes every time
	build/relayctl layer --binary build/x86_64/otlp-relay --out build/layer-x86_64.zip
	build/relayctl layer --binary build/arm64/otlp-relay --out build/layer-arm64.zip

demo: build ## run a real function with the extension in an emulated Lambda and show what arrived (Linux)
	@mkdir -p build/demo
	$(RELEASE) -o build/demo/function ./examples/go
	build/relayctl demo --extension build/$$(uname -m | sed 's/aarch64/arm64/')/otlp-relay \
	  --function build/demo/function --html build/demo.html

test: race-note tools ## run every test, with the race detector where a C compiler is
	$(GO) vet ./...
	$(GO) test $(RACE) -timeout 20m ./...
	$(GO) test ./internal/tcp ./internal/export ./internal/receiver ./internal/lambdaapi # sockets are read another way without -race

test-go: tools ## the quick loop: every test without the race detector, nothing that was tested before
	$(GO) test ./...

race-note:
ifeq ($(RACE),)
	@echo "SKIPPED: the race detector: no C compiler found (1 check left out)"
	@test "$$CI" != true || { echo "with CI=true that is a failure"; exit 1; }
endif

bench: build tools ## measure and rewrite docs/benchmarks.md; takes minutes (Linux)
	$(GO) run ./internal/e2e/bench --out docs/benchmarks.md

fuzz: ## run every fuzz target for FUZZTIME each
	@for pkg in $$($(GO) list ./...); do \
	  for f in $$($(GO) test -list '^Fuzz' $$pkg | grep '^Fuzz'); do \
	    echo "$$pkg $$f"; $(GO) test -run '^$$' -fuzz "^$$f$$" -fuzztime $(FUZZTIME) -fuzzminimizetime 0s $$pkg || exit 1; \
	  done; done

lint: ## gofmt and go vet
	@test -z "$$(gofmt -l .)" || { gofmt -d .; exit 1; }
	$(GO) vet ./...

clean: ## remove what was built
	rm -rf build

include internal/e2e/toolchain/tools.mk
