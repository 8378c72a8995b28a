/* SPDX-License-Identifier: mpich2 */
/*
 * ivshmem check: whether a region is sound. Others may be using it meanwhile, so a finding counts
 * only if it is still there when the words it rests on are read again.
 */
#include "ivshmem_tool.h"

#define FINDINGS_SHOWN 20 /* of each kind */
#define READS_MAX 8       /* at a word that keeps changing, and so is in use */

/* Whether both words are of blocks of one owner and kind. */
static bool same_extent(const struct ivshm_region *region, uint64_t word, uint64_t other)
{
    struct ivshm_block a, b;
    return ivshm_block_decode(region, word, &a) && ivshm_block_decode(region, other, &b) &&
           a.owner.endpoint == b.owner.endpoint && a.owner.generation == b.owner.generation &&
           a.kind == b.kind;
}

enum block_finding { BLOCK_GOOD, BLOCK_MALFORMED, BLOCK_LEAKED, BLOCK_HEADLESS };

bool tool_is_over(const struct ivshm_region *region, struct ivshm_owner owner)
{
    /* The claim is taken before the first block, and given up after the last. */
    struct ivshm_claim claim = ivshm_endpoint_claim(region, owner.endpoint);
    return claim.state == IVSHM_CLAIM_FREE || claim.generation != owner.generation;
}

static enum block_finding judge_block(const struct ivshm_region *region, uint64_t i, uint64_t word)
{
    struct ivshm_block b;
    if (word == 0)
        return BLOCK_GOOD;
    if (!ivshm_block_decode(region, word, &b) || b.count > ivshm_region_blocks(region) - i)
        return BLOCK_MALFORMED;
    if (tool_is_over(region, b.owner))
        return BLOCK_LEAKED;
    /* An extent grows and shrinks at its end. */
    if (b.first || (i > 0 && same_extent(region, word, ivshm_block_load(region, i - 1))))
        return BLOCK_GOOD;
    return BLOCK_HEADLESS;
}

static enum block_finding read_block(const struct ivshm_region *region, uint64_t i, uint64_t *word)
{
    for (int reads = 0; reads < READS_MAX; reads++) {
        *word = ivshm_block_load(region, i);
        enum block_finding finding = judge_block(region, i, *word);
        if (finding == BLOCK_GOOD || ivshm_block_load(region, i) == *word)
            return finding;
    }
    return BLOCK_GOOD;
}

static void print_rest(unsigned found)
{
    if (found > FINDINGS_SHOWN)
        printf("bad: %u more of this kind\n", found - FINDINGS_SHOWN);
}

/*
 * Prints one line for each run of blocks with the same finding; returns the number of lines, and in
 * *leaked how many of these report leaked memory.
 */
static unsigned check_blocks(const struct ivshm_region *region, unsigned *leaked)
{
    static const char *const text[] = {
        [BLOCK_MALFORMED] = "have an invalid block map word",
        [BLOCK_LEAKED] = "belong to an endpoint that is gone: leaked",
        [BLOCK_HEADLESS] = "belong to an extent without a first block",
    };
    unsigned found = 0;
    uint64_t start = 0, start_word = 0;
    enum block_finding run = BLOCK_GOOD;
    for (uint64_t i = 0; i <= ivshm_region_blocks(region); i++) {
        uint64_t word = 0;
        enum block_finding finding =
            i < ivshm_region_blocks(region) ? read_block(region, i, &word) : BLOCK_GOOD;
        if (finding == run &&
            (finding == BLOCK_GOOD || word == start_word || same_extent(region, word, start_word)))
            continue;
        if (run != BLOCK_GOOD && found++ < FINDINGS_SHOWN)
            printf("bad: blocks %llu to %llu (%016llx, %s) %s\n", (unsigned long long) start,
                   (unsigned long long) i - 1, (unsigned long long) start_word,
                   tool_size((i - start) * ivshm_region_block_size(region)), text[run]);
        *leaked += run == BLOCK_LEAKED;
        run = finding;
        start = i;
        start_word = word;
    }
    print_rest(found);
    return found;
}

/* What is wrong with the entry, or NULL. */
static const char *judge_endpoint(const struct ivshm_region *region, uint32_t index)
{
    struct ivshm_endpoint_info info;
    int err = ivshm_endpoint_read(region, index, &info);
    if (err)
        return NULL; /* free, or so busy that it is in use */
    if (info.claim.state > IVSHM_CLAIM_NAMED)
        return "has an invalid state";
    if (info.claim.state != IVSHM_CLAIM_LIVE)
        return NULL;
    if (!info.named || info.claim.pid != info.process.pid ||
        info.claim.host_hash != ivshm_process_host_hash(&info.process))
        return "is live, but names a process other than the one that claimed it";
    if (!ivshm_extent_owned(region, (struct ivshm_owner){index, info.claim.generation},
                            IVSHM_KIND_BASE, info.base, ivshm_region_geometry(region)->base_bytes))
        return "is live, but does not own its base extent";
    return NULL;
}

static unsigned check_endpoints(const struct ivshm_region *region)
{
    unsigned found = 0;
    for (uint32_t i = 0; i < ivshm_region_endpoints(region); i++) {
        struct ivshm_claim before = ivshm_endpoint_claim(region, i);
        const char *why = judge_endpoint(region, i);
        struct ivshm_claim after = ivshm_endpoint_claim(region, i);
        if (!why || before.generation != after.generation || before.state != after.state)
            continue;
        if (found++ < FINDINGS_SHOWN)
            printf("bad: endpoint %u %s\n", i, why);
    }
    print_rest(found);
    return found;
}

int tool_check(const struct tool_options *opt)
{
    if (opt->side >= 0)
        return tool_between(opt);
    struct ivshm_diag diag = {""};
    struct ivshm_region region;
    struct ivshm_extent_usage usage;
    uint32_t in_use = 0;
    unsigned leaked = 0;
    /* Checks the superblock, word by word. */
    if (ivshm_region_inspect(opt->region, &region, &diag) != 0)
        return tool_error("%s", diag.text);
    struct ivshm_speed speed = tool_speed(&region);
    unsigned found = check_endpoints(&region) + check_blocks(&region, &leaked);
    int deep = opt->deep ? tool_deep(&region, &diag) : 0;
    if (deep < 0) {
        ivshm_region_close(&region);
        return tool_error("%s", diag.text);
    }
    found += (unsigned) deep;
    for (uint32_t i = 0; i < ivshm_region_endpoints(&region); i++)
        in_use += ivshm_endpoint_claim(&region, i).state != IVSHM_CLAIM_FREE;
    ivshm_extent_usage(&region, &usage);
    int status = TOOL_OK;
    if (found && found == leaked)
        status = tool_error("region %s has leaked memory, owned by endpoints that are gone: "
                            "`ivshmem reap %s` frees it",
                            ivshm_region_name(&region), ivshm_region_name(&region));
    else if (found)
        status = tool_error(
            "region %s is damaged: end the jobs on it, which `ivshmem ps %s` lists, then run "
            "`ivshmem format --force %s`",
            ivshm_region_name(&region), ivshm_region_name(&region), ivshm_region_name(&region));
    else
        printf("region %s is sound: superblock, %u endpoints in use, %llu blocks in use%s; its "
               "memory is %s\n",
               ivshm_region_name(&region), in_use,
               (unsigned long long) (ivshm_region_blocks(&region) - usage.free_blocks),
               opt->deep ? ", inboxes, cells, rings and pipelines" : "",
               ivshm_speed_name(speed.kind));
    ivshm_region_close(&region);
    return status;
}
