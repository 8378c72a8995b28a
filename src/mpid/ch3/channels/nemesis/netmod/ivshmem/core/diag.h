/* SPDX-License-Identifier: mpich2 */
/*
 * What went wrong, in one sentence for a person: what was found, what was expected, what to do.
 * The function that detects a failure writes it; callers pass it on. Core prints nothing itself.
 */
#ifndef IVSHM_DIAG_H
#define IVSHM_DIAG_H

#include <stdarg.h>
#include <stdio.h>

struct ivshm_diag {
    char text[768];
};

/* Writes the text and returns -err, so that a failure is one statement. diag may be NULL. */
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
