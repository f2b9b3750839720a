# What people do with ostler. Nothing needs to be prepared: what is missing is built, or named with what installs it.

PYTHON ?= python3
CARGO  ?= cargo
BIND   ?= 127.0.0.1:8000
SITE   ?= examples/flask_site.py
NAME   ?= example
PREFIX ?= /usr/local
# `make serve PROFILE=dev` builds faster and serves slower.
PROFILE ?= release

BUILT = target/$(if $(filter dev,$(PROFILE)),debug,$(PROFILE))
OSTLER = $(BUILT)/ostler
BUILD = $(CARGO) build --locked --profile $(PROFILE) -p ostler -p ostler-engine

# What `make serve` says when it serves.
NEXT = 'open http://$(BIND)/ (Ctrl-C ends it). Then edit $(SITE), and in another terminal:\n\
	$(OSTLER) reload --name $(NAME)      loads the new code; if you broke it, the old code goes on\n\
	$(OSTLER) rollback --name $(NAME)    goes back a generation\n\
	$(OSTLER) status --name $(NAME)      shows who answers\n'

# Of the Debian package; a later one upgrades an earlier one.
REVISION ?= 1

# What `make install` puts under $(PREFIX).
INSTALLED = bin/ostler lib/ostler/libostler_engine.so $(addprefix lib/systemd/system/,$(notdir $(wildcard systemd/*))) \
	share/man/man1/ostler.1 share/bash-completion/completions/ostler share/zsh/site-functions/_ostler \
	share/fish/vendor_completions.d/ostler.fish

.PHONY: help serve build test test-pythons test-proxies test-systemd test-ktls lint man bench compare instructions fuzz wheel deb install uninstall packed clean tools

help:
	@echo 'make serve    build ostler and serve $(SITE) on $(BIND) (SITE=..., BIND=... change that)'
	@echo 'make test     build everything and pass every test'
	@echo 'make test-pythons  the tests of interpreters on CPython 3.14 and 3.15, which Debian sid has; needs root'
	@echo 'make test-systemd  boot Debian in a container, install the package, and check what systemd does with it'
	@echo 'make test-ktls  boot a kernel that makes records of TLS in a virtual machine, and test there that it does'
	@echo 'make test-proxies  what clients of nginx, HAProxy and Caddy notice of reloads, stops and deploys; with figures'
	@echo 'make soak     an hour of load while everything happens to the site; MINUTES=5 is shorter'
	@echo 'make lint     check formatting, lints and documentation'
	@echo 'make bench    measure beside other servers; make compare: conformance beside other servers'
	@echo 'make instructions  count what a worker executes for a request of each of twelve kinds, against the recorded counts'
	@echo 'make wheel    make a wheel for every CPython; make deb: a Debian package; both in dist/'
	@echo 'make install  install what is built under $$(DESTDIR)$$(PREFIX), which is $(PREFIX); make uninstall: remove it'
	@echo 'make man      write the man page and the pages of docs made from tables; make fuzz: feed the parsers for a minute each'

tools:
	@CARGO='$(CARGO)' PYTHON='$(PYTHON)' .ci/tools

build: tools
	@echo 'building ostler ($(PROFILE)); the first time takes a few minutes'
	@$(BUILD)

# Another make may be at it at this moment: who waited for the lock finds it done.
.venv/holds: examples/requirements.txt | tools
	@mkdir -p target; flock target/venv.lock sh -ec 'test $@ -nt $< && exit; \
	 echo "preparing .venv with Flask, Django and Pyramid"; \
	 $(PYTHON) -m venv --clear .venv; \
	 .venv/bin/python -m pip install --quiet --disable-pip-version-check -r $<; \
	 touch $@'

# What to try next is said by a child that waits until the master, which takes the place of this shell, serves.
serve: build .venv/holds
	@( ( while kill -0 $$$$; do \
	    case "$$($(OSTLER) status --name $(NAME))" in \
	        *"master $$$$,"*" serving,"*) printf $(NEXT); exit ;; \
	    esac; sleep 0.2; done ) 2>/dev/null & ); \
	exec $(OSTLER) --name $(NAME) --python .venv --bind $(BIND) --access-logfile - $(SITE)

test: tools
	$(CARGO) build --locked --workspace
	$(CARGO) test --locked --workspace --no-fail-fast

test-pythons: tools
	$(CARGO) build --locked --workspace
	.ci/pythons

# SUITES="bookworm trixie" boots one Debian after the other; without it, it is bookworm.
test-systemd: tools
	$(CARGO) build --locked -p ostler -p ostler-engine
	$(PYTHON) tests/systemd/run $(addprefix --suite=,$(SUITES)) target/debug

test-ktls: tools
	$(CARGO) build --locked -p ostler -p ostler-engine
	$(CARGO) test --locked -p ostler-serve --no-run
	tests/ktls/run

test-proxies: tools
	$(CARGO) build --locked --workspace
	$(CARGO) test --locked -p ostler-tests --test promises -- --include-ignored --nocapture \
		proxies_lose_nothing rolling_deploys a_proxy_is_trusted connections_from_proxies

MINUTES ?= 60
soak: build
	$(PYTHON) tests/soak/run $(OSTLER) --minutes $(MINUTES)

lint: tools
	$(CARGO) fmt --all --check
	$(CARGO) clippy --locked --workspace --all-targets -- -D warnings
	RUSTDOCFLAGS='-D warnings' $(CARGO) doc --locked --workspace --no-deps --document-private-items

bench: build
	$(PYTHON) benches/run $(ARGS)

compare: build
	$(PYTHON) benches/compare $(ARGS)

instructions: tools .venv/holds
	.venv/bin/python benches/instructions.py $(ARGS)

fuzz: tools
	src/http/fuzz/run $(or $(SECONDS),60)
	src/tls/fuzz/run $(or $(SECONDS),60)
	src/serve/fuzz/run $(or $(SECONDS),60)

man: build
	$(BUILT)/ostler man >man/ostler.1
	$(BUILT)/ostler reference settings >docs/settings.md
	$(BUILT)/ostler reference messages >docs/messages.md
	$(BUILT)/ostler reference metrics >docs/metrics.md
	$(BUILT)/ostler reference python >packaging/python/ostler/settings.py

# Builds nothing, because it runs as root, and root has no need of cargo.
install uninstall: ROOT = $(DESTDIR)$(PREFIX)
install:
	@test -x $(BUILT)/ostler && test -f $(BUILT)/libostler_engine.so || { echo 'there is nothing to install in $(BUILT): say `make build$(if $(filter-out release,$(PROFILE)), PROFILE=$(PROFILE))` first'; exit 1; }
	@for folder in $(sort $(dir $(INSTALLED))); do install -d '$(ROOT)'/$$folder || exit; done
	@install -m 755 $(BUILT)/ostler '$(ROOT)/bin/ostler'
	@install -m 644 $(BUILT)/libostler_engine.so '$(ROOT)/lib/ostler/libostler_engine.so'
	@install -m 644 man/ostler.1 '$(ROOT)/share/man/man1/ostler.1'
	@install -m 644 systemd/* '$(ROOT)/lib/systemd/system'
	@sed -i 's|=ostler |=$(PREFIX)/bin/ostler |' '$(ROOT)'/lib/systemd/system/ostler*.service
	@$(BUILT)/ostler completions bash >'$(ROOT)/share/bash-completion/completions/ostler'
	@$(BUILT)/ostler completions zsh >'$(ROOT)/share/zsh/site-functions/_ostler'
	@$(BUILT)/ostler completions fish >'$(ROOT)/share/fish/vendor_completions.d/ostler.fish'
	@cd '$(ROOT)' && chmod 644 $(filter share/%,$(INSTALLED))
	@printf 'installed $(ROOT)/%s\n' $(INSTALLED)
	@echo 'next: systemctl $(if $(filter /usr /usr/local,$(PREFIX)),daemon-reload,link $(ROOT)/lib/systemd/system/*), then settings as in packaging/example.toml and man ostler'

uninstall:
	cd '$(ROOT)' && rm -f $(INSTALLED)

# `make wheel GLIBC=2.28` aims at systems as old as that.
ifdef GLIBC
HOST = $(shell rustc -vV | sed -n 's/^host: //p')
wheel: tools
	@$(CARGO) zigbuild --help >/dev/null 2>&1 || { echo 'cargo-zigbuild is missing: pip install cargo-zigbuild ziglang'; exit 1; }
	$(CARGO) zigbuild --locked --release -p ostler-engine --target $(HOST).$(GLIBC)
	$(CARGO) zigbuild --locked --profile packed -p ostler --target $(HOST).$(GLIBC)
	@cp target/$(HOST)/release/libostler_engine.so target/$(HOST)/packed
	@$(PYTHON) packaging/wheel.py target/$(HOST)/packed dist
else
wheel: packed
	@$(PYTHON) packaging/wheel.py target/packed dist
endif

deb: packed
	@packaging/deb/build target/packed $(REVISION) dist

# What packages hold: see the profile of this name.
packed: build
	$(CARGO) build --locked --profile packed -p ostler
	@cp $(BUILT)/libostler_engine.so target/packed

clean:
	rm -rf .venv target
