/* SPDX-License-Identifier: mpich2 */
/*
 * Jobs that meet: spawn (parents and the children that they start, through a command like env if
 * one is given), or accept and connect (two jobs, by a file with the port's name). They exchange
 * messages of all kinds, part, and meet again.
 */
#include "mpitest.h"

enum { MEETINGS = 3, CHILDREN = 2, LARGE = 200000 };

static char out[LARGE], in[LARGE];

/* Every rank of one side with every rank of the other. */
static void talk(MPI_Comm inter, int meeting, int side)
{
    static const int lengths[] = {4, 5000, LARGE};
    int others;
    MPI_Comm_remote_size(inter, &others);
    for (int peer = 0; peer < others; peer++)
        for (int i = 0; i < 3; i++) {
            MPI_Status status;
            int count;
            fill(out, lengths[i], (meeting * 2 + side) * 100 + rank * 10 + i);
            MPI_Sendrecv(out, lengths[i], MPI_BYTE, peer, i, in, LARGE, MPI_BYTE, peer, i, inter,
                         &status);
            MPI_Get_count(&status, MPI_BYTE, &count);
            CHECK(count == lengths[i], "%d bytes, sent %d", count, lengths[i]);
            CHECK_PATTERN(in, count, (meeting * 2 + !side) * 100 + peer * 10 + i,
                          "meeting %d from %d", meeting, peer);
            expected.messages++;
            expected.bytes += lengths[i];
            if (lengths[i] > EAGER_LIMIT) {
                expected.lmt_min += lengths[i];
                expected.lmt_max += lengths[i];
            }
        }
}

static void merge(MPI_Comm inter, int side)
{
    MPI_Comm all;
    int n, r, sum;
    MPI_Intercomm_merge(inter, side, &all);
    MPI_Comm_size(all, &n);
    MPI_Comm_rank(all, &r);
    MPI_Allreduce(&r, &sum, 1, MPI_INT, MPI_SUM, all);
    CHECK(sum == n * (n - 1) / 2, "sum of %d ranks is %d", n, sum);
    MPI_Comm_disconnect(&all);
}

int main(int argc, char **argv)
{
    char port[MPI_MAX_PORT_NAME] = "";
    MPI_Comm inter;

    start(&argc, &argv);
    CHECK(argc > 1, "spawn, or accept or connect with a file");
    if (strcmp(argv[1], "child") == 0) {
        MPI_Comm_get_parent(&inter);
        CHECK(inter != MPI_COMM_NULL, "no parent");
        talk(inter, atoi(argv[2]), 1);
        merge(inter, 1);
        MPI_Comm_disconnect(&inter);
    } else if (strcmp(argv[1], "spawn") == 0) {
        for (int i = 0; i < MEETINGS; i++) {
            char meeting[8];
            char *command[20] = {NULL};
            int errors[CHILDREN], n = 0;
            snprintf(meeting, sizeof(meeting), "%d", i);
            while (n + 2 < argc && n < 16) {
                command[n] = argv[n + 2];
                n++;
            }
            command[n++] = argv[0];
            command[n++] = "child";
            command[n++] = meeting;
            MPI_Comm_spawn(command[0], command + 1, CHILDREN, MPI_INFO_NULL, 0, MPI_COMM_WORLD,
                           &inter, errors);
            talk(inter, i, 0);
            merge(inter, 0);
            MPI_Comm_disconnect(&inter);
        }
    } else {
        int server = strcmp(argv[1], "accept") == 0;
        if (server && rank == 0) {
            MPI_Open_port(MPI_INFO_NULL, port);
            write_line(argv[2], port);
        } else if (!server && rank == 0) {
            read_line(argv[2], port);
        }
        for (int i = 0; i < MEETINGS; i++) {
            if (server)
                MPI_Comm_accept(port, MPI_INFO_NULL, 0, MPI_COMM_WORLD, &inter);
            else
                MPI_Comm_connect(port, MPI_INFO_NULL, 0, MPI_COMM_WORLD, &inter);
            talk(inter, i, server);
            merge(inter, server);
            MPI_Comm_disconnect(&inter);
        }
        if (server && rank == 0)
            MPI_Close_port(port);
    }
    finish();
    return 0;
}
