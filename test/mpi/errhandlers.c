/* SPDX-License-Identifier: mpich2 */
/*
 * Errors that a program sees: of the right class, with a text that says what is wrong, and without
 * harm to what comes after.
 *
 *   calls                 wrong arguments, truncation, user error handlers
 *   port FILE             writes the name of a port, which ends with the job, to FILE
 *   ports FILE            connects to ports that do not exist, that one among them
 *   names                 names that nobody has published
 *   victim WHEN WHERE     dies, as the survivor's peer:
 *   survivor WHEN WHERE   calling (it connects), answered (it connects, and is accepted without
 *                         knowing), called (it has a port and does not accept), talking (while
 *                         messages pass), silent (when it has stopped sending)
 *   guest WHERE           comes to the survivor after the victim
 *
 * WHERE is a file for the port's name.
 */
#include "mpitest.h"

#include <signal.h>

enum { LIMIT = 120 }; /* seconds; a call that takes longer counts as never ending */

/* The error must be of this class, and its text must contain this. */
static void expect(int code, int class, const char *text, const char *what)
{
    char said[MPI_MAX_ERROR_STRING] = "";
    int got = -1, len;
    MPI_Error_class(code, &got);
    MPI_Error_string(code, said, &len);
    CHECK(got == class, "%s: class %d, expected %d: %s", what, got, class, said);
    /* Of a long text, lines in the middle are left out. */
    CHECK(strstr(said, text) || strstr(said, "\n...\n"), "%s: not a word of \"%s\": %s", what, text,
          said);
    CHECK(len == (int) strlen(said), "%s: length %d", what, len);
}

/* Our messages still arrive, in order. */
static void still_works(void)
{
    static char out[100000], in[100000];
    int peer = rank ^ 1;
    for (int len = 0; len <= 100000 && peer < size; len += 20000) {
        fill(out, len, rank * 100 + len);
        MPI_Sendrecv(out, len, MPI_BYTE, peer, 7, in, len, MPI_BYTE, peer, 7, MPI_COMM_WORLD,
                     MPI_STATUS_IGNORE);
        CHECK_PATTERN(in, len, peer * 100 + len, "after an error");
        expect_sent(peer, 1, len);
    }
}

static struct {
    MPI_Comm comm;
    int calls, code;
} handled;

static void handler(MPI_Comm *comm, int *code, ...)
{
    handled.comm = *comm;
    handled.code = *code;
    handled.calls++;
}

/* The error of a call. Since 4.3, MPICH returns MPI_SUCCESS after a handler that returns. */
static int told(int code)
{
    return code == MPI_SUCCESS && handled.calls > 0 ? handled.code : code;
}

/* A message that was probed belongs to no communicator: its errors are MPI_COMM_WORLD's. */
static int mrecv(void *in, int small, int tag, MPI_Comm comm, MPI_Status *status)
{
    MPI_Message message;
    MPI_Mprobe(0, tag, comm, &message, status);
    MPI_Comm_set_errhandler(MPI_COMM_WORLD, MPI_ERRORS_RETURN);
    int code = MPI_Mrecv(in, small, MPI_BYTE, &message, status);
    MPI_Comm_set_errhandler(MPI_COMM_WORLD, MPI_ERRORS_ARE_FATAL);
    return code;
}

