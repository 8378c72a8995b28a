#!/usr/bin/env bats
# SPDX-License-Identifier: mpich2
# The suites and mpi.bash share variables and functions.
# shellcheck disable=SC2154
#
# libivshmem-malloc, which allocates the large blocks of unchanged programs in the region.

load mpi

setup() {
    use_region 32M
    all_remote
    malloc=(ivshmem-env --malloc "$programs/malloc")
}

teardown() { at_end; }

@test "blocks from every allocation function, and messages between them, copied once" {
    passes 2 "${malloc[@]}" kinds
    [ "$(counted job single_copy)" -gt 300 ]
}

@test "a cooperative copy: a sender helps a receiver that makes no progress" {
    passes 2 "${malloc[@]}" together
    [ "$(counted job coop)" -eq 1 ]
}

@test "blocks that are allocated, moved and freed keep their contents" { passes 2 "${malloc[@]}" changes; }

@test "a block that grows does not go back and forth between the region and the C library" { passes 2 "${malloc[@]}" grows; }

@test "a large block that is freed and allocated again is not zeroed each time, but is freed in the end" {
    use_region 128M
    passes 2 "${malloc[@]}" scratch
}

@test "other threads use malloc while one thread sends" { passes 2 "${malloc[@]}" threads; }

@test "a fork while other threads hold locks of streams and use malloc" { passes 2 "${malloc[@]}" streams; }

@test "a child of fork has memory of its own" { passes 2 "${malloc[@]}" forks; }

@test "a fork and MPI_Finalize on a stack that is a block" { passes 2 "${malloc[@]}" stacks; }

# in_both CASE [ARGUMENT]: with memory from malloc and MPI_Alloc_mem, and from MPI_Alloc_mem only.
in_both() {
    passes 2 "${malloc[@]}" "$@"
    ANOTHER_MALLOC=1 passes 2 "$programs/malloc" "$@"
}

@test "a thread that is cancelled while it forks does not block others" { in_both cancelled; }

@test "a fork in a signal handler that interrupts malloc" { in_both interrupted; }

@test "children created by clone, without fork handlers" {
    use_region 128M # for large blocks, too
    in_both strangers
}

@test "a peer erases what the region's map says of this rank's memory" {
    in_both wiped "$(ivshmem info --json "$region" | jq -r '.geometry | "\(.blocks) \(.block_map)"')"
}

@test "fork handlers that use malloc, and blocks" { passes 2 "${malloc[@]}" handlers; }

@test "a child that outlives its job does no harm to the next one" {
    for program in "$programs/malloc" "ivshmem-env --malloc $programs/malloc"; do
        rm -rf "$BATS_TEST_TMPDIR/folder"
        mkdir "$BATS_TEST_TMPDIR/folder"
        # shellcheck disable=SC2086
        passes 2 $program orphan "$BATS_TEST_TMPDIR/folder"
        # shellcheck disable=SC2086
        passes 2 $program heir "$BATS_TEST_TMPDIR/folder"
        [ "$(counted job single_copy)" -gt 0 ]
    done
}

@test "impossible requests, errno, and blocks that grow" {
    use_region 128M # in which a block can grow, whatever the other rank has
    passes 2 "${malloc[@]}" limits
}

@test "a fork and MPI_Finalize with thousands of blocks need only a few mappings" {
    use_region 512M
    passes 2 "${malloc[@]}" many
    [ "$(counted job single_copy)" -gt 0 ]
}

@test "a fork and MPI_Finalize where the kernel allows no further mapping" {
    passes 2 "${malloc[@]}" tight
    [ "$(counted job single_copy)" -gt 0 ]
}

@test "a fork where the blocks use nearly all memory that is allowed" {
    use_region 512M
    passes 2 "${malloc[@]}" scarce
    [ "$(counted job single_copy)" -gt 0 ]
}

