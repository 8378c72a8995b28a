# SPDX-License-Identifier: mpich2
#
# The fuzz targets: each SRC/target_<name>.c becomes OUT/FLAVOUR/<name>, linked with core/ and with the
# tool's files that read regions, all compiled for it. FLAVOUR is the engine, libfuzzer or afl, or coverage.
#
#   make -f programs.mk CORE=dir TOOLS=dir SRC=dir OUT=dir FLAVOUR=libfuzzer|afl|coverage

sanitizers := -fsanitize=address,undefined -fno-sanitize-recover=all
# Without the trace of comparisons, which takes more time than it finds: inputs are decoded, not guessed.
CC.libfuzzer := clang -O2 -fsanitize=fuzzer-no-link -fno-sanitize-coverage=trace-cmp $(sanitizers)
CC.afl       := afl-clang-fast -O2 $(sanitizers)
CC.coverage  := clang -O1 -fprofile-instr-generate -fcoverage-mapping

compile := $(CC.$(FLAVOUR)) -std=gnu11 -g -Wall -Wextra $(WERROR) -MMD -MP -DIVSHM_STEPS -I$(CORE) -I$(TOOLS)
out := $(OUT)/$(FLAVOUR)
common := $(out)/world.o $(patsubst $(CORE)/%.c,$(out)/core/%.o,$(filter-out %/map.c %/device.c %/bell.c,$(wildcard $(CORE)/*.c)))
tools := $(addprefix $(out)/tools/ivshmem_,check.o deep.o show.o reap.o blocks.o)

all: $(patsubst $(SRC)/target_%.c,$(out)/%,$(wildcard $(SRC)/target_*.c))
	@:

# What it asks the system is answered by world.c.
$(out)/core/liveness.o: compile += -Dopen=fuzz_open -Dkill=fuzz_kill -Dgetpid=fuzz_getpid
# It is asked before each access, and checks addresses itself.
$(out)/world.o: compile += -fno-sanitize=address
# Nobody goes on while it waits.
$(out)/tools/ivshmem_deep.o: compile += -DPAUSE_NS=0

$(out)/core/%.o: $(CORE)/%.c
	@mkdir -p $(@D)
	@$(compile) -c -o $@ $<
$(out)/tools/%.o: $(TOOLS)/%.c
	@mkdir -p $(@D)
	@$(compile) -c -o $@ $<
$(out)/%.o: $(SRC)/%.c
	@mkdir -p $(@D)
	@$(compile) -c -o $@ $<

$(out)/tool: $(tools)
$(out)/%: $(out)/target_%.o $(common)
	@echo "  CCLD     $@"
	@$(CC.$(FLAVOUR)) -fsanitize=fuzzer -o $@ $^

$(common) $(tools): $(firstword $(MAKEFILE_LIST))
-include $(out)/*.d $(out)/core/*.d $(out)/tools/*.d
.SECONDARY:
