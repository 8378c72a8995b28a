# SPDX-License-Identifier: mpich2
#
# The files of core/, for MPICH's Makefile.am and for our own: both have them at the same path.

ivshmem_core_sources =                                                      \
    src/mpid/ch3/channels/nemesis/netmod/ivshmem/core/atomic.h              \
    src/mpid/ch3/channels/nemesis/netmod/ivshmem/core/backing.c             \
    src/mpid/ch3/channels/nemesis/netmod/ivshmem/core/backing.h             \
    src/mpid/ch3/channels/nemesis/netmod/ivshmem/core/bell.c                \
    src/mpid/ch3/channels/nemesis/netmod/ivshmem/core/bell.h                \
    src/mpid/ch3/channels/nemesis/netmod/ivshmem/core/channel.c             \
    src/mpid/ch3/channels/nemesis/netmod/ivshmem/core/channel.h             \
    src/mpid/ch3/channels/nemesis/netmod/ivshmem/core/choice.c              \
    src/mpid/ch3/channels/nemesis/netmod/ivshmem/core/choice.h              \
    src/mpid/ch3/channels/nemesis/netmod/ivshmem/core/coop.c                \
    src/mpid/ch3/channels/nemesis/netmod/ivshmem/core/coop.h                \
    src/mpid/ch3/channels/nemesis/netmod/ivshmem/core/copy.c                \
    src/mpid/ch3/channels/nemesis/netmod/ivshmem/core/copy.h                \
    src/mpid/ch3/channels/nemesis/netmod/ivshmem/core/device.c              \
    src/mpid/ch3/channels/nemesis/netmod/ivshmem/core/device.h              \
    src/mpid/ch3/channels/nemesis/netmod/ivshmem/core/diag.h                \
    src/mpid/ch3/channels/nemesis/netmod/ivshmem/core/endpoint.c            \
    src/mpid/ch3/channels/nemesis/netmod/ivshmem/core/endpoint.h            \
    src/mpid/ch3/channels/nemesis/netmod/ivshmem/core/extent.c              \
    src/mpid/ch3/channels/nemesis/netmod/ivshmem/core/extent.h              \
    src/mpid/ch3/channels/nemesis/netmod/ivshmem/core/layout.h              \
    src/mpid/ch3/channels/nemesis/netmod/ivshmem/core/liveness.c            \
    src/mpid/ch3/channels/nemesis/netmod/ivshmem/core/liveness.h            \
    src/mpid/ch3/channels/nemesis/netmod/ivshmem/core/lock.c                \
    src/mpid/ch3/channels/nemesis/netmod/ivshmem/core/lock.h                \
    src/mpid/ch3/channels/nemesis/netmod/ivshmem/core/map.c                 \
    src/mpid/ch3/channels/nemesis/netmod/ivshmem/core/map.h                 \
    src/mpid/ch3/channels/nemesis/netmod/ivshmem/core/pipeline.c            \
    src/mpid/ch3/channels/nemesis/netmod/ivshmem/core/pipeline.h            \
    src/mpid/ch3/channels/nemesis/netmod/ivshmem/core/poll_set.c            \
    src/mpid/ch3/channels/nemesis/netmod/ivshmem/core/poll_set.h            \
    src/mpid/ch3/channels/nemesis/netmod/ivshmem/core/pool.c                \
    src/mpid/ch3/channels/nemesis/netmod/ivshmem/core/pool.h                \
    src/mpid/ch3/channels/nemesis/netmod/ivshmem/core/queue.c               \
    src/mpid/ch3/channels/nemesis/netmod/ivshmem/core/queue.h               \
    src/mpid/ch3/channels/nemesis/netmod/ivshmem/core/region.c              \
    src/mpid/ch3/channels/nemesis/netmod/ivshmem/core/region.h              \
    src/mpid/ch3/channels/nemesis/netmod/ivshmem/core/ring.c                \
    src/mpid/ch3/channels/nemesis/netmod/ivshmem/core/ring.h                \
    src/mpid/ch3/channels/nemesis/netmod/ivshmem/core/rounds.c              \
    src/mpid/ch3/channels/nemesis/netmod/ivshmem/core/rounds.h              \
    src/mpid/ch3/channels/nemesis/netmod/ivshmem/core/runs.c                \
    src/mpid/ch3/channels/nemesis/netmod/ivshmem/core/runs.h                \
    src/mpid/ch3/channels/nemesis/netmod/ivshmem/core/sleep.c               \
    src/mpid/ch3/channels/nemesis/netmod/ivshmem/core/sleep.h               \
    src/mpid/ch3/channels/nemesis/netmod/ivshmem/core/speed.c               \
    src/mpid/ch3/channels/nemesis/netmod/ivshmem/core/speed.h               \
    src/mpid/ch3/channels/nemesis/netmod/ivshmem/core/tracepoint.h          \
    src/mpid/ch3/channels/nemesis/netmod/ivshmem/core/transport.c           \
    src/mpid/ch3/channels/nemesis/netmod/ivshmem/core/transport.h           \
    src/mpid/ch3/channels/nemesis/netmod/ivshmem/core/wait.c                \
    src/mpid/ch3/channels/nemesis/netmod/ivshmem/core/wait.h