@test "with a limit on data or address space, malloc does not use the region" {
    local option
    for option in -d -v; do
        # shellcheck disable=SC2016
        ANOTHER_MALLOC=1 passes 2 sh -c 'ulimit "$0" 8000000 && exec "$@"' "$option" "${malloc[@]}" served
        [ "$(counted job single_copy)" -eq 0 ]
    done
}

@test "new blocks hold no data of other processes" {
    use_region 64M
    mpi dirt -n 1 "${malloc[@]}" dirt || { say dirt; false; }
    empty
    passes 2 "${malloc[@]}" clean
    mpi dirt -n 1 "${malloc[@]}" dirt || { say dirt; false; }
    ANOTHER_MALLOC=1 passes 2 "$programs/malloc" clean
}

@test "madvise: MADV_DONTNEED and others zero pages of blocks" { passes 2 "${malloc[@]}" advice; }

@test "pages of blocks that mprotect has made inaccessible" { passes 2 "${malloc[@]}" guards; }

@test "pages of blocks that pkey_mprotect has made inaccessible" { passes 2 "${malloc[@]}" keys; }

@test "freed blocks are no longer locked in memory" { passes 2 "${malloc[@]}" locked; }

@test "nothing that a thread writes during MPI_Finalize is lost" { passes 2 "${malloc[@]}" writers; }

@test "a full region: malloc uses its own memory, and others can still join" {
    passes 2 "${malloc[@]}" full
    reclaimed
}

@test "a cooperative copy does not wait for a sender that never helps" { passes 2 "${malloc[@]}" alone; }

@test "a window in memory from malloc is shared" {
    passes 2 "${malloc[@]}" window
    [ "$(counted job windows)" -eq 2 ]
}

@test "memory from malloc stays valid after MPI_Finalize, whatever becomes of the region" {
    mpi job -n 2 "${malloc[@]}" finalize || { say job; false; }
    # mpiexec may break lines differently.
    [ "$(grep -o "done" "$BATS_TEST_TMPDIR/job.out" | wc -l)" -eq 2 ] || { say job; false; }
}

@test "memory from malloc stays valid if the region's file is truncated after MPI_Finalize" {
    mpi job -n 2 "${malloc[@]}" cut "$BATS_TEST_TMPDIR" || { say job; false; }
    [ "$(grep -o "done" "$BATS_TEST_TMPDIR/job.out" | wc -l)" -eq 2 ] || { say job; false; }
}

@test "MPIR_CVAR_NEMESIS_IVSHMEM_USER_MEMORY=0, or no region" {
    export MPIR_CVAR_NEMESIS_IVSHMEM_USER_MEMORY=0
    mpi job -n 2 "${malloc[@]}" changes || { say job; false; }
    [ "$(counted job single_copy)" -eq 0 ]
    unset "${!MPIR_CVAR_NEMESIS_IVSHMEM_@}"
    mpi job -n 2 "${malloc[@]}" changes || { say job; false; }
}

@test "freeing a pointer that was not allocated is an error" {
    ! mpi job -n 2 "${malloc[@]}" wrong || { say job; false; }
    grep -qF 'free(): invalid pointer' "$BATS_TEST_TMPDIR/job.err"
}

@test "a killed rank's blocks are reclaimed" {
    ! mpi job -n 2 "${malloc[@]}" killed || { say job; false; }
    [ "$(ivshmem info --json "$region" | jq .usage.user_blocks)" -gt 0 ] || { ivshmem info "$region"; false; }
    reclaimed
}

@test "programs of all kinds" {
    use_region 128M
    export MPIR_CVAR_NEMESIS_IVSHMEM_EAGER_LIMIT=32768 # the limit by which they count their messages
    for program in coll types; do
        passes 4 ivshmem-env --malloc "$programs/$program"
    done
    unset MPIR_CVAR_NEMESIS_IVSHMEM_EAGER_LIMIT
    passes 4 ivshmem-env --malloc "$programs/memory"
    [ "$(counted job single_copy)" -gt 100 ] || { say job; false; }
}