/* A receive that is too small, for messages of all kinds; nothing is written beyond its end. */
static void truncation(MPI_Comm comm)
{
    static const int lengths[] = {100, 5000, EAGER_LIMIT, 200000, 4 << 20};
    static char out[4 << 20], in[4 << 20];
    for (int i = 0; i < 5; i++)
        for (int way = 0; way < 4; way++) {
            int len = lengths[i], small = way == 3 ? 0 : len / 3, code;
            MPI_Status status;
            MPI_Request request;
            fill(out, len, i);
            memset(in, 0x55, len);
            if (rank == 0) {
                if (way == 1)
                    MPI_Barrier(MPI_COMM_WORLD); /* the receive is posted */
                code = MPI_Send(out, len, MPI_BYTE, 1, i, comm);
                CHECK(code == MPI_SUCCESS, "sender got %d", code);
                expect_sent(1, 1, 0);
                continue;
            }
            if (way == 1) {
                MPI_Irecv(in, small, MPI_BYTE, 0, i, comm, &request);
                MPI_Barrier(MPI_COMM_WORLD);
                code = MPI_Wait(&request, &status);
            } else if (way == 2) {
                code = mrecv(in, small, i, comm, &status);
            } else {
                code = MPI_Recv(in, small, MPI_BYTE, 0, i, comm, &status);
            }
            expect(told(code), MPI_ERR_TRUNCATE, "truncated", "a receive that is too small");
            CHECK(status.MPI_SOURCE == 0 && status.MPI_TAG == i, "%d %d", status.MPI_SOURCE,
                  status.MPI_TAG);
            for (int k = small; k < len; k++)
                CHECK(in[k] == 0x55, "%d bytes into %d, way %d: byte %d is written", len, small,
                      way, k);
        }
    expected.lmt_max = 1LL << 40;
}

static void calls(void)
{
    MPI_Comm comm, dup;
    MPI_Errhandler ours, got;
    MPI_Win window;
    MPI_File file;
    int x = 0, *mine;

    CHECK(size == 2, "two ranks are needed");
    MPI_Comm_dup(MPI_COMM_WORLD, &comm);
    MPI_Comm_set_errhandler(comm, MPI_ERRORS_RETURN);
    expect(MPI_Send(&x, 1, MPI_INT, 2, 0, comm), MPI_ERR_RANK, "value 2 ", "rank 2 of 2");
    expect(MPI_Send(&x, 1, MPI_INT, -7, 0, comm), MPI_ERR_RANK, "-7", "rank -7");
    expect(MPI_Send(&x, 1, MPI_INT, 1, -3, comm), MPI_ERR_TAG, "-3", "tag -3");
    expect(MPI_Send(&x, -1, MPI_INT, 1, 0, comm), MPI_ERR_COUNT, "-1", "count -1");
    expect(MPI_Send(&x, 1, MPI_DATATYPE_NULL, 1, 0, comm), MPI_ERR_TYPE, "", "no type");
    expect(MPI_Recv(&x, 1, MPI_INT, 5, 0, comm, MPI_STATUS_IGNORE), MPI_ERR_RANK, "5", "rank 5");
    expect(MPI_Bcast(&x, 1, MPI_INT, 9, comm), MPI_ERR_ROOT, "9", "root 9");
    still_works();
    truncation(comm);
    still_works();

    /* Our own handler, also on objects that inherit it. */
    MPI_Comm_create_errhandler(handler, &ours);
    MPI_Comm_set_errhandler(comm, ours);
    MPI_Comm_get_errhandler(comm, &got);
    CHECK(got == ours, "another handler");
    MPI_Errhandler_free(&got);
    MPI_Comm_dup(comm, &dup);
    MPI_Errhandler_free(&ours);
    expect(told(MPI_Send(&x, 1, MPI_INT, 2, 0, dup)), MPI_ERR_RANK, "value 2 ", "with our handler");
    CHECK(handled.calls == 1 && handled.comm == dup, "%d calls", handled.calls);
    expect(handled.code, MPI_ERR_RANK, "value 2 ", "what our handler saw");
    truncation(dup);
    CHECK(handled.calls == (rank == 1 ? 16 : 1), "%d calls of our handler", handled.calls);
    MPI_Comm_call_errhandler(comm, MPI_ERR_OTHER);
    CHECK(handled.code == MPI_ERR_OTHER && handled.comm == comm, "a call by hand");
    MPI_Comm_free(&dup);

    MPI_Win_allocate(4, 4, MPI_INFO_NULL, comm, &mine, &window);
    MPI_Win_set_errhandler(window, MPI_ERRORS_RETURN);
    expect(MPI_Put(&x, 1, MPI_INT, 2, 0, 1, MPI_INT, window), MPI_ERR_RANK, "2", "put to rank 2");
    expect(MPI_Win_unlock(0, window), MPI_ERR_RMA_SYNC, "", "unlock without lock");
    expect(MPI_Put(&x, 1, MPI_INT, 0, 0, 1, MPI_INT, window), MPI_ERR_RMA_SYNC, "",
           "put outside an epoch");
    MPI_Win_free(&window);
    expect(MPI_File_open(comm, "/nowhere/at/all", MPI_MODE_RDONLY, MPI_INFO_NULL, &file),
           MPI_ERR_NO_SUCH_FILE, "", "no file");
    MPI_Comm_free(&comm);
    still_works();
}

