/* SPDX-License-Identifier: mpich2 */
#include "unit.h"

#include "core/speed.h"

/* Times of 8 bytes in ps: `shared`, then `own`, are told instead of being measured. */
static struct ivshm_speed_times told_shared, told_own;
static void *shared_memory;

/* Replaces core's. */
void ivshm_speed_time(void *memory, bool may_store, struct ivshm_speed_times *times)
{
    *times = memory == shared_memory ? told_shared : told_own;
    if (!may_store)
        times->store = 0;
}

static char root[256];

/* Replaces core's. */
const char *ivshm_speed_root(void)
{
    return root;
}

static struct ivshm_map map = {.is_device = true};

static enum ivshm_speed_kind kind_of(struct ivshm_speed_times shared, struct ivshm_speed_times own,
                                     bool may_store)
{
    static _Alignas(64) char memory[IVSHM_SPEED_BYTES];
    struct ivshm_speed speed;
    shared_memory = memory;
    told_shared = shared;
    told_own = own;
    ivshm_speed_measure(&map, memory, may_store, &speed);
    assert_int_equal(speed.shared.load, shared.load);
    assert_int_equal(speed.own.load, own.load);
    return speed.kind;
}

/* load, stream, store, copy */
#define INTEL                                                                                      \
    {                                                                                              \
        1200, 300, 300, 100                                                                        \
    }
#define AMD                                                                                        \
    {                                                                                              \
        1000, 250, 250, 90                                                                         \
    }
#define EMULATED                                                                                   \
    {                                                                                              \
        21000, 9000, 11000, 2200                                                                   \
    }

TEST(test_kinds)
{
    static const struct {
        struct ivshm_speed_times shared, own;
        enum ivshm_speed_kind kind;
    } cases[] = {
        {INTEL, INTEL, IVSHM_SPEED_CACHED},
        {EMULATED, EMULATED, IVSHM_SPEED_CACHED},
        {{120000, 118000, 90000, 60000}, INTEL, IVSHM_SPEED_UNCACHED},
        {{260000, 250000, 95000, 130000}, AMD, IVSHM_SPEED_UNCACHED},
        {{120000, 110000, 6000, 60000}, INTEL, IVSHM_SPEED_WRITE_COMBINING},
        {{260000, 250000, 9000, 130000}, AMD, IVSHM_SPEED_WRITE_COMBINING},
        /* Cached, but other processors have taken the lines away, or the first process was stopped
         * while it measured. */
        {{90000, 2500, 9000, 900}, INTEL, IVSHM_SPEED_CACHED},
        {{9000, 9000, 9000, 9000}, INTEL, IVSHM_SPEED_CACHED},
        {INTEL, {120000, 118000, 90000, 60000}, IVSHM_SPEED_CACHED},
    };
    for (size_t i = 0; i < LENGTH(cases); i++) {
        enum ivshm_speed_kind kind = kind_of(cases[i].shared, cases[i].own, true);
        if (kind != cases[i].kind)
            fail_msg("case %zu is %s", i, ivshm_speed_name(kind));
        kind = kind_of(cases[i].shared, cases[i].own, false);
        assert_int_equal(kind == IVSHM_SPEED_CACHED, cases[i].kind == IVSHM_SPEED_CACHED);
        assert_true(kind == IVSHM_SPEED_CACHED || kind == IVSHM_SPEED_NOT_CACHED);
    }
}

/* What its driver tells counts where times cannot show it; what times show, whatever it tells. */
TEST(test_told)
{
    static const struct ivshm_speed_times fast = EMULATED, slow = {260000, 250000, 95000, 130000};
    map.cache = IVSHM_CACHE_WRITE_BACK;
    assert_int_equal(kind_of(fast, fast, true), IVSHM_SPEED_CACHED);
    assert_int_equal(kind_of(slow, (struct ivshm_speed_times) AMD, true), IVSHM_SPEED_UNCACHED);
    map.cache = IVSHM_CACHE_WRITE_COMBINING;
    assert_int_equal(kind_of(fast, fast, false), IVSHM_SPEED_WRITE_COMBINING);
    map.cache = IVSHM_CACHE_UNCACHED;
    assert_int_equal(kind_of(fast, fast, false), IVSHM_SPEED_UNCACHED);
    map.cache = IVSHM_CACHE_UNKNOWN;
    map.is_device = false;
    assert_int_equal(kind_of(slow, (struct ivshm_speed_times) AMD, true), IVSHM_SPEED_CACHED);
    map.is_device = true;
}

static void write_file(const char *name, const char *text)
{
    char path[512];
    snprintf(path, sizeof(path), "%s/%s", root, name);
    for (char *slash = strchr(path + strlen(root) + 1, '/'); slash;
         slash = strchr(slash + 1, '/')) {
        *slash = 0;
        must(mkdir(path, 0700) == 0 || errno == EEXIST);
        *slash = '/';
    }
    FILE *file = fopen(path, "w");
    must(file && fputs(text, file) >= 0 && fclose(file) == 0);
}

static struct ivshm_diag explained;
static enum ivshm_cache told = IVSHM_CACHE_WRITE_BACK;