@test "programs without MPI" {
    [ "$(ivshmem-env --malloc sh -c 'ls / >/dev/null && echo 2')" = 2 ]
    [ "$(ivshmem-env --malloc awk 'BEGIN { s = "x"; while (length(s) < 1e6) s = s s; print length(s) }')" = 1048576 ]
    [ "$(ivshmem-env --malloc busybox echo 3)" = 3 ] # statically linked
}

@test "ivshmem-env --malloc preloads the library once, and only if it exists" {
    lib=$libdir/libivshmem-malloc.so.0
    # shellcheck disable=SC2016
    run env -u LD_PRELOAD "$IVSHM_INST/bin/ivshmem-env" --malloc sh -c 'eval "$(ivshmem-env --malloc)"; echo "$LD_PRELOAD"'
    [ "$output" = "$lib" ] || { echo "$output"; false; }
    mkdir -p "$BATS_TEST_TMPDIR/a b/bin" "$BATS_TEST_TMPDIR/a b/lib"
    cp "$IVSHM_SRC/tools/ivshmem-env" "$BATS_TEST_TMPDIR/a b/bin"
    touch "$BATS_TEST_TMPDIR/a b/lib/libmpi.so.12"
    run "$BATS_TEST_TMPDIR/a b/bin/ivshmem-env" --malloc true
    [[ $status -eq 1 && $output == *"has a space"* ]]
    mv "$BATS_TEST_TMPDIR/a b" "$BATS_TEST_TMPDIR/ab"
    run "$BATS_TEST_TMPDIR/ab/bin/ivshmem-env" --malloc true
    [[ $status -eq 1 && $output == *"no lib/libivshmem-malloc.so"* ]]
}

# build NAME ARG...: the program, compiled and linked with these arguments.
build() {
    # Sanitizers hide from the compiler what it needs for this warning.
    mpicc -O1 -g -Wno-format-truncation "${@:2}" -o "$BATS_TEST_TMPDIR/$1" "$BATS_TEST_DIRNAME/malloc.c"
}

# works COMMAND...: run by this command, the program does what it does without the library; its blocks are in the
# region.
works() {
    local what
    use_region 128M # in which a block can grow, whatever the other rank has
    for what in limits changes served orphan heir; do
        rm -f "$BATS_TEST_TMPDIR"/done?
        [ $what = heir ] || rm -f "$BATS_TEST_TMPDIR/go"
        # Other mallocs refuse in other ways.
        [ $what != limits ] || [ -z "${ANOTHER_MALLOC:-}" ] || continue
        passes 2 "$@" $what "$BATS_TEST_TMPDIR"
    done
}

# works_with_another COMMAND...: the same, but its blocks are not in the region.
works_with_another() {
    export ANOTHER_MALLOC=1 ASAN_OPTIONS=detect_leaks=0 TSAN_OPTIONS=report_bugs=0
    works "$@"
}

# linked_to LIBRARY: the program works when it is linked to it, or runs with it preloaded.
linked_to() {
    local file
    file=$(gcc -print-file-name="lib$1.so")
    [ -e "$file" ] || skip "there is no lib$1.so: build-aux/packages"
    build linked -Wl,--no-as-needed "-l$1"
    works_with_another ivshmem-env --malloc "$BATS_TEST_TMPDIR/linked"
    LD_PRELOAD=$file works_with_another ivshmem-env --malloc "$programs/malloc"
}

@test "another malloc: jemalloc" { linked_to jemalloc; }

@test "another malloc: tcmalloc" { linked_to tcmalloc; }

@test "another malloc: mimalloc" { linked_to mimalloc; }

@test "another malloc: the program's own, whole or in part" {
    local file
    file=$(gcc -print-file-name=libjemalloc.a)
    [ -e "$file" ] || skip "there is no libjemalloc.a: build-aux/packages"
    build own -Wl,--whole-archive "$file" -Wl,--no-whole-archive -lm -lstdc++ -pthread
    works_with_another ivshmem-env --malloc "$BATS_TEST_TMPDIR/own"
    cat >"$BATS_TEST_TMPDIR/part.c" <<'END'
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stddef.h>
size_t malloc_usable_size(void *start)
{
    return ((size_t(*)(void *)) dlsym(RTLD_NEXT, "malloc_usable_size"))(start);
}
END
    build part "$BATS_TEST_TMPDIR/part.c"
    works_with_another ivshmem-env --malloc "$BATS_TEST_TMPDIR/part"
}

