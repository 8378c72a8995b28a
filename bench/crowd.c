/* SPDX-License-Identifier: mpich2 */
/*
 * crowd REGION N: joins the region N times and does nothing until its standard input ends. Prints a
 * line once all have joined.
 */
#include "transport.h"

#include <stdio.h>
#include <stdlib.h>

int main(int argc, char **argv)
{
    struct ivshm_region region;
    struct ivshm_diag diag;
    uint32_t joined = 0, wanted = argc == 3 ? (uint32_t) atoi(argv[2]) : 0;
    struct ivshm_transport *all = calloc(wanted, sizeof(*all));

    if (!wanted || !all) {
        fprintf(stderr, "usage: crowd REGION N\n");
        return 2;
    }
    if (ivshm_region_open(argv[1], &region, &diag) != 0) {
        fprintf(stderr, "crowd: %s\n", diag.text);
        return 1;
    }
    while (joined < wanted &&
           ivshm_transport_open(&all[joined], &region, "crowd", joined, wanted, &diag) == 0)
        joined++;
    if (joined < wanted)
        fprintf(stderr, "crowd: after %u: %s\n", joined, diag.text);
    printf("%u have joined\n", joined);
    fflush(stdout);
    while (getchar() != EOF)
        ;
    while (joined > 0)
        ivshm_transport_close(&all[--joined]);
    ivshm_region_close(&region);
    free(all);
    return 0;
}
