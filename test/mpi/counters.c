/* SPDX-License-Identifier: mpich2 */
/*
 * The netmod's MPI_T performance variables: they exist, have descriptions, and are exact to the
 * message. Two ranks.
 */
#include "mpitest.h"

static const char *const names[] = {"ivshmem_eager_sent",     "ivshmem_eager_sent_bytes",
                                    "ivshmem_eager_received", "ivshmem_eager_received_bytes",
                                    "ivshmem_lmt_sent",       "ivshmem_lmt_sent_bytes",
                                    "ivshmem_lmt_received",   "ivshmem_lmt_received_bytes",
                                    "ivshmem_messages_sent",  "ivshmem_messages_received",
                                    "ivshmem_waits"};
enum {
    EAGER,
    EAGER_BYTES,
    EAGER_IN,
    EAGER_IN_BYTES,
    LMT,
    LMT_BYTES,
    LMT_IN,
    LMT_IN_BYTES,
    MESSAGES,
    MESSAGES_IN,
    WAITS,
    N
};

static MPI_T_pvar_session session;
static MPI_T_pvar_handle handles[N];

static void read_all(unsigned long long *values)
{
    for (int i = 0; i < N; i++)
        CHECK(MPI_T_pvar_read(session, handles[i], &values[i]) == MPI_SUCCESS, "%s", names[i]);
}

int main(int argc, char **argv)
{
    enum { SMALL = 10, SMALL_LEN = 1000, LARGE = 3, LARGE_LEN = 500000 };
    static char buf[LARGE_LEN];
    unsigned long long before[N], after[N], delta[N];
    int provided, index, count;

    start(&argc, &argv);
    CHECK(size == 2, "two ranks are needed");
    MPI_T_init_thread(MPI_THREAD_SINGLE, &provided);
    MPI_T_pvar_session_create(&session);
    for (int i = 0; i < N; i++) {
        char name[100], desc[200];
        int name_len = sizeof(name), desc_len = sizeof(desc), verbosity, class, bind, readonly,
            continuous, atomic;
        MPI_Datatype type;
        MPI_T_enum enumtype;
        CHECK(MPI_T_pvar_get_index(names[i], MPI_T_PVAR_CLASS_COUNTER, &index) == MPI_SUCCESS,
              "no %s", names[i]);
        MPI_T_pvar_get_info(index, name, &name_len, &verbosity, &class, &type, &enumtype, desc,
                            &desc_len, &bind, &readonly, &continuous, &atomic);
        CHECK(type == MPI_UNSIGNED_LONG_LONG && readonly && desc[0], "%s: %s", name, desc);
        MPI_T_pvar_handle_alloc(session, index, NULL, &handles[i], &count);
        CHECK(count == 1, "%s has %d values", name, count);
    }
    MPI_Barrier(MPI_COMM_WORLD);
    read_all(before);
    /* One message at a time, so that no packet is in flight when the counters are read. */
    for (int side = 0; side < 2; side++)
        for (int i = 0; i < SMALL + LARGE; i++) {
            int len = i < SMALL ? SMALL_LEN : LARGE_LEN;
            if (side == rank)
                MPI_Ssend(buf, len, MPI_BYTE, 1 - rank, 1, MPI_COMM_WORLD);
            else
                MPI_Recv(buf, len, MPI_BYTE, 1 - rank, 1, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
        }
    expect_sent(1 - rank, SMALL, SMALL_LEN);
    expect_sent(1 - rank, LARGE, LARGE_LEN);
    MPI_Barrier(MPI_COMM_WORLD);
    read_all(after);
    for (int i = 0; i < N; i++)
        delta[i] = after[i] - before[i];
    /* 13 messages or RTS sent; 10 acknowledgements of messages received; a barrier may add two. */
    CHECK(delta[LMT] == LARGE && delta[LMT_IN] == LARGE, "%llu bulk", delta[LMT]);
    CHECK(delta[LMT_BYTES] == LARGE * LARGE_LEN && delta[LMT_IN_BYTES] == LARGE * LARGE_LEN,
          "%llu bytes", delta[LMT_BYTES]);
    CHECK(delta[EAGER] >= 23 && delta[EAGER] <= 27, "%llu eager", delta[EAGER]);
    CHECK(delta[EAGER_IN] >= 22 && delta[EAGER_IN] <= 27, "%llu eager in", delta[EAGER_IN]);
    CHECK(delta[MESSAGES] == delta[EAGER], "%llu messages for %llu packets that fit into one",
          delta[MESSAGES], delta[EAGER]);
    CHECK(delta[EAGER_BYTES] >= SMALL * SMALL_LEN + 23 * 16 &&
              delta[EAGER_BYTES] <= SMALL * SMALL_LEN + 27 * 128,
          "%llu eager bytes", delta[EAGER_BYTES]);
    CHECK(delta[WAITS] == 0, "%llu waits", delta[WAITS]);
    /*
     * The line at finalize must agree with this; only messages that close connections come after.
     */
    char line[1000];
    int len = sprintf(line, "pvar: rank=%d", rank);
    for (int i = 0; i < N; i++)
        len += sprintf(line + len, " %s=%llu", names[i] + strlen("ivshmem_"), after[i]);
    /* In one write, or the lines of two ranks may mix. */
    sprintf(line + len, "\n");
    fputs(line, stdout);
    fflush(stdout);
    MPI_T_pvar_session_free(&session);
    MPI_T_finalize();
    finish();
    return 0;
}
