/* SPDX-License-Identifier: mpich2 */
/*
 * libivshmem: the text of a thread's last error.
 */
#include "lib.h"

struct ivshm_diag *lib_diag(void)
{
    static _Thread_local struct ivshm_diag diag;
    return &diag;
}

const char *ivshmem_error(void)
{
    return lib_diag()->text;
}
