/* SPDX-License-Identifier: mpich2 */
/*
 * The differences between the releases of MPICH that the netmod is grafted onto. No other file
 * depends on the release; edits of MPICH's own files do, see ivshmem-graft.edits.
 *
 * MPICH's collectives include this file, too, through ivshmem_coll.h. So it includes nothing, and
 * is included after MPICH's headers.
 */
#ifndef IVSHMEM_COMPAT_H
#define IVSHMEM_COMPAT_H

/* MPICH_NUMVERSION of the first pre-release of each line. */
#define IVSHMEM_COMPAT_4_1 40100000
#define IVSHMEM_COMPAT_4_2 40200000
#define IVSHMEM_COMPAT_5_0 50000000
#define IVSHMEM_COMPAT_5_1 50100000

/* The longest value of the process manager's key-value space, in bytes. IVSHMEM_COMPAT_PMI is the
 * header that it needs, if any. */
#if MPICH_NUMVERSION >= IVSHMEM_COMPAT_4_1
#define ivshmem_compat_max_val_size() MPIR_pmi_max_val_size()
#elif defined(USE_PMI2_API)
#define IVSHMEM_COMPAT_PMI "pmi2.h"
#define ivshmem_compat_max_val_size() PMI2_MAX_VALLEN
#else
#define IVSHMEM_COMPAT_PMI "pmi.h"
#define ivshmem_compat_max_val_size()                                                              \
    ({                                                                                             \
        int size_ = 0;                                                                             \
        PMI_KVS_Get_value_length_max(&size_) == PMI_SUCCESS ? size_ : 0;                           \
    })
#endif

/* Since 4.1, packing and unpacking take flags. */
#if MPICH_NUMVERSION >= IVSHMEM_COMPAT_4_1
#define IVSHMEM_COMPAT_TYPEREP_FLAGS , MPIR_TYPEREP_FLAG_NONE
#else
#define IVSHMEM_COMPAT_TYPEREP_FLAGS
#endif
#define ivshmem_compat_pack(buf, count, type, offset, out, max, actual)                            \
    MPIR_Typerep_pack(buf, count, type, offset, out, max, actual IVSHMEM_COMPAT_TYPEREP_FLAGS)
#define ivshmem_compat_unpack(in, size, buf, count, type, offset, actual)                          \
    MPIR_Typerep_unpack(in, size, buf, count, type, offset, actual IVSHMEM_COMPAT_TYPEREP_FLAGS)

/*
 * The error flag of collectives. Up to 4.1 it is passed by address, and a collective may set it
 * instead of returning an error. Since 4.2 it is passed by value, and errors are returned. Since
 * 5.0 it is one of the collective's attributes.
 */
#if MPICH_NUMVERSION >= IVSHMEM_COMPAT_5_0
typedef int ivshmem_compat_errflag;
#define IVSHMEM_COMPAT_ERR_NONE 0
#else
typedef MPIR_Errflag_t ivshmem_compat_errflag;
#define IVSHMEM_COMPAT_ERR_NONE MPIR_ERR_NONE
#endif
#if MPICH_NUMVERSION >= IVSHMEM_COMPAT_4_2
typedef ivshmem_compat_errflag ivshmem_compat_errflag_arg;
#define IVSHMEM_COMPAT_PASS(errflag) (errflag)
#define ivshmem_compat_process_status(status, errflag)                                             \
    ((void) (errflag), (void) MPIR_Process_status(status))
#else
typedef ivshmem_compat_errflag *ivshmem_compat_errflag_arg;
#define IVSHMEM_COMPAT_PASS(errflag) (&(errflag))
#define ivshmem_compat_process_status(status, errflag) MPIR_Process_status(status, errflag)
#endif

/* Since 5.1, the collectives that CH3 itself calls have names of their own. */
#if MPICH_NUMVERSION >= IVSHMEM_COMPAT_5_1
#define IVSHMEM_COMPAT_COLLECTIVE(name) MPIR_##name##_fallback
#else
#define IVSHMEM_COMPAT_COLLECTIVE(name) MPIR_##name
#endif

/* Calls the collective `name`, such as Barrier, with its arguments, the error flag left out, and
 * returns any error, even if it is only in the flag. `begin` is the flag's value before. */
#define ivshmem_compat_collective(begin, name, ...)                                                \
    ({                                                                                             \
        ivshmem_compat_errflag errflag_ = (begin), before_ = errflag_;                             \
        int error_ = IVSHMEM_COMPAT_COLLECTIVE(name)(__VA_ARGS__, IVSHMEM_COMPAT_PASS(errflag_));  \
        if (error_ == MPI_SUCCESS && errflag_ != before_)                                          \
            MPIR_ERR_SET(error_, MPI_ERR_OTHER, "**coll_fail");                                    \
        error_;                                                                                    \
    })

/* Datatypes inside MPICH. Since 5.0, built-in datatypes are replaced there by internal ones, whose
 * handle tells the kind, the size, and the index of the original, or 0. */
