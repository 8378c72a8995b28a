/* SPDX-License-Identifier: mpich2 */
/*
 * MPI_T and sessions: beginnings and ends other than MPI_Init and MPI_Finalize. Two ranks.
 *
 *   variables   MPI_T before, during and after MPI: the netmod's control variables are found, read
 *               and obeyed, its counters follow the rules for their kind
 *   sessions    two at once, inside and around MPI_Init and MPI_Finalize
 *   after       a session that continues after MPI_Finalize
 *   again       a session after the last one has ended
 */
#include "mpitest.h"

#define OK(call)                                                                                   \
    do {                                                                                           \
        int code_ = (call);                                                                        \
        CHECK(code_ == MPI_SUCCESS, "error %d", code_);                                            \
    } while (0)

#define REFUSED(call, class)                                                                       \
    do {                                                                                           \
        int code_ = (call);                                                                        \
        CHECK(code_ == (class), "error %d, expected %d", code_, (class));                          \
    } while (0)

/* Where MPI_Abort is not available. */
#define CHECK_AFTER(condition)                                                                     \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            fprintf(stderr, "rank %d, after MPI_Finalize: %s\n", rank, #condition);                \
            exit(3);                                                                               \
        }                                                                                          \
    } while (0)

#define PREFIX "MPIR_CVAR_NEMESIS_IVSHMEM_"

enum { LIMIT = 1000 }; /* the eager limit that the test sets */

/* Whether the netmod's control variables are among all, and have descriptions. */
static int has_cvars(void)
{
    static const char *const names[] = {"REGION", "EAGER_LIMIT", "STATS"};
    int n, found = 0;
    OK(MPI_T_cvar_get_num(&n));
    for (int i = 0; i < n; i++) {
        char name[100], desc[1000];
        int name_len = sizeof(name), desc_len = sizeof(desc), verbosity, bind, scope, index;
        MPI_Datatype type;
        MPI_T_enum enumtype;
        OK(MPI_T_cvar_get_info(i, name, &name_len, &verbosity, &type, &enumtype, desc, &desc_len,
                               &bind, &scope));
        if (strncmp(name, PREFIX, strlen(PREFIX)) != 0)
            continue;
        for (int k = 0; k < 3; k++)
            if (strcmp(name + strlen(PREFIX), names[k]) == 0) {
                found |= 1 << k;
                CHECK(type == (k == 0 ? MPI_CHAR : MPI_INT), "type of %s", name);
            }
        OK(MPI_T_cvar_get_index(name, &index));
        CHECK(index == i, "%s is at %d and %d", name, i, index);
        CHECK(strlen(desc) > 30 && verbosity <= MPI_T_VERBOSITY_USER_ALL, "%s: %s", name, desc);
    }
    return found == 7;
}

/* A control variable with one int; sets it if `set`. */
static int cvar(const char *name, const int *set)
{
    int index, count, value;
    MPI_T_cvar_handle handle;
    OK(MPI_T_cvar_get_index(name, &index));
    OK(MPI_T_cvar_handle_alloc(index, NULL, &handle, &count));
    CHECK(count == 1, "%s has %d values", name, count);
    if (set)
        OK(MPI_T_cvar_write(handle, set));
    OK(MPI_T_cvar_read(handle, &value));
    OK(MPI_T_cvar_handle_free(&handle));
    return value;
}

static unsigned long long pvar(MPI_T_pvar_session session, MPI_T_pvar_handle handle)
{
    unsigned long long value;
    OK(MPI_T_pvar_read(session, handle, &value));
    return value;
}

/* Messages above the test's limit, in both directions. */
static void talk(int n)
{
    static char out[LIMIT + 1], in[LIMIT + 1];
    for (int i = 0; i < n; i++) {
        fill(out, sizeof(out), rank);
        MPI_Sendrecv(out, sizeof(out), MPI_BYTE, !rank, 0, in, sizeof(in), MPI_BYTE, !rank, 0,
                     MPI_COMM_WORLD, MPI_STATUS_IGNORE);
        CHECK_PATTERN(in, sizeof(in), !rank, "round %d", i);
    }
    if (is_remote(!rank)) {
        expected.messages += n;
        expected.bytes += n * (LIMIT + 1LL);
        expected.lmt_min += n * (LIMIT + 1LL);
        expected.lmt_max += n * (LIMIT + 1LL);
    }
}

static MPI_T_pvar_session sessions[2];
static MPI_T_pvar_handle handles[2];

