/* SPDX-License-Identifier: mpich2 */
#include "unit.h"

#include "../../kmod/ivshmem_uapi.h"

#include <ftw.h>
#include <limits.h>
#include <stdarg.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>

/* A folder of our own, with a sysfs and a /dev. */
static char dir[256], path_text[512];

static const char *path_of(const char *name)
{
    snprintf(path_text, sizeof(path_text), "%s/%s", dir, name);
    return path_text;
}

/* Replaces core's. */
const char *ivshm_device_sysfs(void)
{
    static char path[300];
    snprintf(path, sizeof(path), "%s/sys", dir);
    return path;
}

/* Replaces core's. */
const char *ivshm_device_dev(void)
{
    static char path[300];
    snprintf(path, sizeof(path), "%s/dev", dir);
    return path;
}

static void make_folders(const char *name)
{
    char path[512];
    snprintf(path, sizeof(path), "%s", path_of(name));
    for (char *slash = strchr(path + strlen(dir) + 1, '/'); slash; slash = strchr(slash + 1, '/')) {
        *slash = 0;
        must(mkdir(path, 0755) == 0 || errno == EEXIST);
        *slash = '/';
    }
}

/* With all folders above it. */
static void write_file(const char *name, const char *text, uint64_t size)
{
    make_folders(name);
    int fd = open(path_of(name), O_CREAT | O_RDWR | O_TRUNC, 0644);
    must(fd >= 0 && write(fd, text, strlen(text)) == (ssize_t) strlen(text));
    must(size == 0 || ftruncate(fd, (off_t) size) == 0);
    close(fd);
}

static void make_link(const char *name, const char *target)
{
    make_folders(name);
    must(symlink(target, path_of(name)) == 0);
}

static int remove_one(const char *path, const struct stat *st __attribute__((unused)),
                      int type __attribute__((unused)), struct FTW *ftw __attribute__((unused)))
{
    return remove(path);
}

static int setup(void **state __attribute__((unused)))
{
    const char *tmp = getenv("TMPDIR");
    snprintf(dir, sizeof(dir), "%s/ivshm-device.XXXXXX", tmp ? tmp : "/tmp");
    must(mkdtemp(dir));
    umask(022); /* what is in it is as in the real ones, for other users */
    return 0;
}

static int teardown(void **state __attribute__((unused)))
{
    return nftw(dir, remove_one, 8, FTW_DEPTH | FTW_PHYS);
}

#define PCI "sys/bus/pci/devices/"

/* bar: 0 for none */
static void add_pci(const char *address, const char *vendor, const char *device, uint64_t bar)
{
    char name[128];
    snprintf(name, sizeof(name), PCI "%s/vendor", address);
    write_file(name, vendor, 0);
    snprintf(name, sizeof(name), PCI "%s/device", address);
    write_file(name, device, 0);
    if (bar) {
        snprintf(name, sizeof(name), PCI "%s/" IVSHM_DEVICE_BAR, address);
        write_file(name, "", bar);
    }
}

/* The same memory can be mapped once more, elsewhere. */
static void assert_maps_again(const struct ivshm_map *map)
{
    int fd = ivshm_map_reopen(map);
    assert_true(fd >= 0);
    void *again = ivshm_map_again(map, fd);
    assert_true(again != MAP_FAILED && again != map->base);
    munmap(again, map->size);
    close(fd);
}

TEST(test_no_device)
{
    struct ivshm_device devices[4];
    assert_int_equal(ivshm_device_list(devices, 4), 0);
    make_folders(PCI);
    assert_int_equal(ivshm_device_list(devices, 4), 0);
}

