/* SPDX-License-Identifier: mpich2 */
/*
 * Makes MPI errors, in one place, of core's errors and of the netmod's own. report
 * prints `what` and `text` to standard error. The others return an MPI error: error for what is
 * wrong here and ends the job, peer_error for a peer that is dead or cannot be reached, port_error
 * for the name of a port.
 */
#ifndef IVSHMEM_ERROR_H
#define IVSHMEM_ERROR_H

#include "ivshmem_netmod.h"

void MPID_nem_ivshmem_report(const char *what, const char *text);
int MPID_nem_ivshmem_error(const char *text);
int MPID_nem_ivshmem_peer_error(const char *text);
int MPID_nem_ivshmem_port_error(const char *text);

#endif
