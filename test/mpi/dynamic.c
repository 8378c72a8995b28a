/* SPDX-License-Identifier: mpich2 */
/*
 * Jobs that spawn others, meet others and part again.
 *
 *   spawn OTHER                 parents and children; OTHER is a second name of this program
 *   join accept|connect|within SOCKET
 *   meet accept WHERE PORTS CLIENTS, meet connect WHERE
 *   halves WHERE                the odd ranks meet the even ones
 *   again accept|connect WHERE ROUNDS
 *   work accept|connect WHERE FILE
 *   pending accept|connect WHERE
 *   end accept WHERE, relay connect WHERE SECOND
 *
 * WHERE says where a port's name is: a file if it has a slash, else a name to publish.
 */
#include "mpitest.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/socket.h>
#include <sys/un.h>

#define LARGE (4 << 20)

static const int lengths[] = {0, 1, 5000, EAGER_LIMIT, 200000, LARGE};
enum { LENGTHS = sizeof(lengths) / sizeof(lengths[0]) };

/* Who meets others: the whole job, or a half of it. */
static MPI_Comm us;
static int me;

static char *out, *in;
static const char *program, *other;

/* Ranks of two jobs are remote to each other, whatever the test has set up. */
static void sent_far(long long len)
{
    expected.messages++;
    expected.bytes += len;
    expected.lmt_min += len > EAGER_LIMIT ? len : 0;
    expected.lmt_max += len > EAGER_LIMIT - HEADER_MAX ? len : 0;
}

static uint64_t seed_of(int meeting, int side, int from, int to, int i)
{
    return (((uint64_t) meeting * 2 + side) * 64 + from) * 64 * LENGTHS + to * LENGTHS + i;
}

/*
 * Every rank of one side with every rank of the other; the largest messages only between the first
 * ranks.
 */
static void talk(MPI_Comm inter, int meeting, int side)
{
    int r, others;
    MPI_Comm_rank(inter, &r);
    MPI_Comm_remote_size(inter, &others);
    for (int peer = 0; peer < others; peer++)
        for (int i = 0; i < LENGTHS; i++) {
            MPI_Status status;
            int count;
            if (lengths[i] == LARGE && (peer > 0 || r > 0))
                continue;
            fill(out, lengths[i], seed_of(meeting, side, r, peer, i));
            MPI_Sendrecv(out, lengths[i], MPI_BYTE, peer, i, in, LARGE, MPI_BYTE, peer, i, inter,
                         &status);
            MPI_Get_count(&status, MPI_BYTE, &count);
            CHECK(count == lengths[i], "%d bytes, sent %d", count, lengths[i]);
            CHECK_PATTERN(in, count, seed_of(meeting, !side, peer, r, i), "meeting %d from %d",
                          meeting, peer);
            sent_far(lengths[i]);
        }
}

/* --- spawn --- */

static MPI_Comm spawn(MPI_Comm comm, int n, char *what, char *arg)
{
    MPI_Comm inter;
    char *args[] = {"child", what, arg, NULL};
    int errors[8];
    memset(errors, 0xff, sizeof(errors));
    MPI_Comm_spawn(program, args, n, MPI_INFO_NULL, 0, comm, &inter, errors);
    for (int i = 0; i < n; i++)
        CHECK(errors[i] == MPI_SUCCESS, "child %d of %d: error %d", i, n, errors[i]);
    int others;
    MPI_Comm_remote_size(inter, &others);
    CHECK(others == n, "%d children, asked for %d", others, n);
    return inter;
}

/* Three commands, two programs, different arguments and folders: 4 children in one world. */
static void spawn_multiple(void)
{
    MPI_Comm inter;
    char *commands[] = {(char *) program, (char *) other, (char *) program};
    char *args[3][4] = {
        {"child", "multiple", "0"}, {"child", "multiple", "1"}, {"child", "multiple", "2"}};
    char **all[] = {args[0], args[1], args[2]};
    int counts[] = {1, 2, 1}, errors[4] = {-1, -1, -1, -1};
    MPI_Info infos[] = {MPI_INFO_NULL, MPI_INFO_NULL, MPI_INFO_NULL};

    MPI_Info_create(&infos[2]);
    MPI_Info_set(infos[2], "wdir", "/proc");
    MPI_Comm_spawn_multiple(3, commands, all, counts, infos, size - 1, MPI_COMM_WORLD, &inter,
                            errors);
    for (int i = 0; i < 4; i++)
        CHECK(errors[i] == MPI_SUCCESS, "child %d: error %d", i, errors[i]);
    talk(inter, 1, 0);
    MPI_Comm_disconnect(&inter);
    MPI_Info_free(&infos[2]);
}

