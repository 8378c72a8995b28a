/* SPDX-License-Identifier: mpich2 */
#include "choice.h"

#include <string.h>

#define ROUNDS 3              /* of trials, before the costs count as known */
#define SAMPLE_EVERY 64       /* messages by the usual option */
#define INTERVAL_MIN 4        /* samples of it between trials, at first */
#define INTERVAL_MAX 64       /* and at last: then trials are one message in 200 */
#define TRIAL_MAX 17          /* messages: as many as a ring has buffers, and the sample */
#define TRIAL_BYTES (1 << 20) /* at most about so many in a trial */
#define PATIENCE 512          /* messages: then the receiver will answer no more */

/*
 * What a sample unlike those before adds to the surprises, of which each other sample takes one.
 * One may be an interrupt. With more, the processors have moved.
 */
#define SURPRISE 2
#define SURPRISES_MAX 4

static bool is_allowed(const struct ivshm_choice *choice, uint32_t option)
{
    return choice->allowed >> option & 1;
}

/* Keeps what is usual. */
static void forget_costs(struct ivshm_choice *choice)
{
    bool is_free = (choice->allowed & (choice->allowed - 1)) != 0;

    choice->surprises = 0;
    for (int kind = 0; kind < IVSHM_CHOICE_KINDS; kind++)
        for (int c = 0; c < IVSHM_CLASSES; c++) {
            struct ivshm_usual *u = &choice->usual[kind][c];
            memset(u->cost, 0, sizeof(u->cost));
            u->rounds = u->trial = u->samples = 0;
            u->left = is_free;
            u->interval = INTERVAL_MIN;
        }
}

void ivshm_choice_init(struct ivshm_choice *choice, const uint32_t eager_pieces[2],
                       const uint32_t pipeline_pieces[2], int way, int piece)
{
    *choice = (struct ivshm_choice){
        .pieces = {{eager_pieces[0], eager_pieces[1]}, {pipeline_pieces[0], pipeline_pieces[1]}}};
    for (int option = 0; option < IVSHM_OPTIONS; option++)
        if ((way < 0 || option % IVSHM_COPIES == way) &&
            (piece < 0 || option / IVSHM_COPIES == piece))
            choice->allowed |= (uint8_t) (1u << option);
    uint8_t first = IVSHM_COPY_AHEAD; /* never much worse than the best one */
    while (!is_allowed(choice, first))
        first = (uint8_t) ((first + 1) % IVSHM_OPTIONS);
    for (int kind = 0; kind < IVSHM_CHOICE_KINDS; kind++)
        for (int c = 0; c < IVSHM_CLASSES; c++)
            choice->usual[kind][c].option = choice->usual[kind][c].tried = first;
    forget_costs(choice);
}

/* A sample: outliers count little, as they only add. */
static void add_cost(uint32_t *cost, uint64_t sample)
{
    uint64_t was = *cost;

    if (was == 0)
        was = sample;
    else if (sample < was)
        was -= (was - sample) / 2;
    else
        was += ((sample < 4 * was ? sample : 4 * was) - was) / 8;
    *cost = (uint32_t) was;
}

/* The receiver has answered the sample: which option is best now? */
static void learn(struct ivshm_choice *choice, uint64_t ticks)
{
    struct ivshm_usual *u = choice->sample.usual;
    uint64_t sample = (choice->sample.ticks + ticks) * 1024 / choice->sample.bytes + 1;
    uint32_t *cost = &u->cost[choice->sample.option], best = u->option;

    if (sample > UINT32_MAX / 4)
        sample = UINT32_MAX / 4;
    if (u->rounds == ROUNDS && (sample > 2 * (uint64_t) *cost || 2 * sample < *cost))
        choice->surprises += SURPRISE;
    else if (choice->surprises > 0)
        choice->surprises--;
    if (choice->surprises >= SURPRISES_MAX)
        forget_costs(choice);
    add_cost(cost, sample);

    uint64_t least = u->cost[best] - u->cost[best] / 16; /* what is little better is no reason */
    for (uint32_t option = 0; option < IVSHM_OPTIONS; option++)
        if (u->cost[option] > 0 && (least == 0 || u->cost[option] < least)) {
            least = u->cost[option];
            best = option;
        }
    if (best != u->option)
        u->interval = INTERVAL_MIN;
    u->option = (uint8_t) best;
}

