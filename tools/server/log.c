/* SPDX-License-Identifier: mpich2 */
/*
 * The server's log. Whoever reads it may have stopped, and clients can cause lines: neither may
 * hold the server up.
 */
#include "server.h"

#include <poll.h>
#include <time.h>
#include <unistd.h>

/* So many lines in so many seconds. */
enum { LINES = 200, PERIOD = 10 };

/* A pipe that is writable takes PIPE_BUF bytes, more than a line has, without waiting. */
static void write_line(const char *line, size_t len)
{
    struct pollfd p = {STDERR_FILENO, POLLOUT, 0};
    if (poll(&p, 1, 0) == 1 && write(STDERR_FILENO, line, len) < 0)
        return; /* nobody can be told */
}

void server_log(const char *fmt, ...)
{
    static time_t began;
    static unsigned lines, left_out;
    struct timespec now;
    char line[512];

    clock_gettime(CLOCK_MONOTONIC, &now);
    if (lines == 0 || now.tv_sec - began >= PERIOD) {
        if (left_out)
            write_line(line, (size_t) snprintf(line, sizeof(line),
                                               "ivshmem-server: %u lines were left out here\n",
                                               left_out));
        began = now.tv_sec;
        lines = left_out = 0;
    }
    if (++lines > LINES) {
        left_out++;
        return;
    }
    int len = snprintf(line, sizeof(line) - 1, "ivshmem-server: ");
    va_list ap;
    va_start(ap, fmt);
    len += vsnprintf(line + len, sizeof(line) - 1 - (size_t) len, fmt, ap);
    va_end(ap);
    if (len > (int) sizeof(line) - 2)
        len = sizeof(line) - 2;
    line[len++] = '\n';
    write_line(line, (size_t) len);
}
