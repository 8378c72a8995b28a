/* SPDX-License-Identifier: mpich2 */
/*
 * Packet validation: checks packets, and what CH3 has received behind a header, before CH3 uses
 * them.
 */
#ifndef IVSHMEM_VALIDATE_H
#define IVSHMEM_VALIDATE_H

#include "ivshmem_netmod.h"

/*
 * Decides whether CH3 may see a packet. `pkt` is a private copy, `len` the bytes that follow its
 * header. Returns NULL if CH3 may, MPID_nem_ivshmem_too_early if the packet must wait, and
 * otherwise what is wrong with it. Sets *hold if the data must be in private memory before CH3 uses
 * it. Call it once for each packet, and pass the packet on if it may: it notes which answers have
 * arrived, and may correct `pkt`.
 */
const char *MPID_nem_ivshmem_packet_check_all(MPIDI_VC_t *vc, MPIDI_CH3_Pkt_t *pkt, size_t len,
                                              bool *hold);

/*
 * Checks what CH3 has received behind the header, before it uses it: flattened datatypes and
 * offsets of parts. Returns NULL, or what is wrong.
 */
const char *MPID_nem_ivshmem_packet_check_metadata(MPIDI_VC_t *vc, const MPIR_Request *rreq);

#endif