TEST(test_pci)
{
    struct ivshm_device devices[4];
    /* Not in the order of their addresses. */
    add_pci("0000:00:05.0", "0x1af4\n", "0x1110\n", 4096);
    add_pci("0000:00:03.0", "0x1af4\n", "0x1000\n", 4096); /* virtio */
    add_pci("0000:00:04.0", "0x1af4\n", "0x1110\n", 0);
    add_pci("0000:00:1f.0", "0x8086\n", "0x1110\n", 4096);
    add_pci("0000:02:00.0", "0x1af4\n", "0x1110\n", 12288);
    add_pci("0000:00:06.0", "", "", 0);
    assert_int_equal(ivshm_device_list(devices, 4), 3);
    assert_string_equal(devices[0].name, "0000:00:04.0");
    assert_int_equal(devices[0].size, 0);
    assert_string_equal(devices[1].name, "0000:00:05.0");
    assert_int_equal(devices[1].size, 4096);
    assert_string_equal(devices[1].kind, "BAR");
    assert_true(devices[1].is_pci);
    assert_string_equal(devices[2].name, "0000:02:00.0");
    assert_int_equal(devices[2].size, 12288);

    /* More than the caller has room for: counted, but not written. */
    memset(devices, 0, sizeof(devices));
    assert_int_equal(ivshm_device_list(devices, 1), 3);
    assert_string_equal(devices[0].name, "0000:00:04.0");
    assert_string_equal(devices[1].name, "");
    assert_int_equal(ivshm_device_list(NULL, 0), 3);
}

TEST(test_open_pci)
{
    struct ivshm_map map;
    struct ivshm_diag diag;
    assert_int_equal(ivshm_map_open("0000:02:00.0", false, &map, &diag), 0);
    assert_true(map.is_device);
    assert_int_equal(map.size, 12288);
    assert_string_equal(map.name, "0000:02:00.0");
    assert_string_equal(map.path, path_of(PCI "0000:02:00.0/" IVSHM_DEVICE_BAR));
    ivshm_map_close(&map);

    assert_int_equal(ivshm_map_open("0000:00:09.0", false, &map, &diag), -ENOENT);
    assert_says(diag, "no PCI device 0000:00:09.0");
    assert_int_equal(ivshm_map_open("0000:00:03.0", false, &map, &diag), -ENODEV);
    assert_says(diag, "1af4:1000");
    assert_says(diag, "not an ivshmem device");
    assert_int_equal(ivshm_map_open("0000:00:04.0", false, &map, &diag), -ENODEV);
    assert_says(diag, "no memory BAR");
    assert_int_equal(ivshm_map_open("0000:00:06.0", false, &map, &diag), -ENODEV);
}

#define DOORBELL PCI "0000:04:00.0"

/* `resource0`, its registers, begins at that address; BAR 1 has that last address, 0 for none. */
static void add_doorbell(uint64_t registers, uint64_t vectors, uint32_t number)
{
    char bars[256];
    uint64_t page = (uint64_t) sysconf(_SC_PAGESIZE);
    add_pci("0000:04:00.0", "0x1af4\n", "0x1110\n", 12288);
    snprintf(bars, sizeof(bars),
             "0x%016llx 0x%016llx 0x0000000000040200\n0x%016llx 0x%016llx 0x%016llx\n",
             (unsigned long long) registers, (unsigned long long) registers + 255,
             (unsigned long long) (vectors ? vectors - 4095 : 0), (unsigned long long) vectors,
             vectors ? 0x40200ull : 0ull);
    write_file(DOORBELL "/resource", bars, 0);
    write_file(DOORBELL "/resource0", "", page);
    int fd = open(path_of(DOORBELL "/resource0"), O_WRONLY);
    must(pwrite(fd, &number, 4, (off_t) (registers % page + 8)) == 4);
    close(fd);
}

static void expect_peer(const char *name, bool has_bell, uint32_t peer)
{
    struct ivshm_map map;
    struct ivshm_diag diag = {""};
    if (ivshm_map_open(name, true, &map, &diag) != 0)
        fail_msg("%s", diag.text);
    assert_int_equal(map.has_bell, has_bell);
    assert_int_equal(map.peer, peer);
    ivshm_map_close(&map);
}

