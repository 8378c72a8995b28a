/* SPDX-License-Identifier: mpich2 */
/*
 * revoked FILE
 *
 * Rank 0 has revoked a communicator. Rank 1 does not know yet, and sends messages of several pieces
 * on it. They are dropped, and all other communication between the two continues. Then every call
 * on the communicator ends with MPIX_ERR_REVOKED. By FILE the two tell each other when to begin;
 * not by MPI, as rank 1 would learn of the revocation, too.
 */
#include "mpitest.h"

enum { LEN = 30000, MANY = 5 }; /* below the eager limit, and more than goes in one piece */

static MPI_Comm comm;
static char *buf;

static void messages(const char *path)
{
    MPI_Request reqs[MANY + 1];
    int other = !rank;
    char line[MPI_MAX_PORT_NAME], ready[1000];

    snprintf(ready, sizeof(ready), "%s.ready", path);
    MPI_Barrier(MPI_COMM_WORLD);
    if (rank == 0) {
        read_line(ready, line);
        MPIX_Comm_revoke(comm);
        write_line(path, "revoked");
    } else if (rank == 1) {
        write_line(ready, "ready"); /* it makes no MPI call */
        read_line(path, line);
        for (int i = 0; i < MANY; i++)
            CHECK(MPI_Isend(buf, LEN, MPI_BYTE, 0, i, comm, &reqs[i]) == MPI_SUCCESS,
                  "message %d to a communicator whose end is not known", i);
        MPI_Issend(buf, LEN, MPI_BYTE, 0, MANY, comm, &reqs[MANY]);
        MPI_Request_free(&reqs[MANY]); /* nobody will ever answer */
        MPI_Waitall(MANY, reqs, MPI_STATUSES_IGNORE);
    }
    /* After them, in both directions, messages of all sizes. */
    for (int len = 1; rank < 2 && len <= 400000; len *= 10) {
        fill(buf, (size_t) len, (uint64_t) (rank + len));
        MPI_Sendrecv_replace(buf, len, MPI_BYTE, other, 1, other, 1, MPI_COMM_WORLD,
                             MPI_STATUS_IGNORE);
        CHECK_PATTERN(buf, (size_t) len, (uint64_t) (other + len), "%d bytes", len);
        expect_sent(other, 1, len);
    }
    MPI_Barrier(MPI_COMM_WORLD);
}

static void expect(const char *call, int err)
{
    int class = MPI_SUCCESS;

    if (err != MPI_SUCCESS)
        MPI_Error_class(err, &class);
    CHECK(class == MPIX_ERR_REVOKED, "%s: class %d, expected %d", call, class, MPIX_ERR_REVOKED);
}

static void calls(void)
{
    MPI_Request req = MPI_REQUEST_NULL;
    MPI_Message message;
    MPI_Comm other_comm;
    int to = (rank + 1) % size, flag, in[64] = {0}, out[64];

#define EXPECT(call) expect(#call, call)
#define STARTED(call)                                                                              \
    do {                                                                                           \
        int err_ = call;                                                                           \
        expect(#call, err_ ? err_ : MPI_Wait(&req, MPI_STATUS_IGNORE));                            \
        CHECK(req == MPI_REQUEST_NULL, "%s leaves a request", #call);                              \
    } while (0)
    STARTED(MPI_Irecv(buf, 1, MPI_BYTE, to, 0, comm, &req));
    STARTED(MPI_Isend(buf, 1, MPI_BYTE, to, 0, comm, &req));
    STARTED(MPI_Isend(buf, LEN * 10, MPI_BYTE, to, 0, comm, &req));
    STARTED(MPI_Issend(buf, 1, MPI_BYTE, to, 0, comm, &req));
    STARTED(MPI_Irsend(buf, 1, MPI_BYTE, to, 0, comm, &req));
    STARTED(MPI_Ibarrier(comm, &req));
    STARTED(MPI_Ibcast(buf, 1, MPI_BYTE, 0, comm, &req));
    STARTED(MPI_Iallreduce(in, out, 1, MPI_INT, MPI_SUM, comm, &req));
    STARTED(MPI_Ialltoall(in, 1, MPI_INT, out, 1, MPI_INT, comm, &req));
    STARTED(MPI_Comm_idup(comm, &other_comm, &req));
    EXPECT(MPI_Send(buf, 1, MPI_BYTE, to, 0, comm));
    EXPECT(MPI_Ssend(buf, 1, MPI_BYTE, to, 0, comm));
    EXPECT(MPI_Recv(buf, 1, MPI_BYTE, to, 0, comm, MPI_STATUS_IGNORE));
    EXPECT(MPI_Sendrecv_replace(buf, 1, MPI_BYTE, to, 0, to, 0, comm, MPI_STATUS_IGNORE));
    EXPECT(MPI_Probe(to, 0, comm, MPI_STATUS_IGNORE));
    EXPECT(MPI_Iprobe(to, 0, comm, &flag, MPI_STATUS_IGNORE));
    EXPECT(MPI_Mprobe(to, 0, comm, &message, MPI_STATUS_IGNORE));
    EXPECT(MPI_Improbe(to, 0, comm, &flag, &message, MPI_STATUS_IGNORE));
    EXPECT(MPI_Barrier(comm));
    EXPECT(MPI_Bcast(buf, 1, MPI_BYTE, 0, comm));
    EXPECT(MPI_Allreduce(in, out, 1, MPI_INT, MPI_SUM, comm));
    EXPECT(MPI_Comm_dup(comm, &other_comm));
    EXPECT(MPI_Comm_split(comm, 0, 0, &other_comm));
}

int main(int argc, char **argv)
{
    start(&argc, &argv);
    CHECK(argc == 2, "%d arguments, expected 1", argc - 1);
    buf = calloc(1, 400000);
    MPI_Comm_dup(MPI_COMM_WORLD, &comm);
    MPI_Comm_set_errhandler(comm, MPI_ERRORS_RETURN);
    messages(argv[1]);
    calls();
    MPI_Barrier(MPI_COMM_WORLD);
    MPI_Comm_free(&comm);
    free(buf);
    finish();
    return 0;
}