static void counters(void)
{
    unsigned long long value = 5, before;
    int index, n, count, in_nemesis = 0;
    REFUSED(MPI_T_pvar_get_index("ivshmem_nothing", MPI_T_PVAR_CLASS_COUNTER, &index),
            MPI_T_ERR_INVALID_NAME);
    OK(MPI_T_pvar_get_index("ivshmem_lmt_sent", MPI_T_PVAR_CLASS_COUNTER, &index));

    for (int i = 0; i < 2; i++) {
        OK(MPI_T_pvar_session_create(&sessions[i]));
        OK(MPI_T_pvar_handle_alloc(sessions[i], index, NULL, &handles[i], &count));
    }
    /* They run without being started, and cannot be stopped, set or reset. */
    REFUSED(MPI_T_pvar_start(sessions[0], handles[0]), MPI_T_ERR_PVAR_NO_STARTSTOP);
    REFUSED(MPI_T_pvar_stop(sessions[0], handles[0]), MPI_T_ERR_PVAR_NO_STARTSTOP);
    REFUSED(MPI_T_pvar_write(sessions[0], handles[0], &value), MPI_T_ERR_PVAR_NO_WRITE);
    REFUSED(MPI_T_pvar_reset(sessions[0], handles[0]), MPI_T_ERR_PVAR_NO_WRITE);
    REFUSED(MPI_T_pvar_readreset(sessions[0], handles[0], &value), MPI_T_ERR_PVAR_NO_ATOMIC);
    OK(MPI_T_pvar_start(sessions[0], MPI_T_PVAR_ALL_HANDLES));
    OK(MPI_T_pvar_stop(sessions[0], MPI_T_PVAR_ALL_HANDLES));
    OK(MPI_T_pvar_reset(sessions[0], MPI_T_PVAR_ALL_HANDLES));

    before = pvar(sessions[0], handles[0]);
    talk(7);
    for (int i = 0; i < 2; i++) {
        value = pvar(sessions[i], handles[i]);
        CHECK(value == before + (is_remote(!rank) ? 7 : 0), "session %d: %llu, before %llu", i,
              value, before);
    }

    OK(MPI_T_category_get_index("NEMESIS", &index));
    OK(MPI_T_category_get_info(index, NULL, &(int){0}, NULL, &(int){0}, &(int){0}, &n, &(int){0}));
    int *members = malloc(n * sizeof(int));
    OK(MPI_T_category_get_pvars(index, n, members));
    for (int i = 0; i < n; i++) {
        char name[100];
        int name_len = sizeof(name), u;
        MPI_Datatype type;
        OK(MPI_T_pvar_get_info(members[i], name, &name_len, &u, &u, &type, NULL, NULL, &u, &u, &u,
                               &u, &u));
        in_nemesis += strncmp(name, "ivshmem_", 8) == 0;
    }
    CHECK(in_nemesis >= 11, "%d counters in the category", in_nemesis);
    free(members);
}

static void variables(void)
{
    int provided, limit = LIMIT;

    /*
     * Many times before MPI_Init, nested. The outermost lasts to the end: MPICH 4.0.2 cannot begin
     * again after it.
     */
    OK(MPI_T_init_thread(MPI_THREAD_MULTIPLE, &provided));
    for (int i = 0; i < 20; i++) {
        OK(MPI_T_init_thread(MPI_THREAD_SINGLE, &provided));
        CHECK(has_cvars(), "control variables are missing");
        OK(MPI_T_finalize());
        CHECK(has_cvars(), "control variables are missing");
    }
    /* What is set before MPI_Init is obeyed. */
    CHECK(cvar(PREFIX "EAGER_LIMIT", NULL) == -1, "the limit is set already");
    CHECK(cvar(PREFIX "STATS", NULL) == 1, "the environment is not obeyed");
    CHECK(cvar(PREFIX "EAGER_LIMIT", &limit) == LIMIT, "not set");

    start(NULL, NULL);
    CHECK(size == 2, "two ranks are needed");
    CHECK(cvar(PREFIX "EAGER_LIMIT", NULL) == LIMIT, "forgotten by MPI_Init");
    counters();
    for (int i = 0; i < 5; i++) {
        OK(MPI_T_init_thread(MPI_THREAD_SINGLE, &provided));
        talk(1);
        OK(MPI_T_finalize());
    }
    unsigned long long last = pvar(sessions[0], handles[0]);
    finish();

    /* And after MPI_Finalize: the counts remain. */
    int done;
    MPI_Finalized(&done);
    CHECK_AFTER(done && has_cvars());
    for (int i = 0; i < 2; i++) {
        unsigned long long value = 0;
        CHECK_AFTER(MPI_T_pvar_read(sessions[i], handles[i], &value) == MPI_SUCCESS);
        CHECK_AFTER(value >= last);
        CHECK_AFTER(MPI_T_pvar_handle_free(sessions[i], &handles[i]) == MPI_SUCCESS);
        CHECK_AFTER(MPI_T_pvar_session_free(&sessions[i]) == MPI_SUCCESS);
    }
    CHECK_AFTER(MPI_T_finalize() == MPI_SUCCESS);
    CHECK_AFTER(MPI_T_cvar_get_num(&done) == MPI_T_ERR_NOT_INITIALIZED);
}