TEST(test_peer)
{
    add_doorbell(0xfebf1000, 0xfebf0fff, 3);
    expect_peer("0000:04:00.0", true, 3);
    add_doorbell(0xfebf1100, 0xfebf0fff, 65535); /* within a page */
    expect_peer("0000:04:00.0", true, 65535);
    add_doorbell(0xfebf1000, 0xfebf0fff, 0);
    expect_peer("0000:04:00.0", true, 0);

    add_doorbell(0xfebf1000, 0xfebf0fff, UINT32_MAX); /* not told yet */
    expect_peer("0000:04:00.0", false, 0);
    add_doorbell(0xfebf1000, 0xfebf0fff, 65536);
    expect_peer("0000:04:00.0", false, 0);
    add_doorbell(0xfebf1000, 0, 0); /* ivshmem-plain */
    expect_peer("0000:04:00.0", false, 0);
    add_doorbell(0xfebf1000, 0xfebf0fff, 3);
    must(unlink(path_of(DOORBELL "/resource0")) == 0); /* as for whom may not open it */
    expect_peer("0000:04:00.0", false, 0);
    write_file(DOORBELL "/resource", "nonsense", 0);
    expect_peer("0000:04:00.0", false, 0);

    /* A file has none, whatever lies beside it. */
    add_doorbell(0xfebf1000, 0xfebf0fff, 3);
    write_file(PCI "0000:00:03.0/resource2", "", 4096); /* not of an ivshmem device */
    expect_peer(path_of(PCI "0000:00:03.0/resource2"), false, 0);
    write_file("file", "", 4096);
    expect_peer(path_of("file"), false, 0);
}

TEST(test_switched_off_pci)
{
    struct ivshm_map map;
    struct ivshm_diag diag;
    char enable[4] = "";
    add_pci("0000:03:00.0", "0x1af4", "0x1110", 4096);
    write_file(PCI "0000:03:00.0/config", "\xf4\x1a\x10\x11\x03", 0); /* I/O and memory on */
    assert_int_equal(ivshm_map_open("0000:03:00.0", false, &map, &diag), 0);
    ivshm_map_close(&map);

    write_file(PCI "0000:03:00.0/config", "\xf4\x1a\x10\x11\x01", 0); /* I/O only */
    assert_int_equal(ivshm_map_open("0000:03:00.0", false, &map, &diag), -EACCES);
    assert_says(diag, "0000:03:00.0 is disabled");
    assert_says(diag, path_of(PCI "0000:03:00.0/enable"));

    write_file(PCI "0000:03:00.0/enable", "0", 0);
    assert_int_equal(ivshm_map_open("0000:03:00.0", false, &map, &diag), 0);
    ivshm_map_close(&map);
    int fd = open(path_of(PCI "0000:03:00.0/enable"), O_RDONLY);
    assert_int_equal(read(fd, enable, 1), 1);
    assert_string_equal(enable, "1");
    close(fd);
}

/*
 * Character devices: sysfs says that /dev/zero is one. Its memory can be mapped, at any offset and
 * of any size, but is not kept.
 */

static char zero_folder[64]; /* of /dev/zero in sysfs */

static void describe_zero(const char *attribute, const char *text)
{
    char name[128];
    snprintf(name, sizeof(name), "%s/%s", zero_folder, attribute);
    write_file(name, text, 0);
}

/* /dev/zero is NAME, of the subsystem, and listed in that folder. */
static void rename_zero(const char *name, const char *subsystem, const char *listed_in)
{
    char path[128], target[512];
    struct stat st;
    must(stat("/dev/zero", &st) == 0);
    snprintf(zero_folder, sizeof(zero_folder), "sys/dev/char/%u:%u", major(st.st_rdev),
             minor(st.st_rdev));
    nftw(path_of("sys"), remove_one, 8, FTW_DEPTH | FTW_PHYS);
    nftw(path_of("dev"), remove_one, 8, FTW_DEPTH | FTW_PHYS);
    snprintf(path, sizeof(path), "%s/subsystem", zero_folder);
    snprintf(target, sizeof(target), "../../../../bus/%s", subsystem);
    make_link(path, target);
    snprintf(path, sizeof(path), "sys/%s/%s", listed_in, name);
    snprintf(target, sizeof(target), "%s/%s", dir, zero_folder);
    make_link(path, target);
    snprintf(path, sizeof(path), "dev/%s", name);
    make_link(path, "/dev/zero");
}

