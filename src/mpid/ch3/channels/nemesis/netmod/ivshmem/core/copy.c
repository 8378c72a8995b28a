/* SPDX-License-Identifier: mpich2 */
#include "copy.h"

#include <string.h>

#ifdef __x86_64__
#include <emmintrin.h>
#endif

/* Bytes. As many lines as a processor can wait for at once, and how far the prefetches stay ahead.
 */
#define AHEAD_BYTES 2048
#define STEP_BYTES 1024

static size_t at_most(size_t bytes, size_t max)
{
    return bytes < max ? bytes : max;
}

static void copy_ahead(unsigned char *to, const unsigned char *from, size_t bytes)
{
    size_t ahead = at_most(bytes, AHEAD_BYTES);

    ivshm_lines_prefetch_write(to, ahead);
    while (ahead < bytes) {
        size_t step = at_most(bytes - ahead, STEP_BYTES);
        ivshm_lines_prefetch_write(to + ahead, step);
        memcpy(to, from, STEP_BYTES);
        to += STEP_BYTES;
        from += STEP_BYTES;
        bytes -= STEP_BYTES;
        ahead += step - STEP_BYTES;
    }
    memcpy(to, from, bytes);
}

#ifdef __x86_64__
/* Of a line that is not written as a whole, the processor would have to fetch the rest. */
static void copy_stream(unsigned char *to, const unsigned char *from, size_t bytes)
{
    size_t before = at_most(-(uintptr_t) to % IVSHM_LINE, bytes);

    memcpy(to, from, before);
    to += before;
    from += before;
    bytes -= before;
    for (; bytes >= IVSHM_LINE; bytes -= IVSHM_LINE) {
        const __m128i *line = (const __m128i *) from;
        const __m128i a = _mm_loadu_si128(line), b = _mm_loadu_si128(line + 1),
                      c = _mm_loadu_si128(line + 2), d = _mm_loadu_si128(line + 3);
        _mm_stream_si128((__m128i *) to, a);
        _mm_stream_si128((__m128i *) to + 1, b);
        _mm_stream_si128((__m128i *) to + 2, c);
        _mm_stream_si128((__m128i *) to + 3, d);
        to += IVSHM_LINE;
        from += IVSHM_LINE;
    }
    memcpy(to, from, bytes);
    _mm_sfence(); /* a release store does not order non-temporal stores */
}
#endif

void ivshm_copy_in(void *to, const void *from, size_t bytes, enum ivshm_copy way)
{
    switch (way) {
    case IVSHM_COPY_AHEAD:
        copy_ahead(to, from, bytes);
        return;
    case IVSHM_COPY_STREAM:
#ifdef __x86_64__
        copy_stream(to, from, bytes);
        return;
#endif
    case IVSHM_COPY_PLAIN:
        break;
    }
    memcpy(to, from, bytes);
}
