[#] start of __file__
dnl SPDX-License-Identifier: mpich2
dnl MPICH_SUBCFG_AFTER=src/mpid/ch3/channels/nemesis

AC_DEFUN([PAC_SUBCFG_PREREQ_]PAC_SUBCFG_AUTO_SUFFIX,[
    AM_COND_IF([BUILD_CH3_NEMESIS],[
        for net in $nemesis_networks ; do
            AS_CASE([$net],[ivshmem],[build_nemesis_netmod_ivshmem=yes],[tcp],[ivshmem_has_tcp=yes])
        done
    ])
    AM_CONDITIONAL([BUILD_NEMESIS_NETMOD_IVSHMEM],[test "X$build_nemesis_netmod_ivshmem" = "Xyes"])
])dnl

AC_DEFUN([PAC_SUBCFG_BODY_]PAC_SUBCFG_AUTO_SUFFIX,[
AM_COND_IF([BUILD_NEMESIS_NETMOD_IVSHMEM],[
    AS_CASE([$host_os],[linux*],[],[AC_MSG_ERROR([the ivshmem netmod needs Linux])])
    AS_IF([test "X$ivshmem_has_tcp" != Xyes],
        [AC_MSG_ERROR([the ivshmem netmod needs tcp beside it: --with-device=ch3:nemesis:ivshmem,tcp])])
    AS_IF([grep -q ivshmem_shared.h "$srcdir/src/mpid/ch3/include/mpidpre.h"],[],
        [AC_MSG_ERROR([the ivshmem netmod is in this tree, but not its edits of MPICH: run ivshmem-graft, then autogen.sh])])
    AC_DEFINE([MPIDI_CH3I_HAS_ALLOC_MEM], [1], [MPI_Alloc_mem is the channel's])
    AC_DEFINE([MPIDI_CH3I_HAS_FREE_MEM], [1], [MPI_Free_mem is the channel's])
])
])dnl

[#] end of __file__