/* Connecting there is an error, in time, and on every rank. */
static void no_port(const char *port, const char *text, const char *what)
{
    MPI_Comm inter;
    MPI_Info info;
    double start = MPI_Wtime();
    MPI_Info_create(&info);
    MPI_Info_set(info, "timeout", "1");
    if (rank == 0)
        fprintf(stderr, "%s\n", what);
    int code = MPI_Comm_connect(port, info, 0, MPI_COMM_WORLD, &inter);
    expect(code, MPI_ERR_PORT, text, what);
    CHECK(MPI_Wtime() - start < LIMIT, "%s: only after %.1f s", what, MPI_Wtime() - start);
    MPI_Info_free(&info);
    still_works();
}

/* Rank 1 calls a port of rank 0's, at which nobody accepts. */
static void not_accepted(const char *port, const char *what)
{
    MPI_Comm inter;
    MPI_Info info;
    if (rank == 1) {
        MPI_Info_create(&info);
        MPI_Info_set(info, "timeout", "1");
        MPI_Comm_set_errhandler(MPI_COMM_SELF, MPI_ERRORS_RETURN);
        double start = MPI_Wtime();
        expect(MPI_Comm_connect(port, info, 0, MPI_COMM_SELF, &inter), MPI_ERR_PORT,
               "does not exist", what);
        CHECK(MPI_Wtime() - start < LIMIT, "%s: only after %.1f s", what, MPI_Wtime() - start);
        MPI_Info_free(&info);
    }
    MPI_Barrier(MPI_COMM_WORLD);
    still_works();
}

static void ports(const char *file)
{
    char ended[MPI_MAX_PORT_NAME] = "", port[MPI_MAX_PORT_NAME] = "", bad[MPI_MAX_PORT_NAME];
    read_line(file, ended);
    MPI_Comm_set_errhandler(MPI_COMM_WORLD, MPI_ERRORS_RETURN);
    no_port("", "Named port  does not exist", "an empty port");
    no_port("a port that I made up", "Named port a port that I made up does not exist",
            "a made-up port");
    memset(bad, 'x', sizeof(bad));
    bad[sizeof(bad) - 1] = '\0';
    no_port(bad, "xxx", "a very long port");
    if (rank == 0)
        MPI_Open_port(MPI_INFO_NULL, port);
    MPI_Bcast(port, sizeof(port), MPI_CHAR, 0, MPI_COMM_WORLD);
    char said[MPI_MAX_PORT_NAME + 40];
    for (size_t len = strlen(port) - 1; len > 0; len -= len > 12 ? 7 : 1) {
        snprintf(bad, sizeof(bad), "%.*s", (int) len, port);
        snprintf(said, sizeof(said), "Named port %s does not exist", bad);
        no_port(bad, said, "a port cut short");
    }
    const char *region = strstr(port, "ivshmem#");
    CHECK(region, "no region in %s", port);
    const char *release = strrchr(port, '.');
    while (release[-1] != '.')
        release--;
    snprintf(bad, sizeof(bad), "%.*s3_1-1.$", (int) (release - port), port);
    snprintf(said, sizeof(said), "Named port %s does not exist", bad);
    no_port(bad, said, "a port of another release");
    snprintf(bad, sizeof(bad), "%.*s.4294967295.1.0.0.%s", (int) (region - port) + 8 + 32, port,
             release);
    snprintf(said, sizeof(said), "Named port %s does not exist", bad);
    no_port(bad, said, "the port of an endpoint that cannot be");
    not_accepted(port, "a port where nobody accepts");
    if (rank == 0)
        MPI_Close_port(port);
    MPI_Barrier(MPI_COMM_WORLD);
    not_accepted(port, "a port that is closed");
    snprintf(said, sizeof(said), "Named port %s does not exist", ended);
    no_port(ended, said, "the port of a job that has ended");
}

