/* SPDX-License-Identifier: mpich2 */
/*
 * The command ivshmem on a region that a peer may have written. Whatever is in it, only plain text
 * reaches the terminal.
 */
#include "tool_double.h"

#include "named.h"

static char *output;
static size_t output_size;

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

/* HOSTILE's memory is a block with a name. */
static void begin_with_block(void)
{
    struct world *w = world_begin(PLAIN);
    const struct ivshm_owner owner = w->party[HOSTILE].endpoint.owner;
    const uint64_t words[] = {IVSHM_NAMED_LIVE, IVSHM_NAMED_MAGIC,
                              (owner.endpoint + 1) | (uint64_t) owner.generation << 16, 4096};
    struct ivshm_named_shm *header = ivshm_region_resolve(&w->region, w->memory, sizeof(*header));
    memcpy(header, words, sizeof(words));
    memcpy(header->name, "name", 4);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct input in = {data, data + size};
    FILE *terminal = stdout;
    begin_with_block();
    stdout = open_memstream(&output, &output_size);
    must(stdout);
    play(&in, 8, call);
    fclose(stdout);
    free(output);
    stdout = terminal;
    return 0;
}
