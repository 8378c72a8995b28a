/* SPDX-License-Identifier: mpich2 */
/*
 * A look of `ivshmem top`, as text of 79 columns and as JSON.
 */
#include "ivshmem_net.h"
#include "ivshmem_top.h"

#include <stdlib.h>
#include <string.h>

#define TEXT_MAX 400

/* Whose process a job's name says it is; the rest of the name, if it is one for people. */
static const struct kind {
    const char *prefix, *name, *word;
} kinds[] = {
    {"ivshmem-pipe-", "pipe", "pipe "},  {"ivshmem-serve-", "server", "serve "},
    {"ivshmem-net/", "network", "net "}, {"libivshmem:", "program", ""},
    {"ivshmem-perf", "tool", "perf"},    {"ivshmem-check", "tool", "check"},
};

static const struct kind *kind_of(const char *job)
{
    for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++)
        if (strncmp(job, kinds[i].prefix, strlen(kinds[i].prefix)) == 0)
            return &kinds[i];
    return NULL;
}

static const char *label(const struct tool_entry *e)
{
    static char text[160];
    const struct kind *kind = kind_of(e->info.job);
    struct net_name net;
    if (!e->known)
        return "-";
    if (!kind)
        return tool_printable(e->info.job);
    const char *rest = e->info.job + strlen(kind->prefix);
    if (net_parse_job(e->info.job, &net) && net.version == NET_VERSION)
        rest = net.network;
    snprintf(text, sizeof(text), "%s%s", kind->word, tool_printable(rest));
    return text;
}

/* NULL if it is not known. */
static const char *doing(const struct top_row *row)
{
    static const char *const words[] = {"works", "spins", "yields", "sleeps", "naps"};
    const struct tool_entry *e = &row->entry;
    if (e->liveness == IVSHM_LIVENESS_DEAD)
        return "dead";
    if (e->info.claim.state == IVSHM_CLAIM_JOINING || e->info.claim.state == IVSHM_CLAIM_NAMED)
        return "joins";
    if (!row->tells || row->told.doing > IVSHM_DOING_NAP ||
        (!row->told.time && row->told.doing == IVSHM_DOING_WORK))
        return NULL;
    return row->is_away ? "away" : words[row->told.doing];
}

/* A number in at most five characters, with a unit of a thousand, or of 1024. */
static const char *brief(double n, unsigned base)
{
    static char buffers[16][16];
    static unsigned next;
    static const char thousands[] = " kMGTPE", powers[] = " KMGTPE";
    char *buf = buffers[next++ % 16];
    int unit = 0;
    for (; n >= 999.5 && unit < 6; n /= base)
        unit++;
    if (n >= 999.5)
        return ">999E";
    snprintf(buf, sizeof(buffers[0]), "%.*f%c",
             n < 9.995 && unit   ? 2
             : n < 99.95 && unit ? 1
                                 : 0,
             n, base == 1000 ? thousands[unit] : powers[unit]);
    if (unit == 0)
        buf[strlen(buf) - 1] = 0;
    return buf;
}

static unsigned percent(double part, double whole)
{
    double n = whole > 0 ? part * 100 / whole : 0;
    return n < 0 ? 0 : n > 100 ? 100 : (unsigned) (n + 0.5);
}

static unsigned ring_percent(const struct ivshm_region *region, const struct top_row *row)
{
    return percent(row->ring_used, ivshm_region_geometry(region)->ring_slots);
}

static double messages_sent(const struct top_rates *r)
{
    return r->eager_sent + r->large_sent + r->tcp_sent;
}

static double bytes_sent(const struct top_rates *r)
{
    return r->eager_sent_bytes + r->large_sent_bytes + r->tcp_sent_bytes;
}

/* Output, line by line */

struct page {
    int width, left; /* lines; negative if there is no limit */
    bool is_screen, is_first;
};

__attribute__((format(printf, 3, 4))) static void put_line(struct page *page, bool is_title,
                                                           const char *fmt, ...)
{
    char text[TEXT_MAX];
    va_list ap;
    if (page->left == 0)
        return;
    page->left--;
    va_start(ap, fmt);
    vsnprintf(text, sizeof(text), fmt, ap);
    va_end(ap);
    if (!page->is_screen) {
        printf("%.*s\n", page->width - 1, text);
        return;
    }
    /* The last line of the screen must not be followed by another one. */
    printf("%s%s%.*s%s\033[K", page->is_first ? "" : "\n", is_title ? "\033[7m" : "",
           page->width - 1, text, is_title ? "\033[m" : "");
    page->is_first = false;
}

