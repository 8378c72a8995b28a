/* SPDX-License-Identifier: mpich2 */
/*
 * What `ivshmem perf` prints: the two sides, the mapping, and the figures, for a person or as JSON.
 * Times are in nanoseconds within the program and in JSON, and in microseconds for a person; MB are
 * 10^6 bytes.
 */
#include "ivshmem_perf.h"

#include <string.h>
#include <unistd.h>

#define HOP_EMULATED 1000 /* ns: no processor is that slow */

/* The model's name, as far as the kernel tells. */
void perf_describe_processor(char *text, size_t size)
{
    FILE *file = fopen("/proc/cpuinfo", "r");
    char line[256], name[128];
    bool is_found = false;
    while (file && !is_found && fgets(line, sizeof(line), file))
        is_found = sscanf(line, "model name : %127[^\n]", name) == 1;
    if (file)
        fclose(file);
    snprintf(text, size, "%.*s", (int) size - 1, is_found ? name : "unknown processor");
}

static const char *host_of(const struct ivshm_region *region, uint32_t endpoint,
                           struct ivshm_endpoint_info *info)
{
    return ivshm_endpoint_read(region, endpoint, info) == 0 && info->named ? info->process.host
                                                                           : "unknown";
}

static void print_side(const char *which, const struct ivshm_region *region, uint32_t endpoint,
                       const struct perf_place *place)
{
    struct ivshm_endpoint_info info;
    const char *host = tool_printable(host_of(region, endpoint, &info));
    printf("%-10s endpoint %u on %s, %s, ", which, endpoint, host,
           tool_printable(place->processor));
    if (place->cpu < 0)
        printf("any CPU\n");
    else
        printf("CPU %d\n", place->cpu);
}

static uint32_t their_endpoint(const struct perf_link *link)
{
    return ivshm_channel_peer(link->channel).endpoint;
}

static uint32_t our_endpoint(const struct perf_link *link)
{
    return ivshm_transport_self(&link->transport).endpoint;
}

void perf_print_sides(const struct perf_link *link)
{
    const struct ivshm_region *region = link->region;
    const struct ivshm_map *map = ivshm_region_map(region);
    printf("region     %s, %s, id %s\n", ivshm_region_name(region),
           tool_size(ivshm_region_size(region)), tool_id(region));
    printf("mapping    %s, pages of %s\n", ivshm_map_kind(map), tool_size(ivshm_map_page(map)));
    print_side("this side", region, our_endpoint(link), &link->here);
    print_side("other side", region, their_endpoint(link), &link->there);
}

/* Bytes in nanoseconds, as MB/s. */
static double speed(uint64_t bytes, double ns)
{
    return ns > 0 ? (double) bytes / ns * 1e3 : 0;
}

static double per_second(double ns)
{
    return ns > 0 ? 1e9 / ns : 0;
}

void perf_print_result(const struct perf_result *r, bool is_first)
{
    static const char *const heads[PERF_TESTS] = {
        [PERF_LATENCY] = "\nlatency: half a round trip, us\n"
                         "     bytes       min       50%       90%       99%       max   samples  "
                         "path      option\n",
        [PERF_BANDWIDTH] = "\nbandwidth: messages in one direction\n"
                           "     bytes    MB/s, median      best    messages/s  path      option\n",
        [PERF_RATE] = "\nrate: small messages in one direction\n"
                      "     bytes    messages/s, median          best  path      option\n",
        [PERF_COPY] = "\ncopy: MB/s, median; the other side has written, or read, that memory "
                      "before\n"
                      "     bytes  into the region     out of it\n",
    };
    const struct perf_figures *f = &r->figures;
    unsigned long long bytes = r->bytes;
    if (is_first && heads[r->test])
        fputs(heads[r->test], stdout);
    switch (r->test) {
    case PERF_LATENCY:
        printf("%10llu %9.3f %9.3f %9.3f %9.3f %9.3f %9zu  %-8s  %s\n", bytes, f->min / 1e3,
               f->median / 1e3, f->p90 / 1e3, f->p99 / 1e3, f->max / 1e3, f->samples, r->path,
               r->option);
        break;
    case PERF_BANDWIDTH:
        printf("%10llu %15.1f %9.1f %13.0f  %-8s  %s\n", bytes, speed(r->bytes, f->median),
               speed(r->bytes, f->min), per_second(f->median), r->path, r->option);
        break;
    case PERF_RATE:
        printf("%10llu %21.0f %13.0f  %-8s  %s\n", bytes, per_second(f->median), per_second(f->min),
               r->path, r->option);
        break;
    case PERF_COPY:
        printf("%10llu %16.1f %13.1f\n", bytes, speed(r->bytes, r->into.median),
               speed(r->bytes, f->median));
        break;
    default:
        printf("hop        %.1f ns: a cache line one way, half a round trip\n", f->median);
    }
}

