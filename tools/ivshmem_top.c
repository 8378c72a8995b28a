/* SPDX-License-Identifier: mpich2 */
/*
 * ivshmem top: what goes on on a region, again and again. It only reads, and joins nothing: how
 * full the region is follows from what is in it, and what processes do from what they tell of
 * themselves (struct ivshm_told_shm), by their own clocks. They tell it about once a second, and
 * more often while they wait. Who tells nothing new for longer than that is not in MPI, or is
 * stopped.
 */
#include "ivshmem_top.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <termios.h>
#include <unistd.h>

#define INTERVAL 2.0
#define NEWS_NS 1900000000 /* without any for so long, a process is away */
#define CLOCK_MIN 1000000  /* ns between two tellings: less is no clock */
#define SLICE_MS 100       /* in which a signal is noticed */

/* Looking */

static double rate_of(uint64_t now, uint64_t before, double seconds)
{
    return now > before ? (double) (now - before) / seconds : 0;
}

/* Compares with the look before, in which it was `old`; NULL if it was not there. */
static void compare(struct top_row *row, const struct top_row *old, uint64_t now)
{
    row->heard = now;
    if (!row->tells || !row->told.time || !old || !old->tells)
        return;
    if (old->told.time && row->told.time > old->told.time &&
        row->told.time - old->told.time >= CLOCK_MIN) {
        const double seconds = (double) (row->told.time - old->told.time) / 1e9;
        row->has_rates = true;
#define X(name) row->rates.name = rate_of(row->told.counts.name, old->told.counts.name, seconds);
        IVSHM_COUNTS(X)
#undef X
    } else if (old->told.time == row->told.time) {
        row->heard = old->heard;
        row->is_away = now - old->heard > NEWS_NS;
        row->has_rates = old->has_rates;
        if (!row->is_away)
            row->rates = old->rates;
    }
}

static const struct top_row *row_of(const struct top_look *look, const struct tool_entry *e)
{
    for (int i = 0; i < look->count; i++) {
        const struct tool_entry *other = &look->rows[i].entry;
        if (other->index == e->index && other->info.claim.generation == e->info.claim.generation)
            return &look->rows[i];
    }
    return NULL;
}

static uint32_t cells_in_flight(const struct ivshm_region *region, const struct tool_entry *e)
{
    const struct ivshm_geometry *geo = ivshm_region_geometry(region);
    const struct ivshm_owner owner = {e->index, e->info.claim.generation};
    uint32_t count = 0;
    if (!ivshm_extent_owned(region, owner, IVSHM_KIND_BASE, e->info.base, geo->base_bytes))
        return 0;
    const char *base = ivshm_region_resolve(region, e->info.base, geo->base_bytes);
    for (uint32_t i = 0; base && i < geo->small_cells + geo->large_cells; i++) {
        const char *cell =
            i < geo->small_cells
                ? base + geo->small + (uint64_t) i * geo->small_size
                : base + geo->large + (uint64_t) (i - geo->small_cells) * geo->large_size;
        count += ivshm_a32_load_relaxed(&((const struct ivshm_cell_shm *) cell)->state) ==
                 IVSHM_CELL_IN_FLIGHT;
    }
    return count;
}

static uint64_t slot_word(const char *ring, const struct ivshm_geometry *geo, uint32_t i)
{
    const char *slot = ring + sizeof(struct ivshm_ring_shm) + (uint64_t) i * geo->slot_size;
    return ivshm_a64_load_relaxed(&((const struct ivshm_slot_shm *) slot)->word);
}

/*
 * Records that have not been given back: at most all slots, whatever is there. The newest one is
 * the last of those whose numbers follow on that of the first slot.
 */
