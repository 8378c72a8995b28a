/* SPDX-License-Identifier: mpich2 */
/*
 * The command ivshmem on a region that a peer may have written. Whatever is in it, only plain text
 * reaches the terminal.
 */
#include "fuzz.h"

#include <ctype.h>

#include "ivshmem_tool.h"

static char *output;
static size_t output_size;

static void check_text(const char *text, size_t len)
{
    for (size_t i = 0; i < len; i++)
        must(isprint((unsigned char) text[i]) || text[i] == '\n');
}

/* Replaces those of tools/ivshmem.c. */

static void check_message(const char *fmt, va_list ap)
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

void tool_warn(const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    check_message(fmt, ap);
    va_end(ap);
}

int tool_between(const struct tool_options *opt)
{
    (void) opt;
    return TOOL_FAILED;
}

static void call(struct input *in, unsigned op)
{
    struct tool_options opt = {.region = op & 64 ? NULL : "region", .json = op & 8, .side = -1};
    int status;
    (void) in;
    if (op % 4 == 0)
        opt.deep = op & 32;
    if (op % 4 == 3 && op & 32) {
        const char **gone = !(op & 4) ? &opt.vm_gone : op & 8 ? &opt.endpoint : &opt.container_gone;
        *gone = op & 16 ? "vm" : "1.1";
    }
    /* check, info and ps only read. */
    allow((opt.deep ? 100 : 4) * table_limit(&world_now()->region), op % 4 != 3);
    rewind(stdout);
    switch (op % 4) {
    case 0:
        status = tool_check(&opt);
        break;
    case 1:
        opt.all = op & 16;
        status = tool_info(&opt);
        break;
    case 2:
        status = tool_ps(&opt);
        break;
    default:
        opt.all = (op & 48) == 16;
        status = tool_reap(&opt);
    }
    must(status == TOOL_OK || status == TOOL_FAILED);
    fflush(stdout);
    check_text(output, (size_t) ftell(stdout));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct input in = {data, data + size};
    FILE *terminal = stdout;
    world_begin(PLAIN);
    stdout = open_memstream(&output, &output_size);
    must(stdout);
    play(&in, 8, call);
    fclose(stdout);
    free(output);
    stdout = terminal;
    return 0;
}