/* --- sessions --- */

static MPI_Session open_session(void)
{
    MPI_Session session;
    MPI_Session_init(MPI_INFO_NULL, MPI_ERRORS_ARE_FATAL, &session);
    return session;
}

/* Communicates within the world of a session. */
static void use(MPI_Session session, const char *name)
{
    static char out[200000], in[200000];
    int n, sets, found = 0, flag;
    char set[MPI_MAX_PSET_NAME_LEN], value[100];
    MPI_Info info;
    MPI_Group group;
    MPI_Comm comm;

    MPI_Session_get_num_psets(session, MPI_INFO_NULL, &sets);
    for (int i = 0; i < sets; i++) {
        int len = sizeof(set);
        MPI_Session_get_nth_pset(session, MPI_INFO_NULL, i, &len, set);
        found += strcmp(set, "mpi://WORLD") == 0 || strcmp(set, "mpi://SELF") == 0;
    }
    CHECK(found == 2, "%d process sets, world and self not among them", sets);
    MPI_Session_get_pset_info(session, "mpi://WORLD", &info);
    MPI_Info_get(info, "mpi_size", sizeof(value) - 1, value, &flag);
    CHECK(flag && atoi(value) == 2, "world of %s", flag ? value : "no size");
    MPI_Info_free(&info);

    MPI_Group_from_session_pset(session, "mpi://WORLD", &group);
    MPI_Comm_create_from_group(group, name, MPI_INFO_NULL, MPI_ERRORS_ARE_FATAL, &comm);
    MPI_Comm_rank(comm, &rank);
    MPI_Comm_size(comm, &n);
    CHECK(n == 2, "%d ranks", n);
    fill(out, sizeof(out), rank);
    MPI_Sendrecv(out, sizeof(out), MPI_BYTE, !rank, 0, in, sizeof(in), MPI_BYTE, !rank, 0, comm,
                 MPI_STATUS_IGNORE);
    CHECK_PATTERN(in, sizeof(in), !rank, "%s", name);
    expect_sent(!rank, 1, sizeof(out));
    MPI_Comm_free(&comm);
    MPI_Group_free(&group);
}

static void several_sessions(void)
{
    MPI_Session one = open_session(), two = open_session();
    use(one, "one");
    use(two, "two");
    MPI_Session_finalize(&one);
    CHECK(one == MPI_SESSION_NULL, "the session is left");
    use(two, "the one that is left");
    start(NULL, NULL);
    use(two, "beside the world");
    one = open_session();
    use(one, "inside the world");
    MPI_Session_finalize(&one);
    finish();
    MPI_Session_finalize(&two);
}

static void after_the_world(void)
{
    MPI_Session session;
    start(NULL, NULL);
    session = open_session();
    expected.lmt_max = 1LL << 40; /* printed before it is sent */
    finish();
    use(session, "after the world");
    MPI_Session_finalize(&session);
}

static void again(void)
{
    for (int i = 0; i < 2; i++) {
        MPI_Session session = open_session();
        use(session, "again");
        MPI_Session_finalize(&session);
    }
    if (rank == 0)
        printf("No errors\n");
}

int main(int argc, char **argv)
{
    const char *how = argc > 1 ? argv[1] : "";
    if (strcmp(how, "variables") == 0)
        variables();
    else if (strcmp(how, "sessions") == 0)
        several_sessions();
    else if (strcmp(how, "after") == 0)
        after_the_world();
    else if (strcmp(how, "again") == 0)
        again();
    else
        return 2;
    return 0;
}
