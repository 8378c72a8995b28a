# SPDX-License-Identifier: mpich2
#
# The fuzz targets: each SRC/target_<name>.c becomes OUT/FLAVOUR/<name>, linked with core/ and
# others, all compiled for it. FLAVOUR is the engine, libfuzzer or afl, or coverage.
#
#   make -f programs.mk CORE=dir TOOLS=dir LIB=dir SRC=dir OUT=dir FLAVOUR=libfuzzer|afl|coverage

sanitizers := -fsanitize=address,undefined -fno-sanitize-recover=all
# Without the trace of comparisons, which takes more time than it finds: inputs are decoded, not guessed.
CC.libfuzzer := clang -O2 -fsanitize=fuzzer-no-link -fno-sanitize-coverage=trace-cmp $(sanitizers)
CC.afl       := afl-clang-fast -O2 $(sanitizers)
CC.coverage  := clang -O1 -fprofile-instr-generate -fcoverage-mapping

compile := $(CC.$(FLAVOUR)) -std=gnu11 -g -Wall -Wextra $(WERROR) -MMD -MP -DIVSHM_STEPS -I$(CORE) -I$(TOOLS) -I$(LIB)
out := $(OUT)/$(FLAVOUR)
common := $(out)/world.o $(patsubst $(CORE)/%.c,$(out)/core/%.o,$(filter-out %/map.c %/device.c %/bell.c,$(wildcard $(CORE)/*.c)))
# Beside core/, the targets have the files of the tools, and of libivshmem, that read what peers write.
tool := $(addprefix $(out)/tools/ivshmem_,blocks.o check.o deep.o show.o reap.o text.o tool.o)
net := $(addprefix $(out)/tools/ivshmem_,net_peers.o net_name.o text.o)
pipe := $(addprefix $(out)/tools/ivshmem_,link.o pipe.o text.o tool.o)
library := $(addprefix $(out)/lib/,error.o lib.o sync.o wait.o)

all: $(patsubst $(SRC)/target_%.c,$(out)/%,$(wildcard $(SRC)/target_*.c))
	@:

# What it asks the system is answered by world.c.
$(out)/core/liveness.o: compile += -Dopen=fuzz_open -Dkill=fuzz_kill -Dgetpid=fuzz_getpid
# It is asked before each access, and checks addresses itself.
$(out)/world.o: compile += -fno-sanitize=address
# Time, and what comes from descriptors, are the input's.
$(out)/tools/ivshmem_net_peers.o: compile += -Dread=fuzz_read -Dwritev=fuzz_writev -Dclock_gettime=fuzz_clock
$(out)/tools/ivshmem_pipe.o: compile += $(foreach f,read write writev close poll pipe2 fork waitpid getrandom,-D$f=fuzz_$f) \
    -Dclock_gettime=fuzz_clock
$(out)/tools/ivshmem_link.o: compile += $(foreach f,sigaction setitimer nanosleep,-D$f=fuzz_$f) -Dfork=fuzz_no_fork \
    -Dclock_gettime=fuzz_clock -Divshm_transport_wait=fuzz_wait -Divshm_transport_open=fuzz_transport_open
$(out)/lib/wait.o: compile += -Dnanosleep=fuzz_nanosleep -Dclock_gettime=fuzz_ticking_clock -Divshm_transport_sleep=fuzz_sleep
# Nobody goes on while it waits.
$(out)/tools/ivshmem_deep.o: compile += -DPAUSE_NS=0

$(out)/core/%.o: $(CORE)/%.c
	@mkdir -p $(@D)
	@$(compile) -c -o $@ $<
$(out)/tools/%.o: $(TOOLS)/%.c
	@mkdir -p $(@D)
	@$(compile) -c -o $@ $<
$(out)/lib/%.o: $(LIB)/%.c
	@mkdir -p $(@D)
	@$(compile) -c -o $@ $<
$(out)/%.o: $(SRC)/%.c
	@mkdir -p $(@D)
	@$(compile) -c -o $@ $<

double := $(out)/tool_double.o
$(out)/tool: $(tool) $(double)
$(out)/net: $(net) $(double)
$(out)/pipe: $(pipe) $(double)
$(out)/library: $(library) $(double)
$(out)/%: $(out)/target_%.o $(common)
	@echo "  CCLD     $@"
	@$(CC.$(FLAVOUR)) -fsanitize=fuzzer -o $@ $^

$(common) $(double) $(tool) $(net) $(pipe) $(library): $(firstword $(MAKEFILE_LIST))
-include $(out)/*.d $(out)/core/*.d $(out)/tools/*.d $(out)/lib/*.d
.SECONDARY:
