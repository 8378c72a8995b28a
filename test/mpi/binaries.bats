#!/usr/bin/env bats
# SPDX-License-Identifier: mpich2
# The suites and mpi.bash share variables and functions.
# shellcheck disable=SC2154,SC2034
#
# Programs that were built with Debian's MPICH run with this installation, unchanged: ivshmem-env, ivshmem-which, the
# names of the libraries, and the common binary interface that makes this possible.

load mpi

debian=/usr/lib/$(gcc -print-multiarch 2>/dev/null)
needed=(mpicc.mpich mpicxx.mpich mpifort.mpich mpiexec.mpich NPmpich2)

setup_file() {
    command -v "${needed[@]}" >/dev/null || return 0 # each test reports that
    cd "$BATS_TEST_DIRNAME" || return
    mkdir "$BATS_FILE_TMPDIR/bin"
    mpicc.mpich -O2 -o "$BATS_FILE_TMPDIR/bin/c" coll.c
    mpicxx.mpich -O2 -o "$BATS_FILE_TMPDIR/bin/cxx" hello.cxx
    mpicxx.mpich -O2 -o "$BATS_FILE_TMPDIR/bin/bindings" hello_bindings.cxx
    mpifort.mpich -O2 -o "$BATS_FILE_TMPDIR/bin/f77" hello.f
    cd "$BATS_FILE_TMPDIR" || return # compilers leave modules
    mpifort.mpich -O2 -o bin/f90 "$BATS_TEST_DIRNAME/hello_mpi.f90"
    mpifort.mpich -O2 -o bin/f08 "$BATS_TEST_DIRNAME/hello.f90"
}

setup() {
    for tool in "${needed[@]}"; do
        command -v "$tool" >/dev/null || skip "no $tool: packages mpich, libmpich-dev, netpipe-mpich2"
    done
    unset LD_LIBRARY_PATH
    bin=$BATS_FILE_TMPDIR/bin
    cd "$BATS_TEST_TMPDIR" || return
    use_region 32M
}

teardown() { at_end; }

# which STATUS PATTERN ARG...: ivshmem-which ends with this status and prints this.
which() {
    run ivshmem-which "${@:3}"
    echo "$output"
    [[ $status -eq $1 && $output == *$2* ]] || { echo "expected status $1 and: $2"; return 1; }
}

# needs_library fort|cxx: MPICH can be built without them.
needs_library() { [ -e "$libdir/libmpi$1.so" ] || skip "MPICH was built without libmpi$1"; }

# debian_built PROGRAM: is linked to Debian's library, and passes with ours.
debian_built() {
    which 1 "libmpich.so.12: $debian/libmpich.so.12*, an MPICH without ivshmem" "$1"
    eval "$(ivshmem-env)"
    # Fortran programs get the library through libmpichfort, which calls it libmpi.
    which 0 "libmpi*.so.*: $(realpath "$libdir")/libmpi.so.*, of this installation" "$1"
    passes_both 3 "$1"
}

@test "Debian's MPICH: a C program built by mpicc" { debian_built "$bin/c"; }

@test "Debian's MPICH: a C++ program built by mpicxx" { debian_built "$bin/cxx"; }

@test "Debian's MPICH: a C++ program with MPI's C++ bindings" {
    needs_library cxx
    debian_built "$bin/bindings"
    ldd "$bin/bindings" | grep -F "libmpichcxx.so.12 => $IVSHM_INST"
}

@test "Debian's MPICH: a Fortran program with mpif.h" { needs_library fort && debian_built "$bin/f77"; }

@test "Debian's MPICH: a Fortran program with use mpi" { needs_library fort && debian_built "$bin/f90"; }

@test "Debian's MPICH: a Fortran program with mpi_f08" {
    needs_library fort
    debian_built "$bin/f08"
    ldd "$bin/f08" | grep -F "libmpichfort.so.12 => $IVSHM_INST"
}

@test "Debian's MPICH: NetPIPE as packaged" {
    eval "$(ivshmem-env)"
    which 0 "$(realpath "$libdir")/libmpi.so.*, of this installation" NPmpich2
    all_remote
    mpi job -n 2 NPmpich2 -i -u 300000 -o /dev/null || { say job; return 1; }
    # NetPIPE checks what comes back, but prints no line that says that all is well.
    [ "$(grep -c 'Integrity check passed' "$BATS_TEST_TMPDIR/job.err")" -ge 30 ] || { say job; return 1; }
    ! grep -i 'integrity check failed' "$BATS_TEST_TMPDIR/job.err" || return 1
    echo "No errors" >>"$BATS_TEST_TMPDIR/job.out"
    good job 2
    empty
}