static void multiple_child(const char *name, int number)
{
    static const int numbers[] = {0, 1, 1, 2};
    int *appnum, found, len = strlen(name), expect = strlen("other");
    char folder[1000] = "";
    CHECK(size == 4, "%d children in the world", size);
    MPI_Comm_get_attr(MPI_COMM_WORLD, MPI_APPNUM, &appnum, &found);
    CHECK(found && *appnum == numbers[rank] && *appnum == number, "number %d, argument %d",
          found ? *appnum : -1, number);
    int is_other = len >= expect && strcmp(name + len - expect, "other") == 0;
    CHECK(is_other == (number == 1), "command %d is %s", number, name);
    CHECK(getcwd(folder, sizeof(folder)) && !strcmp(folder, "/proc") == (number == 2),
          "command %d is in %s", number, folder);
}

/* Parents and children become one communicator, and spawn together. */
static void spawn_merged(MPI_Comm inter, int high)
{
    MPI_Comm all, young;
    int n;
    MPI_Intercomm_merge(inter, high, &all);
    MPI_Comm_size(all, &n);
    young = spawn(all, 2, "plain", "5");
    talk(young, 5, 0);
    MPI_Comm_disconnect(&young);
    MPI_Comm_disconnect(&all);
}

/* A line of descendants, connected from first to last. The last one's message reaches the first. */
static int descend(int depth)
{
    int word = depth;
    char arg[16];
    if (depth == 0)
        return word;
    snprintf(arg, sizeof(arg), "%d", depth - 1);
    MPI_Comm inter = spawn(MPI_COMM_WORLD, 1, "nested", arg);
    talk(inter, depth, 0);
    if (rank == 0)
        MPI_Recv(&word, 1, MPI_INT, 0, 9, inter, MPI_STATUS_IGNORE);
    MPI_Bcast(&word, 1, MPI_INT, 0, MPI_COMM_WORLD);
    MPI_Comm_disconnect(&inter);
    return word * 10 + depth;
}

static void child(char **argv)
{
    MPI_Comm parent, same;
    int number = atoi(argv[3]);
    MPI_Comm_get_parent(&parent);
    CHECK(parent != MPI_COMM_NULL, "a child without a parent");
    MPI_Comm_get_parent(&same);
    CHECK(same == parent, "two parents");
    if (strcmp(argv[2], "multiple") == 0)
        multiple_child(argv[0], number);
    if (strcmp(argv[2], "nested") == 0) {
        talk(parent, number + 1, 1);
        int word = descend(number);
        MPI_Send(&word, 1, MPI_INT, 0, 9, parent);
    } else if (strcmp(argv[2], "merged") == 0) {
        spawn_merged(parent, 1);
    } else {
        talk(parent, strcmp(argv[2], "multiple") == 0 ? 1 : number, 1);
    }
    MPI_Comm_disconnect(&parent);
}

static void parent(void)
{
    MPI_Comm inter, above;
    MPI_Comm_get_parent(&above);
    CHECK(above == MPI_COMM_NULL, "a parent, though nobody spawned us");
    spawn_multiple();
    /* Each rank spawns a child of its own, at once. */
    inter = spawn(MPI_COMM_SELF, 1, "plain", "3");
    talk(inter, 3, 0);
    MPI_Barrier(MPI_COMM_WORLD);
    MPI_Comm_disconnect(&inter);
    int word = descend(3);
    CHECK(word == 123, "word %d", word);
    inter = spawn(MPI_COMM_WORLD, 2, "merged", "0");
    spawn_merged(inter, 0);
    MPI_Comm_disconnect(&inter);
    expected.lmt_max = 1LL << 40; /* a merged communicator's own */
}

