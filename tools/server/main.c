/* SPDX-License-Identifier: mpich2 */
/*
 * ivshmem-server: gives a region to QEMUs with the device ivshmem-doorbell, and to processes of the
 * host, and tells them of each other, so that they can interrupt each other. This file reads the
 * command line and finds the region.
 */
#define _GNU_SOURCE
#include "server.h"

#include "../ivshmem_tool.h"

#include <errno.h>
#include <getopt.h>
#include <grp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#ifndef PACKAGE_VERSION
#define PACKAGE_VERSION "unreleased"
#endif

static const char help_text[] =
    "usage: ivshmem-server [OPTION]... REGION\n"
    "\n"
    "Serves the file REGION to QEMUs (-device ivshmem-doorbell) and to processes of the host.\n"
    "\n"
    "  --socket PATH  where clients connect; not needed if a service manager passes a socket\n"
    "  --group GROUP  who may connect, besides this user\n"
    "  --vectors N    interrupt vectors of each client: 1 to 64 (default 1)\n"
    "  --size SIZE    create the file with this size first (64M, 1G, ...), as `ivshmem format` "
    "does;\n"
    "                 GROUP can open it, too\n"
    "\n"
    "Ends by SIGTERM. Clients that are connected then go on; new ones need the server.\n"
    "Exit status: 0 success, 1 failure, 2 wrong usage. See ivshmem-server(1).\n";

static const struct option long_options[] = {
    {"socket", required_argument, NULL, 's'},
    {"group", required_argument, NULL, 'g'},
    {"vectors", required_argument, NULL, 'n'},
    {"size", required_argument, NULL, 'z'},
    {"help", no_argument, NULL, 'h'},
    {"version", no_argument, NULL, 'v'},
    {0},
};

struct options {
    const char *region, *socket; /* socket NULL: inherited */
    gid_t group;                 /* -1 if not given */
    unsigned vectors;
    uint64_t size; /* bytes, 0 if not given */
};

static int print_line(const char *prefix, const char *fmt, va_list ap, const char *end)
{
    fprintf(stderr, "ivshmem-server: %s", prefix);
    vfprintf(stderr, fmt, ap);
    fprintf(stderr, "%s\n", end);
    return TOOL_FAILED;
}

/* These are used by what is shared with the command ivshmem as well. */

int tool_error(const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    int status = print_line("", fmt, ap, "");
    va_end(ap);
    return status;
}

void tool_warn(const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    print_line("warning: ", fmt, ap, "");
    va_end(ap);
}

int tool_usage_error(const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    print_line("", fmt, ap, "; see ivshmem-server --help");
    va_end(ap);
    return TOOL_USAGE;
}

/* A name or a number. */
static bool parse_group(const char *text, gid_t *group)
{
    const struct group *entry = getgrnam(text);
    char *end;
    errno = 0;
    unsigned long number = strtoul(text, &end, 10);
    if (!entry && (errno || end == text || *end || *text == '-' || number >= (gid_t) -1))
        return false;
    *group = entry ? entry->gr_gid : (gid_t) number;
    return true;
}

static bool parse_vectors(const char *text, unsigned *vectors)
{
    char *end;
    unsigned long number = strtoul(text, &end, 10);
    *vectors = (unsigned) number;
    return end != text && !*end && *text != '-' && number >= 1 && number <= SERVER_MAX_VECTORS;
}

