/* SPDX-License-Identifier: mpich2 */
/*
 * libivshmem: handles and blocks. A handle is an endpoint that exchanges no messages, and has named
 * blocks (core/named.h). See ivshmem(3).
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE /* program_invocation_short_name */
#endif
#include "lib.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* Tries to create or attach, while others do the contrary. */
#define TRIES_MS 1000

static int refuse_flags(const char *call, unsigned flags, unsigned known)
{
    if ((flags & ~known) == 0)
        return 0;
    return lib_fail(EINVAL, "%s: flags 0x%x: this library knows 0x%x", call, flags, known);
}

int ivshmem_open(const char *name, unsigned flags, ivshmem **handle)
{
    char job[64];
    int err = refuse_flags("ivshmem_open", flags, IVSHMEM_GUARDIAN);
    if (err)
        return err;
    if (!name || !*name)
        name = getenv("MPIR_CVAR_NEMESIS_IVSHMEM_REGION");
    struct ivshmem *h = calloc(1, sizeof(*h));
    if (!h)
        return lib_fail(ENOMEM, "out of memory for a handle");
    err = ivshm_region_open(name && *name ? name : NULL, &h->region, lib_diag());
    if (err)
        goto free_handle;
    /* Without one, it naps. */
    ivshm_region_open_bell(&h->region, getenv("MPIR_CVAR_NEMESIS_IVSHMEM_SERVER"), NULL);
    snprintf(job, sizeof(job), "libivshmem:%s", program_invocation_short_name);
    err = ivshm_transport_open(&h->transport, &h->region, job, 0, 1, lib_diag());
    if (err)
        goto close_region;
    err = ivshm_names_open(&h->names, &h->transport, lib_diag());
    if (err)
        goto close_transport;
    ivshm_wait_init(&h->wait, IVSHM_WAIT_AUTO);
    h->guardian = flags & IVSHMEM_GUARDIAN ? lib_guardian_start(&h->region, lib_self(h)) : -1;
    if (flags & IVSHMEM_GUARDIAN && h->guardian < 0) {
        err = lib_fail(EAGAIN, "cannot start the guardian of this process: is the limit of "
                               "processes or descriptors (ulimit -u, -n) too low?");
        goto close_names;
    }
    *handle = h;
    return 0;

close_names:
    ivshm_names_close(&h->names);
close_transport:
    ivshm_transport_close(&h->transport);
close_region:
    ivshm_region_close(&h->region);
free_handle:
    free(h);
    return err;
}

void ivshmem_close(ivshmem *h)
{
    if (!h)
        return;
    while (h->blocks)
        ivshmem_detach(h->blocks);
    ivshm_names_close(&h->names);
    ivshm_transport_close(&h->transport);
    lib_guardian_end(h->guardian);
    ivshm_region_close(&h->region);
    free(h);
}

/* Blocks */

/* Takes what `named` holds, or ends that. */
static int add_block(struct ivshmem *h, struct ivshm_named *named, bool read_only,
                     ivshmem_block **block)
{
    struct ivshmem_block *b = calloc(1, sizeof(*b));
    int err = b ? 0 : lib_fail(ENOMEM, "out of memory for a block");
    if (!err) {
        *b = (struct ivshmem_block){.handle = h,
                                    .named = *named,
                                    .next = h->blocks,
                                    .data = ivshm_named_address(&h->names, named),
                                    .bytes = ivshm_named_bytes(named)};
        if (read_only)
            err = ivshm_map_view_open(ivshm_region_map(&h->region), ivshm_named_offset(named).bytes,
                                      b->bytes, &b->view, lib_diag());
    }
    if (err) {
        ivshm_named_detach(&h->names, named);
        free(b);
        return err;
    }
    if (read_only)
        b->data = (char *) (uintptr_t) b->view.address;
    h->blocks = b;
    *block = b;
    return 0;
}

static int try_create(struct ivshmem *h, const char *name, size_t bytes, ivshmem_block **block)
{
    struct ivshm_named named;
    int err = ivshm_named_create(&h->names, name, bytes, &named, lib_diag());
    if (err)
        return err;
    err = add_block(h, &named, false, block);
    if (err)
        ivshm_named_remove(&h->names, name, NULL);
    return err;
}

