# SPDX-License-Identifier: mpich2
#
# Automake fragment of the ivshmem netmod, included by netmod/Makefile.mk.

if BUILD_NEMESIS_NETMOD_IVSHMEM

include $(top_srcdir)/src/mpid/ch3/channels/nemesis/netmod/ivshmem/core/sources.mk

errnames_txt_files += src/mpid/ch3/channels/nemesis/netmod/ivshmem/errnames.txt

mpi_core_sources +=                                                         \
    $(ivshmem_core_sources)                                                  \
    src/mpid/ch3/channels/nemesis/netmod/ivshmem/ivshmem_init.c             \
    src/mpid/ch3/channels/nemesis/netmod/ivshmem/ivshmem_fault.c            \
    src/mpid/ch3/channels/nemesis/netmod/ivshmem/ivshmem_path.c             \
    src/mpid/ch3/channels/nemesis/netmod/ivshmem/ivshmem_vc.c               \
    src/mpid/ch3/channels/nemesis/netmod/ivshmem/ivshmem_teardown.c         \
    src/mpid/ch3/channels/nemesis/netmod/ivshmem/ivshmem_deaths.c           \
    src/mpid/ch3/channels/nemesis/netmod/ivshmem/ivshmem_send.c             \
    src/mpid/ch3/channels/nemesis/netmod/ivshmem/ivshmem_poll.c             \
    src/mpid/ch3/channels/nemesis/netmod/ivshmem/ivshmem_lmt.c              \
    src/mpid/ch3/channels/nemesis/netmod/ivshmem/ivshmem_pipeline.c         \
    src/mpid/ch3/channels/nemesis/netmod/ivshmem/ivshmem_copy.c             \
    src/mpid/ch3/channels/nemesis/netmod/ivshmem/ivshmem_lmt_pool.c         \
    src/mpid/ch3/channels/nemesis/netmod/ivshmem/ivshmem_limit.c            \
    src/mpid/ch3/channels/nemesis/netmod/ivshmem/ivshmem_local.c            \
    src/mpid/ch3/channels/nemesis/netmod/ivshmem/ivshmem_memory.c           \
    src/mpid/ch3/channels/nemesis/netmod/ivshmem/ivshmem_part.c             \
    src/mpid/ch3/channels/nemesis/netmod/ivshmem/ivshmem_window.c           \
    src/mpid/ch3/channels/nemesis/netmod/ivshmem/ivshmem_collective.c       \
    src/mpid/ch3/channels/nemesis/netmod/ivshmem/ivshmem_split.c            \
    src/mpid/ch3/channels/nemesis/netmod/ivshmem/ivshmem_wait.c             \
    src/mpid/ch3/channels/nemesis/netmod/ivshmem/ivshmem_port.c             \
    src/mpid/ch3/channels/nemesis/netmod/ivshmem/ivshmem_card.c             \
    src/mpid/ch3/channels/nemesis/netmod/ivshmem/ivshmem_affinity.c         \
    src/mpid/ch3/channels/nemesis/netmod/ivshmem/ivshmem_speed.c            \
    src/mpid/ch3/channels/nemesis/netmod/ivshmem/ivshmem_stats.c            \
    src/mpid/ch3/channels/nemesis/netmod/ivshmem/ivshmem_info.c             \
    src/mpid/ch3/channels/nemesis/netmod/ivshmem/ivshmem_packet.c           \
    src/mpid/ch3/channels/nemesis/netmod/ivshmem/ivshmem_validate.c         \
    src/mpid/ch3/channels/nemesis/netmod/ivshmem/ivshmem_flattened.c        \
    src/mpid/ch3/channels/nemesis/netmod/ivshmem/ivshmem_relation.c         \
    src/mpid/ch3/channels/nemesis/netmod/ivshmem/ivshmem_outstanding.c      \
    src/mpid/ch3/channels/nemesis/netmod/ivshmem/ivshmem_error.c