/* Whether another sample can begin: none is under way, or its answer has come. */
static bool is_idle(struct ivshm_choice *choice, uint64_t answer)
{
    if (choice->sample.usual == NULL)
        return true;
    if (choice->sample.ended && answer != choice->sample.heard)
        learn(choice, answer & ((UINT64_C(1) << 48) - 1));
    else if (--choice->sample.patience > 0)
        return false;
    choice->sample.usual = NULL;
    return true;
}

static ivshm_plan begin_sample(struct ivshm_choice *choice, struct ivshm_usual *u, uint8_t option,
                               size_t bytes, uint64_t answer)
{
    choice->sample.usual = u;
    choice->sample.option = option;
    choice->sample.begun = choice->sample.ended = false;
    choice->sample.patience = PATIENCE;
    choice->sample.bytes = bytes;
    choice->sample.ticks = 0;
    choice->sample.heard = answer;
    return (ivshm_plan){option, true};
}

static void begin_trial(struct ivshm_choice *choice, struct ivshm_usual *u, size_t bytes)
{
    do {
        u->tried = (uint8_t) ((u->tried + 1) % IVSHM_OPTIONS);
        u->rounds += u->tried == 0 && u->rounds < ROUNDS;
    } while (!is_allowed(choice, u->tried));
    size_t messages = TRIAL_BYTES / bytes + 1;
    u->trial = (uint8_t) (messages < TRIAL_MAX ? messages : TRIAL_MAX);
}

/* A sample or a message of a trial is due. */
static ivshm_plan plan_other(struct ivshm_choice *choice, struct ivshm_usual *u, size_t bytes,
                             uint64_t answer, bool idle)
{
    if (u->trial == 0 && u->samples == 0)
        begin_trial(choice, u, bytes);
    bool in_trial = u->trial > 0;
    uint8_t option = in_trial ? u->tried : u->option;
    if (u->trial > 1) {
        u->trial--;
        return (ivshm_plan){option, false};
    }
    if (!idle)
        return (ivshm_plan){option, false};
    if (!in_trial) {
        u->samples--;
    } else if (u->rounds == ROUNDS) {
        u->samples = u->interval;
        u->interval = (uint8_t) (u->interval < INTERVAL_MAX ? 2 * u->interval : INTERVAL_MAX);
    }
    u->trial = 0;
    if (u->samples > 0 || !in_trial)
        u->left = SAMPLE_EVERY;
    return begin_sample(choice, u, option, bytes, answer);
}

ivshm_plan ivshm_choice_plan(struct ivshm_choice *choice, enum ivshm_choice_kind kind, size_t bytes,
                             uint64_t answer)
{
    struct ivshm_usual *u = &choice->usual[kind][ivshm_class_of(bytes)];
    bool idle = is_idle(choice, answer);

    if (!idle && choice->sample.usual == u && !choice->sample.begun &&
        choice->sample.bytes == bytes)
        return (ivshm_plan){choice->sample.option, true};
    if (__builtin_expect(u->left == 1, 0) && bytes >= IVSHM_CLASS_MIN)
        return plan_other(choice, u, bytes, answer, idle);
    u->left -= u->left > 1;
    return (ivshm_plan){u->option, false};
}

struct ivshm_how ivshm_choice_next(const struct ivshm_choice *choice, enum ivshm_choice_kind kind,
                                   ivshm_plan plan, size_t bytes, size_t least, bool begins)
{
    const uint32_t *pieces = choice->pieces[kind];
    enum ivshm_copy way = (enum ivshm_copy)(plan.option % IVSHM_COPIES);
    /* What goes into one small piece is not put into a large one. */
    struct ivshm_how how = {pieces[plan.option >= IVSHM_COPIES && bytes > pieces[0]], way, way};

    if (how.piece < least)
        how.piece = least < pieces[1] ? (uint32_t) least : pieces[1];
    if (plan.is_sample) {
        how.note |= begins ? IVSHM_NOTE_BEGINS : 0;
        how.note |= bytes <= how.piece ? IVSHM_NOTE_ENDS : 0;
    }
    return how;
}

void ivshm_choice_sent(struct ivshm_choice *choice, uint32_t note, uint64_t ticks)
{
    if (note & IVSHM_NOTE_BEGINS) {
        choice->sample.begun = true;
        choice->sample.ticks = ticks;
    }
    if (note & IVSHM_NOTE_ENDS)
        choice->sample.ended = true;
}

const char *ivshm_choice_name(ivshm_plan plan)
{
    static const char *const names[IVSHM_OPTIONS] = {"plain/small", "ahead/small", "stream/small",
                                                     "plain/large", "ahead/large", "stream/large"};
    return names[plan.option];
}
