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
