/* SPDX-License-Identifier: mpich2 */
/*
 * A bell wakes a process that sleeps in another kernel than whoever wakes it, where no futex can.
 * It belongs to QEMU's device ivshmem-doorbell: a server gives each VM, and each process of the
 * host that connects to it, an ID. A process rings by the ID and a vector: in a guest by the
 * device's register, or by our driver; on the host by the eventfds that the server has passed. To
 * be rung, a guest needs our driver, as only a driver receives interrupts.
 *
 * A ring tells nothing but that something may have come. Vectors may be shared by the processes of
 * a VM, IDs are given again, and any peer may ring at will: whoever is woken in vain looks, and
 * sleeps on. One thread at a time. No ordering edge of its own: see sleep.h.
 */
#ifndef IVSHM_BELL_H
#define IVSHM_BELL_H

#include "map.h"

#include <poll.h>

/* Where to ring a process. */
struct ivshm_bell_address {
    bool rings;   /* it can ring others */
    bool listens; /* and be rung */
    uint16_t id, vector;
};

struct ivshm_bell_client;

/* A process' own bell. The fields are core's. */
struct ivshm_bell {
    struct ivshm_bell_address self; /* which rings if the bell is open */
    int event;                      /* eventfd that is signalled when somebody rings; or -1 */
    int driver;                     /* our driver's node; or -1 */
    volatile uint32_t *registers;   /* of the device; or NULL */
    int server;                     /* socket; or -1, also after the server has gone */
    int memory; /* the descriptor that came with the ID, which is ours while it is
                   open; or -1 */
    struct ivshm_bell_client *clients; /* of the server, by ID */
    size_t client_count;
};

/*
 * Opens the bell of a process that maps `map`: that of its device, or, for a file, that of the
 * server whose socket is `server`. NULL is /run/ivshmem/NAME for /dev/shm/NAME, where the server's
 * unit has it, if that is there; "none" is none. Returns 0, and in *bell what ivshm_bell_close
 * ends; -ENODEV if there is none, which is usual: a device without registers to ring by, or a file
 * without a server. Other errors mean that a bell is there and cannot be used: -EACCES no
 * permission; -EPROTO what answers at the socket is no such server, or has refused; -ESTALE it
 * serves another file; else the error of the system call. A bell whose self.listens is false rings
 * only; then diag says why. Cost: some system calls; at a server that does not answer, a second.
 */
int ivshm_bell_open(struct ivshm_bell *bell, const struct ivshm_map *map, const char *server,
                    struct ivshm_diag *diag);

/* Does nothing if it is not open, as one that is all zero. */
void ivshm_bell_close(struct ivshm_bell *bell);

/*
 * Rings a peer, which sees all that this thread has stored before. One that has gone, or that the
 * server has not told of yet, does not hear it. Cost: a system call, or leaving the VM.
 */
void ivshm_bell_ring(struct ivshm_bell *bell, struct ivshm_bell_address peer);

/*
 * Sleeps until somebody rings, or has rung since the last return, one of the `count` descriptors is
 * ready as poll(2) has it, `ns` are over, or a signal is handled. The bell listens. Cost: a system
 * call or two, and some memory for each descriptor.
 */
void ivshm_bell_wait(struct ivshm_bell *bell, uint64_t ns, const struct pollfd *fds, size_t count);

#endif
