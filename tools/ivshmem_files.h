/* SPDX-License-Identifier: mpich2 */
/*
 * What `ivshmem serve` does for a client: one side of a pipe between two tars, as put and get are.
 */
#ifndef IVSHMEM_FILES_H
#define IVSHMEM_FILES_H

#include "ivshmem_link.h"

/* What a folder has while something is unpacked into it. */
#define FILES_HIDDEN ".ivshmem-"

/*
 * Sends what is named `name` in the folder `at`, or all that is in it if that is NULL; opt->name is
 * the pipe. Returns the exit status.
 */
int files_give(const struct tool_options *opt, const struct ivshm_owner *client, int at,
               const char *name);

/*
 * Unpacks what comes into the empty folder `at`, and nowhere else. `finish` as that of struct
 * pipe_user: it uses what is there, or removes it. Returns the exit status.
 */
int files_take(const struct tool_options *opt, const struct ivshm_owner *client, int at,
               int (*finish)(void *arg, int err, struct ivshm_diag *diag), void *arg);

/* Removes the tree `name` in the folder `at`, as far as that is possible. */
void files_remove(int at, const char *name);

#endif
