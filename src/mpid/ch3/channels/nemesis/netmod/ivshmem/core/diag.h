/* SPDX-License-Identifier: mpich2 */
/*
 * The text of an error, in one sentence for a person: what was found, what was expected, what to
 * do. The function that detects a failure writes it, and callers pass it on. Core prints nothing
 * itself. Any thread; each call has its own struct, or NULL if the text is not wanted.
 */
#ifndef IVSHM_DIAG_H
#define IVSHM_DIAG_H

#include <stdarg.h>
#include <stdio.h>

struct ivshm_diag {
    char text[768];
};

/*
 * Writes the text, cut off at its size, and returns -err: so a failure is one statement. `err` is a
 * positive errno.
 */
__attribute__((format(printf, 3, 4))) static inline int
ivshm_diag_fail(struct ivshm_diag *diag, int err, const char *fmt, ...)
{
    if (diag) {
        va_list ap;
        va_start(ap, fmt);
        vsnprintf(diag->text, sizeof(diag->text), fmt, ap);
        va_end(ap);
    }
    return -err;
}

#endif