@test "another malloc: sanitizers" {
    build asan -fsanitize=address
    works_with_another ivshmem-env --malloc "$BATS_TEST_TMPDIR/asan"
    build tsan -fsanitize=thread
    works_with_another ivshmem-env --malloc "$BATS_TEST_TMPDIR/tsan"
    MPICH_CC=clang build clang -fsanitize=address
    works_with_another ivshmem-env --malloc "$BATS_TEST_TMPDIR/clang"
}

@test "fork handlers that a library registers before anything else runs" {
    cat >"$BATS_TEST_TMPDIR/early.c" <<'END'
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
static void handle(void)
{
    static char *kept;
    free(kept);
    kept = malloc(300000);
    memset(kept, 1, 300000);
}
__attribute__((constructor)) static void begin(void)
{
    pthread_atfork(handle, handle, handle);
}
END
    gcc -shared -fPIC -o "$BATS_TEST_TMPDIR/early.so" "$BATS_TEST_TMPDIR/early.c"
    build early -Wl,--no-as-needed "$BATS_TEST_TMPDIR/early.so"
    for what in forks threads; do
        passes 2 ivshmem-env --malloc "$BATS_TEST_TMPDIR/early" $what
    done
}

@test "a plugin that uses MPI, and is unloaded again" {
    cat >"$BATS_TEST_TMPDIR/plugin.c" <<'END'
#include <mpi.h>
#include <stdlib.h>
#include <string.h>
char *run(void)
{
    char *block;
    MPI_Init(NULL, NULL);
    block = malloc(300000);
    memset(block, 7, 300000);
    MPI_Finalize();
    return block;
}
END
    cat >"$BATS_TEST_TMPDIR/host.c" <<'END'
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>
int main(int argc, char **argv)
{
    void *plugin = argc > 1 ? dlopen(argv[1], RTLD_NOW) : NULL;
    int status;
    if (!plugin)
        return 1;
    char *block = ((char *(*) (void) ) dlsym(plugin, "run"))();
    if (dlclose(plugin) != 0 || block[299999] != 7)
        return 2;
    char *volatile more = realloc(malloc(300000), 400000);
    free(more);
    if (fork() == 0)
        _exit(block[0] == 7 ? 0 : 3);
    if (wait(&status) < 0 || status != 0)
        return 4;
    free(block);
    /* Not to standard output: after MPI_Finalize, Hydra may not hear of it. */
    char name[4096];
    snprintf(name, sizeof(name), "%s.%d", argv[1], (int) getpid());
    FILE *right = fopen(name, "w");
    return right && fclose(right) == 0 ? 0 : 5;
}
END
    mpicc -shared -fPIC -o "$BATS_TEST_TMPDIR/plugin.so" "$BATS_TEST_TMPDIR/plugin.c"
    gcc -o "$BATS_TEST_TMPDIR/host" "$BATS_TEST_TMPDIR/host.c" -ldl
    mpi job -n 2 ivshmem-env --malloc "$BATS_TEST_TMPDIR/host" "$BATS_TEST_TMPDIR/plugin.so" || { say job; false; }
    [ "$(find "$BATS_TEST_TMPDIR" -name 'plugin.so.*' | wc -l)" -eq 2 ] || { say job; false; }
    empty
}

@test "programs linked to the library, also at fixed addresses" {
    build linked -Wl,--no-as-needed -livshmem-malloc
    works "$BATS_TEST_TMPDIR/linked"
    build fixed -no-pie -fno-pie
    works ivshmem-env --malloc "$BATS_TEST_TMPDIR/fixed"
}
