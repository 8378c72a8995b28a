/* SPDX-License-Identifier: mpich2 */
/* MPI-IO: all ranks write a file (the argument) interleaved, and others read it back. */
#include "mpitest.h"

enum { BLOCK = 1000, BLOCKS = 200 }; /* ints; of each rank */

int main(int argc, char **argv)
{
    MPI_File file;
    MPI_Datatype view;
    MPI_Offset bytes;
    static int buf[BLOCK * BLOCKS];

    start(&argc, &argv);
    CHECK(argc == 2, "the file's name is needed");
    MPI_Type_vector(BLOCKS, BLOCK, BLOCK * size, MPI_INT, &view);
    MPI_Type_commit(&view);
    for (int i = 0; i < BLOCK * BLOCKS; i++)
        buf[i] = rank * BLOCK * BLOCKS + i;
    CHECK(MPI_File_open(MPI_COMM_WORLD, argv[1], MPI_MODE_CREATE | MPI_MODE_RDWR, MPI_INFO_NULL,
                        &file) == MPI_SUCCESS,
          "cannot open %s", argv[1]);
    MPI_File_set_view(file, (MPI_Offset) rank * BLOCK * 4, MPI_INT, view, "native", MPI_INFO_NULL);
    MPI_File_write_all(file, buf, BLOCK * BLOCKS, MPI_INT, MPI_STATUS_IGNORE);
    MPI_File_sync(file);
    MPI_Barrier(MPI_COMM_WORLD);
    MPI_File_get_size(file, &bytes);
    CHECK(bytes == 4LL * BLOCK * BLOCKS * size, "%lld bytes", (long long) bytes);
    int other = (rank + 1) % size;
    MPI_File_set_view(file, (MPI_Offset) other * BLOCK * 4, MPI_INT, view, "native", MPI_INFO_NULL);
    MPI_File_read_all(file, buf, BLOCK * BLOCKS, MPI_INT, MPI_STATUS_IGNORE);
    for (int i = 0; i < BLOCK * BLOCKS; i++)
        CHECK(buf[i] == other * BLOCK * BLOCKS + i, "int %d of rank %d is %d", i, other, buf[i]);
    MPI_File_close(&file);
    MPI_Type_free(&view);
    expected.lmt_max = 1LL << 40; /* ROMIO's choice */
    expected.messages = 1;
    finish();
    return 0;
}
