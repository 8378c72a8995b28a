/* SPDX-License-Identifier: mpich2 */
/*
 * hdf5 FILE
 *
 * Each rank writes a row of a data set, in a collective call, and reads that of the next rank.
 * Built against the HDF5 that Debian has for MPICH.
 */
#include "../mpi/mpitest.h"

#include <hdf5.h>

#define COLUMNS 1000

static void transfer(const char *file, int row, int *data, int writes)
{
    hid_t access = H5Pcreate(H5P_FILE_ACCESS), how = H5Pcreate(H5P_DATASET_XFER);
    hsize_t all[2] = {(hsize_t) size, COLUMNS}, first[2] = {(hsize_t) row, 0},
            count[2] = {1, COLUMNS};
    hid_t rows = H5Screate_simple(2, all, NULL), one = H5Screate_simple(2, count, NULL);

    H5Pset_fapl_mpio(access, MPI_COMM_WORLD, MPI_INFO_NULL);
    H5Pset_dxpl_mpio(how, H5FD_MPIO_COLLECTIVE);
    H5Sselect_hyperslab(rows, H5S_SELECT_SET, first, NULL, count, NULL);
    hid_t open = writes ? H5Fcreate(file, H5F_ACC_TRUNC, H5P_DEFAULT, access)
                        : H5Fopen(file, H5F_ACC_RDONLY, access);
    CHECK(open >= 0, "cannot open %s", file);
    hid_t set = writes ? H5Dcreate(open, "rows", H5T_NATIVE_INT, rows, H5P_DEFAULT, H5P_DEFAULT,
                                   H5P_DEFAULT)
                       : H5Dopen(open, "rows", H5P_DEFAULT);
    CHECK((writes ? H5Dwrite(set, H5T_NATIVE_INT, one, rows, how, data)
                  : H5Dread(set, H5T_NATIVE_INT, one, rows, how, data)) >= 0,
          "row %d", row);
    H5Dclose(set);
    H5Fclose(open);
    H5Sclose(rows);
    H5Sclose(one);
    H5Pclose(access);
    H5Pclose(how);
}

int main(int argc, char **argv)
{
    int data[COLUMNS];

    start(&argc, &argv);
    for (int i = 0; i < COLUMNS; i++)
        data[i] = rank * COLUMNS + i;
    transfer(argv[1], rank, data, 1);
    int next = (rank + 1) % size;
    transfer(argv[1], next, data, 0);
    for (int i = 0; i < COLUMNS; i++)
        CHECK(data[i] == next * COLUMNS + i, "%d in column %d of row %d", data[i], i, next);
    finish();
    return 0;
}
