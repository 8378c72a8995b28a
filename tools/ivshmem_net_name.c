/* SPDX-License-Identifier: mpich2 */
/*
 * Addresses and names of `ivshmem net`. An interface is an endpoint whose job says of which network
 * it is, and which address it has; so whoever lists the endpoints knows the network.
 */
#include "ivshmem_net.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#define JOB_PREFIX "ivshmem-net/v"

bool net_parse_address(const char *text, struct net_address *address)
{
    struct net_address a = {.family = AF_INET};
    const char *slash = strchr(text, '/');
    char host[INET6_ADDRSTRLEN];
    if (!slash || (size_t) (slash - text) >= sizeof(host) || !isdigit((unsigned char) slash[1]) ||
        strlen(slash + 1) > 3 || slash[1 + strspn(slash + 1, "0123456789")])
        return false;
    memcpy(host, text, (size_t) (slash - text));
    host[slash - text] = 0;
    a.prefix = (unsigned) atoi(slash + 1);
    if (inet_pton(AF_INET, host, a.bytes) != 1) {
        a.family = AF_INET6;
        if (inet_pton(AF_INET6, host, a.bytes) != 1)
            return false;
    }
    if (a.prefix < 1 || a.prefix > (a.family == AF_INET ? 32u : 128u))
        return false;
    inet_ntop(a.family, a.bytes, a.text, sizeof(a.text));
    *address = a;
    return true;
}

bool net_name_is_valid(const char *text, size_t max)
{
    size_t n = strlen(text);
    if (n == 0 || n > max || strcmp(text, ".") == 0 || strcmp(text, "..") == 0)
        return false;
    /* % is a number to the kernel, : an alias. */
    for (; *text; text++)
        if (!isgraph((unsigned char) *text) || strchr("/%:", *text))
            return false;
    return true;
}

void net_format_job(const struct net_name *name, char *job, size_t size)
{
    snprintf(job, size, JOB_PREFIX "%u/%s/%s/%u/%s", name->version, name->network,
             name->address.text, name->address.prefix, name->interface);
}

bool net_parse_job(const char *job, struct net_name *name)
{
    struct net_name n = {0};
    char address[INET6_ADDRSTRLEN], both[INET6_ADDRSTRLEN + 4], prefix[4];
    int end = 0;
    if (sscanf(job, JOB_PREFIX "%5u/", &n.version) != 1)
        return false;
    if (n.version == NET_VERSION) {
        if (sscanf(job, JOB_PREFIX "%*u/%32[^/]/%45[^/]/%3[0-9]/%15[^/]%n", n.network, address,
                   prefix, n.interface, &end) != 4 ||
            job[end] || !net_name_is_valid(n.network, NET_NAME_MAX) ||
            !net_name_is_valid(n.interface, IFNAMSIZ - 1))
            return false;
        snprintf(both, sizeof(both), "%s/%s", address, prefix);
        if (!net_parse_address(both, &n.address))
            return false;
    }
    *name = n;
    return true;
}

void net_mac_of(const struct net_address *address, unsigned char mac[NET_MAC_BYTES])
{
    uint32_t hash = 2166136261u; /* FNV-1a */
    mac[0] = 0x02;               /* administered locally */
    mac[1] = address->family == AF_INET ? 0x69 : 0x66;
    if (address->family == AF_INET) {
        memcpy(mac + 2, address->bytes, 4);
        return;
    }
    for (int i = 0; i < 16; i++)
        hash = (hash ^ address->bytes[i]) * 16777619u;
    memcpy(mac + 2, &hash, 4);
}
