/* SPDX-License-Identifier: mpich2 */
/*
 * Doubles of what tools/ivshmem.c has: whatever a peer has written, only plain text reaches the
 * terminal. And of the clock, for targets that wait.
 */
#ifndef TOOL_DOUBLE_H
#define TOOL_DOUBLE_H

#include "fuzz.h"

#include "ivshmem_tool.h"

void check_text(const char *text, size_t len);
void check_message(const char *fmt, va_list ap);

extern bool was_interrupted;

/* In place of clock_gettime. */
extern uint64_t clock_ns;
int fuzz_clock(clockid_t id, struct timespec *t);

#endif
