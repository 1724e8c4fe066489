# Quire's commands; meson and ninja do the work. `make help` lists them.

BUILD   ?= build
PREFIX  ?= /usr/local
DESTDIR ?=
OPTIONS ?=
# T: the names of single tests; ARGS: what `quire bench` gets.
T       ?=
ARGS    ?=

BUILD_SH = scripts/build.sh -C $(BUILD) $(addprefix -D ,$(OPTIONS))
ASAN = -D b_sanitize=address,undefined -D b_lundef=false
TSAN = -D b_sanitize=thread -D b_lundef=false

.PHONY: all help setup run test test-deep bench install format format-check tidy docs clean \
	asan tsan test-asan test-tsan

all: setup
	@$(BUILD_SH)

help:
	@echo 'make                what is missing is installed (Debian, as root), then build/quire is built'
	@echo 'make run            a real program on a quarter of the memory it wants'
	@echo 'make test           the tests; T="test_x test_y" runs only these; BUILD=DIR builds elsewhere'
	@echo 'make test-deep      the long ones as well'
	@echo 'make bench          the benchmarks; ARGS="--json NAME" goes to quire bench'
	@echo 'make install        PREFIX=/usr/local DESTDIR='
	@echo 'make asan, tsan     sanitizer builds in build-asan and build-tsan; test-asan, test-tsan run them'
	@echo 'make tidy           the checks of the tree itself'
	@echo 'make docs           what is generated in docs/'
	@echo 'make format         clang-format over the C sources; format-check only says what differs'
	@echo 'make clean          remove the build folders'

setup:
	@scripts/setup.sh

run: all
	@QUIRE_BUILD=$(BUILD) scripts/demo.sh

test: setup
	@scripts/test.sh -C $(BUILD) $(T)

test-deep: setup
	@scripts/test.sh -C $(BUILD) --deep $(T)

bench: all
	@if [ ! -x $(BUILD)/quire ]; then echo 'bench: $(BUILD)/quire was not built' >&2; exit 1; fi
	@$(BUILD)/quire bench $(ARGS)

install: setup
	@$(BUILD_SH) -D prefix=$(PREFIX)
	@DESTDIR='$(DESTDIR)' meson install -C $(BUILD) --no-rebuild --quiet

asan: setup
	@scripts/build.sh -C build-asan $(ASAN)

tsan: setup
	@scripts/build.sh -C build-tsan $(TSAN)

test-asan: setup
	@scripts/test.sh -C build-asan $(ASAN) $(T)

test-tsan: setup
	@scripts/test.sh -C build-tsan $(TSAN) $(T)

tidy: setup
	@scripts/test.sh -C $(BUILD) --suite tidy

docs:
	@python3 scripts/gen-locking.py >docs/LOCKING.md.new
	@mv docs/LOCKING.md.new docs/LOCKING.md

format:
	@scripts/setup.sh --format
	@scripts/format.sh

format-check:
	@scripts/setup.sh --format
	@scripts/format.sh --check

clean:
	@rm -rf build build-asan build-tsan $(BUILD)