static void names(void)
{
    char port[MPI_MAX_PORT_NAME];
    MPI_Comm_set_errhandler(MPI_COMM_WORLD, MPI_ERRORS_RETURN);
    expect(MPI_Lookup_name("nobody", MPI_INFO_NULL, port), MPI_ERR_NAME, "nobody",
           "a name that nobody published");
    expect(MPI_Unpublish_name("nobody", MPI_INFO_NULL, "port"), MPI_ERR_SERVICE, "nobody",
           "unpublishing a name that nobody has published");
    still_works();
}

/* Connects; returns 0 or the error. */
static int call(const char *where, int timeout, MPI_Comm *inter)
{
    char port[MPI_MAX_PORT_NAME], seconds[16];
    MPI_Info info;
    read_line(where, port);
    MPI_Info_create(&info);
    snprintf(seconds, sizeof(seconds), "%d", timeout);
    MPI_Info_set(info, "timeout", seconds);
    int code = MPI_Comm_connect(port, info, 0, MPI_COMM_SELF, inter);
    MPI_Info_free(&info);
    return code;
}

/*
 * Until the other side dies: what it has not received is an error, and so is what it has not sent.
 */
static void talk(MPI_Comm inter, int dies, int silent)
{
    static char out[1 << 20], in[1 << 20];
    int code = MPI_SUCCESS;
    for (int i = 0; i < 1000000 && code == MPI_SUCCESS; i++) {
        int len = i % 2 ? 1 << 20 : 100;
        MPI_Request requests[2];
        if (dies && i == 10 && silent)
            pause();
        if (dies && i == 9 && !silent)
            raise(SIGKILL);
        code = MPI_Irecv(in, len, MPI_BYTE, 0, 0, inter, &requests[0]);
        if (code == MPI_SUCCESS)
            code = MPI_Isend(out, len, MPI_BYTE, 0, 0, inter, &requests[1]);
        for (int k = 0; k < 2 && code == MPI_SUCCESS; k++)
            code = MPI_Wait(&requests[k], MPI_STATUS_IGNORE);
    }
    expect(code, MPIX_ERR_PROC_FAILED, "its process is dead", "a message of the dead");
    code = MPI_Send(out, 1 << 20, MPI_BYTE, 0, 0, inter);
    expect(code, MPIX_ERR_PROC_FAILED, "", "a message to the dead");
    MPI_Comm_free(&inter);
}

/* The victim's file, beside the one with the port. */
static const char *victim_file(const char *where)
{
    static char path[1000];
    snprintf(path, sizeof(path), "%s.victim", where);
    return path;
}

/* Waits until the victim, which has called meanwhile, is dead or stopped. */
static void await_victim(const char *where)
{
    char pid[MPI_MAX_PORT_NAME], path[100], text[400] = "", *state;
    read_line(victim_file(where), pid);
    snprintf(path, sizeof(path), "/proc/%d/stat", atoi(pid));
    for (int tries = 0;; tries++) {
        FILE *f = fopen(path, "r");
        if (!f)
            return;
        state = fgets(text, sizeof(text), f) ? strrchr(text, ')') : NULL;
        fclose(f);
        if (!state || strchr("TXZ", state[2]))
            return;
        CHECK(tries < LIMIT * 100, "the victim lives");
        usleep(10000);
    }
}

