/* SPDX-License-Identifier: mpich2 */
/*
 * Begin and end, and little between. The argument is init (the default), thread, session, or late:
 * rank 0 comes a second after the others.
 */
#include "mpitest.h"

static void session(void)
{
    MPI_Session session;
    MPI_Group group;
    MPI_Comm comm;
    int sum;
    MPI_Session_init(MPI_INFO_NULL, MPI_ERRORS_ARE_FATAL, &session);
    MPI_Group_from_session_pset(session, "mpi://WORLD", &group);
    MPI_Comm_create_from_group(group, "test", MPI_INFO_NULL, MPI_ERRORS_ARE_FATAL, &comm);
    MPI_Comm_rank(comm, &rank);
    MPI_Comm_size(comm, &size);
    MPI_Allreduce(&rank, &sum, 1, MPI_INT, MPI_SUM, comm);
    CHECK(sum == size * (size - 1) / 2, "sum %d", sum);
    MPI_Comm_free(&comm);
    MPI_Group_free(&group);
    MPI_Session_finalize(&session);
}

int main(int argc, char **argv)
{
    const char *how = argc > 1 ? argv[1] : "init";
    int provided;

    if (strcmp(how, "session") == 0) {
        session();
    } else if (strcmp(how, "thread") == 0) {
        MPI_Init_thread(&argc, &argv, MPI_THREAD_MULTIPLE, &provided);
        MPI_Comm_rank(MPI_COMM_WORLD, &rank);
        MPI_Finalize();
    } else {
        if (strcmp(how, "late") == 0 && getenv("PMI_RANK") && atoi(getenv("PMI_RANK")) == 0)
            sleep(1);
        MPI_Init(&argc, &argv);
        MPI_Comm_rank(MPI_COMM_WORLD, &rank);
        MPI_Finalize();
    }
    if (rank == 0)
        printf("No errors\n");
    return 0;
}
