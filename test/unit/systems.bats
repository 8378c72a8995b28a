#!/usr/bin/env bats
# SPDX-License-Identifier: mpich2
#
# The set-up on other systems than this one: which packages build-aux/bootstrap installs, with which commands, and what is
# said if something is not as it should be. The system and its package manager are fakes; nothing is installed.
#
# shellcheck disable=SC2016 # the fakes' own variables

bats_require_minimum_version 1.5.0

setup() {
    src=${IVSHM_SRC:-$(realpath "$BATS_TEST_DIRNAME/../..")}
    netmod=src/mpid/ch3/channels/nemesis/netmod
    cd "$BATS_TEST_TMPDIR" || exit
    mkdir -p fakes tree/tools tree/$netmod
    cp -r "$src/build-aux" tree
    cp "$src"/tools/ivshmem-graft* tree/tools
    cp -r "$src/$netmod/ivshmem" tree/$netmod
    unset MAKEFLAGS MAKELEVEL MFLAGS MPICH UNTRIED V FETCH MPICH_GRAFT_OPTIONS
    export FAKES=$PWD PATH=$PWD/fakes:$PATH OS_RELEASE=$PWD/os-release MPICH_IVSHMEM_CACHE=$PWD/cache
    touch missing unknown calls
    # What a package manager is asked for is in calls; packages in the file missing are not installed, and those in
    # unknown are not in its repositories.
    fake id 'echo "${FAKE_UID:-0}"'
    fake sudo 'exit 1'
    fake autoreconf ''
    fake dpkg-query 'grep -qxF -- "${!#}" missing || echo installed'
    fake rpm '! grep -qxF -- "${!#}" missing'
    fake apt-cache '! grep -qxF -- "${!#}" unknown'
    fake apt-get 'called'
    fake dnf 'case $* in *repoquery*) grep -qxF -- "${!#}" unknown || echo "${!#}" ;; *) called ;; esac'
    fake zypper 'case $* in *search*) ! grep -qxF -- "${!#}" unknown ;; *) called ;; esac'
    printf '#!/bin/bash\nprintf "%%s\\n" "$@" >given\ntouch Makefile\n' >tree/configure
    chmod +x tree/configure
}

# fake PROGRAM BODY: the body runs in the folder of the fakes.
fake() {
    printf '#!/bin/bash\ncalled() { echo "%s $*" >>"$FAKES/calls"; }\nat=$PWD && cd "$FAKES"\n%s\n' "$1" \
        "${2//called/called \"\$@\"}" >"fakes/$1"
    chmod +x "fakes/$1"
}

is() { # ID ID_LIKE NAME
    printf 'ID="%s"\nID_LIKE="%s"\nPRETTY_NAME="%s"\n' "$@" >os-release
}

bootstrap() {
    run tree/build-aux/bootstrap
    echo "$output"
}

