/* SPDX-License-Identifier: mpich2 */
/* For cases whose actors all do the same: each is act, which the case defines, with its number. */
#ifndef ALIKE_H
#define ALIKE_H

#include "explore.h"

static void act(uint32_t self);

static void first(void)
{
    act(0);
}

static void second(void)
{
    act(1);
}

static void third(void)
{
    act(2);
}

#endif
