/* SPDX-License-Identifier: mpich2 */
/*
 * What the programs of this folder do alike before they do anything else.
 */
#include "ivshmem_tool.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

bool tool_parse_size(const char *text, uint64_t *size)
{
    static const char units[] = "KMGT";
    char *end;
    errno = 0;
    unsigned long long n = strtoull(text, &end, 10);
    if (errno || end == text || n == 0 || !strchr("0123456789", text[0]))
        return false;
    unsigned shift = 0;
    if (*end) {
        const char *unit = strchr(units, *end & ~0x20);
        if (!unit || !*unit || end[1])
            return false;
        shift = 10 * (unsigned) (unit - units + 1);
    }
    if (n > UINT64_MAX >> shift)
        return false;
    *size = (uint64_t) n << shift;
    return true;
}

bool tool_fill_standard_descriptors(void)
{
    for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; fd++)
        if (fcntl(fd, F_GETFD) < 0 && open("/dev/null", O_RDONLY) != fd)
            return false;
    return true;
}

bool tool_is_side(const struct ivshm_region *region, uint32_t index, const char *job, uint32_t rank,
                  struct ivshm_owner *owner)
{
    struct ivshm_endpoint_info info;
    if (ivshm_endpoint_read(region, index, &info) != 0)
        return false;
    *owner = (struct ivshm_owner){index, info.claim.generation};
    return info.claim.state == IVSHM_CLAIM_LIVE && info.rank == rank && strcmp(info.job, job) == 0;
}

void tool_open_bell(struct ivshm_region *region)
{
    /* Without one, it naps. */
    ivshm_region_open_bell(region, getenv("MPIR_CVAR_NEMESIS_IVSHMEM_SERVER"), NULL);
}