@test "the list of packages has a name or a - for each system, and says what is required" {
    awk '
        /^[^#[]/ {
            sub(/#.*/, "")
            if (NF != 4) { print "not a need and three names: " $0; wrong = 1 }
        }
        END { exit wrong }' "$src/build-aux/packages"
    for part in build source tests bench guests lint; do
        grep -q "^\[$part\]" "$src/build-aux/packages"
    done
}

@test "Debian and Ubuntu: installs what is missing with apt-get, but for what the release does not have" {
    is ubuntu debian "Ubuntu 24.04.1 LTS"
    printf '%s\n' libhwloc-dev scdoc spin >missing
    echo spin >unknown
    bootstrap
    [ "$status" -eq 0 ]
    [[ $output == *"packages that Ubuntu 24.04.1 LTS does not have, "*": spin"* ]]
    [[ $output == *"packages to install: libhwloc-dev scdoc"* ]]
    diff calls - <<<"apt-get -qy -o DPkg::Lock::Timeout=300 update
apt-get -qy -o DPkg::Lock::Timeout=300 install --no-install-recommends libhwloc-dev scdoc"
    [ -e tree/Makefile ]
    diff tree/given - <<<"--enable-maintainer-mode
--enable-fetch
--with-cache=$PWD/cache"
}

@test "Fedora: names and commands" {
    is fedora '' "Fedora Linux 43"
    printf '%s\n' gcc-c++ hwloc-devel scdoc libhwloc-dev >missing
    bootstrap
    [ "$status" -eq 0 ]
    diff calls - <<<"dnf -y makecache
dnf -y install --setopt=install_weak_deps=False gcc-c++ hwloc-devel scdoc"
}

@test "openSUSE: names and commands" {
    is opensuse-tumbleweed "opensuse suse" "openSUSE Tumbleweed"
    printf '%s\n' gcc-fortran qemu-x86 shellcheck ShellCheck >missing
    echo qemu-x86 >unknown
    bootstrap
    [ "$status" -eq 0 ]
    [[ $output == *"packages that openSUSE Tumbleweed does not have, "*": qemu-x86"* ]]
    diff calls - <<<"zypper --non-interactive refresh
zypper --non-interactive install --no-recommends gcc-fortran ShellCheck"
}

@test "a package that a build needs and the system does not have ends it before anything is installed" {
    is fedora '' "Fedora Linux 43"
    echo hwloc-devel | tee missing >unknown
    bootstrap
    [ "$status" -eq 1 ]
    [[ $output == *"Fedora Linux 43 has no package hwloc-devel, which a build needs"* ]]
    diff calls - <<<"dnf -y makecache"
    [ ! -e tree/Makefile ]
}

@test "who is not root is told the command, and is stopped only by what a build needs" {
    is fedora '' "Fedora Linux 43"
    export FAKE_UID=1000
    printf '%s\n' strace hwloc-devel >missing
    bootstrap
    [ "$status" -eq 1 ]
    [[ $output == *"dnf makecache && dnf install --setopt=install_weak_deps=False hwloc-devel strace"* ]]
    echo strace >missing
    bootstrap
    [ "$status" -eq 0 ]
    [[ $output == *"install_weak_deps=False strace"*"Going on without."* ]]
    [ ! -s calls ]
    [ -e tree/Makefile ]
}

@test "an unknown system: programs and headers are looked for, and missing ones are named" {
    is void '' "Void Linux"
    fake cc 'grep -q nosuch && exit 1; [[ $* != *-lmimalloc* ]]'
    sed -i -e 's/^hwloc\.h /nosuch.h /' -e 's/^patchelf /nosuch-program /' tree/build-aux/packages
    bootstrap
    [ "$status" -eq 1 ]
    [[ $output == *"missing, for tests, "*" -lmimalloc"* ]]
    [[ $output == *"the names of the packages of Void Linux are not known here"*"are missing: nosuch.h nosuch-program. Install them"* ]]
    [[ $output != *dpkg-source* ]]
    [ ! -s calls ]
    [ ! -e tree/Makefile ]
    # Nor is a Fedora without dnf one that is known.
    rm fakes/dnf
    is fedora '' "Fedora CoreOS"
    ! command -v dnf || skip "this machine has dnf"
    bootstrap
    [[ $output == *"the packages of Fedora CoreOS are not known here"* ]]
}

@test "MPICH=FILE and UNTRIED=yes go to configure, again when they change, and are kept otherwise" {
    is debian '' "Debian GNU/Linux 13 (trixie)"
    MPICH=nosuch.tar.gz bootstrap
    [ "$status" -eq 1 ]
    [[ $output == *"MPICH=nosuch.tar.gz does not exist"* ]]
    touch "a file.tar.gz"
    export MPICH="$PWD/a file.tar.gz"
    bootstrap
    grep -qxF -- "--with-mpich-source=$MPICH" tree/given
    run ! grep untried tree/given
    rm tree/given
    bootstrap
    [ ! -e tree/given ]
    UNTRIED=yes bootstrap
    grep -qx -- --enable-untried-mpich tree/given
    rm tree/given
    unset MPICH
    bootstrap
    [ "$status" -eq 0 ]
    [ ! -e tree/given ]
}