/* TOOL_OK, or TOOL_USAGE once it has said what is wrong. */
static int read_options(int argc, char **argv, struct options *opt)
{
    int c;
    opterr = 0;
    while ((c = getopt_long(argc, argv, ":h", long_options, NULL)) != -1) {
        switch (c) {
        case 's':
            opt->socket = optarg;
            break;
        case 'g':
            if (!parse_group(optarg, &opt->group))
                return tool_usage_error("--group %s is not a group", optarg);
            break;
        case 'n':
            if (!parse_vectors(optarg, &opt->vectors))
                return tool_usage_error("--vectors %s is not a number from 1 to %d", optarg,
                                        SERVER_MAX_VECTORS);
            break;
        case 'z':
            if (!tool_parse_size(optarg, &opt->size))
                return tool_usage_error("--size %s is not a size such as 64M or 1G", optarg);
            break;
        case 'h':
            fputs(help_text, stdout);
            exit(TOOL_OK);
        case 'v':
            puts("ivshmem-server (mpich-ivshmem) " PACKAGE_VERSION);
            exit(TOOL_OK);
        case ':':
            return tool_usage_error("%s needs a value", argv[optind - 1]);
        default:
            return tool_usage_error("unknown option %s", argv[optind - 1]);
        }
    }
    if (argc - optind != 1)
        return tool_usage_error("%d regions were given: expected 1", argc - optind);
    opt->region = argv[optind];
    if (opt->socket && server_socket_is_inherited())
        return tool_usage_error("--socket cannot be used with a socket from a service manager");
    if (!opt->socket && !server_socket_is_inherited())
        return tool_usage_error("no socket: give --socket PATH, or pass one by LISTEN_FDS");
    return TOOL_OK;
}

/* Whoever may connect gets the memory, and so may open the file as well. */
static int share_file(const struct ivshm_map *map, gid_t group)
{
    int fd = ivshm_map_reopen(map), err = fd < 0 ? -fd : 0;
    if (!err && (fchown(fd, (uid_t) -1, group) != 0 || fchmod(fd, 0660) != 0))
        err = errno;
    if (fd >= 0)
        close(fd);
    return err ? tool_error("cannot give %s to that group: %s", ivshm_map_name(map), strerror(err))
               : TOOL_OK;
}

static int open_region(const struct options *opt, struct ivshm_map *map)
{
    const struct tool_options format = {.region = opt->region, .size = opt->size};
    struct ivshm_diag diag;
    int status = opt->size ? tool_format(&format) : TOOL_OK;
    if (status)
        return status;
    if (ivshm_map_open(opt->region, false, map, &diag) != 0)
        return tool_error("%s", diag.text);
    if (ivshm_map_is_device(map))
        status = tool_error("%s is a device: the server needs the file behind it, on the host",
                            ivshm_map_name(map));
    else if (ivshm_map_size(map) & (ivshm_map_size(map) - 1))
        status = tool_error("%s has %s, which is not a power of two: QEMU cannot use it as the BAR "
                            "of a device",
                            ivshm_map_name(map), tool_exact_size(ivshm_map_size(map)));
    else if (opt->size && opt->group != (gid_t) -1)
        status = share_file(map, opt->group);
    if (!status && ivshm_map_is_sparse(map))
        tool_warn("%s has not all its memory, and a guest that touches what is missing ends if the "
                  "file system is full: run `ivshmem format`",
                  ivshm_map_name(map));
    if (status)
        ivshm_map_close(map);
    return status;
}

/* As sd_notify(3): the service manager, if it asked for that, starts what needs the server. */
static void notify_ready(void)
{
    const char *path = getenv("NOTIFY_SOCKET");
    struct sockaddr_un addr = {.sun_family = AF_UNIX};
    size_t len = path ? strlen(path) : 0;
    if (len == 0 || len >= sizeof(addr.sun_path))
        return;
    memcpy(addr.sun_path, path, len);
    if (*path == '@')
        addr.sun_path[0] = '\0';
    int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd < 0 || sendto(fd, "READY=1", 7, 0, (struct sockaddr *) &addr,
                         (socklen_t) (offsetof(struct sockaddr_un, sun_path) + len)) < 0)
        tool_warn("cannot tell the service manager that the server is ready: %s", strerror(errno));
    if (fd >= 0)
        close(fd);
}

int main(int argc, char **argv)
{
    struct options opt = {.group = (gid_t) -1, .vectors = 1};
    struct ivshm_map map;
    struct server_socket socket;

    if (!tool_fill_standard_descriptors())
        return TOOL_FAILED; /* and nobody can be told */
    int status = read_options(argc, argv, &opt);
    if (!status)
        status = open_region(&opt, &map);
    if (status)
        return status;
    status = opt.socket ? server_socket_create(opt.socket, opt.group, &socket)
                        : server_socket_inherit(&socket);
    if (!status) {
        fflush(stdout); /* what has become of the region */
        status = server_run(&map, opt.vectors, socket.fd, notify_ready);
        server_socket_close(&socket);
    }
    ivshm_map_close(&map);
    return status;
}