static uint32_t ring_used(const char *ring, const struct ivshm_geometry *geo)
{
    const uint64_t head = ivshm_a64_load_relaxed(&((const struct ivshm_ring_shm *) ring)->head);
    const uint32_t first = (uint32_t) slot_word(ring, geo, 0), slots = geo->ring_slots;
    uint32_t newest = 0, end = slots;
    if ((slot_word(ring, geo, 0) >> 48 & 0xff) == IVSHM_RECORD_NONE)
        return 0;
    while (end - newest > 1) {
        const uint32_t middle = newest + (end - newest) / 2;
        if ((uint32_t) slot_word(ring, geo, middle) - first == middle)
            newest = middle;
        else
            end = middle;
    }
    const uint32_t used = (newest + 1 + slots - (uint32_t) (head % slots)) % slots;
    /* Numbers count the few messages before the ring as well. */
    return used == 0 && first + newest + 1 - (uint32_t) head >= slots ? slots : used;
}

static void look_at_rings(const struct ivshm_region *region, struct top_look *look,
                          struct top_row **by_endpoint)
{
    const struct ivshm_geometry *geo = ivshm_region_geometry(region);
    for (int i = 0; i < look->count; i++)
        by_endpoint[look->rows[i].entry.index] = &look->rows[i];
    for (uint64_t i = 0; i < geo->blocks; i++) {
        struct ivshm_block b;
        const uint64_t word = ivshm_block_load(region, i);
        const ivshm_off off = {geo->data + i * geo->block_size};
        if (word == 0 || !ivshm_block_decode(region, word, &b) || !b.first ||
            b.kind != IVSHM_KIND_RING)
            continue;
        struct top_row *row = by_endpoint[b.owner.endpoint];
        const char *ring = ivshm_region_resolve(region, off, geo->ring_bytes);
        if (!row || row->entry.info.claim.generation != b.owner.generation || !ring)
            continue;
        const uint32_t used = ring_used(ring, geo);
        row->rings++;
        row->ring_used = used > row->ring_used ? used : row->ring_used;
    }
}

/* The next look, with *old before it, which it replaces. */
static int look(const struct ivshm_region *region, struct top_look *old, struct ivshm_diag *diag)
{
    struct top_look new = {.at = tool_now_ns()};
    struct tool_entry *list = NULL;
    struct top_row **by_endpoint = calloc(ivshm_region_endpoints(region), sizeof(struct top_row *));
    int n = by_endpoint ? tool_entries(region, &list, diag) : -1;
    new.rows = n >= 0 ? calloc((size_t) n + 1, sizeof(*new.rows)) : NULL;
    if (!new.rows) {
        free(list);
        free(by_endpoint);
        return n < 0 && by_endpoint ? n : ivshm_diag_fail(diag, ENOMEM, "out of memory");
    }
    for (new.count = 0; new.count < n; new.count++) {
        struct top_row *row = &new.rows[new.count];
        row->entry = list[new.count];
        row->processes = 1;
        if (row->entry.info.claim.state != IVSHM_CLAIM_LIVE)
            continue;
        row->tells = ivshm_endpoint_told(region, row->entry.index, &row->entry.info, &row->told);
        row->cells = cells_in_flight(region, &row->entry);
        compare(row, row_of(old, &row->entry), new.at);
    }
    look_at_rings(region, &new, by_endpoint);
    ivshm_extent_usage(region, &new.usage);
    new.seconds = old->at ? (double) (new.at - old->at) / 1e9 : 0;
    free(list);
    free(by_endpoint);
    free(old->rows);
    *old = new;
    return 0;
}

/* The terminal. What a signal handler needs of it is here. */

static struct {
    bool is_open, has_keys;
    struct termios before;
    struct sigaction bus; /* what was to be done about SIGBUS before */
} terminal;

static void put_text(const char *text)
{
    if (write(STDOUT_FILENO, text, strlen(text)) < 0)
        return; /* then there is no terminal any more */
}

static void close_terminal(void)
{
    if (!terminal.is_open)
        return;
    terminal.is_open = false;
    put_text("\033[?25h\033[?1049l");
    if (terminal.has_keys)
        tcsetattr(STDIN_FILENO, TCSANOW, &terminal.before);
}