/* As bench/classes.awk: 0 if the two do not agree, or no processor is like that. */
static unsigned hop_class(const struct perf_figures hops[2])
{
    double before = hops[0].median, after = hops[1].median, hop = (before + after) / 2;
    if (before > after * 1.25 || after > before * 1.25 || hop >= HOP_EMULATED)
        return 0;
    return hop < 35 ? 20 : hop < 90 ? 55 : hop < 175 ? 130 : 225;
}

void perf_print_hops(const struct perf_figures hops[2])
{
    unsigned class = hop_class(hops);
    printf("\nhop        %.1f ns before, %.1f ns after: ", hops[0].median, hops[1].median);
    if (class)
        printf("class %u, %s\n", class,
               class == 20   ? "as hyperthreads of one core"
               : class == 55 ? "as cores that share a cache"
                             : "as cores that do not share a cache");
    else if (hops[0].median >= HOP_EMULATED || hops[1].median >= HOP_EMULATED)
        printf("the sides waited for a CPU, or processors are emulated\n");
    else
        printf("the distance changed meanwhile; measure again\n");
}

static void json_side(const char *which, const struct ivshm_region *region, uint32_t endpoint,
                      const struct perf_place *place)
{
    struct ivshm_endpoint_info info;
    printf("\"%s\": {\"endpoint\": %u, \"host\": ", which, endpoint);
    tool_print_json(host_of(region, endpoint, &info));
    printf(", \"processor\": ");
    tool_print_json(place->processor);
    if (place->cpu < 0)
        printf(", \"cpu\": null}");
    else
        printf(", \"cpu\": %d}", place->cpu);
}

static void json_figures(const char *name, const struct perf_figures *f)
{
    printf("\"%s\": {\"min\": %.2f, \"p50\": %.2f, \"p90\": %.2f, \"p99\": %.2f, \"max\": %.2f, "
           "\"mean\": %.2f, \"samples\": %zu}",
           name, f->min, f->median, f->p90, f->p99, f->max, f->mean, f->samples);
}

static void json_result(const struct perf_result *r)
{
    const struct perf_figures *f = &r->figures;
    printf("  {\"test\": \"%s\", \"bytes\": %llu, ", perf_test_names[r->test],
           (unsigned long long) r->bytes);
    if (r->test == PERF_COPY) {
        printf("\"into_mb_s\": %.1f, \"out_of_mb_s\": %.1f,\n   ", speed(r->bytes, r->into.median),
               speed(r->bytes, f->median));
        json_figures("into_ns", &r->into);
        printf(",\n   ");
        json_figures("out_of_ns", f);
    } else {
        printf("\"path\": \"%s\", \"option\": \"%s\", ", r->path, r->option);
        if (r->test != PERF_LATENCY)
            printf("\"mb_s\": %.1f, \"messages_s\": %.0f, ", speed(r->bytes, f->median),
                   per_second(f->median));
        printf("\n   ");
        json_figures("ns", f);
    }
    printf("}");
}

void perf_print_json(const struct perf_link *link, const struct perf_figures hops[2],
                     const struct perf_result *results, size_t count, double clock_ns)
{
    const struct ivshm_region *region = link->region;
    const struct ivshm_map *map = ivshm_region_map(region);
    unsigned class = hop_class(hops);
    printf("{\"region\": ");
    tool_print_json(ivshm_region_name(region));
    printf(
        ", \"size\": %llu, \"id\": \"%s\",\n \"mapping\": {\"kind\": \"%s\", \"page\": %llu},\n ",
        (unsigned long long) ivshm_region_size(region), tool_id(region), ivshm_map_kind(map),
        (unsigned long long) ivshm_map_page(map));
    json_side("this_side", region, our_endpoint(link), &link->here);
    printf(",\n ");
    json_side("other_side", region, their_endpoint(link), &link->there);
    printf(",\n \"clock_ns\": %.1f,\n ", clock_ns);
    json_figures("hop_before_ns", &hops[0]);
    printf(",\n ");
    json_figures("hop_after_ns", &hops[1]);
    if (class)
        printf(",\n \"hop_class\": %u,\n \"results\": [", class);
    else
        printf(",\n \"hop_class\": null,\n \"results\": [");
    for (size_t i = 0; i < count; i++) {
        printf(i ? ",\n" : "\n");
        json_result(&results[i]);
    }
    printf("]}\n");
}