noinst_HEADERS +=                                                           \
    src/mpid/ch3/channels/nemesis/netmod/ivshmem/ivshmem_affinity.h         \
    src/mpid/ch3/channels/nemesis/netmod/ivshmem/ivshmem_card.h             \
    src/mpid/ch3/channels/nemesis/netmod/ivshmem/ivshmem_coll.h             \
    src/mpid/ch3/channels/nemesis/netmod/ivshmem/ivshmem_collective.h       \
    src/mpid/ch3/channels/nemesis/netmod/ivshmem/ivshmem_compat.h           \
    src/mpid/ch3/channels/nemesis/netmod/ivshmem/ivshmem_copy.h             \
    src/mpid/ch3/channels/nemesis/netmod/ivshmem/ivshmem_deaths.h           \
    src/mpid/ch3/channels/nemesis/netmod/ivshmem/ivshmem_error.h            \
    src/mpid/ch3/channels/nemesis/netmod/ivshmem/ivshmem_fault.h            \
    src/mpid/ch3/channels/nemesis/netmod/ivshmem/ivshmem_flattened.h        \
    src/mpid/ch3/channels/nemesis/netmod/ivshmem/ivshmem_info.h             \
    src/mpid/ch3/channels/nemesis/netmod/ivshmem/ivshmem_limit.h            \
    src/mpid/ch3/channels/nemesis/netmod/ivshmem/ivshmem_local.h            \
    src/mpid/ch3/channels/nemesis/netmod/ivshmem/ivshmem_lmt.h              \
    src/mpid/ch3/channels/nemesis/netmod/ivshmem/ivshmem_lmt_pool.h         \
    src/mpid/ch3/channels/nemesis/netmod/ivshmem/ivshmem_malloc.h           \
    src/mpid/ch3/channels/nemesis/netmod/ivshmem/ivshmem_memory.h           \
    src/mpid/ch3/channels/nemesis/netmod/ivshmem/ivshmem_netmod.h           \
    src/mpid/ch3/channels/nemesis/netmod/ivshmem/ivshmem_outstanding.h      \
    src/mpid/ch3/channels/nemesis/netmod/ivshmem/ivshmem_packet.h           \
    src/mpid/ch3/channels/nemesis/netmod/ivshmem/ivshmem_part.h             \
    src/mpid/ch3/channels/nemesis/netmod/ivshmem/ivshmem_path.h             \
    src/mpid/ch3/channels/nemesis/netmod/ivshmem/ivshmem_pipeline.h         \
    src/mpid/ch3/channels/nemesis/netmod/ivshmem/ivshmem_poll.h             \
    src/mpid/ch3/channels/nemesis/netmod/ivshmem/ivshmem_port.h             \
    src/mpid/ch3/channels/nemesis/netmod/ivshmem/ivshmem_pt2pt.h            \
    src/mpid/ch3/channels/nemesis/netmod/ivshmem/ivshmem_relation.h         \
    src/mpid/ch3/channels/nemesis/netmod/ivshmem/ivshmem_rules.h            \
    src/mpid/ch3/channels/nemesis/netmod/ivshmem/ivshmem_send.h             \
    src/mpid/ch3/channels/nemesis/netmod/ivshmem/ivshmem_shared.h           \
    src/mpid/ch3/channels/nemesis/netmod/ivshmem/ivshmem_speed.h            \
    src/mpid/ch3/channels/nemesis/netmod/ivshmem/ivshmem_split.h            \
    src/mpid/ch3/channels/nemesis/netmod/ivshmem/ivshmem_stats.h            \
    src/mpid/ch3/channels/nemesis/netmod/ivshmem/ivshmem_teardown.h         \
    src/mpid/ch3/channels/nemesis/netmod/ivshmem/ivshmem_validate.h         \
    src/mpid/ch3/channels/nemesis/netmod/ivshmem/ivshmem_vc.h               \
    src/mpid/ch3/channels/nemesis/netmod/ivshmem/ivshmem_wait.h             \
    src/mpid/ch3/channels/nemesis/netmod/ivshmem/ivshmem_way.h              \
    src/mpid/ch3/channels/nemesis/netmod/ivshmem/ivshmem_window.h

endif BUILD_NEMESIS_NETMOD_IVSHMEM
