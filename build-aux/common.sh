# SPDX-License-Identifier: mpich2
# shellcheck shell=bash
#
# Sourced by the build scripts.

# Where things are kept that other checkouts can use as well.
# shellcheck disable=SC2034
cache=${MPICH_IVSHMEM_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/mpich-ivshmem}

die() {
    echo "${0##*/}: $*" >&2
    exit 1
}

# step NAME LOG COMMAND...
#
# Runs a long step with its output in a log, shows that it is alive, and says what went wrong. With V=1 the output is
# shown as well. An interrupt of the script ends the step with all its children, and waits for that.
step() {
    local name=$1 log=$2 start=$SECONDS said=$SECONDS status=0 live=
    shift 2
    mkdir -p "$(dirname "$log")"
    if [ -t 1 ] && [ -z "${CI-}" ] && [ "${V-}" != 1 ]; then live=1; else echo "$name ..."; fi

    # Job control puts the command into a process group of its own, which can be ended as a whole.
    set -m
    if [ "${V-}" = 1 ]; then
        (set -o pipefail && "$@" 2>&1 </dev/null | tee "$log") &
    else
        "$@" >"$log" 2>&1 </dev/null &
    fi
    step_pid=$!
    set +m
    while kill -0 "$step_pid" 2>/dev/null; do
        if [ "$live" ]; then
            printf '\r\033[K%s ... %d s' "$name" $((SECONDS - start))
        elif [ "${V-}" != 1 ] && [ $((SECONDS - said)) -ge 45 ]; then
            said=$SECONDS
            echo "$name ... $((SECONDS - start)) s, $(wc -l <"$log") lines of output"
        fi
        sleep 0.2
    done
    wait "$step_pid" || status=$?
    step_pid=
    [ -z "$live" ] || printf '\r\033[K'
    if [ "$status" -eq 0 ]; then
        echo "$name: done in $((SECONDS - start)) s"
        return
    fi
    {
        echo "$name: failed with exit status $status after $((SECONDS - start)) s. The last lines of its output:"
        tail -n 20 "$log" | sed 's/^/    /'
        echo "full log: $log"
    } >&2
    return "$status"
}

step_pid=
step_stop() {
    trap '' INT TERM HUP
    if [ "$step_pid" ]; then
        kill -TERM -- "-$step_pid" 2>/dev/null || :
        wait "$step_pid" 2>/dev/null || :
    fi
    exit "$1"
}
trap 'step_stop 130' INT
trap 'step_stop 143' TERM
trap 'step_stop 129' HUP

# How MPICH is configured, in each of its builds.
# shellcheck disable=SC2034
mpich_options=(
    "--with-device=ch3:nemesis:ivshmem,tcp"
    --with-hwloc-prefix=/usr
    --enable-shared --disable-static
    # By default nothing on Linux, and ranks that outnumber the cores wait for the timer at each turn.
    --enable-yield=sched_yield
    # These go into mpicc's own flags, too, so they are empty. MPICH's own flags are given as MPICHLIB_CFLAGS and so
    # on, which do not.
    CPPFLAGS= CFLAGS= CXXFLAGS= LDFLAGS= LIBS=
)

# configure_mpich TREE OPTION...: for use in a step.
configure_mpich() {
    cd "$1" || return
    shift
    ./configure "${mpich_options[@]}" "$@"
}

# make_mpich TREE ARGUMENT...: of our make's command line, only -j and V are for this one. Without -j it runs as many
# jobs as there are processors.
make_mpich() {
    local tree=$1 word flags=''
    shift
    for word in ${MAKEFLAGS-}; do
        case $word in
            --) break ;; # variables follow
            -j[0-9]* | --jobserver-auth=* | --jobserver-fds=*) flags+=" $word" ;;
        esac
    done
    [ "$flags" ] || set -- -j "${JOBS:-$(nproc)}" "$@"
    MAKEFLAGS=$flags make -C "$tree" V="${V:-0}" "$@"
}

# make_marked MARKER NAME LOG: a step that runs the script's run_make, with its output in LOG-make.log. MARKER is there
# while make runs. If it is still there, the last make was killed so hard that it could leave half an object file: then
# all is built anew.
make_marked() {
    marker=$1
    if [ -e "$marker" ]; then
        step "clean up after a killed build" "$3-clean.log" run_make clean
    fi
    touch "$marker"
    trap 'rm -f "$marker"' EXIT
    step "$2" "$3-make.log" run_make
    rm "$marker"
    trap - EXIT
}

# lock FD FILE WHAT: waits until no other process holds FILE; until the script ends, or FD is closed.
lock() {
    eval "exec $1>\"\$2\""
    if ! flock -n "$1"; then
        echo "waiting for another process, which $3"
        flock "$1"
    fi
}

# prune NAME KEEP: removes the least recently used of what is in the cache as NAME-KEY, but for KEEP of them.
prune() {
    local old
    find "$cache" -maxdepth 1 -type d -name "$1-*" -printf '%T@ %p\n' | sort -rn | tail -n +$(($2 + 1)) |
        while read -r _ old; do
            # Not while somebody builds there.
            flock -n "$old.lock" rm -rf "$old" || :
        done
}
