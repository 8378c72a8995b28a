/* SPDX-License-Identifier: mpich2 */
/*
 * The choice of how a sender writes what is too large for a slot: by which way of copy.h, and in
 * small or large pieces. What is best depends on the processors, on the distance between the two,
 * which changes when one of the processes is moved, and on the size. So it is measured while the
 * program runs. Now and then a message is a sample: the sender takes the time to write its first
 * piece; the receiver, the time from then until it has read the last one, with which it answers by
 * a word in the ring. Rarely, another option is tried: for some messages in a row, because what one
 * costs depends on how the memory that it takes was written and read before. The last one is a
 * sample.
 *
 * A choice is one sender's table for one receiver. It knows no memory of the region, so tests can
 * drive it with recorded times. Used by one thread at a time; nothing fails or waits; constant
 * cost.
 */
#ifndef IVSHM_CHOICE_H
#define IVSHM_CHOICE_H

#include "copy.h"

/* Eager messages, and those through pipelines, differ in their pieces. */
enum ivshm_choice_kind { IVSHM_CHOICE_EAGER, IVSHM_CHOICE_PIPELINE };

#define IVSHM_CHOICE_KINDS 2

/*
 * Class c of sizes begins with IVSHM_CLASS_MIN << c bytes. What is shorter counts as of class 0,
 * and the last one has no end.
 */
#define IVSHM_CLASS_MIN 256
#define IVSHM_CLASSES 10

/* An option: 0 to 2 are small pieces by the ways of copy.h, 3 to 5 large ones. */
#define IVSHM_OPTIONS (2 * IVSHM_COPIES)

/*
 * A note goes with each piece to the receiver. bits 0-1 the way, 3 says nothing | 6 set in the
 * first piece of a sample | 7 in the last one. Any note is valid.
 */
#define IVSHM_NOTE_WAY 3
#define IVSHM_NOTE_BEGINS 0x40
#define IVSHM_NOTE_ENDS 0x80

/*
 * How a message goes: its option, and whether it is a sample. The sender keeps it until the message
 * has ended.
 */
typedef struct {
    uint8_t option;
    bool is_sample;
} ivshm_plan;

/* How to send the next piece. */
struct ivshm_how {
    uint32_t piece; /* bytes, at most */
    enum ivshm_copy way;
    uint32_t note;
};

/* What is known of messages of one kind and class. Counts are of messages. */
struct ivshm_usual {
    uint32_t cost[IVSHM_OPTIONS]; /* ticks for each KiB; 0: unknown */
    uint8_t option;               /* of most messages */
    uint8_t tried;                /* that is tried, or was last */
    uint8_t rounds;               /* how often all options were tried */
    uint8_t trial;                /* left of a trial: the last one is a sample; 0: no trial */
    uint8_t left;                 /* until the next sample or trial; 0: there will be none */
    uint8_t samples, interval;    /* of the usual option: left until the next trial; between two */
};

/* Its fields are choice.c's. */
struct ivshm_choice {
    struct ivshm_usual usual[IVSHM_CHOICE_KINDS][IVSHM_CLASSES];
    uint32_t pieces[IVSHM_CHOICE_KINDS][2]; /* bytes of a small and of a large piece, at most */
    uint8_t allowed;                        /* options, as bits */
    uint8_t surprises;                      /* recent samples unlike those before */
    struct {
        struct ivshm_usual *usual; /* NULL if there is no sample under way */
        uint8_t option;
        bool begun, ended; /* its first piece, its last one is sent */
        uint16_t patience;
        size_t bytes;
        uint64_t ticks; /* to write its first piece */
        uint64_t heard; /* the answer before */
    } sample;
};

/*
 * A choice that knows nothing, between pieces of at most small or large bytes. `way`, of copy.h,
 * and `piece`, 0 for small or 1 for large, pin what is not -1. If that leaves no choice, there are
 * no samples.
 */
void ivshm_choice_init(struct ivshm_choice *choice, const uint32_t eager_pieces[2],
                       const uint32_t pipeline_pieces[2], int way, int piece);

/*
 * How to send a message of that many bytes. `answer` is the receiver's word, as it is now: any
 * number is allowed. A message of which nothing was sent may be planned again.
 */
ivshm_plan ivshm_choice_plan(struct ivshm_choice *choice, enum ivshm_choice_kind kind, size_t bytes,
                             uint64_t answer);

/*
 * How to send the next piece of a message of which `bytes` are left; `begins`: the first one. It is
 * to have `least` bytes, if there are as many and large pieces do.
 */
struct ivshm_how ivshm_choice_next(const struct ivshm_choice *choice, enum ivshm_choice_kind kind,
                                   ivshm_plan plan, size_t bytes, size_t least, bool begins);

/*
 * A piece whose note begins or ends a sample is written, and about to be sent; if it begins one,
 * writing took so many ticks.
 */
void ivshm_choice_sent(struct ivshm_choice *choice, uint32_t note, uint64_t ticks);

/* Its way and pieces, such as "ahead/small". */
const char *ivshm_choice_name(ivshm_plan plan);

/* The receiver's word after an answer of so many ticks: each answer differs from the one before. */
static inline uint64_t ivshm_choice_answer(uint64_t before, uint64_t ticks)
{
    const uint64_t max = (UINT64_C(1) << 48) - 1;
    return ((before >> 48) + 1) << 48 | (ticks < max ? ticks : max);
}

/* The class of a size. */
static inline uint32_t ivshm_class_of(size_t bytes)
{
    uint32_t class = bytes < IVSHM_CLASS_MIN ? 0 : 55 - (uint32_t) __builtin_clzll(bytes);
    return class < IVSHM_CLASSES ? class : IVSHM_CLASSES - 1;
}

/* How messages of that many bytes go unless they are samples. Changes nothing. */
static inline ivshm_plan ivshm_choice_usual(const struct ivshm_choice *choice,
                                            enum ivshm_choice_kind kind, size_t bytes)
{
    return (ivshm_plan){choice->usual[kind][ivshm_class_of(bytes)].option, false};
}

#endif