/* --- accept and connect --- */

static void announce(const char *where, const char *port)
{
    if (me != 0)
        return;
    if (!strchr(where, '/')) {
        MPI_Publish_name(where, MPI_INFO_NULL, port);
        return;
    }
    write_line(where, port);
}

/*
 * Whether the name is there. For an unknown name, Hydra's name server returns an empty one and no
 * error.
 */
static int try_find(const char *where, char *port)
{
    if (!strchr(where, '/'))
        return MPI_Lookup_name(where, MPI_INFO_NULL, port) == MPI_SUCCESS && port[0];
    FILE *f = fopen(where, "r");
    if (!f)
        return 0;
    int ok = fgets(port, MPI_MAX_PORT_NAME, f) != NULL;
    fclose(f);
    return ok;
}

static void retract(const char *where, const char *port)
{
    char gone[MPI_MAX_PORT_NAME];
    if (me != 0 || strchr(where, '/'))
        return;
    MPI_Unpublish_name(where, MPI_INFO_NULL, port);
    MPI_Comm_set_errhandler(MPI_COMM_WORLD, MPI_ERRORS_RETURN);
    CHECK(!try_find(where, gone), "%s is still published", where);
    MPI_Comm_set_errhandler(MPI_COMM_WORLD, MPI_ERRORS_ARE_FATAL);
}

/* Waits two minutes for the name. */
static void find(const char *where, char *port)
{
    int found = 0;
    if (me != 0)
        return;
    MPI_Comm_set_errhandler(MPI_COMM_WORLD, MPI_ERRORS_RETURN);
    for (int i = 0; i < 6000 && !(found = try_find(where, port)); i++)
        usleep(20000);
    MPI_Comm_set_errhandler(MPI_COMM_WORLD, MPI_ERRORS_ARE_FATAL);
    CHECK(found, "no port at %s", where);
}

/* Our side of a pair of jobs; part() closes the port. */
static char port[MPI_MAX_PORT_NAME];

static MPI_Comm meet(int accept, const char *where)
{
    MPI_Comm inter;
    if (accept && me == 0)
        MPI_Open_port(MPI_INFO_NULL, port);
    if (accept) {
        announce(where, port);
        MPI_Comm_accept(port, MPI_INFO_NULL, 0, us, &inter);
    } else {
        find(where, port);
        MPI_Comm_connect(port, MPI_INFO_NULL, 0, us, &inter);
    }
    return inter;
}

static void part(int accept, const char *where, MPI_Comm *inter)
{
    MPI_Comm_disconnect(inter);
    CHECK(*inter == MPI_COMM_NULL, "the communicator is left");
    if (!accept)
        return;
    retract(where, port);
    if (me == 0)
        MPI_Close_port(port);
}

/* Many ports open at once, with many clients each; all stay until the last has come. */
static void meet_many(const char *where, int ports, int clients)
{
    enum { MOST = 8 };
    char names[MOST][MPI_MAX_PORT_NAME], at[MOST][1000];
    MPI_Comm inter[MOST * MOST];
    int n = 0;
    CHECK(ports <= MOST && clients <= MOST, "%d at most", MOST);
    for (int p = 0; p < ports; p++) {
        snprintf(at[p], sizeof(at[p]), "%s.%d", where, p);
        if (me == 0)
            MPI_Open_port(MPI_INFO_NULL, names[p]);
        announce(at[p], names[p]);
    }
    for (int c = 0; c < clients; c++)
        for (int p = ports - 1; p >= 0; p--) {
            MPI_Comm_accept(names[p], MPI_INFO_NULL, 0, us, &inter[n]);
            talk(inter[n++], p, 1);
        }
    for (int i = 0; i < n; i++)
        talk(inter[i], 40, 1);
    for (int i = n - 1; i >= 0; i--)
        MPI_Comm_disconnect(&inter[i]);
    for (int p = 0; p < ports; p++) {
        retract(at[p], names[p]);
        if (me == 0)
            MPI_Close_port(names[p]);
    }
}

static void visit(const char *where)
{
    MPI_Comm inter = meet(0, where);
    talk(inter, atoi(strrchr(where, '.') + 1), 0);
    talk(inter, 40, 0);
    part(0, where, &inter);
}

