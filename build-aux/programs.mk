# SPDX-License-Identifier: mpich2
#
# Test programs in C over core/, without MPICH: each SRC/*.c becomes OUT/FLAVOUR/<name>, linked with a
# core/ built with the same compiler and sanitizers.
#
#   make -f programs.mk CORE=dir SRC=dir OUT=dir FLAVOUR=gcc|clang|tsan|plain|steps|weak|arm64

# gcc's sanitizers hide from it what it needs to know for -Wformat-truncation.
CC.gcc   := gcc -O1 -fno-omit-frame-pointer -fsanitize=address,undefined -fno-sanitize-recover=all \
            -Wno-format-truncation
CC.clang := clang -O1 -fno-omit-frame-pointer -fsanitize=address,undefined -fno-sanitize-recover=all
CC.tsan  := clang -O1 -fno-omit-frame-pointer -fsanitize=thread
CC.plain := gcc -O2
CC.arm64 := aarch64-linux-gnu-gcc -O2
# For test/explore: each access to a shared word calls ivshm_access_step, and memset of shared memory as well.
CC.steps := gcc -O2 -DIVSHM_STEPS -fno-builtin-memset -Wl,--wrap=memset \
            -fsanitize=undefined -fsanitize-undefined-trap-on-error
# The same in weakly ordered memory: each access goes through test/explore/weak_memory.h.
CC.weak := $(CC.steps) -include $(SRC)/weak.h

compile := $(CC.$(FLAVOUR)) -std=gnu11 -g -Wall -Wextra $(WERROR) -MMD -MP -I$(CORE) -I$(CORE)/..
out := $(OUT)/$(FLAVOUR)
core := $(patsubst $(CORE)/%.c,$(out)/core/%.o,$(wildcard $(CORE)/*.c))

all: $(patsubst $(SRC)/%.c,$(out)/%,$(wildcard $(SRC)/*.c))
	@:

$(out)/%: $(SRC)/%.c $(out)/core.a
	@echo "  CCLD     $@"
	@$(compile) -MF $(out)/$*.d -o $@ $< $(out)/core.a -lcmocka -lpthread

$(out)/core/%.o: $(CORE)/%.c
	@mkdir -p $(@D)
	@$(compile) -c -o $@ $<

# Made anew, so that no member stays whose source is gone.
$(out)/core.a: $(core)
	@rm -f $@
	@$(AR) cr $@ $^

$(core): $(firstword $(MAKEFILE_LIST))
-include $(out)/*.d $(out)/core/*.d
