/* SPDX-License-Identifier: mpich2 */
/*
 * What the fuzz targets share. An input is a program for a hostile peer and for us, in turns:
 * changes of the region, at once or between two of our accesses, and calls of the functions under
 * test. The region lies between guard pages, every access to a shared word is checked, and every
 * call has a limit of accesses. No limit is of time, so that an input does the same in every run.
 */
#ifndef FUZZ_H
#define FUZZ_H

#define _GNU_SOURCE

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "channel.h"
#include "pipeline.h"

#define MIB (UINT64_C(1) << 20)
#define LENGTH(array) (sizeof(array) / sizeof((array)[0]))

#define must(cond)                                                                                 \
    do {                                                                                           \
        if (!(cond)) {                                                                             \
            fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #cond);                             \
            abort();                                                                               \
        }                                                                                          \
    } while (0)

/* The bytes of an input, from the first to the last; zeroes behind them. */
struct input {
    const uint8_t *next, *end;
};

uint64_t take(struct input *in, unsigned bytes);

/* Memory between guards, which starts each run with the same contents. */
struct image {
    int fd;
    void *base;
    uint64_t size;
};

struct image image_new(uint64_t size);

/* What is in it now is what image_restore brings back. */
void image_seal(struct image *image);
void image_restore(const struct image *image);

/* Accesses are checked against this image from now on, and no change is under way. */
void watch_image(const struct image *image);

/* The next call may make so many accesses; readonly: none that writes. */
void allow(uint64_t steps, bool readonly);

/* Until the next allow(), no access is at `end` of the memory or behind. */
void allow_below(uint64_t end);

/* Whether no change is put down for later: what was found true is true still. */
bool is_quiet(void);

/* Accesses that could write, since allow(). */
uint64_t writes_made(void);

/* A failure is one of ours, and told. */
void check_error(int err, const struct ivshm_diag *diag);

/* Three processes share the region. Of OWN we are sure that it is sound, as it is us. */
enum party { HOSTILE, SOUND, OWN, PARTIES };

struct world {
    struct image image;
    struct ivshm_region region;
    struct ivshm_transport party[PARTIES]; /* each has a channel to each */
    struct ivshm_pipeline pipeline[PARTIES];
    ivshm_off memory; /* of HOSTILE's program, a pipeline's size */
};

enum world_kind { PLAIN, RINGS, BUFFERS, WORLDS }; /* of 4 MiB without and with rings, of 16 MiB */

/* The world in its first state. */
struct world *world_begin(enum world_kind kind);
const struct world *world_now(void);

/* The parties as they were then, to be used; in the end OWN is closed. */
struct ivshm_transport *parties_begin(void);
void parties_end(void);

/* From now on HOSTILE writes only what is its own, or serves it: others must not suffer. */
void world_confine(void);

struct ivshm_channel *channel_of(enum party who, enum party peer);

/* Accesses that a call needs at most: of one message; of all entries and blocks. */
uint64_t message_limit(const struct ivshm_region *region);
uint64_t table_limit(const struct ivshm_region *region);

/* Goes through the input: does changes, or puts them down for later; `call` does the rest. */
void play(struct input *in, unsigned calls_max, void (*call)(struct input *in, unsigned op));

/* Where something is, of the right kind or not, or anywhere. */
ivshm_off take_offset(struct input *in);

/* The device that every name and sysfs lead to. */
extern const struct image *mapped_image;

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#endif
