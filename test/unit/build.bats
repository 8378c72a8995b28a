#!/usr/bin/env bats
# SPDX-License-Identifier: mpich2
#
# The build as a packager uses it: outside the source folder, from an archive, with his own flags, prefix and DESTDIR,
# without root and without a network. MPICH itself is not built here.

bats_require_minimum_version 1.5.0

setup_file() {
    src=${IVSHM_SRC:-$(realpath "$BATS_TEST_DIRNAME/../..")}
    cd "$BATS_FILE_TMPDIR" || exit
    # The files of an archive. The checkout itself may be configured, and then cannot serve another build folder.
    mkdir checkout build
    tar -C "$src" -c --exclude=./.git --exclude=./obj --exclude=./inst --exclude=./logs --exclude=./cache --exclude='*.[oa]' --exclude='*.l[ao]' --exclude=.libs . |
        tar -C checkout -x
    (cd checkout && rm -f Makefile config.status .bootstrapped tools/ivshmem libtool doc/*.[17] && autoreconf --install)
    unset MAKEFLAGS MAKELEVEL MFLAGS MPICH_IVSHMEM_CACHE
    (cd build && CFLAGS='-O1 -DOF_THE_PACKAGER' ../checkout/configure --without-mpich --prefix=/usr LDFLAGS=-Wl,-z,now)
    make -C build dist
}

setup() {
    cd "$BATS_FILE_TMPDIR/build" || exit
    unset MAKEFLAGS MAKELEVEL MFLAGS MPICH_IVSHMEM_CACHE
}

@test "make in a tree that is not configured says how to configure it, and does nothing" {
    cd ../checkout
    for goal in '' all install fetch; do
        # shellcheck disable=SC2086
        run make $goal
        [ "$status" -eq 2 ]
        [[ $output == *"./configure, make fetch, make, make install"* ]]
    done
    [ ! -e Makefile ]
    [ ! -e logs ]
    run make clean
    [ "$status" -eq 0 ]
}

@test "compiles with configure's flags, and warnings are not errors" {
    make V=1 >output
    [ ! -e inst ]
    while read -r line; do
        [[ $line == *"-O1 -DOF_THE_PACKAGER"* && $line != *-Werror* ]] || { echo "$line"; return 1; }
    done < <(grep -E ' -c ' output)
    # The fuzz targets, too. (libtool links without -D.)
    make -n fuzz-coverage unit-gcc >output.fuzz
    grep -q 'target_' output.fuzz
    run ! grep -e -Werror output.fuzz
    make -n fuzz-coverage WERROR=-Werror | grep -qe ' -Werror '
    while read -r line; do
        [[ $line == *"-Wl,-z,now"* || $line == *"-Wl,-z -Wl,now"* ]] || { echo "$line"; return 1; } # libtool splits it
    done < <(grep -E -- '-o tools/ivshmem | -shared ' output)
    grep -q -- ' -shared ' output
}

@test "installs below DESTDIR and nowhere else, and uninstalls everything" {
    make install DESTDIR="$PWD/image"
    for file in bin/ivshmem bin/ivshmem-graft bin/ivshmem-vms lib/libivshmem-malloc.so share/man/man1/ivshmem.1 \
        share/mpich-ivshmem/netmod/ivshmem/core/sources.mk; do
        [ -e "image/usr/$file" ]
    done
    cmp <(image/usr/bin/ivshmem-graft --edits) <(../checkout/tools/ivshmem-graft --edits)
    cmp <(image/usr/bin/ivshmem-graft --list) <(../checkout/tools/ivshmem-graft --list)
    (cd image/usr/lib && ls libivshmem-malloc.*) >libraries
    diff libraries <(printf 'libivshmem-malloc.so%s\n' '' .0 .0.0.0)
    [[ $(readelf -d image/usr/lib/libivshmem-malloc.so) == *"soname: [libivshmem-malloc.so.0]"*INITFIRST* ]]
    run ! grep -rIl "$BATS_FILE_TMPDIR" image
    make install DESTDIR="$PWD/private" INSTALL_DATA="install -m 600"
    for file in vms/cli.py vms/guest/init netmod/ivshmem/core/sources.mk ivshmem-graft.edits; do
        [ "$(stat -c %a "private/usr/share/mpich-ivshmem/$file")" = 600 ]
    done
    make uninstall DESTDIR="$PWD/image"
    [ -z "$(find image ! -type d)" ]
}

@test "builds from an archive, without git" {
    mkdir archive
    tar -C archive --strip-components=1 -xf mpich-ivshmem-*.tar.gz
    cd archive
    [ -e .shellcheckrc ]
    ./configure --without-mpich
    make
    ./tools/ivshmem --version
    make distclean
    [ ! -e Makefile ]
}

@test "downloads nothing unless told to: asks for MPICH's source" {
    mkdir with
    cd with
    ../../checkout/configure
    run make
    [ "$status" -eq 2 ]
    [[ $output == *"MPICH's source is not in $PWD/cache/src: run 'make fetch'"*"--with-mpich-source="* ]]
    [ -z "$(find cache -type f)" ]
}

@test "refuses a folder that is not below the prefix" {
    run ../checkout/configure --libdir=/usr/lib64
    [ "$status" -eq 1 ]
    [[ $output == *"--libdir=/usr/lib64: must be PREFIX/lib"* ]]
}

@test "configure's compilers and flags are used for MPICH, too" {
    mkdir flags
    cd flags
    CC=clang CXXFLAGS=-O3 ../../checkout/configure FC=gfortran-12 LDFLAGS=-Wl,-z,now --without-mpich
    make -pn | grep '^MPICH_TOOLCHAIN = ' >toolchain
    for word in "CC='clang'" "FC='gfortran-12'" "'MPICHLIB_CXXFLAGS=-O3'" "'MPICHLIB_CFLAGS=-O2'" "'MPICHLIB_LDFLAGS=-Wl,-z,now'"; do
        grep -F -- "$word" toolchain
    done
}

@test "installs MPICH's files, and leaves the owner and mode of existing directories alone" {
    rm -rf mpich && mkdir -p mpich/image/{bin,lib/pkgconfig} mpich/usr/{bin,lib}
    echo new >mpich/image/bin/mpiexec
    echo library >mpich/image/lib/libmpi.so.12.2.2
    ln -s libmpi.so.12.2.2 mpich/image/lib/libmpi.so.12
    echo mpich >mpich/image/lib/pkgconfig/mpich.pc
    chmod 755 mpich/image/bin/mpiexec
    chmod -R go-w mpich/image && chmod 700 mpich/image mpich/image/bin mpich/image/lib mpich/image/lib/pkgconfig
    echo old >mpich/usr/bin/mpiexec
    echo other >mpich/usr/bin/other
    chmod 755 mpich/usr
    chmod 2775 mpich/usr/bin mpich/usr/lib
    if [ "$(id -u)" -eq 0 ]; then
        chown -R 12345:12345 mpich/image
        chown 23456:23456 mpich/usr/bin
    fi
    before=$(stat -c '%a %u %g' mpich/usr mpich/usr/bin mpich/usr/lib)
    for umask in 022 077; do
        (umask $umask && ../checkout/build-aux/install-mpich "$PWD/mpich/image" "$PWD/mpich/usr" "$PWD/mpich/usr/share/mpich-ivshmem")
        [ "$(stat -c '%a %u %g' mpich/usr mpich/usr/bin mpich/usr/lib)" = "$before" ]
        diff -r mpich/image/lib mpich/usr/lib
        [ "$(cat mpich/usr/bin/*)" = $'new\nother' ]
        [ "$(readlink mpich/usr/lib/libmpi.so.12)" = libmpi.so.12.2.2 ]
        [ "$(stat -c '%a %u' mpich/usr/bin/mpiexec mpich/usr/lib/pkgconfig/mpich.pc)" = "755 $(id -u)"$'\n'"644 $(id -u)" ]
        [ "$(stat -c %a mpich/usr/share/mpich-ivshmem/mpich-files)" = 644 ]
    done
    # What the new one lacks goes.
    rm mpich/image/lib/pkgconfig/mpich.pc
    ../checkout/build-aux/install-mpich "$PWD/mpich/image" "$PWD/mpich/usr" "$PWD/mpich/usr/share/mpich-ivshmem"
    [ ! -e mpich/usr/lib/pkgconfig/mpich.pc ]
    [ -e mpich/usr/bin/other ]
}

@test "only goals for developers install packages and configure, and make -n never does" {
    rm -rf fresh && mkdir -p fresh/build-aux && cp ../checkout/GNUmakefile fresh
    cd fresh
    # It does what bootstrap does, but for the installation.
    printf '#!/bin/sh\ntouch ran .bootstrapped\nprintf "all install check lint tags:\\n" >Makefile\n' >build-aux/bootstrap
    chmod +x build-aux/bootstrap
    touch build-aux/packages
    for goal in dist tags mpich '-n install' '-n check' '-kn demo' '-n lint'; do
        # shellcheck disable=SC2086
        run make $goal
        [[ $output == *"This tree is not configured"* ]]
        [ ! -e ran ]
    done
    run make dist
    [ "$status" -eq 2 ]
    make lint
    [ -e ran ]
    # Now configured, and the list of packages changes.
    rm ran
    touch -d 'next minute' build-aux/packages
    for goal in all install tags '-n install' '-n check' '-n -j2 lint'; do
        # shellcheck disable=SC2086
        make $goal
        [ ! -e ran ]
    done
    make check
    [ -e ran ]
}
