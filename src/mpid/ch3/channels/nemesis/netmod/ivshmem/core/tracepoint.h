/* SPDX-License-Identifier: mpich2 */
/*
 * Named tracepoints between steps that leave shared state half done. Each is a static probe, which
 * costs one nop. Tests kill and stop a process there, in the same library that users run; perf,
 * bpftrace and gdb find them, too. Without <sys/sdt.h> there are none.
 */
#ifndef IVSHM_TRACEPOINT_H
#define IVSHM_TRACEPOINT_H

#if defined(__has_include) && !defined(__cppcheck__)
#if __has_include(<sys/sdt.h>)
#include <sys/sdt.h>
#define IVSHM_TRACEPOINT(name) DTRACE_PROBE(ivshmem, name)
#endif
#endif
#ifndef IVSHM_TRACEPOINT
#define IVSHM_TRACEPOINT(name) ((void) 0)
#endif

#endif
