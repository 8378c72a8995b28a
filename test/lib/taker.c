/* SPDX-License-Identifier: mpich2 */
/*
 * Takes a mutex, in any guest or on the host, and tells what it was told.
 *
 *   taker REGION take       0, or the error
 *   taker REGION hold       the same, and its pid; keeps it until it is killed
 *   taker REGION own        has the block, until it is killed
 */
#include <ivshmem.h>

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define PATIENCE_MS 120000

int main(int argc, char **argv)
{
    ivshmem *handle;
    ivshmem_block *block;
    if (argc != 3 || ivshmem_open(argv[1], IVSHMEM_GUARDIAN, &handle) != 0) {
        fprintf(stderr, "taker: %s\n", ivshmem_error());
        return 1;
    }
    int owns = strcmp(argv[2], "own") == 0;
    int err = owns ? ivshmem_create(handle, "taken", sizeof(ivshmem_mutex), 0, &block)
                   : ivshmem_attach(handle, "taken", sizeof(ivshmem_mutex), 0, PATIENCE_MS, &block);
    if (!err && !owns)
        err = ivshmem_mutex_lock(handle, ivshmem_data(block), PATIENCE_MS);
    printf("%d\n", err);
    if (strcmp(argv[2], "hold") == 0)
        printf("%d\n", (int) getpid()); /* by a name, the guardian may be found as well */
    fflush(stdout);
    if (strcmp(argv[2], "take") != 0)
        pause();
    if (!err)
        ivshmem_mutex_unlock(handle, ivshmem_data(block));
    ivshmem_close(handle);
    return 0;
}