static void halves(const char *where)
{
    MPI_Comm inter;
    MPI_Comm_split(MPI_COMM_WORLD, rank % 2, rank, &us);
    MPI_Comm_rank(us, &me);
    inter = meet(rank % 2, where);
    talk(inter, 0, rank % 2);
    part(rank % 2, where, &inter);
    MPI_Comm_free(&us);
}

/* What must not grow from one meeting to the next. */
struct held {
    int files, mappings;
    char region[500];
};

static struct held held(void)
{
    struct held h = {0, 0, ""};
    char line[1000];
    DIR *d = opendir("/proc/self/fd");
    while (readdir(d))
        h.files++;
    closedir(d);
    FILE *f = fopen("/proc/self/maps", "r");
    while (fgets(line, sizeof(line), f))
        h.mappings += strchr(line, '/') != NULL;
    fclose(f);
    const char *region = getenv("MPIR_CVAR_NEMESIS_IVSHMEM_REGION");
    if (region) {
        snprintf(line, sizeof(line), "ivshmem info --json %s | jq -c .usage", region);
        CHECK((f = popen(line, "r")) && fgets(h.region, sizeof(h.region), f), "cannot run %s",
              line);
        CHECK(pclose(f) == 0, "%s failed", line);
    }
    return h;
}

static void again(int accept, const char *where, int turns)
{
    enum { SETTLED = 5 };
    struct held before = {0, 0, ""}, after;
    if (accept && me == 0)
        MPI_Open_port(MPI_INFO_NULL, port);
    if (accept)
        announce(where, port);
    else
        find(where, port);
    for (int i = 0; i < turns; i++) {
        MPI_Comm inter;
        int word = accept ? i : -i, got, others;
        if (accept)
            MPI_Comm_accept(port, MPI_INFO_NULL, 0, us, &inter);
        else
            MPI_Comm_connect(port, MPI_INFO_NULL, 0, us, &inter);
        MPI_Comm_remote_size(inter, &others);
        for (int peer = 0; peer < others; peer++) {
            MPI_Sendrecv(&word, 1, MPI_INT, peer, i, &got, 1, MPI_INT, peer, i, inter,
                         MPI_STATUS_IGNORE);
            CHECK(got == -word, "round %d: %d from %d", i, got, peer);
            sent_far(sizeof(word));
        }
        /* A large one too: it needs a pipeline. */
        fill(out, 100000, i);
        MPI_Sendrecv(out, 100000, MPI_BYTE, rank % others, 0, in, LARGE, MPI_BYTE,
                     rank < others ? rank : MPI_PROC_NULL, 0, inter, MPI_STATUS_IGNORE);
        CHECK_PATTERN(in, 100000, i, "round %d", i);
        sent_far(100000);
        if (i == SETTLED && me == 0 && accept)
            before = held();
        if (i == turns - 1 && me == 0 && accept) {
            after = held();
            CHECK(after.files == before.files && after.mappings == before.mappings &&
                      strcmp(after.region, before.region) == 0,
                  "%d files, %d mappings, region %s; at the beginning %d, %d, %s", after.files,
                  after.mappings, after.region, before.files, before.mappings, before.region);
        }
        MPI_Comm_disconnect(&inter);
    }
    if (accept && me == 0)
        MPI_Close_port(port);
}

