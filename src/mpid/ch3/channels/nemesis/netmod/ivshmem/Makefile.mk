# SPDX-License-Identifier: mpich2
#
# Automake fragment of the ivshmem netmod, included by netmod/Makefile.mk.

if BUILD_NEMESIS_NETMOD_IVSHMEM

errnames_txt_files += src/mpid/ch3/channels/nemesis/netmod/ivshmem/errnames.txt

mpi_core_sources +=                                                         \
    src/mpid/ch3/channels/nemesis/netmod/ivshmem/core/map.c                 \
    src/mpid/ch3/channels/nemesis/netmod/ivshmem/core/backing.c             \
    src/mpid/ch3/channels/nemesis/netmod/ivshmem/core/region.c              \
    src/mpid/ch3/channels/nemesis/netmod/ivshmem/core/extent.c              \
    src/mpid/ch3/channels/nemesis/netmod/ivshmem/core/runs.c                \
    src/mpid/ch3/channels/nemesis/netmod/ivshmem/core/endpoint.c            \
    src/mpid/ch3/channels/nemesis/netmod/ivshmem/core/alive.c               \
    src/mpid/ch3/channels/nemesis/netmod/ivshmem/core/pool.c                \
    src/mpid/ch3/channels/nemesis/netmod/ivshmem/core/queue.c               \
    src/mpid/ch3/channels/nemesis/netmod/ivshmem/core/ring.c                \
    src/mpid/ch3/channels/nemesis/netmod/ivshmem/core/channel.c             \
    src/mpid/ch3/channels/nemesis/netmod/ivshmem/core/lane.c                \
    src/mpid/ch3/channels/nemesis/netmod/ivshmem/core/lock.c                \
    src/mpid/ch3/channels/nemesis/netmod/ivshmem/core/joint.c               \
    src/mpid/ch3/channels/nemesis/netmod/ivshmem/ivshmem_init.c             \
    src/mpid/ch3/channels/nemesis/netmod/ivshmem/ivshmem_fault.c            \
    src/mpid/ch3/channels/nemesis/netmod/ivshmem/ivshmem_path.c             \
    src/mpid/ch3/channels/nemesis/netmod/ivshmem/ivshmem_vc.c               \
    src/mpid/ch3/channels/nemesis/netmod/ivshmem/ivshmem_end.c              \
    src/mpid/ch3/channels/nemesis/netmod/ivshmem/ivshmem_send.c             \
    src/mpid/ch3/channels/nemesis/netmod/ivshmem/ivshmem_poll.c             \
    src/mpid/ch3/channels/nemesis/netmod/ivshmem/ivshmem_lmt.c              \
    src/mpid/ch3/channels/nemesis/netmod/ivshmem/ivshmem_pipeline.c         \
    src/mpid/ch3/channels/nemesis/netmod/ivshmem/ivshmem_copy.c             \
    src/mpid/ch3/channels/nemesis/netmod/ivshmem/ivshmem_lend.c             \
    src/mpid/ch3/channels/nemesis/netmod/ivshmem/ivshmem_limit.c            \
    src/mpid/ch3/channels/nemesis/netmod/ivshmem/ivshmem_memory.c           \
    src/mpid/ch3/channels/nemesis/netmod/ivshmem/ivshmem_window.c           \
    src/mpid/ch3/channels/nemesis/netmod/ivshmem/ivshmem_port.c             \
    src/mpid/ch3/channels/nemesis/netmod/ivshmem/ivshmem_card.c             \
    src/mpid/ch3/channels/nemesis/netmod/ivshmem/ivshmem_place.c            \
    src/mpid/ch3/channels/nemesis/netmod/ivshmem/ivshmem_stats.c            \
    src/mpid/ch3/channels/nemesis/netmod/ivshmem/ivshmem_packet.c           \
    src/mpid/ch3/channels/nemesis/netmod/ivshmem/ivshmem_validate.c         \
    src/mpid/ch3/channels/nemesis/netmod/ivshmem/ivshmem_described.c        \
    src/mpid/ch3/channels/nemesis/netmod/ivshmem/ivshmem_relation.c         \
    src/mpid/ch3/channels/nemesis/netmod/ivshmem/ivshmem_question.c         \
    src/mpid/ch3/channels/nemesis/netmod/ivshmem/ivshmem_error.c

noinst_HEADERS +=                                                           \
    src/mpid/ch3/channels/nemesis/netmod/ivshmem/core/atomic.h              \
    src/mpid/ch3/channels/nemesis/netmod/ivshmem/core/layout.h              \
    src/mpid/ch3/channels/nemesis/netmod/ivshmem/core/point.h               \
    src/mpid/ch3/channels/nemesis/netmod/ivshmem/core/diag.h                \
    src/mpid/ch3/channels/nemesis/netmod/ivshmem/core/map.h                 \
    src/mpid/ch3/channels/nemesis/netmod/ivshmem/core/backing.h             \
    src/mpid/ch3/channels/nemesis/netmod/ivshmem/core/region.h              \
    src/mpid/ch3/channels/nemesis/netmod/ivshmem/core/extent.h              \
    src/mpid/ch3/channels/nemesis/netmod/ivshmem/core/runs.h                \
    src/mpid/ch3/channels/nemesis/netmod/ivshmem/core/endpoint.h            \
    src/mpid/ch3/channels/nemesis/netmod/ivshmem/core/alive.h               \
    src/mpid/ch3/channels/nemesis/netmod/ivshmem/core/pool.h                \
    src/mpid/ch3/channels/nemesis/netmod/ivshmem/core/queue.h               \
    src/mpid/ch3/channels/nemesis/netmod/ivshmem/core/ring.h                \
    src/mpid/ch3/channels/nemesis/netmod/ivshmem/core/channel.h             \
    src/mpid/ch3/channels/nemesis/netmod/ivshmem/core/lane.h                \
    src/mpid/ch3/channels/nemesis/netmod/ivshmem/core/lock.h                \
    src/mpid/ch3/channels/nemesis/netmod/ivshmem/core/joint.h               \
    src/mpid/ch3/channels/nemesis/netmod/ivshmem/ivshmem_compat.h           \
    src/mpid/ch3/channels/nemesis/netmod/ivshmem/ivshmem_malloc.h           \
    src/mpid/ch3/channels/nemesis/netmod/ivshmem/ivshmem_shared.h           \
    src/mpid/ch3/channels/nemesis/netmod/ivshmem/ivshmem_netmod.h           \
    src/mpid/ch3/channels/nemesis/netmod/ivshmem/ivshmem_packet.h

endif BUILD_NEMESIS_NETMOD_IVSHMEM