static void put_row(struct page *page, const struct ivshm_region *region, const struct top_row *row)
{
    const struct tool_entry *e = &row->entry;
    const struct top_rates *r = &row->rates;
    const struct ivshm_geometry *geo = ivshm_region_geometry(region);
    const char *does = doing(row);
    char rank[16] = "-", share[8] = "-";
    if (row->processes > 1)
        snprintf(rank, sizeof(rank), "x%u", row->processes);
    else if (e->known && !kind_of(e->info.job))
        snprintf(rank, sizeof(rank), "%u", e->info.rank);
    if (row->has_rates)
        snprintf(share, sizeof(share), "%u%%", percent(r->waited, 1e9 * row->processes));
    put_line(page, false, "%-13.13s %4.4s %-8.8s %-6.6s %4s %5s %5s %5s %5s %3u%% %3u%% %5s",
             label(e), rank, e->known ? tool_printable(e->info.process.host) : "-",
             does ? does : "-", share, row->has_rates ? brief(messages_sent(r), 1000) : "-",
             row->has_rates ? brief(bytes_sent(r), 1000) : "-",
             row->has_rates ? brief(r->eager_received + r->large_received, 1000) : "-",
             row->has_rates ? brief(r->eager_received_bytes + r->large_received_bytes, 1000) : "-",
             percent(row->cells, row->processes * (geo->small_cells + geo->large_cells)),
             ring_percent(region, row), brief((double) e->held, 1024));
}

/* The whole region */

static struct top_rates sum_of(const struct top_look *look)
{
    struct top_rates sum = {0};
    for (int i = 0; i < look->count; i++) {
#define X(name) sum.name += look->rows[i].rates.name;
        IVSHM_COUNTS(X)
#undef X
    }
    return sum;
}

static bool is_same_machine(const struct tool_entry *a, const struct tool_entry *b)
{
    return memcmp(a->info.process.boot_id, b->info.process.boot_id,
                  sizeof(a->info.process.boot_id)) == 0;
}

static void put_head(struct page *page, const struct ivshm_region *region,
                     const struct top_look *look)
{
    const struct ivshm_extent_usage *use = &look->usage;
    const uint64_t blocks = ivshm_region_blocks(region);
    int jobs = 0, machines = 0, known = 0;
    time_t now = time(NULL);
    char clock[16] = "";
    struct tm tm;
    for (int i = 0; i < look->count; i++) {
        const struct tool_entry *e = &look->rows[i].entry;
        int job = 0, machine = 0;
        if (!e->known)
            continue;
        known++;
        while (job < i && (!look->rows[job].entry.known ||
                           strcmp(look->rows[job].entry.info.job, e->info.job) != 0))
            job++;
        while (machine < i && (!look->rows[machine].entry.known ||
                               !is_same_machine(&look->rows[machine].entry, e)))
            machine++;
        jobs += job == i;
        machines += machine == i;
    }
    if (localtime_r(&now, &tm))
        strftime(clock, sizeof(clock), "%H:%M:%S", &tm);
    put_line(page, false, "%s  processes %d, jobs %d, machines %d%s  %s", clock, look->count, jobs,
             machines, page->is_screen ? "; q quits" : "",
             tool_printable(ivshm_region_name(region)));
    put_line(page, false,
             "memory  %u%% of %s: cells %u%%, pipelines %u%%, rings %u%%, programs %u%%",
             percent((double) (blocks - use->free_blocks), (double) blocks),
             tool_size(blocks * ivshm_region_block_size(region)),
             percent((double) use->base_blocks, (double) blocks),
             percent((double) use->pipeline_blocks, (double) blocks),
             percent((double) use->ring_blocks, (double) blocks),
             percent((double) use->user_blocks, (double) blocks));
}

static void put_paths(struct page *page, const struct top_look *look)
{
    const struct top_rates sum = sum_of(look);
    put_line(page, false, "sent/s  eager %s %sB, large %s %sB (%s once), tcp %s %sB",
             brief(sum.eager_sent, 1000), brief(sum.eager_sent_bytes, 1000),
             brief(sum.large_sent, 1000), brief(sum.large_sent_bytes, 1000),
             brief(sum.copied_once, 1000), brief(sum.tcp_sent, 1000),
             brief(sum.tcp_sent_bytes, 1000));
}

/* One line for all of them; ivshmem ps has the details. */
static void put_blocks(struct page *page, const struct ivshm_region *region)
{
    struct ivshm_named_info info;
    uint64_t index = 0, bytes = 0;
    char names[TEXT_MAX] = "";
    size_t len = 0;
    unsigned n = 0;
    while (ivshm_named_next(region, &index, &info)) {
        bytes += info.bytes;
        if (len < sizeof(names))
            len += (size_t) snprintf(names + len, sizeof(names) - len, "%s%s %s", n ? ", " : "",
                                     tool_printable(info.name), brief((double) info.bytes, 1024));
        n++;
    }
    if (n > 0)
        put_line(page, false, "blocks  %u of %s: %s", n, brief((double) bytes, 1024), names);
}

/* Puts `row` together with those of the same job on the same machine. */
static void add_row(struct top_row *sum, const struct top_row *row)
{
    const char *a = doing(sum), *b = doing(row);
    sum->processes++;
    sum->entry.held += row->entry.held;
    sum->cells += row->cells;
    sum->ring_used = row->ring_used > sum->ring_used ? row->ring_used : sum->ring_used;
    sum->has_rates |= row->has_rates;
    if (!a || !b || strcmp(a, b) != 0)
        sum->told.doing = UINT64_MAX; /* no word for all of them */
#define X(name) sum->rates.name += row->rates.name;
    IVSHM_COUNTS(X)
#undef X
}

