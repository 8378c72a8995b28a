/* SPDX-License-Identifier: mpich2 */
/*
 * What a pipe is used for: by `ivshmem send` and `recv` for standard input and output, by
 * `ivshmem put` and `get` for an archive, which another program writes or reads.
 */
#ifndef IVSHMEM_PIPE_H
#define IVSHMEM_PIPE_H

#include "ivshmem_link.h"

struct pipe_user {
    bool is_sender;
    const char *input_or_output; /* for a person */
    void *arg;
    /* Called once the sides have found each other: the descriptor to read from, or to write to. */
    int (*begin)(void *arg, int *fd, struct ivshm_diag *diag);
    /*
     * Called once after that, in any case: `err` is 0 if everything was read or written. Returns
     * `err`, or another error if that was not all, or tells more.
     */
    int (*finish)(void *arg, int err, struct ivshm_diag *diag);
    /* Bytes have moved; a few times a second. May be NULL. */
    void (*show)(void *arg, uint64_t bytes);
    /* Of a client: the server that is the other side, NULL if there is none; and the file there. */
    const char *server, *path;
    /* Of a server: who is the other side, NULL elsewhere. It must move something in each timeout.
     */
    const struct ivshm_owner *client;
    uint64_t limit; /* bytes that are received at most; 0 if there is no limit */
};

/* Runs one side of the pipe that the options name; returns the exit status of the command. */
int pipe_run(const struct tool_options *opt, const struct pipe_user *user);

#endif
