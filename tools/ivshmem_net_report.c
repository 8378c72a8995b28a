/* SPDX-License-Identifier: mpich2 */
/* What the process of an interface says to people, wherever they can read it. */
#include "ivshmem_net.h"

#include <stdarg.h>
#include <syslog.h>

#define REPORTS_MAX 20 /* in REPORTS_NS: a peer must not fill a log */
#define REPORTS_NS (60 * UINT64_C(1000000000))

void net_report(const struct net *net, const char *fmt, ...)
{
    static uint64_t since;
    static unsigned count;
    char text[1024];
    va_list ap;
    if (!since || tool_now_ns() - since > REPORTS_NS) {
        since = tool_now_ns();
        count = 0;
    }
    if (++count > REPORTS_MAX)
        return;
    va_start(ap, fmt);
    vsnprintf(text, sizeof(text), fmt, ap);
    va_end(ap);
    if (net->is_detached)
        syslog(LOG_WARNING, "%s: %s", net->name.interface, text);
    else
        tool_warn("%s: %s", net->name.interface, text);
}