static int put_together(const struct top_look *look, struct top_row *rows)
{
    int n = 0;
    for (int i = 0; i < look->count; i++) {
        const struct top_row *row = &look->rows[i];
        int j = 0;
        while (j < n && (!rows[j].entry.known || !row->entry.known ||
                         strcmp(rows[j].entry.info.job, row->entry.info.job) != 0 ||
                         !is_same_machine(&rows[j].entry, &row->entry)))
            j++;
        if (j < n)
            add_row(&rows[j], row);
        else
            rows[n++] = *row;
    }
    return n;
}

void top_print(const struct ivshm_region *region, const struct top_look *look, int width,
               int height, bool is_screen)
{
    struct page page = {.width = width < 2 ? 2 : width,
                        .left = height > 0 ? height : -1,
                        .is_screen = is_screen,
                        .is_first = true};
    const struct top_row *rows = look->rows;
    struct top_row *fewer = NULL;
    int count = look->count;
    if (is_screen)
        printf("\033[H");
    put_head(&page, region, look);
    put_paths(&page, look);
    put_blocks(&page, region);
    put_line(&page, true, "%-13s %4s %-8s %-6s %4s %5s %5s %5s %5s %4s %4s %5s", "JOB", "RANK",
             "HOST", "DOES", "WAIT", "SENT", "BYTES", "RECV", "BYTES", "CELL", "RING", "HELD");
    if (page.left >= 0 && count > page.left && (fewer = calloc((size_t) count, sizeof(*fewer)))) {
        count = put_together(look, fewer);
        rows = fewer;
    }
    for (int i = 0; i < count && page.left != 0; i++) {
        if (page.left == 1 && i + 1 < count) {
            put_line(&page, false, "... and %d more: `ivshmem top --once` lists all", count - i);
            break;
        }
        put_row(&page, region, &rows[i]);
    }
    if (is_screen)
        printf("\033[J");
    free(fewer);
}

/* JSON */

static void print_rates(const struct top_rates *r)
{
    printf("{");
#define X(name) printf("\"" #name "\": %.1f, ", r->name);
    IVSHM_COUNTS(X)
#undef X
    printf("\"waiting\": %.3f}", r->waited / 1e9);
}

static void row_json(const struct ivshm_region *region, const struct top_row *row)
{
    const struct ivshm_geometry *geo = ivshm_region_geometry(region);
    const struct tool_entry *e = &row->entry;
    const struct kind *kind = kind_of(e->info.job);
    const char *does = doing(row);
    printf("{");
    tool_entry_json(e);
    printf(", \"kind\": \"%s\"", !e->known ? "unknown" : kind ? kind->name : "rank");
    if (does)
        printf(", \"does\": \"%s\"", does);
    printf(", \"cells\": %u, \"cells_in_flight\": %u, \"rings\": %u, \"ring_slots\": %u, "
           "\"ring_slots_in_use\": %u",
           geo->small_cells + geo->large_cells, row->cells, row->rings, geo->ring_slots,
           row->ring_used);
    if (row->tells && row->told.time) {
        const char *comma = "";
        printf(", \"counts\": {");
#define X(name)                                                                                    \
    printf("%s\"" #name "\": %llu", comma, (unsigned long long) row->told.counts.name);            \
    comma = ", ";
        IVSHM_COUNTS(X)
#undef X
        printf("}");
    }
    if (row->has_rates) {
        printf(", \"rates\": ");
        print_rates(&row->rates);
    }
    printf("}");
}

void top_print_json(const struct ivshm_region *region, const struct top_look *look)
{
    const struct ivshm_extent_usage *use = &look->usage;
    const struct top_rates sum = sum_of(look);
    printf("{\"region\": ");
    tool_print_json(ivshm_region_name(region));
    printf(", \"id\": \"%s\", \"time\": %llu, \"seconds\": %.3f, ", tool_id(region),
           (unsigned long long) time(NULL), look->seconds);
    printf("\"memory\": {\"blocks\": %llu, \"block_size\": %llu, \"free_blocks\": %llu, "
           "\"base_blocks\": %llu, \"pipeline_blocks\": %llu, \"ring_blocks\": %llu, "
           "\"user_blocks\": %llu, \"room_for_ranks\": %llu}, \"rates\": ",
           (unsigned long long) ivshm_region_blocks(region),
           (unsigned long long) ivshm_region_block_size(region),
           (unsigned long long) use->free_blocks, (unsigned long long) use->base_blocks,
           (unsigned long long) use->pipeline_blocks, (unsigned long long) use->ring_blocks,
           (unsigned long long) use->user_blocks, (unsigned long long) tool_room(region));
    print_rates(&sum);
    printf(", \"endpoints\": [");
    for (int i = 0; i < look->count; i++) {
        printf(i ? ", " : "");
        row_json(region, &look->rows[i]);
    }
    printf("], \"blocks\": [");
    tool_blocks_json(region);
    printf("]}\n");
}