/* The offset at which the memory is mapped, as the kernel tells it. */
static uint64_t mapped_offset(const void *base)
{
    char line[1024];
    unsigned long long start, offset, found = UINT64_MAX;
    FILE *maps = fopen("/proc/self/maps", "r");
    must(maps);
    while (fgets(line, sizeof(line), maps))
        if (sscanf(line, "%llx-%*x %*s %llx", &start, &offset) == 2 && start == (uintptr_t) base)
            found = offset;
    fclose(maps);
    return found;
}

TEST(test_dax)
{
    struct ivshm_device devices[4];
    struct ivshm_region region;
    struct ivshm_map map;
    struct ivshm_diag diag;
    rename_zero("dax0.0", "dax", "bus/dax/devices");
    describe_zero("size", "6291456\n");
    describe_zero("align", "2097152\n");
    assert_int_equal(ivshm_device_list(devices, 4), 1);
    assert_string_equal(devices[0].name, path_of("dev/dax0.0"));
    assert_string_equal(devices[0].kind, "device-DAX");
    assert_int_equal(devices[0].size, 6291456);
    assert_false(devices[0].is_pci);

    assert_int_equal(ivshm_map_open(devices[0].name, false, &map, &diag), 0);
    assert_int_equal(ivshm_map_size(&map), 6291456);
    assert_int_equal(ivshm_map_page(&map), 2 * MIB);
    assert_string_equal(ivshm_map_kind(&map), "device-DAX");
    assert_true(ivshm_map_is_device(&map));
    assert_false(ivshm_map_is_sparse(&map));
    assert_int_equal(ivshm_map_file_id(&map), 0);
    assert_int_equal(mapped_offset(map.base), 0);
    memset(map.base, 1, 6291456);

    assert_maps_again(&map);
    ivshm_map_close(&map);

    /* Nobody has said that it is there to be a region, so it is not formatted unasked. */
    assert_int_equal(ivshm_region_open(NULL, &region, &diag), -ENODEV);
    assert_says(diag, "no ivshmem device");
    assert_int_equal(ivshm_region_open(devices[0].name, &region, &diag), 0);
    ivshm_region_close(&region);

    describe_zero("size", "0\n");
    assert_int_equal(ivshm_map_open(devices[0].name, false, &map, &diag), -ENODEV);
    assert_says(diag, "dax0.0 (device-DAX) has no memory");
}

TEST(test_uio)
{
    struct ivshm_device devices[4];
    struct ivshm_map map;
    struct ivshm_diag diag;
    rename_zero("uio3", "uio", "class/uio");
    /* Registers; then memory; and larger memory of which the first page has something else, too. */
    describe_zero("maps/map0/size", "0x0000000000001000\n");
    describe_zero("maps/map0/offset", "0x0\n");
    describe_zero("maps/map1/size", "0x0000000000400000\n");
    describe_zero("maps/map1/offset", "0x0\n");
    describe_zero("maps/map2/size", "0x0000000000800000\n");
    describe_zero("maps/map2/offset", "0x100\n");
    assert_int_equal(ivshm_map_open(path_of("dev/uio3"), false, &map, &diag), 0);
    assert_int_equal(ivshm_map_size(&map), 4 * MIB);
    assert_string_equal(ivshm_map_kind(&map), "UIO");
    assert_int_equal(mapped_offset(map.base), sysconf(_SC_PAGESIZE));
    int fd = ivshm_map_reopen(&map);
    void *again = ivshm_map_again(&map, fd);
    assert_int_equal(mapped_offset(again), sysconf(_SC_PAGESIZE));
    munmap(again, map.size);
    close(fd);
    ivshm_map_close(&map);

    /* It is listed, and so tried unasked, if it belongs to an ivshmem device. */
    assert_int_equal(ivshm_device_list(devices, 4), 0);
    describe_zero("device/vendor", "0x1af4\n");
    describe_zero("device/device", "0x1000\n");
    assert_int_equal(ivshm_device_list(devices, 4), 0);
    describe_zero("device/device", "0x1110\n");
    add_pci("0000:00:05.0", "0x1af4\n", "0x1110\n", 4 * MIB);
    assert_int_equal(ivshm_device_list(devices, 4), 2);
    assert_string_equal(devices[0].name, path_of("dev/uio3"));
    assert_string_equal(devices[0].kind, "UIO");
    assert_int_equal(devices[0].size, 4 * MIB);
    assert_string_equal(devices[1].name, "0000:00:05.0");

    /* What cannot be found in /dev is no device. */
    must(unlink(path_of("dev/uio3")) == 0);
    assert_int_equal(ivshm_device_list(devices, 4), 1);
}