#if MPICH_NUMVERSION >= IVSHMEM_COMPAT_5_0
#define IVSHMEM_COMPAT_BYTE MPIR_BYTE_INTERNAL
#define IVSHMEM_COMPAT_INT MPIR_INT_INTERNAL
#define IVSHMEM_COMPAT_AINT MPIR_AINT_INTERNAL
#define ivshmem_compat_raw_type(type) MPIR_DATATYPE_GET_RAW_INTERNAL(type)
#define IVSHMEM_COMPAT_FLOATING_POINT MPIR_OP_TYPE_GROUP(FLOATING_POINT)
#else
#define IVSHMEM_COMPAT_BYTE MPI_BYTE
#define IVSHMEM_COMPAT_INT MPI_INT
#define IVSHMEM_COMPAT_AINT MPI_AINT
#define ivshmem_compat_raw_type(type) (type)
#define IVSHMEM_COMPAT_FLOATING_POINT                                                              \
    MPIR_OP_TYPE_GROUP(FLOATING_POINT) MPIR_OP_TYPE_GROUP(FLOATING_POINT_EXTRA)
#endif

/* Whether a handle that is marked as built-in is that of a built-in datatype. */
static inline int ivshmem_compat_is_builtin(MPI_Datatype type)
{
    int n = type & 0xff;

    if (n >= MPIR_DATATYPE_N_BUILTIN)
        return 0;
#if MPICH_NUMVERSION >= IVSHMEM_COMPAT_5_0
    if (type == MPI_DATATYPE_NULL || !MPIR_DATATYPE_IS_INTERNAL(type))
        return 0;
    if (n > 0)
        return MPIR_Internal_types[n].internal_type == type;
    for (n = 0; n < MPIR_DATATYPE_N_BUILTIN; n++)
        if (ivshmem_compat_raw_type(MPIR_Internal_types[n].internal_type) == type)
            return 1;
    return 0;
#else
    return MPIR_Datatype_builtin[n].handle == type;
#endif
}

/* Whether a predefined operation takes a predefined datatype. */
static inline int ivshmem_compat_op_takes(MPI_Op op, MPI_Datatype type)
{
#if MPICH_NUMVERSION >= IVSHMEM_COMPAT_5_0
    int takes_any = op == MPI_MINLOC || op == MPI_MAXLOC || op == MPI_NO_OP || op == MPI_REPLACE;

    /* For other operations MPICH asserts that the type is internal, which pairs are not. */
    return (takes_any || MPIR_DATATYPE_IS_INTERNAL(type)) && MPIR_Internal_op_dt_check(op, type);
#else
    return (*MPIR_OP_HDL_TO_DTYPE_FN(op))(type) == MPI_SUCCESS;
#endif
}

/* Since 4.1, each loop of a datatype's description says of how many pieces of memory it consists
 * and whether it is contiguous, and MPICH finds the last loop by its NULL pointer. */
#if MPICH_NUMVERSION >= IVSHMEM_COMPAT_4_1
#define ivshmem_compat_set_pieces(loop, contig, pieces)                                            \
    ((loop)->is_contig = (contig), (loop)->num_contig = (pieces))
#define ivshmem_compat_pieces(loop, unknown) ((loop)->num_contig)
#define ivshmem_compat_end_loops(loop) ((loop)->loop_params.cm_t.dataloop = NULL)
#else
#define ivshmem_compat_set_pieces(loop, contig, pieces) ((void) (contig), (void) (pieces))
#define ivshmem_compat_pieces(loop, unknown) (unknown)
#define ivshmem_compat_end_loops(loop) ((void) 0)
#endif

/* The context of a communicator. Since 5.0 MPICH has it in an int, and in fewer, signed bits of a
 * message. */
#if MPICH_NUMVERSION < IVSHMEM_COMPAT_5_0
typedef MPIR_Context_id_t ivshmem_compat_context;
#elif defined(HAVE_EXTENDED_CONTEXT_BITS)
typedef uint32_t ivshmem_compat_context;
#else
typedef uint16_t ivshmem_compat_context;
#endif

/* The context in which two roots talk, from the tag of their port. In 4.0, consecutive ports have
 * consecutive contexts. */
#if MPICH_NUMVERSION >= IVSHMEM_COMPAT_4_1
#define IVSHMEM_COMPAT_PORT_SHIFT MPIR_CONTEXT_PREFIX_SHIFT
#else
#define IVSHMEM_COMPAT_PORT_SHIFT 0
#endif
#if MPICH_NUMVERSION >= IVSHMEM_COMPAT_4_2
#define IVSHMEM_COMPAT_COLL_OFFSET MPIR_CONTEXT_COLL_OFFSET
#else
#define IVSHMEM_COMPAT_COLL_OFFSET MPIR_CONTEXT_INTER_COLL
#endif
static inline ivshmem_compat_context ivshmem_compat_port_context(int port_name_tag)
{
    unsigned context = (unsigned) port_name_tag << IVSHMEM_COMPAT_PORT_SHIFT;

    return (ivshmem_compat_context) (MPIR_CONTEXT_SET_FIELD(DYNAMIC_PROC, context, 1) +
                                     IVSHMEM_COMPAT_COLL_OFFSET);
}

/* The rank's rank in the communicator of its node, or -1. */
#if MPICH_NUMVERSION >= IVSHMEM_COMPAT_5_0
#define ivshmem_compat_intranode_rank(comm, rank) MPIR_Get_intranode_rank(comm, rank)
#else
#define ivshmem_compat_intranode_rank(comm, rank) ((comm)->intranode_table[rank])
#endif

#endif
