/* SPDX-License-Identifier: mpich2 */
#include "tool_double.h"

#include <ctype.h>

void check_text(const char *text, size_t len)
{
    for (size_t i = 0; i < len; i++)
        must(isprint((unsigned char) text[i]) || text[i] == '\n');
}

void check_message(const char *fmt, va_list ap)
{
    char text[2048];
    must(vsnprintf(text, sizeof(text), fmt, ap) < (int) sizeof(text));
    check_text(text, strlen(text));
}

int tool_error(const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    check_message(fmt, ap);
    va_end(ap);
    return TOOL_FAILED;
}

int tool_usage_error(const char *fmt, ...)
{
    (void) fmt;
    return TOOL_USAGE;
}

void tool_warn(const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    check_message(fmt, ap);
    va_end(ap);
}

bool was_interrupted;

void tool_catch_signals(void)
{
}

bool tool_was_interrupted(void)
{
    return was_interrupted;
}

uint64_t clock_ns;

int fuzz_clock(clockid_t id, struct timespec *t)
{
    (void) id;
    *t = (struct timespec){(time_t) (clock_ns / 1000000000), (long) (clock_ns % 1000000000)};
    return 0;
}
