/* SPDX-License-Identifier: mpich2 */
/*
 * A pipeline: two large messages, one after the other, through two chunks of the sender's. All
 * chunks arrive, in order and whole. A pipeline that is seen drained is empty. If one side dies,
 * the other one touches nothing that it must not touch, and ends.
 *
 * Faults that this has been seen to find: a chunk that is filled without checking that it is empty;
 * a pipeline that counts as drained when its first chunk is empty; a word that does not belong to
 * the chunk; a message that begins with the first chunk again.
 */
#include "explore.h"

#include "core/pipeline.h"

#define COUNT 2
#define SIZE 8   /* bytes of a chunk: one word */
#define CHUNKS 3 /* the second message begins with another chunk than the first */
#define MESSAGES 2
#define SENDER 0
#define RECEIVER 1

/* In shared memory. */
struct stage {
    struct ivshm_chunk_word_shm words[COUNT];
    ivshm_a64 chunks[COUNT];
    ivshm_a64 announced; /* messages; replaces the message that tells the receiver of a pipeline */
};

static struct stage *stage(void)
{
    return (struct stage *) explore_memory;
}

static struct side {
    struct ivshm_pipeline pipeline;
    uint32_t message, chunk;
} sides[2];

static void setup(const void *unused)
{
    (void) unused;
    for (int i = 0; i < 2; i++)
        sides[i] = (struct side){.pipeline = {.words = stage()->words,
                                              .chunks = (unsigned char *) stage()->chunks,
                                              .count = COUNT,
                                              .size = SIZE}};
}

static uint64_t contents(const struct side *side)
{
    return side->message * CHUNKS + side->chunk + 1;
}

/*
 * If not, the caller has waited. This is a macro, as what the actor waits at is part of its state.
 */
#define is_gone(other, side) (explore_fate(other) != EXPLORE_RUNS || (explore_idle(side), false))

static void send(void)
{
    struct side *s = &sides[SENDER];
    for (; s->message < MESSAGES; s->message++) {
        ivshm_a64_store_release(&stage()->announced, s->message + 1);
        for (s->chunk = 0; s->chunk < CHUNKS; s->chunk++) {
            unsigned char *chunk;
            while (!(chunk = ivshm_pipeline_reserve_spsc(&s->pipeline)))
                if (is_gone(RECEIVER, s))
                    return;
            explore_plain_store((ivshm_a64 *) chunk, contents(s));
            ivshm_pipeline_publish_spsc(&s->pipeline, 1 + s->chunk, 0);
        }
        while (!ivshm_pipeline_is_drained(&s->pipeline))
            if (is_gone(RECEIVER, s) && !ivshm_pipeline_is_drained(&s->pipeline))
                return;
        for (int i = 0; i < COUNT; i++)
            must(ivshm_a64_load_relaxed(&stage()->words[i].len) == 0);
    }
}

static void receive(void)
{
    struct side *s = &sides[RECEIVER];
    for (; s->message < MESSAGES; s->message++) {
        while (ivshm_a64_load_acquire(&stage()->announced) <= s->message)
            if (is_gone(SENDER, s) && ivshm_a64_load_acquire(&stage()->announced) <= s->message)
                return;
        for (s->chunk = 0; s->chunk < CHUNKS; s->chunk++) {
            const unsigned char *chunk;
            uint32_t len;
            while (!(chunk = ivshm_pipeline_peek_spsc(&s->pipeline, &len, NULL)))
                if (is_gone(SENDER, s) && !ivshm_pipeline_peek_spsc(&s->pipeline, &len, NULL))
                    return;
            must(len == 1 + s->chunk);
            must(explore_plain_load((const ivshm_a64 *) chunk) == contents(s));
            ivshm_pipeline_consume_spsc(&s->pipeline);
        }
    }
}

/*
 * Neither side failed while the other one lived. All that a dead sender had published has been
 * read.
 */
static void check(void)
{
    const struct side *from = &sides[SENDER], *to = &sides[RECEIVER];
    uint64_t sent = contents(from), got = contents(to);
    if (explore_fate(SENDER) == EXPLORE_DIED)
        must(to->message == from->message + 1 || got == sent || got == sent + 1 ||
             to->message == MESSAGES);
    else if (explore_fate(RECEIVER) != EXPLORE_DIED)
        must(from->message == MESSAGES && to->message == MESSAGES);
}

int main(int argc, char **argv)
{
    static const struct explore_case cases[] = {
        {"two messages", setup, NULL, {send, receive}, 3, check, EXPLORE_ALL, EXPLORE_ALL, false},
    };
    return explore_main(argc, argv, cases, LENGTH(cases));
}
