#!/usr/bin/env bats
# SPDX-License-Identifier: mpich2
#
# The build as a packager uses it: outside the source folder, from an archive, with flags, a prefix and DESTDIR,
# without root and without a network. MPICH itself is not built here.
#
# shellcheck disable=SC2016 # text for configure, make and other shells

bats_require_minimum_version 1.5.0

setup_file() {
    src=${IVSHM_SRC:-$(realpath "$BATS_TEST_DIRNAME/../..")}
    cd "$BATS_FILE_TMPDIR" || exit
    # The files of an archive. The checkout itself may be configured, and then cannot serve another build folder.
    mkdir checkout build
    tar -C "$src" -c --exclude=./.git --exclude=./obj --exclude=./inst --exclude=./logs --exclude=./cache --exclude='*.[oa]' --exclude='*.l[ao]' --exclude=.libs \
        --exclude=.deps --exclude=.dirstamp . |
        tar -C checkout -x
    (cd checkout && rm -f Makefile config.status .bootstrapped tools/ivshmem{,-server} libtool doc/*.[137] && autoreconf --install)
    unset MAKEFLAGS MAKELEVEL MFLAGS MPICH_IVSHMEM_CACHE
    (cd build && CFLAGS='-O1 -DOF_THE_PACKAGER' ../checkout/configure --without-mpich --prefix=/usr LDFLAGS=-Wl,-z,now)
    make -C build dist
    # Elsewhere the code itself does not matter.
    export CFLAGS=-O0
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
    grep -E ' -c ' output >compiled
    while read -r line; do
        [[ $line == *"-O1 -DOF_THE_PACKAGER"* && $line != *-Werror* ]] || { echo "$line"; return 1; }
    done <compiled
    # The fuzz targets, too. (libtool links without -D.)
    make -n fuzz-coverage unit-gcc >output.fuzz
    grep -q 'target_' output.fuzz
    run ! grep -e -Werror output.fuzz
    make -n fuzz-coverage WERROR=-Werror | grep -qe ' -Werror '
    while read -r line; do
        [[ $line == *"-Wl,-z,now"* || $line == *"-Wl,-z -Wl,now"* ]] || { echo "$line"; return 1; } # libtool splits it
    done < <(grep -E -- '-o tools/ivshmem(-server)? | -shared ' output)
    grep -q -- ' -shared ' output
}

@test "installs below DESTDIR and nowhere else, and uninstalls everything" {
    make install DESTDIR="$PWD/image"
    version=$(sed -n 's/^VERSION = //p' Makefile)
    for file in bin/ivshmem bin/ivshmem-server bin/ivshmem-graft bin/ivshmem-vms bin/ivshmem-bench lib/libivshmem-malloc.so share/man/man1/ivshmem.1 \
        lib/libivshmem.so.0 include/ivshmem.h lib/pkgconfig/ivshmem.pc share/man/man3/ivshmem_locks.3 \
        'lib/systemd/system/ivshmem-server@.service' 'lib/systemd/system/ivshmem-server@.socket' \
        lib/systemd/system/ivshmem-reap.service lib/udev/rules.d/70-ivshmem.rules \
        share/mpich-ivshmem/bench/profile.h share/mpich-ivshmem/bench/plots.gp share/man/man1/ivshmem-bench.1 \
        share/bash-completion/completions/ivshmem{,-vms} "share/modulefiles/mpich-ivshmem/$version" \
        share/mpich-ivshmem/netmod/ivshmem/core/sources.mk; do
        [ -e "image/usr/$file" ]
    done
    # Each function has its manual page.
    sed 's/ivshmem[a-z_]*(3)//g' image/usr/include/ivshmem.h | grep -oE '\bivshmem_[a-z_]+\(' | tr -d '(' | sort -u >functions
    [ "$(wc -l <functions)" -gt 20 ]
    while read -r name; do
        page=$(sed -n 's,^\.so man3/,image/usr/share/man/man3/,p' "image/usr/share/man/man3/$name.3")
        grep -q "${name//_/.*}" "$page"
    done <functions
    grep -q '^ExecStart=/usr/bin/ivshmem-server ' 'image/usr/lib/systemd/system/ivshmem-server@.service'
    grep -q '^ExecStart=/usr/bin/ivshmem reap --all$' image/usr/lib/systemd/system/ivshmem-reap.service
    diff -r ../checkout/kmod image/usr/share/mpich-ivshmem/kmod
    cmp <(image/usr/bin/ivshmem-graft --edits) <(../checkout/tools/ivshmem-graft --edits)
    cmp <(image/usr/bin/ivshmem-graft --list) <(../checkout/tools/ivshmem-graft --list)
    (cd image/usr/lib && ls libivshmem*) >libraries
    diff libraries <(printf 'libivshmem-malloc.so%s\n' '' .0 .0.0.0 && printf 'libivshmem.so%s\n' '' .0 .0.0.0)
    # What pkg-config tells is right wherever the installation has been moved.
    mv image/usr image/moved
    [ "$(realpath "$(PKG_CONFIG_PATH=image/moved/lib/pkgconfig pkg-config --variable=libdir ivshmem)")" = "$PWD/image/moved/lib" ]
    [ "$(realpath "$(PKG_CONFIG_PATH=image/moved/lib/pkgconfig pkg-config --variable=includedir ivshmem)")" = "$PWD/image/moved/include" ]
    mv image/moved image/usr
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
    [ -x debian/rules ]
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

@test "takes the directories of distributions, and refuses those that are not below the prefix" {
    rm -rf debian && mkdir debian
    (cd debian && ../../checkout/configure --without-mpich --build=x86_64-linux-gnu --prefix=/usr --includedir='${prefix}/include' \
        --mandir='${prefix}/share/man' --infodir='${prefix}/share/info' --sysconfdir=/etc --localstatedir=/var \
        --disable-option-checking --disable-silent-rules --libdir='${prefix}/lib/x86_64-linux-gnu' --runstatedir=/run \
        --disable-maintainer-mode --disable-dependency-tracking && make install DESTDIR="$PWD/image")
    lib=$PWD/debian/image/usr/lib/x86_64-linux-gnu
    [ -e "$lib/libivshmem-malloc.so.0" ]
    touch "$lib/libmpi.so.12"
    run env -u LD_LIBRARY_PATH -u LD_PRELOAD debian/image/usr/bin/ivshmem-env --malloc sh -c 'echo "$LD_LIBRARY_PATH $LD_PRELOAD"'
    [ "$output" = "$lib $lib/libivshmem-malloc.so.0" ]
    grep -qF 'lib=lib/x86_64-linux-gnu' debian/image/usr/bin/ivshmem-which
    grep -qxF 'set bin bin; set lib lib/x86_64-linux-gnu; set share share' debian/image/usr/share/modulefiles/mpich-ivshmem/*

    rm -rf fedora && mkdir fedora
    (cd fedora && ../../checkout/configure --without-mpich --prefix=/usr --exec-prefix=/usr/lib64/mpich --bindir=/usr/lib64/mpich/bin \
        --sbindir=/usr/lib64/mpich/bin --libdir=/usr/lib64/mpich/lib --includedir=/usr/include/mpich-x86_64 \
        --datadir=/usr/share/mpich --mandir=/usr/share/man/mpich-x86_64 && make install DESTDIR="$PWD/image")
    touch fedora/image/usr/lib64/mpich/lib/libmpi.so.12
    run env -u MANPATH fedora/image/usr/lib64/mpich/bin/ivshmem-env sh -c 'echo "$MANPATH"'
    [ "$output" = "$PWD/fedora/image/usr/share/man/mpich-x86_64:" ]
    cmp <(fedora/image/usr/lib64/mpich/bin/ivshmem-graft --edits) <(../checkout/tools/ivshmem-graft --edits)
    [[ $(fedora/image/usr/lib64/mpich/bin/ivshmem-vms --help) == *"usage: ivshmem-vms"* ]]
    [[ $(fedora/image/usr/lib64/mpich/bin/ivshmem-bench --help) == *"usage: ivshmem-bench"* ]]

    # ivshmem-vms takes what is MPICH's from a prefix that it shares, by the list in the data directory.
    rm -rf shared && mkdir -p shared/mpich/bin
    touch shared/mpich/bin/{mpiexec,hydra_pmi_proxy} && chmod +x shared/mpich/bin/*
    (cd shared && ../../checkout/configure --without-mpich --prefix="$PWD/usr" --datadir="$PWD/usr/other/share" && make install &&
        make install DESTDIR="$PWD/image")
    for usr in "$PWD/shared/usr" "$PWD/shared/image$PWD/shared/usr"; do
        [[ $("$usr/bin/ivshmem-vms" --help) == *"usage: ivshmem-vms"* ]]
        ../checkout/build-aux/install-mpich "$PWD/shared/mpich" "$usr" "$usr/other/share/mpich-ivshmem"
        run -0 env PYTHONPATH="$usr/other/share/mpich-ivshmem" /usr/bin/python3 -c 'import sys; from vms import options
options.is_shared = lambda _: True
print(*options.own_files(options.find_prefix("", sys.argv[1])))' "$usr/bin"
        [[ $output == *"$usr/bin/mpiexec"* && $output == *"$usr/bin/ivshmem-which"* && $output != *ivshmem-vms* ]]
    done

    for option in --libdir=/usr/lib64 --bindir=/usr/bin '--libdir=${prefix}/../lib' --includedir=/usr/local --exec-prefix=/opt; do
        run ../checkout/configure "$option"
        [ "$status" -eq 1 ]
        [[ $output == *" is not below the prefix, but must be: "* ]]
    done
}

@test "an installation of MPICH can be moved, wherever its libraries are" {
    prefix=/opt/mpich-ivshmem
    eval "$(sed -n '/^relative() /p; /^relocatable() {/,/^}/p; /^debian_names() {/,/^}/p' ../checkout/build-aux/mpich)"
    for place in 'bin lib' 'bin lib/x86_64-linux-gnu' 'lib64/mpich/bin lib64'; do
        read -r bin lib <<<"$place"
        rm -rf stage moved && mkdir -p "stage/$bin" "stage/$lib/pkgconfig"
        echo 'int f(void) { return 0; }' | gcc -shared -fPIC -Wl,-soname,libmpi.so.12 -o "stage/$lib/libmpi.so.12" -xc -
        echo 'int f(void); int g(void) { return f(); }' |
            gcc -shared -fPIC -o "stage/$lib/libmpifort.so.12" -xc - -L"stage/$lib" -l:libmpi.so.12 -Wl,-rpath,"$prefix/$lib"
        echo 'int g(void); int main(void) { return g(); }' |
            gcc -o "stage/$bin/mpiexec" -xc - -L"stage/$lib" -l:libmpifort.so.12 -Wl,-rpath-link,"stage/$lib" -Wl,-rpath,"$prefix/$lib"
        printf '#!/bin/bash\nprefix=%s\nlibdir=%s\necho "$prefix $libdir"\n' "$prefix" "$prefix/$lib" >"stage/$bin/mpicc"
        chmod +x "stage/$bin/mpicc"
        printf 'prefix=%s\nlibdir=${prefix}/%s\nName: mpich\nDescription: -\nVersion: 1\nLibs: -L${libdir}\n' $prefix "$lib" \
            >"stage/$lib/pkgconfig/mpich.pc"
        relocatable stage
        debian_names stage
        [ -e "stage/$lib/libmpich.so.12" ]
        mv stage moved
        env -u LD_LIBRARY_PATH "moved/$bin/mpiexec"
        ln -s "moved/$bin/mpicc" link
        [ "$(./link)" = "$PWD/moved $PWD/moved/$lib" ]
        rm link
        [ "$(realpath "$(PKG_CONFIG_PATH="moved/$lib/pkgconfig" pkg-config --variable=libdir mpich)")" = "$PWD/moved/$lib" ]
    done
}

@test "configure's compilers and flags are used for MPICH, too" {
    rm -rf flags && mkdir flags && cd flags
    CC=clang CXXFLAGS=-O3 MPICHLIB_FCFLAGS=-O0 CPP=/lib/cpp env -u CFLAGS \
        ../../checkout/configure FC=gfortran-12 FCFLAGS=-O3 LDFLAGS=-Wl,-z,now MPICHLIB_CPPFLAGS=-DX --without-mpich
    make -pn | grep '^MPICH_TOOLCHAIN = ' >toolchain
    # LDFLAGS, of which MPICH knows nothing by such a name, goes with the others.
    for word in "CC='clang'" "FC='gfortran-12'" "CPP='/lib/cpp'" "'MPICHLIB_CPPFLAGS=-DX'" "'MPICHLIB_CXXFLAGS=-O3 -Wl,-z,now'" \
        "'MPICHLIB_CFLAGS=-O2 -Wl,-z,now'" "'MPICHLIB_FCFLAGS=-O0 -Wl,-z,now'"; do
        grep -F -- "$word" toolchain
    done
}

# Of a make in tree, called as MPICH's is.
inner() { # ARGUMENT... of the outer make
    mkdir -p outer/tree
    cat >outer/Makefile <<END
all:
	+@bash -c '. "$BATS_FILE_TMPDIR/checkout/build-aux/common.sh"; make_mpich tree'
END
    printf 'all:\n\t@echo "flags:$(MAKEFLAGS): V=$(V) DESTDIR=$(origin DESTDIR)"\n' >outer/tree/Makefile
    make -C outer --no-print-directory "$@" 2>&1
}

@test "MPICH's make takes -j and V from ours, and shares its jobs" {
    unset V JOBS
    [[ $(inner DESTDIR=/x) == *"flags:"*"-j$(nproc) "*" V=0 DESTDIR=environment"* ]]
    [[ $(JOBS=7 inner) == *" -j7 "* ]]
    [[ $(inner -j1) == *"flags:"*"-j1 "* ]]
    run inner -j3 V=1
    [[ $output == *"-j3 --jobserver-auth="*" V=1 "* && $output != *warning* ]]
}

@test "V=1 shows MPICH's build, and its failure is one" {
    run env V=1 bash -c '. ../checkout/build-aux/common.sh; step NAME ./step.log sh -c "echo from the step; exit 3"'
    [ "$status" -eq 3 ]
    [[ $output == *"from the step"*"NAME: failed with exit status 3"* ]]
    grep -q "from the step" step.log
    run env -u V bash -c '. ../checkout/build-aux/common.sh; step NAME ./step.log echo from the step'
    [ "$status" -eq 0 ]
    [[ $output != *"from the step"* ]]
    rm -rf dry && mkdir dry && cd dry
    ../../checkout/configure --disable-silent-rules
    make -n >output
    grep -q ' V=1 .*/build-aux/mpich system' output
    [ ! -e cache ] # nothing ran
}

@test "a build of MPICH that was killed is begun anew, and one that failed is continued" {
    rm -rf marked && mkdir marked && cd marked
    making() { # COMMAND that the inner make runs
        run env -u V bash -euc '. ../../checkout/build-aux/common.sh; command=$1
            run_make() { echo "make $*" >>made; [ "${1-}" = clean ] || eval "$command"; }
            make_marked marker NAME ./log' - "$1"
    }
    making false
    [ "$status" -eq 1 ]
    [ ! -e marker ]
    making 'kill -KILL $$'
    [ "$status" -eq 137 ]
    [ -e marker ]
    making true
    [ "$status" -eq 0 ]
    [ ! -e marker ]
    diff made <(printf 'make %s\n' '' '' clean '')
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
    rm -rf fresh && mkdir -p fresh/build-aux && cp ../checkout/GNUmakefile ../checkout/configure.ac fresh
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

@test "MPICH=FILE and UNTRIED=yes configure again if they differ, but not for check-release" {
    rm -rf given && mkdir -p given/build-aux && cp ../checkout/GNUmakefile ../checkout/configure.ac given
    cd given
    touch build-aux/packages
    cat >build-aux/bootstrap <<'END'
#!/bin/bash
echo "${MPICH-},${UNTRIED-}" >>ran
[ ! "${MPICH-}${UNTRIED-}" ] || echo "${MPICH-} ${UNTRIED-}" >.bootstrapped
touch .bootstrapped
printf 'all install stage check check-release:\n' >Makefile
END
    chmod +x build-aux/bootstrap
    make check-release MPICH=first UNTRIED=yes
    make stage
    make stage MPICH=second
    make check MPICH=second
    make check
    make install MPICH=third
    make check-release MPICH=third
    make stage UNTRIED=yes
    make -n stage MPICH=third
    diff ran - <<<$',\nsecond,\n,yes'
}
