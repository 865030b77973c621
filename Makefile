# make demo   shows the library at work         make test   checks and tests everything
# make bench  measures it and its peers
#
# All do all the set-up on a fresh Debian 12 machine, as root or with sudo: packages that are missing, then a virtual
# environment in .venv, made anew only when pyproject.toml has changed.

PYTHON ?= /usr/bin/python3
VENV   ?= .venv
JOBS   ?= 4# processes that run tests at once, for many tests wait; 0: one, without helpers
PYTEST ?= pytest -q -n $(JOBS) --dist worksteal
TESTS  ?=
MINUTES ?= 5# of the load test in `make soak`
CUTS   ?= 4# ways in which `make soak` has a power cut tear what was written, at every step
FUZZ    ?= 20# rounds of hostile input in `make soak`
TORTURE ?= 500# libraries that `make soak` damages at random
BENCH   ?=# arguments of `make bench` and `make bench-scale`, such as --rounds 3

RUNTIME_PACKAGES = ca-certificates fuse3 libfuse3-dev libisal2 libarchive13 pkg-config gcc libc6-dev python3-venv python3-dev
TEST_PACKAGES    = mergerfs libarchive-tools mbuffer cpio pv rsync xfsprogs strace psmisc lsof tmux systemd \
                   openssh-server openssh-client sshfs samba smbclient tar iproute2 util-linux faketime \
                   bacula-director bacula-director-sqlite3 bacula-sd bacula-fd bacula-console bacula-bscan sqlite3 \
                   amanda-server amanda-client libencode-locale-perl dar dump pax afio vsftpd curl zstd lz4 bzip2 xz-utils \
                   zip acl gddrescue tcpdump rclone postgresql help2man man-db zsh fish \
                   prometheus
DEB_PACKAGES     = debhelper dh-virtualenv dpkg-dev
BENCH_PACKAGES   = mergerfs bindfs btrfs-progs e2fsprogs

BIN := $(abspath $(VENV))/bin
export PATH := $(BIN):$(PATH)
export PYTHONDONTWRITEBYTECODE :=# empty: tests start the program some hundred times, which needs no compiling again

.PHONY: help setup setup-runtime setup-bench packages packages-runtime packages-bench packages-deb check test soak \
        bench bench-scale demo man deb format clean

help:
	@echo 'make demo     set up what is missing, then show the library at work in a temporary directory'
	@echo 'make test     set up what is missing, then check and test everything'
	@echo 'make soak     the long versions of tests: hundreds of programs at once for MINUTES=$(MINUTES), faults, hostile input'
	@echo 'make bench    measure vtlfs and its peers in turn: a table, benchmark.json and benchmark.svg;'
	@echo "              make bench BENCH='--rounds 3 --case write' for less, BENCH=--help for what there is"
	@echo 'make bench-scale  how things grow with the library: scale.json and scale.svg'
	@echo 'make setup    only set up: packages, and a virtual environment in $(VENV) with everything for development'
	@echo 'make check    formatter, linter, types and import contracts'
	@echo 'make deb      build a Debian package in dist/'
	@echo 'make man      write the manual pages in vtlfs/man again, from the help texts'
	@echo 'make format   have the formatter and the linter change what they can'
	@echo 'make clean    remove what the other targets have made'
	@echo
	@echo 'Variables: PYTHON=$(PYTHON)  VENV=$(VENV)  JOBS=$(JOBS) (tests at once)  TESTS=tests/unit (which tests)'

packages-runtime:
	@scripts/install-packages $(RUNTIME_PACKAGES)

packages:
	@scripts/install-packages $(RUNTIME_PACKAGES) $(TEST_PACKAGES) $(DEB_PACKAGES)

packages-deb:
	@scripts/install-packages $(RUNTIME_PACKAGES) $(DEB_PACKAGES)

packages-bench:
	@scripts/install-packages $(RUNTIME_PACKAGES) $(BENCH_PACKAGES)

$(VENV)/pyvenv.cfg:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.runtime: pyproject.toml | packages-runtime $(VENV)/pyvenv.cfg
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e .
	@touch $@

$(VENV)/.dev: pyproject.toml | packages $(VENV)/pyvenv.cfg
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[dev]'
	@touch $@ $(VENV)/.runtime

$(VENV)/.bench: pyproject.toml | packages-bench $(VENV)/pyvenv.cfg
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[dev,bench]'
	@touch $@ $(VENV)/.dev $(VENV)/.runtime

setup-runtime: packages-runtime $(VENV)/.runtime

setup-bench: packages-bench $(VENV)/.bench

setup: packages $(VENV)/.dev

check: setup
	ruff format --check .
	ruff check .
	mypy
	scripts/check-tests
	lint-imports --no-logo

test: setup check
	$(PYTEST) $(TESTS)

soak: setup
	cd tests && python -m soak --minutes $(MINUTES)
	VTLFS_CUTS=$(CUTS) VTLFS_FUZZ=$(FUZZ) VTLFS_TORTURE=$(TORTURE) \
	  VTLFS_YEAR_DAYS=365 VTLFS_YEAR_STEP=3 $(PYTEST) --timeout 3600 tests/crash tests/hostile tests/torture tests/media

bench: setup-bench
	python -m benchmarks $(BENCH)

bench-scale: setup-bench
	python -m benchmarks.scale $(BENCH)

demo: setup-runtime
	@scripts/demo

man: setup
	scripts/man-pages

deb: packages-deb
	scripts/deb

format: setup
	ruff check --fix-only .
	ruff format .

clean:
	rm -rf $(VENV) build dist *.egg-info .hypothesis .mypy_cache .pytest_cache .ruff_cache .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
