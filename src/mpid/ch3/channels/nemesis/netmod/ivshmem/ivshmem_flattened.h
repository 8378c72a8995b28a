/* SPDX-License-Identifier: mpich2 */
/* The check of flattened datatypes, which a one-sided operation with a derived datatype carries. */
#ifndef IVSHMEM_FLATTENED_H
#define IVSHMEM_FLATTENED_H

#include "ivshmem_packet.h"

/*
 * Checks a flattened datatype of `bytes` in private memory, for `count` elements at `addr` in the
 * window. Returns NULL, or what is wrong. Replaces the fields that can be computed. *total is the
 * size of all elements, *basic the predefined type that they are made of, or MPI_DATATYPE_NULL;
 * with `by_elements` they must be made of one. *touched holds all bytes touched.
 */
const char *MPID_nem_ivshmem_flattened_check(const MPIR_Win *win, const void *addr, MPI_Aint count,
                                             void *flattened, MPI_Aint bytes, bool by_elements,
                                             MPI_Aint *total, MPI_Datatype *basic,
                                             MPID_nem_ivshmem_range_t *touched);

#endif
