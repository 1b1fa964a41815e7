# Each target does what it needs first; none leaves a second profile's build behind.
# ARGS goes to what the target runs: `make up ARGS='--runtime runc'`, `make test ARGS=files`.

ARGS ?=
TARGET_DIR := $(or $(CARGO_TARGET_DIR),target)
CARGO ?= cargo

.DEFAULT_GOAL := help
.PHONY: help setup init console build up test try bench soak lint down

help: ## what there is
	@sed -nE 's/^([a-z]+):[^#]*## (.*)/  make \1\t\2/p' Makefile | expand -t 16

setup: ## install what is missing to build and run
	@ops/setup

# With --target, its flags are its own and the main build keeps its artifacts. Copied only when it
# changed, because `cli` includes it and would be built again. The cfg makes mio wait with poll instead
# of epoll: an epoll of gVisor's can lose events for good in a checkpoint (workspace-init/src/main.rs).
# The symbol is one that the standard library takes if it is there, and statically it is not unless asked
# for: without it, whoever starts in a directory is forked, which in gVisor costs more than the exec.
INIT_FLAGS := -C target-feature=+crt-static -C relocation-model=static --cfg mio_unsupported_force_poll_poll \
	-C link-arg=-Wl,-u,posix_spawn_file_actions_addchdir_np
init: ## build PID 1 of the workspaces, static
	@RUSTFLAGS='$(INIT_FLAGS)' $(CARGO) build --quiet \
		-p workspace-init --profile init --target x86_64-unknown-linux-gnu
	@mkdir -p build
	@new=$(TARGET_DIR)/x86_64-unknown-linux-gnu/init/workspace-init; \
		cmp -s $$new build/workspace-init || { cp $$new build/.workspace-init && mv build/.workspace-init build/workspace-init; }

# A pack that is the same is left as it is, for the same reason. What the tests need besides comes with
# `ops/setup --tests`, into the same place.
CONSOLE := $(shell find console -name node_modules -prune -o -type f -print)
console: build/console/built ## bundle the console
build/console/built: console/node_modules/.installed $(CONSOLE)
	@node console/build.mjs
	@touch $@
console/node_modules/.installed: console/package.json console/package-lock.json console/.npmrc
	@cd console && npm ci --omit=dev --ignore-scripts --prefer-offline --no-audit --no-fund --loglevel=error
	@touch $@

build: init console ## build fleeks
	@$(CARGO) build --release -p fleeks --bin fleeks

up: setup build ## run the whole platform in the foreground
	@exec $(TARGET_DIR)/release/fleeks up $(ARGS)

test: ## everything that CI asks
	@ops/test $(ARGS)

try: ## the README's snippet against a running `make up`, or one of its own
	@ops/setup --tests
	@$(MAKE) --no-print-directory build
	@FLEEKS_BIN=$(abspath $(TARGET_DIR))/release/fleeks .venv/bin/python ops/try.py $(ARGS)

bench: setup build ## measure, print a table, write JSON
	@$(CARGO) run --release --quiet -p fleeks-benches -- $(ARGS)

soak: ## the long tests that `make test` leaves out
	@FLEEKS_SOAK=1 ops/test --ignored $(ARGS)

lint: init console ## formatting, clippy, and what the dependencies may be
	@ops/lint
	@command -v cargo-deny >/dev/null || $(CARGO) install --locked --quiet cargo-deny@0.18.9
	@$(CARGO) deny check bans licenses sources

down: ## undo what `fleeks up` left in the kernel: ARGS='--data-dir DIR'
	@test -x $(TARGET_DIR)/release/fleeks || $(MAKE) --no-print-directory build
	@$(TARGET_DIR)/release/fleeks down $(ARGS)