/* Two jobs as one communicator: collectives, one-sided, a file. */
static void work(int accept, const char *where, const char *path)
{
    enum { N = 20000 };
    MPI_Comm inter = meet(accept, where), all;
    int n, r, *a = (int *) out, *b = (int *) in, *mine, one = 1, old;
    MPI_Win window;
    MPI_File file;

    talk(inter, 0, accept);
    MPI_Intercomm_merge(inter, accept, &all);
    MPI_Comm_size(all, &n);
    MPI_Comm_rank(all, &r);
    CHECK(n * N * sizeof(int) <= LARGE, "%d ranks are too many", n);

    for (int i = 0; i < n * N; i++)
        a[i] = r * n * N + i;
    MPI_Alltoall(a, N, MPI_INT, b, N, MPI_INT, all);
    for (int i = 0; i < n * N; i++)
        CHECK(b[i] == (i / N) * n * N + r * N + i % N, "alltoall at %d: %d", i, b[i]);
    MPI_Allreduce(a, b, N, MPI_INT, MPI_MAX, all);
    for (int i = 0; i < N; i++)
        CHECK(b[i] == (n - 1) * n * N + i, "allreduce at %d: %d", i, b[i]);

    MPI_Win_allocate(n * sizeof(int), sizeof(int), MPI_INFO_NULL, all, &mine, &window);
    MPI_Win_fence(0, window);
    for (int i = 0; i < n; i++)
        mine[i] = 0;
    MPI_Win_fence(0, window);
    for (int to = 0; to < n; to++)
        MPI_Put(&a[r], 1, MPI_INT, to, r, 1, MPI_INT, window);
    MPI_Win_fence(0, window);
    for (int i = 0; i < n; i++)
        CHECK(mine[i] == i * n * N + i, "put by %d: %d", i, mine[i]);
    mine[0] = 0;
    MPI_Win_fence(0, window);
    MPI_Win_lock_all(0, window);
    for (int to = 0; to < n; to++) {
        MPI_Fetch_and_op(&one, &old, MPI_INT, to, 0, MPI_SUM, window);
        MPI_Win_flush(to, window);
        CHECK(old >= 0 && old < n, "drew %d of %d", old, n);
    }
    MPI_Win_unlock_all(window);
    MPI_Barrier(all);
    CHECK(mine[0] == n, "counted %d of %d", mine[0], n);
    MPI_Win_free(&window);

    MPI_File_open(all, path, MPI_MODE_CREATE | MPI_MODE_RDWR, MPI_INFO_NULL, &file);
    fill(out, 100000, r);
    MPI_File_write_at_all(file, r * 100000LL, out, 100000, MPI_BYTE, MPI_STATUS_IGNORE);
    MPI_File_sync(file);
    MPI_Barrier(all);
    MPI_File_read_at_all(file, (r + 1) % n * 100000LL, in, 100000, MPI_BYTE, MPI_STATUS_IGNORE);
    CHECK_PATTERN(in, 100000, (r + 1) % n, "read of what %d wrote", (r + 1) % n);
    MPI_File_close(&file);

    MPI_Comm_disconnect(&all);
    part(accept, where, &inter);
    expected.lmt_max = 1LL << 40;
}

/* One side disconnects while its large messages wait for their receives. */
static void pending(int accept, const char *where)
{
    enum { MESSAGES = 3 };
    MPI_Comm inter = meet(accept, where);
    MPI_Request request;
    if (!accept) {
        fill(out, LARGE, rank);
        for (int i = 0; i < MESSAGES; i++) {
            MPI_Isend(out, LARGE, MPI_BYTE, rank, i, inter, &request);
            /* MPICH's disconnect would wait for ever for a request that is still ours. */
            MPI_Request_free(&request);
            sent_far(LARGE);
        }
    } else {
        sleep(1);
        for (int i = MESSAGES - 1; i >= 0; i--) {
            memset(in, 0, LARGE);
            MPI_Recv(in, LARGE, MPI_BYTE, rank, i, inter, MPI_STATUS_IGNORE);
            CHECK_PATTERN(in, LARGE, rank, "message %d", i);
        }
    }
    part(accept, where, &inter);
}

/* The middle of three jobs forwards what the other two send to each other. */
static void relay(const char *one, const char *two)
{
    MPI_Comm ends[2] = {meet(0, one), meet(0, two)};
    for (int i = 0; i < 2 * LENGTHS; i++) {
        MPI_Status status;
        int count, from;
        if (me != 0)
            break;
        from = i % 2;
        MPI_Recv(in, LARGE, MPI_BYTE, 0, i / 2, ends[from], &status);
        MPI_Get_count(&status, MPI_BYTE, &count);
        MPI_Send(in, count, MPI_BYTE, 0, i / 2, ends[!from]);
        sent_far(count);
    }
    MPI_Comm_disconnect(&ends[1]);
    MPI_Comm_disconnect(&ends[0]);
}