/* /dev/zero does not know the question for the size, as a kvmfr device of another release may. */
TEST(test_kvmfr)
{
    struct ivshm_device devices[4];
    struct ivshm_map map;
    struct ivshm_diag diag;
    rename_zero("kvmfr0", "kvmfr", "class/kvmfr");
    assert_int_equal(ivshm_device_list(devices, 4), 1);
    assert_string_equal(devices[0].name, path_of("dev/kvmfr0"));
    assert_string_equal(devices[0].kind, "kvmfr");
    assert_int_equal(ivshm_map_open(devices[0].name, false, &map, &diag), -ENODEV);
    assert_says(diag, "does not tell its size");
}

/* What IVSHMEM_INFO returns; without a version, it is not known. */
static struct ivshmem_info info;

/* Replaces the C library's. */
int ioctl(int fd, unsigned long request, ...)
{
    va_list args;
    va_start(args, request);
    void *out = va_arg(args, void *);
    va_end(args);
    if (request != IVSHMEM_INFO || info.abi == UINT32_MAX)
        return (int) syscall(SYS_ioctl, fd, request, out);
    memcpy(out, &info, sizeof(info));
    return 0;
}

#define DRIVERS PCI "0000:00:04.0"

/* /dev/zero is ivshmem1 of the driver, which has the device 0000:00:04.0. */
static void add_driver(const char *device)
{
    char target[512];
    rename_zero("ivshmem1", "misc", "class/misc");
    add_pci("0000:00:04.0", "0x1af4\n", device, 4 * MIB);
    snprintf(target, sizeof(target), "%s/" DRIVERS, dir);
    char name[128];
    snprintf(name, sizeof(name), "%s/device", zero_folder);
    make_link(name, target);
    make_folders(DRIVERS "/misc/ivshmem1/");
    info = (struct ivshmem_info){.abi = IVSHMEM_ABI, .size = 4 * MIB, .peer = -1};
}

static void expect_driver(const char *name, enum ivshm_cache cache)
{
    struct ivshm_map map;
    struct ivshm_diag diag = {""};
    if (ivshm_map_open(name, false, &map, &diag) != 0)
        fail_msg("%s", diag.text);
    assert_string_equal(ivshm_map_kind(&map), "driver");
    assert_string_equal(ivshm_map_path(&map), path_of("dev/ivshmem1"));
    assert_string_equal(ivshm_map_name(&map), name);
    assert_true(ivshm_map_is_device(&map));
    assert_int_equal(ivshm_map_size(&map), 4 * MIB);
    assert_int_equal(map.cache, cache);
    assert_int_equal(mapped_offset(map.base), 0);
    assert_maps_again(&map);
    ivshm_map_close(&map);
}