/* The region's file was cut: the command ends, but not with this screen. */
static void on_bus_error(int sig)
{
    close_terminal();
    terminal.bus.sa_handler(sig);
}

/* A screen of its own, and keys one by one. */
static void open_terminal(void)
{
    const struct sigaction act = {.sa_handler = on_bus_error};
    terminal.is_open = true;
    sigaction(SIGBUS, &act, &terminal.bus);
    if (tcgetattr(STDIN_FILENO, &terminal.before) == 0) {
        struct termios t = terminal.before;
        t.c_lflag &= ~(tcflag_t) (ICANON | ECHO);
        t.c_cc[VMIN] = 1;
        t.c_cc[VTIME] = 0;
        /* Nobody would take the screen back. */
        t.c_cc[VSUSP] = t.c_cc[VQUIT] = _POSIX_VDISABLE;
        terminal.has_keys = true;
        tcsetattr(STDIN_FILENO, TCSANOW, &t);
    }
    put_text("\033[?1049h\033[?25l");
}

static void draw(const struct ivshm_region *region, const struct top_look *l)
{
    struct winsize size;
    bool is_known = ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col && size.ws_row;
    top_print(region, l, is_known ? size.ws_col : 80, is_known ? size.ws_row : 24, true);
}

/* False if somebody wants the end before the time is over. */
static bool wait_for(double seconds)
{
    const uint64_t end = tool_now_ns() + (uint64_t) (seconds * 1e9);
    struct pollfd keys = {.fd = STDIN_FILENO, .events = POLLIN};
    char key;
    for (uint64_t now; !tool_was_interrupted();) {
        if ((now = tool_now_ns()) >= end)
            return true;
        const uint64_t left = (end - now) / 1000000 + 1;
        const int n = poll(&keys, terminal.has_keys, left < SLICE_MS ? (int) left : SLICE_MS);
        if (n > 0 && (read(STDIN_FILENO, &key, 1) != 1 || key == 'q' || key == 'Q'))
            return false;
    }
    return false;
}

/* The command */

static int run(const struct tool_options *opt, const struct ivshm_region *region, double interval,
               struct ivshm_diag *diag)
{
    struct top_look l = {0};
    int err = look(region, &l, diag);
    bool is_first = true;
    while (!err && !ferror(stdout)) {
        if (!opt->once || !is_first) {
            if (opt->json)
                top_print_json(region, &l);
            else if (terminal.is_open)
                draw(region, &l);
            else {
                printf(is_first || opt->once ? "" : "\n");
                top_print(region, &l, 80, 0, false);
            }
            fflush(stdout);
        }
        if ((opt->once && !is_first) || !wait_for(interval))
            break;
        is_first = false;
        err = look(region, &l, diag);
    }
    free(l.rows);
    return err;
}

int tool_top(const struct tool_options *opt)
{
    struct ivshm_diag diag = {""};
    struct ivshm_region region;
    const char *term = getenv("TERM");
    double interval = INTERVAL;
    char *end;
    if (opt->interval) {
        interval = strtod(opt->interval, &end);
        if (end == opt->interval || *end || !(interval >= 0.1 && interval <= 3600))
            return tool_usage_error("--interval %s is not a number of seconds from 0.1 to 3600",
                                    opt->interval);
    }
    if (ivshm_region_inspect(opt->region, &region, &diag) != 0)
        return tool_error("%s", diag.text);
    tool_catch_signals();
    signal(SIGPIPE, SIG_DFL); /* there is nothing to be tidied up for whoever reads no further */
    if (!opt->once && !opt->json && isatty(STDOUT_FILENO) && term && strcmp(term, "dumb") != 0)
        open_terminal();
    int err = run(opt, &region, interval, &diag);
    close_terminal();
    ivshm_region_close(&region);
    return err ? tool_error("%s", diag.text) : TOOL_OK;
}