static void explain(const char *kind)
{
    static const struct ivshm_speed uncached = {
        IVSHM_SPEED_UNCACHED, {250000, 240000, 90000, 120000}, AMD};
    bool is_driver = strcmp(kind, "driver") == 0;
    map = (struct ivshm_map){.kind = kind, .is_device = true, .name = "0000:00:04.0"};
    snprintf(map.path, sizeof(map.path), is_driver ? "/dev/ivshmem0" : "%s/sys/device/resource2",
             root);
    map.cache = is_driver ? told : IVSHM_CACHE_UNKNOWN;
    ivshm_speed_explain(&map, &uncached, explained.text, sizeof(explained.text));
}

TEST(test_explain)
{
    const char *tmp = getenv("TMPDIR");
    snprintf(root, sizeof(root), "%s/ivshm-speed.XXXXXX", tmp ? tmp : "/tmp");
    must(mkdtemp(root));
    explain("BAR");
    assert_says(explained, "0000:00:04.0 (BAR) is mapped as memory that is uncached: a load takes "
                           "250.0 ns, of other memory 1.0 ns");
    assert_says(explained, "the reason is unknown");
    assert_says(explained, "/dev/dax0.0");
    assert_says(explained, "or load the driver");

    write_file("proc/cpuinfo", "vendor_id\t: AuthenticAMD\nflags\t\t: fpu hypervisor\n\n");
    explain("BAR");
    assert_says(explained, "on AMD, KVM keeps to");
    explain("driver"); /* asks for memory that is cached */
    assert_says(explained, "0000:00:04.0 (driver) is mapped as memory that is uncached: a load");
    assert_says(explained, "the reason is unknown, as its driver maps it cached");
    assert_null(strstr(explained.text, "load the driver"));
    told = IVSHM_CACHE_UNCACHED;
    explain("driver");
    assert_says(explained, "is uncached, because the driver's parameter says so");
    assert_says(explained, "parameters/cache");
    told = IVSHM_CACHE_WRITE_BACK;
    write_file("proc/cpuinfo", "vendor_id\t: GenuineIntel\nflags\t\t: fpu hypervisor\n\n");
    explain("BAR");
    assert_says(explained, "pass none through");

    /* The third line is BAR 2. */
    write_file("sys/device/resource", "0x00000000fe000000 0x00000000fe0000ff 0x0000000000040200\n"
                                      "0x0000000000000000 0x0000000000000000 0x0000000000000000\n"
                                      "0x00000000f0000000 0x00000000f3ffffff 0x000000000014220c\n");
    write_file("sys/kernel/debug/x86/pat_memtype_list",
               "PAT memtype list:\n"
               "PAT: [mem 0x00000000e0000000-0x00000000f0000000] write-back\n"
               "PAT: [mem 0x00000000f0000000-0x00000000f4000000] uncached-minus\n");
    explain("BAR");
    assert_says(explained, "mapped it as uncached-minus; ");
    explain("UIO"); /* is not found by that path */
    assert_null(strstr(explained.text, "uncached-minus"));

    write_file("proc/mtrr",
               "reg00: base=0x000000000 (    0MB), size= 2048MB, count=1: uncachable\n");
    explain("BAR");
    assert_says(explained, "pass none through");
    write_file("proc/mtrr",
               "reg00: base=0x000000000 (    0MB), size= 8192MB, count=1: write-back\n");
    explain("BAR");
    assert_says(explained, "pass none through");
    write_file("proc/mtrr",
               "reg00: base=0x000000000 (    0MB), size= 8192MB, count=1: write-back\n"
               "reg01: base=0x0c0000000 ( 3072MB), size= 1024MB, count=1: uncachable\n");
    explain("BAR");
    assert_says(explained, "(/proc/mtrr)");
    write_file("sys/class/misc/ivshmem0/device/resource",
               "0x00000000fe000000 0x00000000fe0000ff 0x0000000000040200\n"
               "0x0000000000000000 0x0000000000000000 0x0000000000000000\n"
               "0x00000000f0000000 0x00000000f3ffffff 0x000000000014220c\n");
    explain("driver");
    assert_says(explained, "(/proc/mtrr)");

    static const char *const made[] = {"sys/class/misc/ivshmem0/device/resource",
                                       "sys/class/misc/ivshmem0/device",
                                       "sys/class/misc/ivshmem0",
                                       "sys/class/misc",
                                       "sys/class",
                                       "proc/cpuinfo",
                                       "proc/mtrr",
                                       "proc",
                                       "sys/device/resource",
                                       "sys/device",
                                       "sys/kernel/debug/x86/pat_memtype_list",
                                       "sys/kernel/debug/x86",
                                       "sys/kernel/debug",
                                       "sys/kernel",
                                       "sys",
                                       ""};
    for (size_t i = 0; i < LENGTH(made); i++) {
        char path[512];
        snprintf(path, sizeof(path), "%s/%s", root, made[i]);
        must(remove(path) == 0);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_kinds),
        cmocka_unit_test(test_told),
        cmocka_unit_test(test_explain),
    };
    return RUN(tests);
}
