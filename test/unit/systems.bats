#!/usr/bin/env bats
# SPDX-License-Identifier: mpich2
#
# The set-up on other systems than this one: which packages build-aux/bootstrap installs, with which commands, how
# fetch-source gets MPICH's source, and what is said if something is not as it should be. The system and its package
# manager are fakes; nothing is downloaded, and MPICH is not built.
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

# archive VERSION FILE: as much of MPICH as says which release it is.
archive() {
    rm -rf "mpich-$1" && mkdir -p "mpich-$1/maint" "mpich-$1/src/mpid/ch3/channels/nemesis"
    echo "m4_define([MPICH_VERSION_m4],[$1])dnl" >"mpich-$1/maint/version.m4"
    tar -czf "$2" "mpich-$1"
}

mpich() {
    run tree/build-aux/mpich "$1" "$PWD/logs"
    echo "$output"
}

# source_rpm VERSION FOLDER: in place of rpm's own format, what rpm2cpio makes of it. FOLDER is ./ with recent ones.
source_rpm() {
    command -v cpio >/dev/null || skip "no cpio"
    archive "$1" "mpich-$1.tar.gz"
    touch mpich.spec mpich-modules.tar
    printf "$2%s\\n" mpich.spec "mpich-$1.tar.gz" mpich-modules.tar | cpio -o --quiet >"mpich-$1-7.src.rpm"
    fake rpm2cpio 'cd "$at" && cat "$1"'
}

@test "Fedora: takes upstream's archive from the source package, by dnf 5 and by dnf 4" {
    is fedora '' "Fedora Linux 43"
    source_rpm 4.2.2 ./
    for option in --srpm --source; do
        rm -rf cache
        : >calls
        fake dnf "called; [[ \$* == *$option* ]] && cp mpich-4.2.2-7.src.rpm \"\$at\""
        run -0 tree/build-aux/fetch-source mpich "$PWD/logs"
        cmp cache/src/mpich/mpich-4.2.2.tar.gz mpich-4.2.2.tar.gz
        [ "$(tail -n 1 calls)" = "dnf -y download $option mpich" ]
    done
    # It is there now, and what it is is one line.
    run -0 tree/build-aux/fetch-source mpich "$PWD/logs"
    [ -z "$output" ]
    mpich system
    [ "${lines[0]}" = "Fedora Linux 43, packages by dnf; MPICH 4.2.2 from $PWD/cache/src/mpich/mpich-4.2.2.tar.gz" ]
}

@test "openSUSE: takes upstream's archive from the source package" {
    is opensuse-leap "suse opensuse" "openSUSE Leap 15.6"
    source_rpm 4.1.2 ''
    fake zypper 'called; for word; do case $last in --pkg-cache-dir) to=$word ;; esac; last=$word; done
        mkdir -p "$to/repo/src" && cp mpich-4.1.2-7.src.rpm "$to/repo/src"'
    run -0 tree/build-aux/fetch-source mpich "$PWD/logs"
    cmp cache/src/mpich/mpich-4.1.2.tar.gz mpich-4.1.2.tar.gz
    [[ $(cat calls) == "zypper --non-interactive --root $PWD/cache/src/mpich."*" source-install --download-only mpich" ]]
    mpich system
    [ "${lines[0]}" = "openSUSE Leap 15.6, packages by zypper; MPICH 4.1.2 from $PWD/cache/src/mpich/mpich-4.1.2.tar.gz" ]
}

@test "a source package without MPICH's archive is an error, and leaves nothing" {
    command -v cpio >/dev/null || skip "no cpio"
    is fedora '' "Fedora Linux 43"
    touch mpich.spec
    echo mpich.spec | cpio -o --quiet >mpich-4.2.2-7.src.rpm
    fake rpm2cpio 'cd "$at" && cat "$1"'
    fake dnf 'cp mpich-4.2.2-7.src.rpm "$at"'
    run -1 tree/build-aux/fetch-source mpich "$PWD/logs"
    [[ $output == *"there is no mpich-*.tar.* in "*"mpich-4.2.2-7.src.rpm"* ]]
    [ "$(ls cache/src)" = mpich.lock ]
    is void '' "Void Linux"
    FETCH=yes mpich system
    [ "$status" -eq 1 ]
    [[ $output == *"how to download a source package on Void Linux is not known here"*"Name an archive or a tree of MPICH 4"*"make stage MPICH=FILE"* ]]
}

@test "Debian: the release is that of the upstream archive, whatever the package is called" {
    is debian '' "Debian GNU/Linux 13 (trixie)"
    mkdir -p cache/src/mpich
    archive 9.8.7 cache/src/mpich/mpich_9.9.0+really9.8.7.orig.tar.gz
    touch cache/src/mpich/mpich_9.9.0+really9.8.7-1.dsc cache/src/mpich/mpich_9.9.0+really9.8.7.orig.tar.gz.asc
    mpich system
    [ "$status" -eq 1 ]
    [ "${lines[0]}" = "Debian GNU/Linux 13 (trixie), packages by apt-get; MPICH 9.8.7 from $PWD/cache/src/mpich/mpich_9.9.0+really9.8.7-1.dsc" ]
    [[ ${lines[1]} == *"is MPICH 9.8.7, but the netmod was built and tested with $(tree/tools/ivshmem-graft --releases). "* ]]
}

@test "a release that was not tried, or no MPICH at all, is refused before anything is built" {
    is debian '' "Debian GNU/Linux 13 (trixie)"
    archive 9.8.7 mpich-9.8.7.tar.gz
    for source in "$PWD/mpich-9.8.7.tar.gz" "$PWD/mpich-9.8.7"; do
        mpich "$source"
        [ "$status" -eq 1 ]
        [ "${#lines[@]}" -eq 2 ]
        [[ ${lines[0]} == *"; MPICH 9.8.7 from $source" ]]
        [[ ${lines[1]} == *"make stage MPICH=FILE"*"--with-mpich-source=FILE"*"UNTRIED=yes"*"--enable-untried-mpich"* ]]
    done
    date >notes.tar.gz
    mpich "$PWD/notes.tar.gz"
    [ "$status" -eq 1 ]
    [[ ${lines[1]} == *"notes.tar.gz is MPICH of unknown version (it has no maint/version.m4), but"* ]]
    run ! compgen -G 'cache/tree-*'
    # Accepted all the same, it gets as far as ivshmem-graft, which misses the rest.
    MPICH_GRAFT_OPTIONS=--force mpich "$PWD/mpich-9.8.7.tar.gz"
    [ "$status" -eq 1 ]
    [[ $output == *"unpack MPICH ..."*"expected MPICH 3.0 or later"* ]]
}