static void victim(const char *when, const char *where)
{
    char port[MPI_MAX_PORT_NAME];
    MPI_Comm inter;
    snprintf(port, sizeof(port), "%d", (int) getpid());
    write_line(victim_file(where), port);
    if (strcmp(when, "calling") == 0) {
        read_line(where, port);
        alarm(1);
        call(where, LIMIT, &inter);
    } else if (strcmp(when, "answered") == 0) {
        pid_t self = getpid();
        read_line(where, port);
        if (fork() == 0) {
            sleep(1);
            kill(self, SIGSTOP);
            sleep(3); /* the survivor accepts */
            kill(self, SIGKILL);
            _exit(0);
        }
        call(where, LIMIT, &inter);
    } else if (strcmp(when, "called") == 0) {
        MPI_Open_port(MPI_INFO_NULL, port);
        write_line(where, port);
        alarm(1);
        for (;;)
            pause();
    } else {
        MPI_Open_port(MPI_INFO_NULL, port);
        write_line(where, port);
        MPI_Comm_accept(port, MPI_INFO_NULL, 0, MPI_COMM_SELF, &inter);
        alarm(1);
        talk(inter, 1, strcmp(when, "silent") == 0);
    }
    CHECK(0, "the victim lives");
}

static void survivor(const char *when, const char *where)
{
    char port[MPI_MAX_PORT_NAME];
    MPI_Comm inter;
    int code, word = 0;
    double start = MPI_Wtime();
    MPI_Comm_set_errhandler(MPI_COMM_SELF, MPI_ERRORS_RETURN);
    if (strcmp(when, "calling") == 0 || strcmp(when, "answered") == 0) {
        MPI_Open_port(MPI_INFO_NULL, port);
        write_line(where, port);
        await_victim(where);
        for (int tries = 0; tries < 3; tries++) {
            code = MPI_Comm_accept(port, MPI_INFO_NULL, 0, MPI_COMM_SELF, &inter);
            if (code == MPI_SUCCESS)
                break;
        }
        CHECK(code == MPI_SUCCESS, "accepted nobody");
        MPI_Recv(&word, 1, MPI_INT, 0, 0, inter, MPI_STATUS_IGNORE);
        CHECK(word == 77, "%d from the guest", word);
        MPI_Comm_disconnect(&inter);
        MPI_Close_port(port);
    } else if (strcmp(when, "called") == 0) {
        code = call(where, 5, &inter);
        expect(code, MPI_ERR_PORT, "does not exist", "a call to the dead");
    } else {
        code = call(where, LIMIT, &inter);
        CHECK(code == MPI_SUCCESS, "cannot connect");
        MPI_Comm_set_errhandler(inter, MPI_ERRORS_RETURN);
        talk(inter, 0, 0);
    }
    CHECK(MPI_Wtime() - start < LIMIT, "only after %.1f s", MPI_Wtime() - start);
    still_works();
}

static void guest(const char *where)
{
    MPI_Comm inter;
    int word = 77;
    await_victim(where);
    call(where, LIMIT, &inter);
    MPI_Send(&word, 1, MPI_INT, 0, 0, inter);
    MPI_Comm_disconnect(&inter);
}

int main(int argc, char **argv)
{
    char port[MPI_MAX_PORT_NAME];
    start(&argc, &argv);
    CHECK(argc > 1, "see the head of the source");
    if (strcmp(argv[1], "calls") == 0)
        calls();
    else if (strcmp(argv[1], "port") == 0) {
        MPI_Open_port(MPI_INFO_NULL, port);
        write_line(argv[2], port);
    } else if (strcmp(argv[1], "ports") == 0)
        ports(argv[2]);
    else if (strcmp(argv[1], "names") == 0)
        names();
    else if (strcmp(argv[1], "victim") == 0)
        victim(argv[2], argv[3]);
    else if (strcmp(argv[1], "survivor") == 0)
        survivor(argv[2], argv[3]);
    else if (strcmp(argv[1], "guest") == 0)
        guest(argv[2]);
    else
        CHECK(0, "unknown mode %s", argv[1]);
    finish();
    return 0;
}