TEST(test_driver)
{
    struct ivshm_device devices[4];
    struct ivshm_region region;
    struct ivshm_map map;
    struct ivshm_diag diag;
    add_driver("0x1110\n");
    /* Once, under its address, and without opening it. */
    assert_int_equal(ivshm_device_list(devices, 4), 1);
    assert_string_equal(devices[0].name, "0000:00:04.0");
    assert_string_equal(devices[0].kind, "driver");
    assert_int_equal(devices[0].size, 4 * MIB);
    assert_true(devices[0].is_pci);

    char named[512], bar[512], node[512];
    snprintf(named, sizeof(named), "%s", path_of("region"));
    snprintf(bar, sizeof(bar), "%s", path_of(DRIVERS "/" IVSHM_DEVICE_BAR));
    snprintf(node, sizeof(node), "%s", path_of("dev/ivshmem1"));
    must(symlink(bar, named) == 0);
    expect_driver("0000:00:04.0", IVSHM_CACHE_WRITE_BACK);
    expect_driver(node, IVSHM_CACHE_WRITE_BACK);
    expect_driver(bar, IVSHM_CACHE_WRITE_BACK);
    expect_driver(named, IVSHM_CACHE_WRITE_BACK);
    assert_int_equal(ivshm_region_open(NULL, &region, &diag), 0);
    ivshm_region_close(&region);

    /* What the driver tells. A later version may tell what is not known here. */
    info.abi = IVSHMEM_ABI + 7;
    info.cache = IVSHMEM_CACHE_WC;
    expect_driver(bar, IVSHM_CACHE_WRITE_COMBINING);
    info.cache = IVSHMEM_CACHE_UC;
    expect_driver(bar, IVSHM_CACHE_UNCACHED);
    info.cache = 77;
    expect_driver(bar, IVSHM_CACHE_UNKNOWN);

    /* By which number others ring it. */
    expect_peer(bar, false, 0);
    info.vectors = 1;
    expect_peer(bar, false, 0);
    info.peer = 65535;
    expect_peer("0000:00:04.0", true, 65535);
    info.peer = 0;
    expect_peer(node, true, 0);
    info.peer = 65536;
    expect_peer(bar, false, 0);
    info.peer = INT32_MIN;
    expect_peer(bar, false, 0);
    info.peer = info.vectors = 0;
    expect_peer(bar, false, 0);

    /* The node is another one since: the device was bound again. */
    assert_int_equal(ivshm_map_open(named, false, &map, &diag), 0);
    must(unlink(node) == 0);
    make_link("dev/ivshmem1", "/dev/null");
    assert_int_equal(ivshm_map_reopen(&map), -ESTALE);
    ivshm_map_close(&map);

    must(unlink(node) == 0);
    assert_int_equal(ivshm_map_open("0000:00:04.0", false, &map, &diag), -ENOENT);
    assert_says(diag, "the driver has ivshmem device 0000:00:04.0, but its node ");
    assert_says(diag, "dev/ivshmem1 does not exist: mount devtmpfs");
    assert_int_equal(ivshm_map_open(named, false, &map, &diag), -ENOENT);
    assert_says(diag, "dev/ivshmem1 does not exist");
    must(unlink(named) == 0);
}

/* A user who may open the node, but not the BAR; then one who may open neither. */
static void open_as_user(void *arg)
{
    struct ivshm_map map;
    struct ivshm_diag diag;
    const char *bar = arg;
    must(setegid(65534) == 0 && seteuid(65534) == 0);
    must(open(bar, O_RDWR) < 0 && ivshm_map_open(bar, false, &map, &diag) == 0);
    must(seteuid(0) == 0);
    must(mknod(path_of("node"), S_IFCHR | 0660, makedev(1, 5)) == 0);
    must(unlink(path_of("dev/ivshmem1")) == 0);
    make_link("dev/ivshmem1", "../node");
    must(setegid(65534) == 0 && seteuid(65534) == 0);
    must(ivshm_map_open(bar, false, &map, &diag) == -EACCES);
    must(strstr(diag.text, "no permission to open ") && strstr(diag.text, "dev/ivshmem1: run as"));
    must(strstr(diag.text, "group that has it, ivshmem if"));
}