@test "without ivshmem-env the same program uses Debian's library, and nothing goes through the region" {
    all_remote
    status=0
    timeout --foreground -k 5 240 mpiexec.mpich -n 2 "$bin/cxx" >job.out 2>job.err 3>&- || status=$?
    [ "$status" -eq 0 ] || { say job; return 1; }
    grep -x "No errors" job.out
    run good job 2
    [[ $status -ne 0 && $output == *" ranks printed their counters, expected 2"* ]]
}

# a_process: starts a job that continues; the pid of its first process is in $process.
a_process() {
    launch job -n 2 sh -c 'echo $$ >>pids; exec NPmpich2 -l 1 -u 1 -n 100000000 -o /dev/null'
    until_true grep -qs . pids
    read -r process <pids
}

@test "ivshmem-which --pid names the region of a process that uses this installation" {
    eval "$(ivshmem-env)"
    a_process
    until_true ivshmem-which --pid "$process"
    which 0 "/libmpi.so.*, of this installation*region: /dev/shm/ivshm-test.* (deleted)" --pid "$process"
}

@test "ivshmem-which --pid reports no region for a process over tcp" {
    export MPIR_CVAR_NEMESIS_NETMOD=tcp
    eval "$(ivshmem-env)"
    a_process
    until_true grep -qs libmpi "/proc/$process/maps"
    sleep 0.5
    which 1 ", of this installation*has no region" --pid "$process"
}

@test "ivshmem-which --pid recognises a process with Debian's library" {
    mkdir debian
    # shellcheck disable=SC2016
    echo 'exec mpiexec.mpich "$@"' | install -m 755 /dev/stdin debian/mpiexec
    PATH=$PWD/debian:$PATH
    a_process
    until_true grep -qs libmpich "/proc/$process/maps"
    which 1 "$debian/libmpich.so.12*, an MPICH without ivshmem" --pid "$process"
}

@test "ivshmem-which under mpiexec answers for each rank's machine" {
    eval "$(ivshmem-env)"
    run mpiexec -n 2 ivshmem-which NPmpich2
    echo "$output"
    [ "$status" -eq 0 ]
    [ "$(grep -c 'of this installation' <<<"$output")" -eq 2 ]
}

@test "ivshmem-which recognises programs that ivshmem-env cannot help" {
    echo 'int MPIX_Later(void) { return 0; } int ompi_mpi_comm_world;' >stub.c
    echo 'int MPIX_Later(void); int main(void) { return MPIX_Later(); }' >main.c
    echo 'extern int ompi_mpi_comm_world; int main(void) { return ompi_mpi_comm_world; }' >open.c
    for name in libmpich.so.12:main libmpi.so.40:open libmpi.so.12:open libmpi_abi.so.0:main; do
        gcc -shared -fPIC -Wl,-soname,"${name%:*}" -o "${name%:*}" stub.c
        gcc -o "for-${name%:*}" "${name#*:}.c" "./${name%:*}"
    done
    which 1 "libmpi.so.40: *whose binary interface is not MPICH's" ./for-libmpi.so.40
    LD_LIBRARY_PATH=. which 1 "libmpi.so.40, Open MPI*whose binary interface is not MPICH's" ./for-libmpi.so.40
    if [ ! -e "$libdir/libmpi_abi.so.0" ]; then
        which 1 "standard ABI of MPI 5, for which this installation has no library" ./for-libmpi_abi.so.0
    fi

    gcc -I/usr/include/"${debian##*/}"/mpich -c -o hello.o -xc - <<<'
        #include <mpi.h>
        int main(int argc, char **argv) { MPI_Init(&argc, &argv); return MPI_Finalize(); }'
    gcc -o has-rpath hello.o -L"$debian" -lmpich -Wl,--disable-new-dtags,-rpath,"$debian"
    gcc -o has-runpath hello.o -L"$debian" -lmpich -Wl,--enable-new-dtags,-rpath,"$debian"
    gcc -o has-mpi hello.o "$debian/libmpich.a" -lhwloc -lucp -lucs -lm
    gcc -static -o static -xc - <<<'int main(void) { return 0; }'
    printf '#!/bin/sh\n./has-mpi\n' >script
    # Both are MPI libraries, with different names and from different folders.
    gcc -shared -fPIC -o libpart.so -xc - -L"$libdir" -lmpi -Wl,-rpath,"$libdir" \
        <<<'int MPI_Init(int *, char ***); int part(void) { return MPI_Init(0, 0); }'
    gcc -o mixed hello.o -Wl,--no-as-needed ./libpart.so -L"$debian" -lmpich

    which 1 "ivshmem-env mpiexec" ./mixed
    which 1 "ivshmem-env mpiexec" ./has-runpath
    eval "$(ivshmem-env)"
    which 0 "of this installation" ./mixed
    which 0 "of this installation" ./has-runpath
    which 1 "no library defines these symbols: MPIX_Later" ./for-libmpich.so.12
    which 1 "whose binary interface is not MPICH's" ./for-libmpi.so.12 # as old Open MPI called its library, too
    which 1 "without ivshmem*patchelf --remove-rpath" ./has-rpath
    patchelf --remove-rpath has-rpath
    which 0 "of this installation" ./has-rpath
    which 1 "an MPICH without ivshmem is linked into it" ./has-mpi
    which 1 "is statically linked" ./static
    which 1 "is a script" ./script
    which 1 "is not a program" main.c
    which 1 "is not linked to an MPI library" ls
    which 2 "no such program" ./nothing
    which 2 "not a process ID" --pid abc
    which 2 "one program is expected"
}

