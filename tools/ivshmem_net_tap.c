/* SPDX-License-Identifier: mpich2 */
/*
 * The interface of `ivshmem net`: a TAP interface of Linux, whose frames come with a header of
 * virtio's. By that, the kernel need not compute checksums nor cut large packets, since no frame
 * ever leaves this host: what it left undone is left to the peer's kernel, which leaves it undone
 * as well.
 */
#include "ivshmem_net.h"

#include <errno.h>
#include <fcntl.h>
#include <ifaddrs.h>
#include <linux/if_tun.h>
#include <net/if_arp.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

/* As linux/ipv6.h has it, which cannot be included with netinet/in.h. */
struct in6_request {
    struct in6_addr address;
    uint32_t prefix;
    int index;
};

static int report_rights(const char *name, struct ivshm_diag *diag)
{
    return ivshm_diag_fail(diag, EPERM,
                           "no permission to make the network interface %s: run `ivshmem net up` "
                           "as root, or with the capability CAP_NET_ADMIN",
                           name);
}

int net_tap_open(const char *name, int *fd, struct ivshm_diag *diag)
{
    const int header_bytes = NET_VNET_BYTES, little = 1;
    struct ifreq request = {.ifr_flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR};
    int tap = open("/dev/net/tun", O_RDWR | O_NONBLOCK | O_CLOEXEC), err = errno;
    if (tap < 0 && (err == EACCES || err == EPERM))
        return report_rights(name, diag);
    if (tap < 0)
        return ivshm_diag_fail(
            diag, err,
            "cannot open /dev/net/tun: %s; load the kernel's module tun (`modprobe tun`), or give "
            "the container that device",
            strerror(err));
    /* Only a new one, or two programs would share its frames. */
    request.ifr_flags = (short) (request.ifr_flags | (short) IFF_TUN_EXCL);
    strcpy(request.ifr_name, name);
    if (ioctl(tap, TUNSETIFF, &request) != 0) {
        err = errno;
        close(tap);
        if (err == EPERM)
            return report_rights(name, diag);
        if (err == EBUSY || err == EEXIST || err == EINVAL)
            return ivshm_diag_fail(diag, EBUSY,
                                   "the network interface %s exists already: end it with `ivshmem "
                                   "net down --name %s`, or give this one another --name",
                                   name, name);
        return ivshm_diag_fail(diag, err, "cannot make the network interface %s: %s", name,
                               strerror(err));
    }
    if (ioctl(tap, TUNSETVNETHDRSZ, &header_bytes) != 0 || ioctl(tap, TUNSETVNETLE, &little) != 0 ||
        ioctl(tap, TUNSETOFFLOAD, TUN_F_CSUM | TUN_F_TSO4 | TUN_F_TSO6 | TUN_F_TSO_ECN) != 0) {
        err = errno;
        close(tap);
        return ivshm_diag_fail(diag, err,
                               "the kernel's network interface %s cannot leave out checksums: %s; "
                               "Linux 4.2 or newer is expected",
                               name, strerror(err));
    }
    *fd = tap;
    return 0;
}

static struct ifreq request_for(const char *name)
{
    struct ifreq request = {0};
    strcpy(request.ifr_name, name);
    return request;
}

static int set_mac(int fd, const char *name, const struct net_address *address)
{
    struct ifreq request = request_for(name);
    request.ifr_hwaddr.sa_family = ARPHRD_ETHER;
    net_mac_of(address, (unsigned char *) request.ifr_hwaddr.sa_data);
    return ioctl(fd, SIOCSIFHWADDR, &request);
}

static int set_mtu(int fd, const char *name, unsigned mtu)
{
    struct ifreq request = request_for(name);
    request.ifr_mtu = (int) mtu;
    return ioctl(fd, SIOCSIFMTU, &request);
}

static int turn_on(int fd, const char *name)
{
    struct ifreq request = request_for(name);
    if (ioctl(fd, SIOCGIFFLAGS, &request) != 0)
        return -1;
    request.ifr_flags |= IFF_UP;
    return ioctl(fd, SIOCSIFFLAGS, &request);
}

static int set_ip4(int fd, const char *name, const struct net_address *address)
{
    struct ifreq request = request_for(name);
    struct sockaddr_in in = {.sin_family = AF_INET};
    memcpy(&in.sin_addr, address->bytes, sizeof(in.sin_addr));
    memcpy(&request.ifr_addr, &in, sizeof(in));
    if (ioctl(fd, SIOCSIFADDR, &request) != 0)
        return -1;
    in.sin_addr.s_addr = htonl(UINT32_MAX << (32 - address->prefix));
    memcpy(&request.ifr_netmask, &in, sizeof(in));
    return ioctl(fd, SIOCSIFNETMASK, &request);
}

static int set_ip6(int fd, const char *name, const struct net_address *address)
{
    struct in6_request request = {.prefix = address->prefix, .index = (int) if_nametoindex(name)};
    memcpy(&request.address, address->bytes, sizeof(request.address));
    return ioctl(fd, SIOCSIFADDR, &request);
}

int net_tap_configure(const char *name, const struct net_address *address, unsigned mtu,
                      struct ivshm_diag *diag)
{
    const char *what = "a socket";
    int fd = socket(address->family, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    bool is_done = fd >= 0;
    if (is_done) {
        what = "its hardware address";
        is_done = set_mac(fd, name, address) == 0;
    }
    if (is_done) {
        what = "its MTU";
        is_done = set_mtu(fd, name, mtu) == 0;
    }
    if (is_done && address->family == AF_INET) {
        what = "its address";
        is_done = set_ip4(fd, name, address) == 0;
    }
    if (is_done) {
        what = "it on";
        is_done = turn_on(fd, name) == 0;
    }
    if (is_done && address->family == AF_INET6) {
        what = "its address";
        is_done = set_ip6(fd, name, address) == 0;
    }
    int err = errno;
    if (fd >= 0)
        close(fd);
    return is_done ? 0
                   : ivshm_diag_fail(diag, err, "cannot set up the network interface %s (%s): %s",
                                     name, what, strerror(err));
}

int net_tap_check_address(const struct net_address *address, struct ivshm_diag *diag)
{
    struct ifaddrs *list;
    int err = 0;
    if (getifaddrs(&list) != 0)
        return 0; /* the kernel has the last word */
    for (const struct ifaddrs *i = list; i && !err; i = i->ifa_next) {
        const bool is_ip4 = address->family == AF_INET;
        struct sockaddr_in6 there = {0};
        if (!i->ifa_addr || i->ifa_addr->sa_family != address->family)
            continue;
        memcpy(&there, i->ifa_addr, is_ip4 ? sizeof(struct sockaddr_in) : sizeof(there));
        const void *bytes = is_ip4
                                ? (const void *) &((struct sockaddr_in *) (void *) &there)->sin_addr
                                : (const void *) &there.sin6_addr;
        if (memcmp(bytes, address->bytes, is_ip4 ? 4 : 16) == 0)
            err = ivshm_diag_fail(diag, EADDRINUSE,
                                  "the address %s is in use on this machine, by its interface %s: "
                                  "choose another one",
                                  address->text, i->ifa_name);
    }
    freeifaddrs(list);
    return err;
}
