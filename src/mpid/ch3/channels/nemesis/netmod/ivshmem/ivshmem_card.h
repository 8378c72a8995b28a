/* SPDX-License-Identifier: mpich2 */
/* Business cards, from which two ranks learn whether they share a region. */
#ifndef IVSHMEM_CARD_H
#define IVSHMEM_CARD_H

#include "ivshmem_netmod.h"

/* Bytes, for the reason why a process cannot be reached. */
enum { IVSHMEM_TEXT_MAX = 900 };

/* Appends our part to the card that is being written at *bc_val_p. */
int MPID_nem_ivshmem_card_add(char **bc_val_p, int *val_max_sz_p);

/*
 * Sets *shared if the process with this card is in our region, and then *peer, its endpoint. False
 * if the card is damaged, or if the pair needs tcp and cannot use it: the reason is in `text`,
 * which calls the process `who`. Only a process of another job (`elsewhere`) may have a card
 * without our part: it uses MPICH's own tcp.
 */
bool MPID_nem_ivshmem_card_read(const char *card, const char *who, bool elsewhere,
                                struct ivshm_owner *peer, bool *shared,
                                char text[IVSHMEM_TEXT_MAX]);

/* The same for a rank of a known job. `text` is empty, or says why no path leads to it. */
int MPID_nem_ivshmem_card_find_peer(MPIDI_VC_t *vc, struct ivshm_owner *peer, bool *shared,
                                    char text[IVSHMEM_TEXT_MAX]);

#endif
