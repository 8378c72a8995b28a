/* SPDX-License-Identifier: mpich2 */
/*
 * Shared by the fuzz targets. An input is a program for a hostile peer and for us, in turn: changes
 * of the region, at once or between two of our accesses, and calls of the functions under test. The
 * region lies between guard pages. Every access to a shared word is checked. Every call has a limit
 * of accesses. No limit is a time, so that an input does the same in every run.
 */
#ifndef FUZZ_H
#define FUZZ_H

#define _GNU_SOURCE

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "transport.h"
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

/* The bytes of an input, from first to last, then zeroes. */
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

/* Its current contents are what image_restore restores. */
void image_seal(struct image *image);
void image_restore(const struct image *image);

/* From now on accesses are checked against this image, and no change is pending. */
void watch_image(const struct image *image);

/* The number of accesses that the next call may make; readonly: none of them writes. */
void allow(uint64_t steps, bool readonly);

/* Until the next allow(), no access may be at `end` of the memory or beyond. */
void allow_below(uint64_t end);

/* Whether no change is pending: then what was found true is still true. */
bool is_quiet(void);

/* Accesses since allow() that could have written. */
uint64_t writes_made(void);

/* An expected failure, with a message. */
void check_error(int err, const struct ivshm_diag *diag);

/* Three processes share the region. OWN is known to be sound, as it is us. */
enum party { HOSTILE, SOUND, OWN, PARTIES };

struct world {
    struct image image;
    struct ivshm_region region;
    struct ivshm_transport party[PARTIES]; /* each has a channel to every other */
    struct ivshm_pipeline pipeline[PARTIES];
    ivshm_off memory; /* of HOSTILE's user memory; of a pipeline */
};

enum world_kind { PLAIN, RINGS, BUFFERS, WORLDS }; /* of 4 MiB without and with rings, of 16 MiB */

/* The world in its initial state. */
struct world *world_begin(enum world_kind kind);
const struct world *world_now(void);

/* The parties as they were then, to be used. In the end OWN is closed. */
struct ivshm_transport *parties_begin(void);
void parties_end(void);

/* From now on it is of that job, by which tools find each other. */
void party_name(enum party who, const char *job, uint32_t rank);

/* From now on HOSTILE writes only its own memory, and others must not suffer. */
void world_confine(void);

struct ivshm_channel *channel_of(enum party who, enum party peer);

/* The most accesses that a call needs: for one message; for all entries and blocks. */
uint64_t message_limit(const struct ivshm_region *region);
uint64_t table_limit(const struct ivshm_region *region);

/* Processes the input: makes changes, or schedules them for later; `call` does the rest. */
void play(struct input *in, unsigned calls_max, void (*call)(struct input *in, unsigned op));

/* An address of something, of the right kind or not, or anywhere. */
ivshm_off take_offset(struct input *in);

/* The device that every name and all of sysfs lead to. */
extern const struct image *mapped_image;

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#endif