static void relay_end(const char *where)
{
    MPI_Comm inter = meet(1, where);
    for (int i = 0; i < LENGTHS && me == 0; i++) {
        MPI_Status status;
        int count;
        MPI_Request request;
        fill(out, lengths[i], i);
        MPI_Isend(out, lengths[i], MPI_BYTE, 0, i, inter, &request);
        MPI_Recv(in, LARGE, MPI_BYTE, 0, i, inter, &status);
        MPI_Wait(&request, MPI_STATUS_IGNORE);
        MPI_Get_count(&status, MPI_BYTE, &count);
        CHECK(count == lengths[i], "%d bytes through the relay, sent %d", count, lengths[i]);
        CHECK_PATTERN(in, count, i, "message %d through the relay", i);
        sent_far(lengths[i]);
    }
    part(1, where, &inter);
}

/* --- join --- */

static int wire(int listens, const char *path)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM, 0), ok = -1;
    CHECK(strlen(path) < sizeof(address.sun_path), "%s is too long", path);
    strcpy(address.sun_path, path);
    if (listens) {
        CHECK(bind(fd, (void *) &address, sizeof(address)) == 0 && listen(fd, 1) == 0, "%s", path);
        int peer = accept(fd, NULL, NULL);
        CHECK(peer >= 0, "nobody came to %s", path);
        close(fd);
        unlink(path);
        return peer;
    }
    for (int i = 0; i < 6000 && ok != 0; i++) {
        ok = connect(fd, (void *) &address, sizeof(address));
        usleep(20000);
    }
    CHECK(ok == 0, "cannot connect to %s", path);
    return fd;
}

static void join(int listens, const char *path)
{
    MPI_Comm inter;
    char byte = listens ? 'a' : 'b', got = 0;
    int others, fd = wire(listens, path);
    MPI_Comm_join(fd, &inter);
    CHECK(inter != MPI_COMM_NULL, "did not join");
    MPI_Comm_remote_size(inter, &others);
    CHECK(others == 1, "joined with %d", others);
    talk(inter, 6, listens);
    /* The socket is ours again, with nothing in it. But MPICH leaves it non-blocking. */
    fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) & ~O_NONBLOCK);
    CHECK(write(fd, &byte, 1) == 1 && read(fd, &got, 1) == 1 && got == 'a' + 'b' - byte,
          "%c on the socket", got);
    close(fd);
    MPI_Comm_disconnect(&inter);
}

static int is(const char *word, const char *arg)
{
    return arg && strcmp(word, arg) == 0;
}

int main(int argc, char **argv)
{
    start(&argc, &argv);
    CHECK(argc > 2, "see the head of the source");
    program = argv[0];
    us = MPI_COMM_WORLD;
    me = rank;
    out = calloc(1, LARGE);
    in = calloc(1, LARGE);

    const char *mode = argv[1], *where = argv[argc > 3 ? 3 : 2], *arg = argc > 4 ? argv[4] : "0";
    int accepts = is("accept", argv[2]);
    if (is("child", mode)) {
        child(argv);
        expected.lmt_max = 1LL << 40;
    } else if (is("spawn", mode)) {
        other = argv[2];
        parent();
    } else if (is("join", mode)) {
        /* Within a job, the first two ranks; they may be local to each other. */
        if (!is("within", argv[2]) || rank < 2)
            join(is("within", argv[2]) ? rank == 0 : accepts, where);
        if (is("within", argv[2]) && size > 1 && !is_remote(1 - rank))
            memset(&expected, 0, sizeof(expected));
    } else if (is("meet", mode)) {
        if (accepts)
            meet_many(where, atoi(arg), atoi(argv[5]));
        else
            visit(where);
    } else if (is("halves", mode)) {
        halves(where);
    } else if (is("again", mode)) {
        again(accepts, where, atoi(arg));
    } else if (is("work", mode)) {
        work(accepts, where, arg);
    } else if (is("pending", mode)) {
        pending(accepts, where);
    } else if (is("relay", mode)) {
        relay(where, arg);
    } else if (is("end", mode)) {
        relay_end(where);
    } else {
        CHECK(0, "unknown mode %s", mode);
    }
    free(out);
    free(in);
    finish();
    return 0;
}