@test "ivshmem-env puts its folders first in each list, once, relative to its own location" {
    copy="$PWD/a copy's"
    mkdir -p "$copy/bin" "$copy/lib"
    cp "$IVSHM_SRC/tools/ivshmem-env" "$copy/bin"
    touch "$copy/lib/libmpi.so.12"
    ln -s "$copy/bin/ivshmem-env" link
    # shellcheck disable=SC2016
    show='echo "$PATH"; echo "$LD_LIBRARY_PATH"; echo "$MANPATH"'
    for shell in dash bash; do
        run env -u MANPATH -u LD_LIBRARY_PATH PATH=/usr/bin:/bin ./link $shell -c "eval \"\$(ivshmem-env)\"; $show"
        [ "$output" = "$copy/bin:/usr/bin:/bin"$'\n'"$copy/lib"$'\n'"$copy/share/man:" ] || { echo "$output"; return 1; }
        run env MANPATH=/m LD_LIBRARY_PATH=/l PATH=/usr/bin:/bin $shell -c "eval \"\$(./link)\"; eval \"\$(./link)\"; $show"
        [ "$output" = "$copy/bin:/usr/bin:/bin"$'\n'"$copy/lib:/l"$'\n'"$copy/share/man:/m" ] || { echo "$output"; return 1; }
    done
    run ./link sh -c 'exit 7'
    [ "$status" -eq 7 ]
    rm "$copy/lib/libmpi.so.12"
    run ./link true
    [[ $status -eq 1 && $output == *"no lib/libmpi.so.12 in $copy"* ]]
}

# Others add and remove names.
of_debians_release() {
    [[ $(mpichversion) == *"$("$(dirname "$(command -v mpicc.mpich)")/mpichversion" | grep '^MPICH Version:')"* ]] || skip "not the release of Debian's MPICH"
}

names() { nm -D --defined-only "$1" | awk '{ print $NF }' | sort -u; }

@test "our libraries export all symbols of Debian's" {
    of_debians_release
    for name in '' fort cxx; do
        names "$debian/libmpich$name.so.12" >theirs
        names "$libdir/libmpich$name.so.12" >ours
        [ "$(wc -l <theirs)" -gt 500 ]
        run comm -23 theirs ours
        [ -z "$output" ] || { echo "not in ours: $output"; return 1; }
    done
}

# Compared with the version of MPICH that Debian has, whatever the order of the lines.
@test "our constants and types are those of Debian's" {
    of_debians_release
    include=/usr/include/${debian##*/}/mpich
    for header in mpi.h mpio.h mpif.h; do
        [ "$(wc -l <"$include/$header")" -gt 100 ]
        run comm -23 <(sort "$include/$header") <(sort "$IVSHM_INST/include/$header")
        [ -z "$output" ] || { echo "$header: $output"; return 1; }
    done
}

@test "our compiler wrappers link neither Debian's libraries nor Debian's library names" {
    needs_library fort
    echo 'end' >empty.f90
    mpifort -o linked empty.f90 -Wl,--no-as-needed -lmpichfort -lmpich
    run patchelf --print-needed linked
    echo "$output"
    for name in libmpifort libmpi; do
        grep -qFx "$(patchelf --print-soname "$libdir/$name.so")" <<<"$output"
    done
    [[ $output != *libmpich* ]]
}