static int try_attach(struct ivshmem *h, const char *name, size_t bytes, bool read_only,
                      ivshmem_block **block)
{
    struct ivshm_named named;
    int err = ivshm_named_attach(&h->names, name, &named, lib_diag());
    if (err)
        return err;
    uint64_t found = ivshm_named_bytes(&named);
    if (bytes != 0 && found != bytes) {
        ivshm_named_detach(&h->names, &named);
        return lib_fail(EMSGSIZE,
                        "block %s of region %s has %llu bytes, expected %zu: run programs of one "
                        "release, or remove the block",
                        name, ivshm_region_name(&h->region), (unsigned long long) found, bytes);
    }
    return add_block(h, &named, read_only, block);
}

int ivshmem_create(ivshmem *h, const char *name, size_t bytes, unsigned flags,
                   ivshmem_block **block)
{
    struct lib_wait wait;
    int err = refuse_flags("ivshmem_create", flags, IVSHMEM_OR_ATTACH);
    if (err)
        return err;
    lib_wait_begin(&wait, NULL, 0, TRIES_MS);
    do {
        err = try_create(h, name, bytes, block);
        if (flags & IVSHMEM_OR_ATTACH && (err == -EEXIST || err == -EAGAIN)) {
            err = try_attach(h, name, bytes, false, block);
            err = err == -ENOENT ? -EAGAIN : err;
        }
    } while (err == -EAGAIN && lib_wait_more(h, &wait) == 0);
    lib_wait_end(h, &wait);
    return err;
}

int ivshmem_attach(ivshmem *h, const char *name, size_t bytes, unsigned flags, int timeout_ms,
                   ivshmem_block **block)
{
    struct lib_wait wait;
    int err = refuse_flags("ivshmem_attach", flags, IVSHMEM_READ_ONLY);
    if (!err)
        err = lib_wait_begin(&wait, NULL, 0, timeout_ms);
    if (err)
        return err;
    /* Whoever has died has no block. */
    ivshm_transport_watch(&h->transport);
    do
        err = try_attach(h, name, bytes, flags & IVSHMEM_READ_ONLY, block);
    while (err == -ENOENT && lib_wait_more(h, &wait) == 0);
    lib_wait_end(h, &wait);
    return err;
}

void ivshmem_detach(ivshmem_block *block)
{
    if (!block)
        return;
    struct ivshmem_block **link = &block->handle->blocks;
    while (*link != block)
        link = &(*link)->next;
    *link = block->next;
    ivshm_map_view_close(&block->view);
    ivshm_named_detach(&block->handle->names, &block->named);
    free(block);
}

int ivshmem_remove(ivshmem *h, const char *name)
{
    return ivshm_named_remove(&h->names, name, lib_diag());
}

void *ivshmem_data(const ivshmem_block *block)
{
    return block->data;
}

size_t ivshmem_size(const ivshmem_block *block)
{
    return block->bytes;
}

int ivshmem_is_found(const ivshmem_block *block)
{
    return ivshm_named_is_found(&block->handle->names, &block->named);
}

void *ivshmem_pointer(const ivshmem_block *block, uint64_t offset, size_t bytes)
{
    if (offset > block->bytes || bytes > block->bytes - offset) {
        lib_fail(EINVAL, "%zu bytes at offset %llu are not in a block of %zu bytes", bytes,
                 (unsigned long long) offset, block->bytes);
        return NULL;
    }
    return block->data + offset;
}

int ivshmem_offset(const ivshmem_block *block, const void *pointer, size_t bytes, uint64_t *offset)
{
    uint64_t found = (uintptr_t) pointer - (uintptr_t) block->data; /* large if it is before */
    if (found > block->bytes || bytes > block->bytes - found)
        return lib_fail(EINVAL, "%zu bytes at %p are not in a block of %zu bytes at %p", bytes,
                        pointer, block->bytes, (void *) block->data);
    *offset = found;
    return 0;
}