TEST(test_driver_permission)
{
    if (geteuid() != 0)
        skip();
    add_driver("0x1110\n");
    char bar[512];
    snprintf(bar, sizeof(bar), "%s", path_of(DRIVERS "/" IVSHM_DEVICE_BAR));
    must(chmod(dir, 0755) == 0 && chmod(bar, 0600) == 0);
    assert_int_equal(child_wait(child_start(open_as_user, bar)), 0);
    must(unlink(path_of("node")) == 0);
}

TEST(test_driver_is_another)
{
    struct ivshm_device devices[4];
    struct ivshm_map map;
    struct ivshm_diag diag;
    static const struct ivshmem_info absurd[] = {
        {.abi = 0, .size = 4 * MIB},
        {.abi = 1, .size = 0},
        {.abi = 1, .size = 4 * MIB - 1},
        {.abi = 1, .size = 8 * MIB}, /* more than the BAR has */
    };
    add_driver("0x1110\n");
    for (size_t i = 0; i < LENGTH(absurd); i++) {
        char found[128];
        info = absurd[i];
        assert_int_equal(ivshm_map_open("0000:00:04.0", false, &map, &diag), -ENODEV);
        snprintf(found, sizeof(found),
                 "(driver) tells version %u of the driver's interface and %llu bytes of memory; "
                 "expected",
                 info.abi, info.size);
        assert_says(diag, found);
        assert_says(diag, "at most 4194304 bytes: load the ivshmem.ko");
    }
    info.abi = UINT32_MAX;
    assert_int_equal(ivshm_map_open("0000:00:04.0", false, &map, &diag), -ENODEV);
    assert_says(diag, "belongs to an ivshmem device, but not to the driver of mpich-ivshmem");
    assert_says(diag, strerror(ENOTTY));

    /* Another device's, which is not even opened. */
    add_driver("0x1000\n");
    assert_int_equal(ivshm_device_list(devices, 4), 0);
    assert_int_equal(ivshm_map_open(path_of("dev/ivshmem1"), false, &map, &diag), -EINVAL);
    assert_says(diag, "is a character device of the subsystem misc, whose memory cannot");
    assert_says(diag, "/dev/ivshmem0");

    /* Another driver's device does not stand in the way of the BAR. */
    add_driver("0x1110\n");
    must(rmdir(path_of(DRIVERS "/misc/ivshmem1")) == 0);
    make_folders(DRIVERS "/misc/other0/");
    assert_int_equal(ivshm_device_list(devices, 4), 1);
    assert_string_equal(devices[0].kind, "BAR");
    assert_int_equal(ivshm_map_open("0000:00:04.0", false, &map, &diag), 0);
    assert_string_equal(ivshm_map_path(&map), path_of(DRIVERS "/" IVSHM_DEVICE_BAR));
    ivshm_map_close(&map);
}

TEST(test_unknown)
{
    struct ivshm_map map;
    struct ivshm_diag diag;
    rename_zero("zero", "mem", "class/mem");
    assert_int_equal(ivshm_map_open("/dev/zero", false, &map, &diag), -EINVAL);
    assert_says(diag, "/dev/zero is a character device of the subsystem mem, whose memory cannot");
    assert_says(diag, "/dev/dax0.0");
    must(unlink(path_of("dev/zero")) == 0);
    nftw(path_of("sys"), remove_one, 8, FTW_DEPTH | FTW_PHYS);
    assert_int_equal(ivshm_map_open("/dev/zero", false, &map, &diag), -EINVAL);
    assert_says(diag, "/dev/zero is a character device, whose memory cannot");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_no_device),
        cmocka_unit_test(test_pci),
        cmocka_unit_test(test_open_pci),
        cmocka_unit_test(test_peer),
        cmocka_unit_test(test_switched_off_pci),
        cmocka_unit_test(test_dax),
        cmocka_unit_test(test_uio),
        cmocka_unit_test(test_kvmfr),
        cmocka_unit_test(test_driver),
        cmocka_unit_test(test_driver_permission),
        cmocka_unit_test(test_driver_is_another),
        cmocka_unit_test(test_unknown),
    };
    alarm(LIMIT_SECONDS);
    return cmocka_run_group_tests(tests, setup, teardown);
}
