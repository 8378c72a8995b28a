/* SPDX-License-Identifier: mpich2 */
/*
 * onesided [-s SEED] [-n ROUNDS] [-t SECONDS] [-a] [-v]
 *
 * Random one-sided communication, checked against a sequential model: all calls with all
 * synchronizations, predefined types and all kinds of derived ones, windows of every kind, created
 * and freed at random, several at a time, on several communicators.
 *
 * All ranks draw everything from the seed alike: each knows what every other one does, and keeps a
 * copy of all windows as they must be. A phase opens an epoch on some windows. In it, operations do
 * not conflict: a byte is put by one operation, or read by any number, or is part of an element
 * that is accumulated by one rank (in order), or by many with one operation that commutes exactly.
 * After a phase each rank compares its part of the windows, and the results of its operations, with
 * the copy. It also checks that everything around them is untouched.
 *
 * A run has ROUNDS rounds (20). With -t, runs of the following seeds start until the time is over.
 * To repeat a failure, use the seed that it names. -a: all ranks can share memory, so windows by
 * MPI_Win_allocate_shared contain any of them; otherwise, those that MPI says can. -v prints each
 * operation before it begins.
 */
#include "mpitest.h"

#include <complex.h>
#include <stdbool.h>
#include <time.h>
#include <wchar.h>

enum {
    RANKS_MAX = 30,
    WINDOWS_MAX = 5,
    OPS_MAX = 48,
    COMMS = 5,
    SMALL = 512, /* bytes of a window's part, mostly; */
    MIDDLE = 12000,
    LARGE = 256 << 10, /* and seldom */
    ELEMENTS_MAX = 100000,
    DEPTH = 3
};

static bool all_share, verbose;
static uint64_t seed;
static int round_now, phase_now;
static const char *doing = "";

#define WRONG(condition, ...)                                                                      \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            fprintf(stderr, "rank %d: seed %llu, round %d, phase %d: %s\n", rank,                  \
                    (unsigned long long) seed, round_now, phase_now, doing);                       \
            CHECK(condition, __VA_ARGS__);                                                         \
        }                                                                                          \
    } while (0)

static uint64_t state; /* the same in all ranks */

static uint64_t mix(uint64_t x)
{
    x = (x ^ x >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    x = (x ^ x >> 27) * UINT64_C(0x94d049bb133111eb);
    return x ^ x >> 31;
}

static uint64_t draw(void)
{
    return mix(state += UINT64_C(0x9e3779b97f4a7c15));
}

/* 0 .. n - 1 */
static int below(int n)
{
    return (int) (draw() % (uint64_t) n);
}

static bool one_in(int n)
{
    return below(n) == 0;
}

/* --- predefined types --- */

enum kind {
    I8,
    I16,
    I32,
    I64,
    U8,
    U16,
    U32,
    U64,
    F32,
    F64,
    F80,
    B8,  /* 0 or 1 */
    B32, /* Fortran's LOGICAL */
    C32,
    C64,
    C80,
    P_F32_I,
    P_F64_I,
    P_I64_I,
    P_I32_I,
    P_I16_I,
    P_F80_I,
    P_F32_F32,
    P_F64_F64
};

/* Which operations MPI allows. */
enum { PLAIN, C_INT, F_INT, MULTI, FLOATING, LOGICAL, COMPLEX, BYTES, PAIR };

struct pair_f32_i {
    float v;
    int i;
};
struct pair_f64_i {
    double v;
    int i;
};
struct pair_i64_i {
    long v;
    int i;
};
struct pair_i32_i {
    int v;
    int i;
};
struct pair_i16_i {
    short v;
    int i;
};
struct pair_f80_i {
    long double v;
    int i;
};
struct pair_f32_f32 {
    float v, i;
};
struct pair_f64_f64 {
    double v, i;
};

struct basic {
    const char *name;
    MPI_Datatype mpi;
    enum kind kind;
    int class, mem, align;
};

static struct basic basics[80];
static int basic_count;

static void add_basic(const char *name, MPI_Datatype mpi, enum kind kind, int class)
{
    static const int mem[] = {1,
                              2,
                              4,
                              8,
                              1,
                              2,
                              4,
                              8,
                              4,
                              8,
                              sizeof(long double),
                              1,
                              4,
                              8,
                              16,
                              2 * sizeof(long double),
                              sizeof(struct pair_f32_i),
                              sizeof(struct pair_f64_i),
                              sizeof(struct pair_i64_i),
                              sizeof(struct pair_i32_i),
                              sizeof(struct pair_i16_i),
                              sizeof(struct pair_f80_i),
                              sizeof(struct pair_f32_f32),
                              sizeof(struct pair_f64_f64)};
    MPI_Aint lb, extent;

    if (mpi == MPI_DATATYPE_NULL) /* not in this version of MPI */
        return;
    /* With the standard ABI, a type that MPICH was built without is no MPI_DATATYPE_NULL. */
    if (MPI_Type_get_extent(mpi, &lb, &extent) != MPI_SUCCESS)
        return;
    CHECK(lb == 0 && extent == mem[kind], "%s has an extent of %ld", name, (long) extent);
    basics[basic_count++] =
        (struct basic){name, mpi, kind, class, mem[kind], mem[kind] > 16 ? 16 : mem[kind]};
}

static enum kind integer(int bytes, bool is_signed)
{
    enum kind kind = bytes == 1 ? I8 : bytes == 2 ? I16 : bytes == 4 ? I32 : I64;
    return is_signed ? kind : (enum kind)(kind + U8 - I8);
}

#define ADD(type, kind, class) add_basic(#type, type, kind, class)

static void set_errhandlers(MPI_Errhandler handler)
{
    MPI_Comm_set_errhandler(MPI_COMM_WORLD, handler);
    MPI_Comm_set_errhandler(MPI_COMM_SELF, handler);
}

static void add_basics(void)
{
    set_errhandlers(MPI_ERRORS_RETURN);
    ADD(MPI_CHAR, integer(1, (char) -1 < 0), PLAIN);
    ADD(MPI_WCHAR, integer(sizeof(wchar_t), true), PLAIN);
    ADD(MPI_CHARACTER, U8, PLAIN);
    ADD(MPI_SIGNED_CHAR, I8, C_INT);
    ADD(MPI_UNSIGNED_CHAR, U8, C_INT);
    ADD(MPI_SHORT, I16, C_INT);
    ADD(MPI_UNSIGNED_SHORT, U16, C_INT);
    ADD(MPI_INT, I32, C_INT);
    ADD(MPI_UNSIGNED, U32, C_INT);
    ADD(MPI_LONG, integer(sizeof(long), true), C_INT);
    ADD(MPI_UNSIGNED_LONG, integer(sizeof(long), false), C_INT);
    ADD(MPI_LONG_LONG, I64, C_INT);
    ADD(MPI_UNSIGNED_LONG_LONG, U64, C_INT);
    ADD(MPI_INT8_T, I8, C_INT);
    ADD(MPI_INT16_T, I16, C_INT);
    ADD(MPI_INT32_T, I32, C_INT);
    ADD(MPI_INT64_T, I64, C_INT);
    ADD(MPI_UINT8_T, U8, C_INT);
    ADD(MPI_UINT16_T, U16, C_INT);
    ADD(MPI_UINT32_T, U32, C_INT);
    ADD(MPI_UINT64_T, U64, C_INT);
    ADD(MPI_INTEGER, I32, F_INT);
    ADD(MPI_INTEGER1, I8, F_INT);
    ADD(MPI_INTEGER2, I16, F_INT);
    ADD(MPI_INTEGER4, I32, F_INT);
    ADD(MPI_INTEGER8, I64, F_INT);
    ADD(MPI_AINT, integer(sizeof(MPI_Aint), true), MULTI);
    ADD(MPI_OFFSET, I64, MULTI);
    ADD(MPI_COUNT, I64, MULTI);
    ADD(MPI_FLOAT, F32, FLOATING);
    ADD(MPI_DOUBLE, F64, FLOATING);
    ADD(MPI_LONG_DOUBLE, F80, FLOATING);
    ADD(MPI_REAL, F32, FLOATING);
    ADD(MPI_REAL4, F32, FLOATING);
    ADD(MPI_REAL8, F64, FLOATING);
    ADD(MPI_DOUBLE_PRECISION, F64, FLOATING);
    ADD(MPI_C_BOOL, B8, LOGICAL);
    ADD(MPI_LOGICAL, B32, LOGICAL);
    ADD(MPI_C_FLOAT_COMPLEX, C32, COMPLEX);
    ADD(MPI_C_DOUBLE_COMPLEX, C64, COMPLEX);
    ADD(MPI_C_LONG_DOUBLE_COMPLEX, C80, COMPLEX);
    ADD(MPI_COMPLEX, C32, COMPLEX);
    ADD(MPI_DOUBLE_COMPLEX, C64, COMPLEX);
    ADD(MPI_COMPLEX8, C32, COMPLEX);
    ADD(MPI_COMPLEX16, C64, COMPLEX);
    ADD(MPI_CXX_BOOL, B8, LOGICAL);
    ADD(MPI_CXX_FLOAT_COMPLEX, C32, COMPLEX);
    ADD(MPI_CXX_DOUBLE_COMPLEX, C64, COMPLEX);
    ADD(MPI_CXX_LONG_DOUBLE_COMPLEX, C80, COMPLEX);
    ADD(MPI_BYTE, U8, BYTES);
    ADD(MPI_FLOAT_INT, P_F32_I, PAIR);
    ADD(MPI_DOUBLE_INT, P_F64_I, PAIR);
    ADD(MPI_LONG_INT, P_I64_I, PAIR);
    ADD(MPI_2INT, P_I32_I, PAIR);
    ADD(MPI_SHORT_INT, P_I16_I, PAIR);
    ADD(MPI_LONG_DOUBLE_INT, P_F80_I, PAIR);
    ADD(MPI_2INTEGER, P_I32_I, PAIR);
    ADD(MPI_2REAL, P_F32_F32, PAIR);
    ADD(MPI_2DOUBLE_PRECISION, P_F64_F64, PAIR);
    set_errhandlers(MPI_ERRORS_ARE_FATAL);
}

/* Whether this byte of an element is part of its value, and not between its parts. */
static bool is_value(const struct basic *b, int i)
{
    switch (b->kind) {
    case F80:
    case C80:
        return i % (int) sizeof(long double) < 10;
    case P_F64_I:
    case P_I64_I:
        return i < 12;
    case P_I16_I:
        return i < 2 || i >= 4;
    case P_F80_I:
        return i < 10 || (i >= 16 && i < 20);
    default:
        return true;
    }
}

/* --- operations on one element --- */

/* MPI_Compare_and_swap counts as one. */
enum op {
    MAX,
    MIN,
    SUM,
    PROD,
    LAND,
    LOR,
    LXOR,
    BAND,
    BOR,
    BXOR,
    MAXLOC,
    MINLOC,
    REPLACE,
    NO_OP,
    CAS
};

static MPI_Op mpi_ops[] = {MPI_MAX,    MPI_MIN,    MPI_SUM,     MPI_PROD,  MPI_LAND,
                           MPI_LOR,    MPI_LXOR,   MPI_BAND,    MPI_BOR,   MPI_BXOR,
                           MPI_MAXLOC, MPI_MINLOC, MPI_REPLACE, MPI_NO_OP, MPI_OP_NULL};
static const char *const op_names[] = {"max",    "min",    "sum",     "prod",  "land",
                                       "lor",    "lxor",   "band",    "bor",   "bxor",
                                       "maxloc", "minloc", "replace", "no_op", "cas"};

static bool is_allowed(int class, enum op op)
{
    switch (class) {
    case C_INT:
        return op <= BXOR;
    case F_INT:
    case MULTI:
        return op <= PROD || (op >= BAND && op <= BXOR);
    case FLOATING:
        return op <= PROD;
    case COMPLEX:
        return op == SUM || op == PROD;
    case LOGICAL:
        return op >= LAND && op <= LXOR;
    case BYTES:
        return op >= BAND && op <= BXOR;
    case PAIR:
        return op == MAXLOC || op == MINLOC;
    default:
        return false;
    }
}

static bool may_swap(int class)
{
    return class == C_INT || class == F_INT || class == MULTI || class == LOGICAL || class == BYTES;
}

#define ON_NUMBERS(T, wide)                                                                        \
    {                                                                                              \
        T x, y;                                                                                    \
        memcpy(&x, result, sizeof(x));                                                             \
        memcpy(&y, in, sizeof(y));                                                                 \
        switch (op) {                                                                              \
        case MAX:                                                                                  \
            x = x > y ? x : y;                                                                     \
            break;                                                                                 \
        case MIN:                                                                                  \
            x = x < y ? x : y;                                                                     \
            break;                                                                                 \
        case SUM:                                                                                  \
            x = (T) ((wide) x + (wide) y);                                                         \
            break;                                                                                 \
        case PROD:                                                                                 \
            x = (T) ((wide) x * (wide) y);                                                         \
            break;                                                                                 \
        case LAND:                                                                                 \
            x = x && y;                                                                            \
            break;                                                                                 \
        case LOR:                                                                                  \
            x = x || y;                                                                            \
            break;                                                                                 \
        default:                                                                                   \
            x = !x != !y;                                                                          \
        }                                                                                          \
        memcpy(result, &x, sizeof(x));                                                             \
        break;                                                                                     \
    }

#define ON_COMPLEX(T)                                                                              \
    {                                                                                              \
        T x, y;                                                                                    \
        memcpy(&x, result, sizeof(x));                                                             \
        memcpy(&y, in, sizeof(y));                                                                 \
        x = op == SUM ? x + y : x * y;                                                             \
        memcpy(result, &x, sizeof(x));                                                             \
        break;                                                                                     \
    }

#define ON_PAIRS(T)                                                                                \
    {                                                                                              \
        struct T x, y;                                                                             \
        memcpy(&x, result, sizeof(x));                                                             \
        memcpy(&y, in, sizeof(y));                                                                 \
        if (op == MAXLOC ? y.v > x.v : y.v < x.v)                                                  \
            x = y;                                                                                 \
        else if (y.v == x.v && y.i < x.i)                                                          \
            x.i = y.i;                                                                             \
        memcpy(result, &x, sizeof(x));                                                             \
        break;                                                                                     \
    }

static void operate(const struct basic *b, enum op op, void *result, const void *in)
{
    unsigned char *x = result;
    const unsigned char *y = in;

    if (op == NO_OP)
        return;
    if (op == REPLACE) {
        memcpy(x, y, (size_t) b->mem);
        return;
    }
    if (op >= BAND && op <= BXOR) {
        for (int i = 0; i < b->mem; i++)
            x[i] = op == BAND ? x[i] & y[i] : op == BOR ? x[i] | y[i] : x[i] ^ y[i];
        return;
    }
    switch (b->kind) {
    case I8:
        ON_NUMBERS(int8_t, uint64_t)
    case I16:
        ON_NUMBERS(int16_t, uint64_t)
    case I32:
        ON_NUMBERS(int32_t, uint64_t)
    case I64:
        ON_NUMBERS(int64_t, uint64_t)
    case U8:
        ON_NUMBERS(uint8_t, uint64_t)
    case U16:
        ON_NUMBERS(uint16_t, uint64_t)
    case U32:
    case B32:
        ON_NUMBERS(uint32_t, uint64_t)
    case U64:
        ON_NUMBERS(uint64_t, uint64_t)
    case B8:
        ON_NUMBERS(uint8_t, uint64_t)
    case F32:
        ON_NUMBERS(float, float)
    case F64:
        ON_NUMBERS(double, double)
    case F80:
        ON_NUMBERS(long double, long double)
    case C32:
        ON_COMPLEX(float complex)
    case C64:
        ON_COMPLEX(double complex)
    case C80:
        ON_COMPLEX(long double complex)
    case P_F32_I:
        ON_PAIRS(pair_f32_i)
    case P_F64_I:
        ON_PAIRS(pair_f64_i)
    case P_I64_I:
        ON_PAIRS(pair_i64_i)
    case P_I32_I:
        ON_PAIRS(pair_i32_i)
    case P_I16_I:
        ON_PAIRS(pair_i16_i)
    case P_F80_I:
        ON_PAIRS(pair_f80_i)
    case P_F32_F32:
        ON_PAIRS(pair_f32_f32)
    case P_F64_F64:
        ON_PAIRS(pair_f64_f64)
    }
}

/* A number that floating types hold exactly, and whose sums they do. Never 0, which has a sign. */
static double number(uint64_t random)
{
    double value = (double) (random % 64 + 1) / 4;
    return random & 64 ? -value : value;
}

static bool is_number(double value)
{
    return value != 0 && value >= -65536 && value <= 65536 &&
           value * 4 == (double) (long) (value * 4);
}

/* Of 16 bytes, a long double has 10. */
#define PUT_AT(out, T, offset, value)                                                              \
    do {                                                                                           \
        T v_ = (T) (value);                                                                        \
        memcpy((char *) (out) + (offset), &v_, sizeof(v_) < 10 ? sizeof(v_) : 10);                 \
    } while (0)

/* The value of element i of what `from` draws. */
static void make_value(const struct basic *b, uint64_t from, uint64_t i, void *out)
{
    uint64_t random = mix(from + i * UINT64_C(0x9e3779b97f4a7c15)), other = mix(random);

    for (int k = 0; k < b->mem; k += 8) {
        uint64_t word = mix(random + (uint64_t) k);
        memcpy((char *) out + k, &word, b->mem - k < 8 ? (size_t) (b->mem - k) : 8);
    }
    int field = b->kind == P_F80_I ? 16 : b->kind == P_F64_I || b->kind == P_I64_I ? 8 : 4;
    switch (b->kind) {
    case B8:
        PUT_AT(out, uint8_t, 0, random & 1);
        break;
    case B32:
        PUT_AT(out, uint32_t, 0, random & 1);
        break;
    case C32:
    case P_F32_F32:
        PUT_AT(out, float, 4, number(other));
        PUT_AT(out, float, 0, number(random));
        break;
    case F32:
        PUT_AT(out, float, 0, number(random));
        break;
    case C64:
    case P_F64_F64:
        PUT_AT(out, double, 8, number(other));
        PUT_AT(out, double, 0, number(random));
        break;
    case F64:
        PUT_AT(out, double, 0, number(random));
        break;
    case C80:
        PUT_AT(out, long double, sizeof(long double), number(other));
        PUT_AT(out, long double, 0, number(random));
        break;
    case F80:
        PUT_AT(out, long double, 0, number(random));
        break;
    case P_F32_I:
        PUT_AT(out, float, 0, number(random));
        PUT_AT(out, int, field, other % 100);
        break;
    case P_F64_I:
        PUT_AT(out, double, 0, number(random));
        PUT_AT(out, int, field, other % 100);
        break;
    case P_F80_I:
        PUT_AT(out, long double, 0, number(random));
        PUT_AT(out, int, field, other % 100);
        break;
    default:
        break;
    }
}

static bool is_float(const void *p)
{
    float value;
    memcpy(&value, p, sizeof(value));
    return is_number((double) value);
}

static bool is_double(const void *p)
{
    double value;
    memcpy(&value, p, sizeof(value));
    return is_number(value);
}

/* Not every pattern of 80 bits is a number that can be compared. */
static bool is_long_double(const void *p)
{
    long double value;
    memcpy(&value, p, sizeof(value));
    return ((const unsigned char *) p)[7] & 0x80 && is_number((double) value);
}

/* Whether arithmetic with what is there has one result, whatever the order. */
static bool is_sane(const struct basic *b, const void *element)
{
    const unsigned char *p = element;

    switch (b->kind) {
    case B8:
        return p[0] <= 1;
    case B32:
        return p[0] <= 1 && p[1] == 0 && p[2] == 0 && p[3] == 0;
    case F32:
    case P_F32_I:
        return is_float(p);
    case C32:
    case P_F32_F32:
        return is_float(p) && is_float(p + sizeof(float));
    case F64:
    case P_F64_I:
        return is_double(p);
    case C64:
    case P_F64_F64:
        return is_double(p) && is_double(p + sizeof(double));
    case F80:
    case P_F80_I:
        return is_long_double(p);
    case C80:
        return is_long_double(p) && is_long_double(p + sizeof(long double));
    default:
        return true;
    }
}

/* --- derived types --- */

struct element {
    MPI_Aint off;
    const struct basic *basic;
};

/* A type and the list of its elements, in order. The MPI type is created only where it is used. */
struct type {
    MPI_Datatype mpi;
    int n;
    struct element *map;
    MPI_Aint lb, extent;
    bool is_derived;
};

static bool make_types; /* the MPI ones, too */

static void *need(size_t bytes)
{
    void *p = malloc(bytes ? bytes : 1);
    CHECK(p, "no memory");
    return p;
}

static void free_type(struct type *t)
{
    if (t->is_derived && t->mpi != MPI_DATATYPE_NULL)
        MPI_Type_free(&t->mpi);
    free(t->map);
}

static struct type predefined(const struct basic *b)
{
    struct type t = {
        make_types ? b->mpi : MPI_DATATYPE_NULL, 1, need(sizeof(*t.map)), 0, b->mem, false};
    t.map[0] = (struct element){0, b};
    return t;
}

/* Copies of `child` at the offsets in `at`, with the given MPI type. Frees the child. */
static struct type placed(struct type *child, const MPI_Aint *at, int count, MPI_Datatype mpi)
{
    struct type t = {
        mpi, count * child->n, need((size_t) (count * child->n) * sizeof(*t.map)), 0, 0, true};
    MPI_Aint ub = 0;

    for (int i = 0; i < count; i++) {
        MPI_Aint lb = at[i] + child->lb;
        t.lb = i == 0 || lb < t.lb ? lb : t.lb;
        ub = i == 0 || lb + child->extent > ub ? lb + child->extent : ub;
        for (int k = 0; k < child->n; k++)
            t.map[i * child->n + k] =
                (struct element){at[i] + child->map[k].off, child->map[k].basic};
    }
    t.extent = ub - t.lb;
    free_type(child);
    return t;
}

/* A factor of n. */
static int factor(int n)
{
    int f = 1;
    for (int p = 2, left = n; left > 1 && p <= left; p++)
        for (; left % p == 0; left /= p)
            f *= one_in(2) ? p : 1;
    return f;
}

/*
 * `blocks` lengths that add up to n, and the blocks' positions, in units: no two overlap, in any
 * order, some perhaps below 0.
 */
static int partition(int n, bool equal, int *lens, int *at)
{
    int blocks, from = 0, order[64];

    if (equal) {
        int len = factor(n);
        if (n / len > 64)
            len = n;
        blocks = n / len;
        for (int i = 0; i < blocks; i++)
            lens[i] = len;
    } else {
        blocks = 1 + below(n < 8 ? n : 8);
        for (int i = 0, left = n; i < blocks; i++) {
            lens[i] = i == blocks - 1 ? left : below(left - (blocks - 1 - i)) + 1;
            left -= lens[i];
        }
    }
    for (int i = 0; i < blocks; i++) {
        int k = below(i + 1);
        order[i] = order[k];
        order[k] = i;
    }
    from = one_in(3) ? -below(8) : 0;
    for (int i = 0; i < blocks; i++) {
        from += one_in(2) ? 0 : below(3);
        at[order[i]] = from;
        from += lens[order[i]];
    }
    return blocks;
}

static struct type resized(struct type child, MPI_Aint lb, MPI_Aint extent)
{
    MPI_Datatype mpi = MPI_DATATYPE_NULL;
    if (make_types)
        MPI_Type_create_resized(child.mpi, lb, extent, &mpi);
    struct type t = placed(&child, (MPI_Aint[]){0}, 1, mpi);
    t.lb = lb;
    t.extent = extent;
    return t;
}

static MPI_Aint lowest(const struct type *t)
{
    MPI_Aint low = t->map[0].off;
    for (int i = 1; i < t->n; i++)
        low = t->map[i].off < low ? t->map[i].off : low;
    return low;
}

static MPI_Aint highest(const struct type *t)
{
    MPI_Aint high = t->map[0].off + t->map[0].basic->mem;
    for (int i = 1; i < t->n; i++)
        high = t->map[i].off + t->map[i].basic->mem > high ? t->map[i].off + t->map[i].basic->mem
                                                           : high;
    return high;
}

static struct type joined(struct type *parts, int count)
{
    MPI_Datatype mpi = MPI_DATATYPE_NULL, types[4];
    MPI_Aint at[4], from = one_in(3) ? -32 : 0;
    int ones[4] = {1, 1, 1, 1}, n = 0;

    for (int i = 0; i < count; i++) {
        from += one_in(2) ? 0 : 16 * below(3);
        at[i] = from - (lowest(&parts[i]) & ~(MPI_Aint) 15);
        types[i] = parts[i].mpi;
        from = at[i] + ((highest(&parts[i]) + 15) & ~(MPI_Aint) 15);
        n += parts[i].n;
    }
    if (make_types)
        MPI_Type_create_struct(count, ones, at, types, &mpi);
    struct type t = {mpi, n, need((size_t) n * sizeof(*t.map)), 0, 0, true};
    for (int i = 0, k = 0; i < count; i++) {
        for (int e = 0; e < parts[i].n; e++)
            t.map[k++] = (struct element){at[i] + parts[i].map[e].off, parts[i].map[e].basic};
        free_type(&parts[i]);
    }
    /* MPI may round its extent. */
    MPI_Aint lb = lowest(&t) & ~(MPI_Aint) 15;
    return resized(t, lb, ((highest(&t) - lb + 15) & ~(MPI_Aint) 15) + 16 * below(2));
}

/* A type of just n elements of one predefined type. */
static struct type any_type(const struct basic *b, int n, int depth)
{
    MPI_Datatype mpi = MPI_DATATYPE_NULL;
    MPI_Aint at[64], bytes[64];
    int lens[64], blocks[64], f = factor(n), k = 0;

    if (depth == 0 && n == 1)
        return predefined(b);
    if (depth == 0 || (n > 1 && one_in(6)))
        f = n;
    int what = depth == 0 ? 0 : below(11);
    if (what == 7 && n > 1) {
        int first = 1 + below(n - 1);
        struct type parts[2];
        parts[0] = any_type(b, first, depth - 1);
        parts[1] = any_type(b, n - first, depth - 1);
        return joined(parts, 2);
    }
    if (f > 64 && what != 0)
        what = 1;
    if (what >= 7 && what != 9)
        f = 1;
    struct type child =
        f == n && one_in(2) ? predefined(b) : any_type(b, n / f, depth > 0 ? depth - 1 : 0);
    MPI_Aint ext = child.extent;
    switch (what) {
    case 1:
    case 2: {
        int len = factor(f), count = f / len, stride = (len + below(4)) * (one_in(4) ? -1 : 1);
        if (f > 64) {
            MPI_Aint *many = need((size_t) f * sizeof(*many));
            for (int i = 0; i < f; i++)
                many[i] = (i / len * (MPI_Aint) stride + i % len) * ext;
            if (make_types)
                MPI_Type_vector(count, len, stride, child.mpi, &mpi);
            struct type t = placed(&child, many, f, mpi);
            free(many);
            return t;
        }
        MPI_Aint gap = what == 2 ? 16 * below(3) * (stride < 0 ? -1 : 1) : 0;
        for (int i = 0; i < f; i++)
            at[k++] = i / len * (stride * ext + gap) + i % len * ext;
        if (make_types && what == 1)
            MPI_Type_vector(count, len, stride, child.mpi, &mpi);
        else if (make_types)
            MPI_Type_create_hvector(count, len, stride * ext + gap, child.mpi, &mpi);
        break;
    }
    case 3:
    case 4:
    case 5:
    case 6: {
        int count = partition(f, what >= 5, lens, blocks);
        for (int i = 0; i < count; i++) {
            bytes[i] = blocks[i] * ext;
            for (int e = 0; e < lens[i]; e++)
                at[k++] = bytes[i] + e * ext;
        }
        if (make_types && what == 3)
            MPI_Type_indexed(count, lens, blocks, child.mpi, &mpi);
        else if (make_types && what == 4)
            MPI_Type_create_hindexed(count, lens, bytes, child.mpi, &mpi);
        else if (make_types && what == 5)
            MPI_Type_create_indexed_block(count, lens[0], blocks, child.mpi, &mpi);
        else if (make_types)
            MPI_Type_create_hindexed_block(count, lens[0], bytes, child.mpi, &mpi);
        break;
    }
    case 8: {
        MPI_Aint lb = child.lb - 16 * below(3),
                 extent = child.extent + child.lb - lb + 16 * below(3);
        return resized(child, lb, extent);
    }
    case 9: {
        int len = factor(f), order = one_in(2) ? MPI_ORDER_C : MPI_ORDER_FORTRAN;
        int sub[2] = {f / len, len}, starts[2] = {below(3), below(3)};
        int sizes[2] = {sub[0] + starts[0] + below(3), sub[1] + starts[1] + below(3)};
        int fast = order == MPI_ORDER_C; /* which dimension's elements lie side by side */
        for (int i = 0; i < sub[!fast]; i++)
            for (int e = 0; e < sub[fast]; e++)
                at[k++] = ((i + starts[!fast]) * (MPI_Aint) sizes[fast] + e + starts[fast]) * ext;
        if (make_types)
            MPI_Type_create_subarray(2, sizes, sub, starts, order, child.mpi, &mpi);
        struct type t = placed(&child, at, k, mpi);
        t.lb = 0;
        t.extent = (MPI_Aint) sizes[0] * sizes[1] * ext;
        return t;
    }
    case 7:
    case 10:
        if (make_types)
            MPI_Type_dup(child.mpi, &mpi);
        at[k++] = 0;
        break;
    default: {
        MPI_Aint *many = need((size_t) f * sizeof(*many));
        for (int i = 0; i < f; i++)
            many[i] = i * ext;
        if (make_types)
            MPI_Type_contiguous(f, child.mpi, &mpi);
        struct type t = placed(&child, many, f, mpi);
        free(many);
        return t;
    }
    }
    return placed(&child, at, k, mpi);
}

/* A type with a large flattened form: every other element, one by one. */
static struct type many_blocks(const struct basic *b, int n)
{
    MPI_Datatype mpi = MPI_DATATYPE_NULL;
    MPI_Aint *at = need((size_t) n * sizeof(*at));
    struct type child = predefined(b);

    for (int i = 0; i < n; i++)
        at[i] = 2 * (MPI_Aint) i * b->mem;
    if (make_types)
        MPI_Type_create_hindexed_block(n, 1, at, b->mpi, &mpi);
    struct type t = placed(&child, at, n, mpi);
    free(at);
    return t;
}

/* --- buffers: `count` of a type --- */

struct layout {
    struct type type;
    int count, n; /* elements in all */
    MPI_Aint low, high;
};

static MPI_Aint element_at(const struct layout *l, int i)
{
    return l->type.map[i % l->type.n].off + i / l->type.n * l->type.extent;
}

static const struct basic *basic_at(const struct layout *l, int i)
{
    return l->type.map[i % l->type.n].basic;
}

/* Its bounds; false if elements overlap. */
static bool lay_out(struct layout *l)
{
    bool overlap = false;

    l->n = l->count * l->type.n;
    for (int i = 0; i < l->n; i++) {
        MPI_Aint at = element_at(l, i), end = at + basic_at(l, i)->mem;
        l->low = i == 0 || at < l->low ? at : l->low;
        l->high = i == 0 || end > l->high ? end : l->high;
    }
    if (l->high - l->low > 16 * LARGE)
        return false;
    unsigned char *seen = calloc(1, (size_t) (l->high - l->low));
    CHECK(seen, "no memory");
    for (int i = 0; i < l->n; i++)
        for (int k = 0; k < basic_at(l, i)->mem; k++)
            overlap |= seen[element_at(l, i) - l->low + k]++;
    free(seen);
    return !overlap;
}

static void free_layout(struct layout *l)
{
    if (l->type.map)
        free_type(&l->type);
    l->type.map = NULL;
}

static struct layout simple_layout(const struct basic *b, int n)
{
    struct layout l = {predefined(b), n, 0, 0, 0};
    lay_out(&l);
    return l;
}

/* n elements, laid out at random. */
static struct layout any_layout(const struct basic *b, int n)
{
    for (int tries = 0; tries < 4; tries++) {
        int count = factor(n);
        struct layout l = {any_type(b, n / count, below(DEPTH + 1)), count, 0, 0, 0};
        if (lay_out(&l))
            return l;
        free_layout(&l);
    }
    return simple_layout(b, n);
}

/* --- windows --- */

enum flavor { CREATED, CREATED_THERE, ALLOCATED, SHARED, DYNAMIC, FLAVORS };
static const char *const flavor_names[] = {"created", "created of MPI_Alloc_mem", "allocated",
                                           "shared", "dynamic"};

enum { UNUSED, READ, WRITTEN, ACCUMULATED };

/* What the operations of a phase do with a byte of a window. */
struct claim {
    uint8_t use, op, offset; /* in its element */
    uint8_t basic;
    int8_t origin; /* rank in the window, or -1: several */
    bool fetched;
};

struct part {
    MPI_Aint size, address; /* the latter of a dynamic window */
    int unit;
    unsigned char *bytes; /* as they must be */
    bool *unknown;        /* between the parts of a value */
    struct claim *claims;
};

struct window {
    MPI_Win win;
    MPI_Comm comm;
    MPI_Group group;
    enum flavor flavor;
    int n, me; /* ranks, and ours, or -1 */
    int world[RANKS_MAX];
    struct part parts[RANKS_MAX];
    unsigned char *mine, *allocated;
    bool is_ordered, in_fence;
};

static struct {
    MPI_Comm comm;
    int n, me, world[RANKS_MAX];
    bool share; /* memory */
} comms[COMMS];
static int comm_count;

static struct window *windows[WINDOWS_MAX];
static int window_count;

/* A communicator of the ranks of MPI_COMM_WORLD that `in` has, in that order. */
static void add_comm(const int *in, int n, bool share)
{
    MPI_Group world, group;
    int me = -1;

    MPI_Comm_group(MPI_COMM_WORLD, &world);
    MPI_Group_incl(world, n, in, &group);
    MPI_Comm_create(MPI_COMM_WORLD, group, &comms[comm_count].comm);
    for (int i = 0; i < n; i++)
        me = in[i] == rank ? i : me;
    comms[comm_count].n = n;
    comms[comm_count].me = me;
    comms[comm_count].share = share;
    memcpy(comms[comm_count].world, in, (size_t) n * sizeof(*in));
    comm_count++;
    MPI_Group_free(&group);
    MPI_Group_free(&world);
}

static void make_comms(void)
{
    int in[RANKS_MAX], n = 0;

    for (int i = 0; i < size; i++)
        in[i] = i;
    add_comm(in, size, all_share);
    for (int i = 0; i < size; i++)
        in[i] = size - 1 - i;
    add_comm(in, size, all_share);
    for (int i = 0; i < size; i++) /* some */
        if (i % 3 != 1)
            in[n++] = i;
    add_comm(in, n, all_share);
    add_comm((int[]){below(size)}, 1, true);
    if (!all_share) { /* those with whom rank 0 can share */
        MPI_Comm node;
        int member = 0, all[RANKS_MAX];
        MPI_Comm_split_type(MPI_COMM_WORLD, MPI_COMM_TYPE_SHARED, 0, MPI_INFO_NULL, &node);
        int first = rank;
        MPI_Bcast(&first, 1, MPI_INT, 0, node);
        member = first == 0;
        MPI_Comm_free(&node);
        MPI_Allgather(&member, 1, MPI_INT, all, 1, MPI_INT, MPI_COMM_WORLD);
        n = 0;
        for (int i = 0; i < size; i++)
            if (all[i])
                in[n++] = i;
        add_comm(in, n, true);
    }
}

static void free_comms(void)
{
    for (int i = 0; i < comm_count; i++)
        if (comms[i].comm != MPI_COMM_NULL)
            MPI_Comm_free(&comms[i].comm);
    comm_count = 0;
}

/* Fills a part with values of one type: the copy, and our own part itself. */
static void fill_part(struct window *w, int r)
{
    const struct basic *b = &basics[below(basic_count)];
    struct part *p = &w->parts[r];
    uint64_t from = draw();

    for (MPI_Aint at = 0; at < p->size; at += b->mem) {
        unsigned char value[32];
        make_value(b, from, (uint64_t) at, value);
        MPI_Aint n = p->size - at < b->mem ? p->size - at : b->mem;
        memcpy(p->bytes + at, value, (size_t) n);
        memset(p->unknown + at, 0, (size_t) n);
    }
    if (w->me == r && p->size > 0)
        memcpy(w->mine, p->bytes, (size_t) p->size);
}

/* We may read and write our own part, and nobody else accesses it. */
static void own_begin(struct window *w)
{
    MPI_Win_lock(MPI_LOCK_EXCLUSIVE, w->me, 0, w->win);
}

static void own_end(struct window *w)
{
    MPI_Win_unlock(w->me, w->win);
}

static void fill_parts(struct window *w)
{
    if (w->me >= 0)
        own_begin(w);
    for (int r = 0; r < w->n; r++)
        fill_part(w, r);
    if (w->me >= 0) {
        own_end(w);
        MPI_Barrier(w->comm);
    }
}

static MPI_Aint any_size(bool large)
{
    if (one_in(5))
        return 0;
    if (large)
        return LARGE - 64 * below(100);
    return one_in(3) ? below(SMALL) : one_in(2) ? below(MIDDLE) : 16 * below(SMALL);
}

/* The buffer of a dynamic window; it may differ from the last one. */
static void attach(struct window *w)
{
    MPI_Aint address = 0, all[RANKS_MAX];

    if (w->me < 0)
        return;
    w->mine = w->allocated = need((size_t) w->parts[w->me].size + 64);
    if (w->parts[w->me].size > 0)
        MPI_Win_attach(w->win, w->mine, w->parts[w->me].size);
    MPI_Get_address(w->mine, &address);
    MPI_Allgather(&address, 1, MPI_AINT, all, 1, MPI_AINT, w->comm);
    for (int r = 0; r < w->n; r++)
        w->parts[r].address = all[r];
}

static void detach(struct window *w)
{
    if (w->parts[w->me].size > 0)
        MPI_Win_detach(w->win, w->mine);
    free(w->allocated);
}

static void check_attributes(const struct window *w)
{
    void *base;
    MPI_Aint *bytes;
    int *unit, *flavor, flag;
    static const int flavors[] = {MPI_WIN_FLAVOR_CREATE, MPI_WIN_FLAVOR_CREATE,
                                  MPI_WIN_FLAVOR_ALLOCATE, MPI_WIN_FLAVOR_SHARED,
                                  MPI_WIN_FLAVOR_DYNAMIC};

    MPI_Win_get_attr(w->win, MPI_WIN_CREATE_FLAVOR, &flavor, &flag);
    WRONG(flag && *flavor == flavors[w->flavor], "flavor");
    if (w->flavor == DYNAMIC)
        return;
    MPI_Win_get_attr(w->win, MPI_WIN_BASE, &base, &flag);
    WRONG(flag && (base == w->mine || w->parts[w->me].size == 0), "base %p, expected %p", base,
          (void *) w->mine);
    MPI_Win_get_attr(w->win, MPI_WIN_SIZE, &bytes, &flag);
    WRONG(flag && *bytes == w->parts[w->me].size, "size");
    MPI_Win_get_attr(w->win, MPI_WIN_DISP_UNIT, &unit, &flag);
    WRONG(flag && *unit == w->parts[w->me].unit, "unit");
}

/* Where the parts of a shared window are. */
static void check_query(const struct window *w)
{
    char *base;
    MPI_Aint bytes;
    int unit, first = 0;

    while (first < w->n && w->parts[first].size == 0)
        first++;
    for (int r = 0; r < w->n; r++) {
        MPI_Win_shared_query(w->win, r, &bytes, &unit, &base);
        WRONG(bytes == w->parts[r].size && unit == w->parts[r].unit, "rank %d: %ld bytes, unit %d",
              r, (long) bytes, unit);
    }
    MPI_Win_shared_query(w->win, MPI_PROC_NULL, &bytes, &unit, &base);
    WRONG(bytes == (first < w->n ? w->parts[first].size : 0), "first: %ld bytes", (long) bytes);
}

static const char *boolean(void)
{
    return one_in(2) ? "true" : "false";
}

static void make_window(void)
{
    static const int units[] = {1, 1, 2, 4, 8, 8, 16, 3, 12, 24};
    int c = below(comm_count), unit = units[below(10)];
    bool same_size = one_in(4), same_unit = one_in(2), large = one_in(8), noncontig = one_in(3);
    bool set_info = one_in(4);
    struct window *w = calloc(1, sizeof(*w));
    MPI_Info info;

    CHECK(w, "no memory");
    doing = "make a window";
    w->flavor = (enum flavor) below(FLAVORS);
    if (w->flavor == SHARED)
        while (!comms[c].share)
            c = (c + 1) % comm_count;
    w->n = comms[c].n;
    w->me = comms[c].me;
    memcpy(w->world, comms[c].world, sizeof(w->world));
    MPI_Aint same = any_size(large);
    for (int r = 0; r < w->n; r++) {
        struct part *p = &w->parts[r];
        p->unit = w->flavor == DYNAMIC ? 1 : same_unit ? unit : units[below(10)];
        p->size = same_size ? same : any_size(large && one_in(2));
        if (w->flavor == SHARED)
            p->size &= ~(MPI_Aint) 63; /* all parts aligned */
        p->bytes = need((size_t) p->size);
        p->unknown = need((size_t) p->size * sizeof(*p->unknown));
    }
    MPI_Info_create(&info);
    w->is_ordered = !one_in(4);
    if (!w->is_ordered)
        MPI_Info_set(info, "accumulate_ordering", "none");
    else if (one_in(3))
        MPI_Info_set(info, "accumulate_ordering", "rar,raw,war,waw");
    if (one_in(3) && w->flavor != SHARED) /* where MPICH takes it at its word */
        MPI_Info_set(info, "alloc_shm", boolean());
    if (noncontig)
        MPI_Info_set(info, "alloc_shared_noncontig", boolean());
    if (same_size && one_in(2))
        MPI_Info_set(info, "same_size", "true");
    if (same_unit && one_in(2) && w->flavor != DYNAMIC)
        MPI_Info_set(info, "same_disp_unit", "true");
    if (one_in(3))
        MPI_Info_set(info, "accumulate_ops", "same_op_no_op");
    if (verbose && rank == 0)
        fprintf(stderr, "round %d: window %s, %d ranks, units of %d ..., %ld bytes ...\n",
                round_now, flavor_names[w->flavor], w->n, w->parts[0].unit,
                (long) w->parts[0].size);
    w->win = MPI_WIN_NULL;
    if (w->me >= 0) {
        struct part *p = &w->parts[w->me];
        MPI_Comm comm = comms[c].comm;
        switch (w->flavor) {
        case CREATED:
            w->mine = w->allocated = need((size_t) p->size + 64);
            MPI_Win_create(w->mine, p->size, p->unit, info, comm, &w->win);
            break;
        case CREATED_THERE:
            MPI_Alloc_mem(p->size + 64, MPI_INFO_NULL, &w->allocated);
            w->mine = w->allocated + (p->size % 2 ? 0 : 16);
            MPI_Win_create(w->mine, p->size, p->unit, info, comm, &w->win);
            break;
        case ALLOCATED:
            MPI_Win_allocate(p->size, p->unit, info, comm, &w->mine, &w->win);
            break;
        case SHARED:
            MPI_Win_allocate_shared(p->size, p->unit, info, comm, &w->mine, &w->win);
            break;
        default:
            MPI_Win_create_dynamic(info, comm, &w->win);
        }
        MPI_Comm_dup(comm, &w->comm);
        MPI_Win_get_group(w->win, &w->group);
        if (set_info)
            MPI_Win_set_info(w->win, info);
    }
    MPI_Info_free(&info);
    if (w->flavor == DYNAMIC)
        attach(w);
    if (w->me >= 0)
        check_attributes(w);
    if (w->me >= 0 && w->flavor == SHARED)
        check_query(w);
    fill_parts(w);
    windows[window_count++] = w;
}

static void check_bytes(const struct part *p, const unsigned char *found, int r, const char *where)
{
    for (MPI_Aint i = 0; i < p->size; i++)
        WRONG(found[i] == p->bytes[i] || p->unknown[i],
              "%s: part of rank %d, byte %ld of %ld is %02x, expected %02x", where, r, (long) i,
              (long) p->size, found[i], p->bytes[i]);
}

/* Our part, and all parts of a shared window, visible to us. */
static void check_window(struct window *w)
{
    if (w->me < 0)
        return;
    doing = flavor_names[w->flavor];
    own_begin(w);
    check_bytes(&w->parts[w->me], w->mine, w->me, "window");
    own_end(w);
    if (w->flavor == SHARED)
        for (int r = 0; r < w->n; r++) {
            unsigned char *base;
            MPI_Aint bytes;
            int unit;
            MPI_Win_shared_query(w->win, r, &bytes, &unit, &base);
            MPI_Win_lock(MPI_LOCK_SHARED, r, 0, w->win);
            check_bytes(&w->parts[r], base, r, "shared window");
            MPI_Win_unlock(r, w->win);
        }
}

/* Each rank puts something into the next one's part, and then calls MPI_Win_free at once. */
static void last_puts(struct window *w)
{
    uint64_t from = draw();
    bool exclusive = one_in(2), empty = one_in(3);

    for (int r = 0; r < w->n; r++) {
        int to = (r + 1) % w->n;
        struct part *p = &w->parts[to];
        MPI_Aint bytes = p->size < 8 || empty ? 0 : 8;
        unsigned char value[8];
        uint64_t word = mix(from + (uint64_t) r);
        memcpy(value, &word, 8);
        if (r == w->me) {
            MPI_Win_lock(exclusive ? MPI_LOCK_EXCLUSIVE : MPI_LOCK_SHARED, to, 0, w->win);
            if (bytes)
                MPI_Put(value, 8, MPI_BYTE, to, w->flavor == DYNAMIC ? p->address : 0, 8, MPI_BYTE,
                        w->win);
            MPI_Win_unlock(to, w->win);
        }
        if (bytes) {
            memcpy(p->bytes, value, 8);
            memset(p->unknown, 0, 8 * sizeof(*p->unknown));
        }
    }
}

static void free_window(int i)
{
    struct window *w = windows[i];
    bool at_once = one_in(2);

    doing = "free a window";
    if (verbose && rank == 0)
        fprintf(stderr, "round %d: free window %d\n", round_now, i);
    if (at_once)
        last_puts(w);
    if (w->me >= 0) {
        bool is_ours = w->flavor == CREATED || w->flavor == CREATED_THERE;
        if (w->flavor == DYNAMIC) {
            MPI_Barrier(w->comm); /* their last puts */
            detach(w);
        }
        MPI_Win_free(&w->win);
        if (is_ours)
            check_bytes(&w->parts[w->me], w->mine, w->me, "memory of a freed window");
        if (w->flavor == CREATED)
            free(w->allocated);
        if (w->flavor == CREATED_THERE)
            MPI_Free_mem(w->allocated);
        MPI_Group_free(&w->group);
        MPI_Comm_free(&w->comm);
    }
    for (int r = 0; r < w->n; r++) {
        free(w->parts[r].bytes);
        free(w->parts[r].unknown);
    }
    free(w);
    windows[i] = windows[--window_count];
}

/* --- operations --- */

enum call { PUT, GET, ACC, GET_ACC, FETCH, SWAP, CALLS };
static const char *const call_names[] = {
    "put", "get", "accumulate", "get_accumulate", "fetch_and_op", "compare_and_swap"};

struct operation {
    enum call call;
    enum op op;
    int window, origin, target;
    bool with_request;
    struct layout from, at, into; /* data, in the window, result */
    MPI_Aint disp;                /* bytes */
    uint64_t data;
    unsigned char compare[32];
    unsigned char *out, *in; /* buffers of the origin */
    unsigned char *expected; /* packed */
    bool *unknown;
    MPI_Request request;
    int flush; /* what follows it */
};

static bool fetches(enum call call)
{
    return call == GET || call >= GET_ACC;
}

static bool claim(struct window *w, const struct operation *o, bool really)
{
    const struct part *p = &w->parts[o->target];
    bool is_fetching = o->call >= GET_ACC;

    for (int i = 0; i < o->at.n; i++) {
        const struct basic *b = basic_at(&o->at, i);
        struct claim *c = &p->claims[o->disp + element_at(&o->at, i)];
        bool sane = o->op == REPLACE || o->op == NO_OP ||
                    is_sane(b, p->bytes + o->disp + element_at(&o->at, i));
        for (int k = 0; k < b->mem; k++) {
            struct claim mine = {o->call == PUT   ? WRITTEN
                                 : o->call == GET ? READ
                                                  : ACCUMULATED,
                                 (uint8_t) o->op,
                                 (uint8_t) k,
                                 (uint8_t) (b - basics),
                                 (int8_t) o->origin,
                                 is_fetching};
            if (mine.use == ACCUMULATED && o->op != REPLACE && o->op != NO_OP &&
                (!sane || (is_value(b, k) && p->unknown[o->disp + element_at(&o->at, i) + k])))
                return false;
            if (c[k].use == UNUSED) {
                if (really)
                    c[k] = mine;
                continue;
            }
            if (c[k].use != mine.use || mine.use == WRITTEN)
                return false;
            if (mine.use == READ)
                continue;
            if (c[k].basic != mine.basic || c[k].offset != k ||
                (c[k].op != mine.op && c[k].op != NO_OP && mine.op != NO_OP))
                return false;
            if (c[k].origin != o->origin || !w->is_ordered) {
                bool commutes = o->op <= MINLOC &&
                                (o->op != PROD || (b->class != FLOATING && b->class != COMPLEX));
                if (is_fetching || c[k].fetched || !commutes || c[k].op != mine.op)
                    return false;
                if (really)
                    c[k].origin = -1;
            }
            if (really) {
                c[k].fetched |= is_fetching;
                c[k].op = c[k].op == NO_OP ? mine.op : c[k].op;
            }
        }
    }
    return true;
}

/* Applies it to the copies of the windows, and keeps the results that are expected. */
static void apply(struct window *w, struct operation *o)
{
    struct part *p = &w->parts[o->target];
    size_t at = 0, bytes = 0;

    for (int i = 0; i < o->at.n; i++)
        bytes += (size_t) basic_at(&o->at, i)->mem;
    if (fetches(o->call)) {
        o->expected = need(bytes);
        o->unknown = need(bytes * sizeof(*o->unknown));
    }
    for (int i = 0; i < o->at.n; i++) {
        const struct basic *b = basic_at(&o->at, i);
        unsigned char *x = p->bytes + o->disp + element_at(&o->at, i), y[32];
        bool *unknown = p->unknown + o->disp + element_at(&o->at, i);
        if (fetches(o->call)) {
            memcpy(o->expected + at, x, (size_t) b->mem);
            memcpy(o->unknown + at, unknown, (size_t) b->mem * sizeof(*unknown));
            for (int k = 0; k < b->mem; k++)
                o->unknown[at + (size_t) k] |= !is_value(b, k);
            at += (size_t) b->mem;
        }
        if (o->call == GET || o->op == NO_OP)
            continue;
        make_value(b, o->data, (uint64_t) i, y);
        if (o->call == SWAP && memcmp(x, o->compare, (size_t) b->mem) != 0)
            continue;
        operate(b, o->call == PUT || o->call == SWAP ? REPLACE : o->op, x, y);
        for (int k = 0; k < b->mem; k++)
            unknown[k] = !is_value(b, k);
    }
}

/* A byte of a buffer that nothing writes. */
static unsigned char around(MPI_Aint i)
{
    return (unsigned char) (i * 7 + 11);
}

static unsigned char *new_buffer(const struct layout *l)
{
    unsigned char *buffer = need((size_t) (l->high - l->low) + 64);
    for (MPI_Aint i = 0; i < l->high - l->low + 64; i++)
        buffer[i] = around(i);
    return buffer;
}

/* Where the type's offset 0 is in its buffer, aligned as it was laid out. */
static unsigned char *origin_of(const struct layout *l, unsigned char *buffer)
{
    return buffer + ((l->low & 15) ? l->low & 15 : 0) - l->low;
}

static void free_operation(struct operation *o)
{
    free_layout(&o->from);
    free_layout(&o->at);
    free_layout(&o->into);
    free(o->out);
    free(o->in);
    free(o->expected);
    free(o->unknown);
}

static MPI_Aint common_multiple(MPI_Aint a, MPI_Aint b)
{
    MPI_Aint m = a;
    while (m % b)
        m += a;
    return m;
}

/* A position in the target's part for this layout; false if there is none. */
static bool find_place(const struct part *p, int unit, struct operation *o)
{
    MPI_Aint step = common_multiple(unit, 16), first = o->at.low < 0 ? -o->at.low : 0;

    first += (step - first % step) % step;
    MPI_Aint last = p->size - o->at.high;
    if (o->at.n == 0 || last < first)
        return false;
    o->disp = first + step * (MPI_Aint) (draw() % (uint64_t) ((last - first) / step + 1));
    return true;
}

/* Something that does not conflict with the rest of the phase; false if nothing was found. */
static bool make_operation(int index, struct operation *o)
{
    struct window *w = windows[index];
    const struct basic *b = &basics[below(basic_count)];
    int n = one_in(3) ? 1 : one_in(2) ? 1 + below(12) : 1 + below(60);

    *o = (struct operation){.window = index, .op = REPLACE, .request = MPI_REQUEST_NULL};
    o->call = (enum call) below(CALLS);
    o->origin = below(w->n);
    o->target = below(w->n);
    o->data = draw();
    o->with_request = one_in(3);
    o->flush = below(12);
    const struct part *p = &w->parts[o->target];
    if (p->size > MIDDLE && one_in(3))
        n = 1 + below((int) p->size / b->mem / 2);
    bool many = p->size > MIDDLE && b->mem == 1 && one_in(4);
    if (many)
        n = (int) (p->size / 2 - below(64));
    if (o->call == SWAP || o->call == FETCH)
        n = 1;
    if (o->call == SWAP)
        while (!may_swap(b->class))
            b = &basics[(b - basics + 1) % basic_count];
    if (o->call >= ACC && o->call <= FETCH) {
        o->op = (enum op) below(NO_OP + 1);
        if (o->op < REPLACE && !is_allowed(b->class, o->op))
            for (o->op = MAX; o->op < REPLACE && !is_allowed(b->class, o->op);)
                o->op++;
        if (o->op == NO_OP && o->call == ACC)
            o->op = REPLACE;
    }
    if (o->call == SWAP)
        o->op = CAS;

    make_types = rank == w->world[o->origin];
    bool mixed = (o->call == PUT || o->call == GET) && one_in(4);
    if (n == 1 && (o->call == SWAP || o->call == FETCH || one_in(2))) {
        o->at = simple_layout(b, 1);
        o->from = simple_layout(b, 1);
        o->into = simple_layout(b, 1);
    } else if (mixed) {
        /* Several predefined types, in the same order on both sides. */
        struct layout *sides[] = {&o->at, &o->from};
        const struct basic *others[3] = {b, &basics[below(basic_count)],
                                         &basics[below(basic_count)]};
        int counts[3] = {1 + below(6), 1 + below(6), 1 + below(6)}, parts = 2 + below(2),
            count = 1 + below(4);
        for (int side = 0; side < 2; side++) {
            struct type types[3];
            for (int i = 0; i < parts; i++)
                types[i] = any_type(others[i], counts[i], below(DEPTH));
            *sides[side] = (struct layout){joined(types, parts), count, 0, 0, 0};
            if (!lay_out(sides[side])) {
                free_operation(o);
                return false;
            }
        }
    } else {
        if (many) {
            o->at = (struct layout){many_blocks(b, n), 1, 0, 0, 0};
            lay_out(&o->at);
        } else {
            o->at = one_in(3) ? simple_layout(b, n) : any_layout(b, n);
        }
        o->from = one_in(3) || many ? simple_layout(b, n) : any_layout(b, n);
        if (o->call == GET_ACC)
            o->into = one_in(3) || many ? simple_layout(b, n) : any_layout(b, n);
    }
    bool found = false;
    for (int tries = 0; tries < 3 && !found; tries++)
        found = find_place(p, p->unit, o) && claim(w, o, false);
    if (!found && o->op < REPLACE) {
        o->op = REPLACE;
        found = find_place(p, p->unit, o) && claim(w, o, false);
    }
    /* The value to compare with is the current one, or not. */
    if (found && o->call == SWAP) {
        bool same = one_in(2);
        make_value(b, draw(), 0, o->compare);
        if (same)
            memcpy(o->compare, p->bytes + o->disp, (size_t) b->mem);
        for (int k = 0; k < b->mem; k++)
            found &= !p->unknown[o->disp + k];
    }
    if (!found) {
        free_operation(o);
        return false;
    }
    claim(w, o, true);
    apply(w, o);
    return true;
}

static void tell(const struct operation *o, char text[300])
{
    const struct window *w = windows[o->window];

    snprintf(text, 300, "%s%s, %s, window %d (%s), %d to %d of it: %d x %d %s at %ld",
             o->with_request ? "r" : "", call_names[o->call], op_names[o->op], o->window,
             flavor_names[w->flavor], o->origin, o->target, o->at.count, o->at.type.n,
             o->at.type.map[0].basic->name, (long) o->disp);
}

static void fill_data(const struct operation *o)
{
    for (int i = 0; i < o->from.n; i++)
        make_value(basic_at(&o->from, i), o->data, (uint64_t) i,
                   origin_of(&o->from, o->out) + element_at(&o->from, i));
}

static void check_result(struct operation *o)
{
    const struct layout *l = o->call == GET ? &o->from : &o->into;
    unsigned char *origin = origin_of(l, o->in);
    size_t at = 0;
    char text[300];

    tell(o, text);
    doing = text;
    bool *inside = calloc((size_t) (l->high - l->low) + 64, sizeof(*inside));
    CHECK(inside, "no memory");
    for (int i = 0; i < l->n; i++) {
        const struct basic *b = basic_at(l, i);
        unsigned char *found = origin + element_at(l, i);
        for (int k = 0; k < b->mem; k++, at++) {
            inside[found + k - o->in] = true;
            WRONG(found[k] == o->expected[at] || o->unknown[at],
                  "element %d, byte %d is %02x, expected %02x", i, k, found[k], o->expected[at]);
        }
    }
    for (MPI_Aint i = 0; i < l->high - l->low + 64; i++)
        WRONG(inside[i] || o->in[i] == around(i),
              "byte %ld of the result's buffer is not part of it", (long) i);
    free(inside);
}

/* Makes it ready for use; and our copy of it. */
static void commit(struct type *t)
{
    MPI_Aint lb, extent, low, bytes;

    if (!t->map || !t->is_derived)
        return;
    MPI_Type_commit(&t->mpi);
    MPI_Type_get_extent(t->mpi, &lb, &extent);
    MPI_Type_get_true_extent(t->mpi, &low, &bytes);
    WRONG(lb == t->lb && extent == t->extent, "type from %ld, %ld bytes, expected %ld, %ld",
          (long) lb, (long) extent, (long) t->lb, (long) t->extent);
    WRONG(low == lowest(t), "type truly from %ld, expected %ld", (long) low, (long) lowest(t));
}

/* What this rank does in it. */
static void begin_operation(struct operation *o, bool is_passive)
{
    struct window *w = windows[o->window];
    const struct part *p = &w->parts[o->target];
    MPI_Aint disp = w->flavor == DYNAMIC ? MPI_Aint_add(p->address, o->disp) : o->disp / p->unit;
    bool with_request = o->with_request && is_passive && o->call <= GET_ACC;
    static char text[300];

    tell(o, text);
    doing = text;
    if (verbose)
        fprintf(stderr, "rank %d: round %d, phase %d: %s\n", rank, round_now, phase_now, text);
    void *out = NULL, *in = NULL;
    commit(&o->from.type);
    commit(&o->at.type);
    commit(&o->into.type);
    if (o->call == GET) {
        o->in = new_buffer(&o->from);
        in = origin_of(&o->from, o->in);
    } else {
        o->out = new_buffer(&o->from);
        out = origin_of(&o->from, o->out);
        fill_data(o);
    }
    if (o->call >= GET_ACC) {
        o->in = new_buffer(&o->into);
        in = origin_of(&o->into, o->in);
    }
    MPI_Op op = mpi_ops[o->op];
    const struct layout *f = &o->from, *a = &o->at, *i = &o->into;
    switch (o->call) {
    case PUT:
        if (with_request)
            MPI_Rput(out, f->count, f->type.mpi, o->target, disp, a->count, a->type.mpi, w->win,
                     &o->request);
        else
            MPI_Put(out, f->count, f->type.mpi, o->target, disp, a->count, a->type.mpi, w->win);
        break;
    case GET:
        if (with_request)
            MPI_Rget(in, f->count, f->type.mpi, o->target, disp, a->count, a->type.mpi, w->win,
                     &o->request);
        else
            MPI_Get(in, f->count, f->type.mpi, o->target, disp, a->count, a->type.mpi, w->win);
        break;
    case ACC:
        if (with_request)
            MPI_Raccumulate(out, f->count, f->type.mpi, o->target, disp, a->count, a->type.mpi, op,
                            w->win, &o->request);
        else
            MPI_Accumulate(out, f->count, f->type.mpi, o->target, disp, a->count, a->type.mpi, op,
                           w->win);
        break;
    case GET_ACC:
        if (with_request)
            MPI_Rget_accumulate(out, f->count, f->type.mpi, in, i->count, i->type.mpi, o->target,
                                disp, a->count, a->type.mpi, op, w->win, &o->request);
        else
            MPI_Get_accumulate(out, f->count, f->type.mpi, in, i->count, i->type.mpi, o->target,
                               disp, a->count, a->type.mpi, op, w->win);
        break;
    case FETCH:
        MPI_Fetch_and_op(out, in, a->type.mpi, o->target, disp, op, w->win);
        break;
    default:
        MPI_Compare_and_swap(out, o->compare, in, a->type.mpi, o->target, disp, w->win);
    }
    if (!is_passive)
        return;
    switch (o->flush) {
    case 0:
        MPI_Win_flush(o->target, w->win);
        break;
    case 1:
        MPI_Win_flush_local(o->target, w->win);
        break;
    case 2:
        MPI_Win_flush_all(w->win);
        break;
    case 3:
        MPI_Win_flush_local_all(w->win);
        break;
    case 4:
        MPI_Win_sync(w->win);
        break;
    case 5:
        MPI_Wait(&o->request, MPI_STATUS_IGNORE);
        if (with_request && fetches(o->call))
            check_result(o);
        break;
    default:
        break;
    }
}

/* --- phases --- */

enum sync { FENCE, PSCW, LOCKS, EXCLUSIVE, LOCK_ALL, SYNCS };

struct epoch {
    struct window *w;
    enum sync sync;
    bool reached[RANKS_MAX][RANKS_MAX]; /* from, to: locked, or exposed to */
    bool no_check, no_precede, no_succeed, test;
};

static MPI_Group group_of(const struct epoch *e, bool origins)
{
    MPI_Group group;
    int in[RANKS_MAX], n = 0, me = e->w->me;

    for (int r = 0; r < e->w->n; r++)
        if (origins ? e->reached[r][me] : e->reached[me][r])
            in[n++] = r;
    MPI_Group_incl(e->w->group, n, in, &group);
    return group;
}

static void open_first(struct epoch *e)
{
    MPI_Group group;

    if (e->sync == FENCE)
        MPI_Win_fence(e->no_precede ? MPI_MODE_NOPRECEDE : 0, e->w->win);
    if (e->sync == PSCW) {
        group = group_of(e, true);
        MPI_Win_post(group, 0, e->w->win);
        MPI_Group_free(&group);
    }
}

static void open_second(struct epoch *e)
{
    MPI_Group group;

    if (e->sync == PSCW) {
        group = group_of(e, false);
        MPI_Win_start(group, 0, e->w->win);
        MPI_Group_free(&group);
    }
    if (e->sync == LOCK_ALL)
        MPI_Win_lock_all(e->no_check ? MPI_MODE_NOCHECK : 0, e->w->win);
    for (int r = 0; r < e->w->n && e->sync == LOCKS; r++)
        if (e->reached[e->w->me][r])
            MPI_Win_lock(MPI_LOCK_SHARED, r, e->no_check ? MPI_MODE_NOCHECK : 0, e->w->win);
}

static void close_first(struct epoch *e)
{
    if (e->sync == FENCE)
        MPI_Win_fence(e->no_succeed ? MPI_MODE_NOSUCCEED : 0, e->w->win);
    if (e->sync == PSCW)
        MPI_Win_complete(e->w->win);
    if (e->sync == LOCK_ALL)
        MPI_Win_unlock_all(e->w->win);
    for (int r = e->w->n; r-- > 0 && e->sync == LOCKS;)
        if (e->reached[e->w->me][r])
            MPI_Win_unlock(r, e->w->win);
}

static void close_second(struct epoch *e)
{
    int done = 0;

    if (e->sync != PSCW)
        return;
    if (!e->test)
        MPI_Win_wait(e->w->win);
    else
        while (!done)
            MPI_Win_test(e->w->win, &done);
}

static void wait_for_requests(struct operation *ops, int count, const struct window *w, int target)
{
    for (int i = 0; i < count; i++)
        if (windows[ops[i].window] == w && (target < 0 || ops[i].target == target))
            MPI_Wait(&ops[i].request, MPI_STATUS_IGNORE);
}

static bool is_mine(const struct operation *o)
{
    return windows[o->window]->me == o->origin;
}

static void run_operations(struct epoch *epochs, struct operation *ops, int count)
{
    /* One exclusive lock at a time: otherwise two ranks may wait for each other. */
    for (int k = 0; k < window_count; k++)
        for (int t = 0; t < windows[k]->n && epochs[k].w && epochs[k].sync == EXCLUSIVE; t++) {
            if (windows[k]->me < 0 || !epochs[k].reached[windows[k]->me][t])
                continue;
            MPI_Win_lock(MPI_LOCK_EXCLUSIVE, t, 0, windows[k]->win);
            for (int i = 0; i < count; i++)
                if (ops[i].window == k && ops[i].target == t && is_mine(&ops[i]))
                    begin_operation(&ops[i], true);
            wait_for_requests(ops, count, windows[k], t);
            MPI_Win_unlock(t, windows[k]->win);
        }
    for (int k = 0; k < window_count; k++)
        if (epochs[k].w && epochs[k].w->me >= 0)
            open_first(&epochs[k]);
    for (int k = 0; k < window_count; k++)
        if (epochs[k].w && epochs[k].w->me >= 0)
            open_second(&epochs[k]);
    for (int i = 0; i < count; i++) {
        enum sync sync = epochs[ops[i].window].sync;
        if (is_mine(&ops[i]) && sync != EXCLUSIVE)
            begin_operation(&ops[i], sync == LOCKS || sync == LOCK_ALL);
    }
    for (int k = 0; k < window_count; k++)
        if (epochs[k].w && epochs[k].w->me >= 0) {
            doing = "close an epoch";
            wait_for_requests(ops, count, windows[k], -1);
            close_first(&epochs[k]);
        }
    for (int k = 0; k < window_count; k++)
        if (epochs[k].w && epochs[k].w->me >= 0)
            close_second(&epochs[k]);
}

static void phase(void)
{
    static struct operation ops[OPS_MAX];
    static struct epoch epochs[WINDOWS_MAX];
    int count = 0, wanted = 1 + below(OPS_MAX);
    bool used = false;

    memset(epochs, 0, sizeof(epochs));
    for (int k = 0; k < window_count; k++) {
        struct window *w = windows[k];
        if (used && one_in(2))
            continue;
        used = true;
        epochs[k].w = w;
        epochs[k].sync = (enum sync) below(SYNCS);
        epochs[k].no_check = one_in(4);
        epochs[k].no_precede = one_in(2);
        epochs[k].no_succeed = one_in(2);
        epochs[k].test = one_in(2);
        for (int o = 0; o < w->n; o++)
            for (int t = 0; t < w->n; t++)
                epochs[k].reached[o][t] = one_in(3);
        for (int r = 0; r < w->n; r++) {
            w->parts[r].claims = calloc((size_t) w->parts[r].size + 1, sizeof(struct claim));
            CHECK(w->parts[r].claims, "no memory");
        }
    }
    for (int tries = 0; tries < 2 * wanted && count < wanted; tries++) {
        int k = below(window_count);
        if (!epochs[k].w || !make_operation(k, &ops[count]))
            continue;
        epochs[k].reached[ops[count].origin][ops[count].target] = true;
        count++;
    }
    run_operations(epochs, ops, count);
    for (int i = 0; i < count; i++) {
        if (is_mine(&ops[i]) && ops[i].expected)
            check_result(&ops[i]);
        free_operation(&ops[i]);
    }
    for (int k = 0; k < window_count; k++) {
        if (!epochs[k].w)
            continue;
        doing = "compare";
        if (windows[k]->me >= 0)
            MPI_Barrier(windows[k]->comm);
        check_window(windows[k]);
        for (int r = 0; r < windows[k]->n; r++)
            free(windows[k]->parts[r].claims);
        if (windows[k]->me >= 0)
            MPI_Barrier(windows[k]->comm);
        if (one_in(4))
            fill_parts(windows[k]);
        if (windows[k]->flavor == DYNAMIC && one_in(4)) {
            if (windows[k]->me >= 0)
                detach(windows[k]);
            attach(windows[k]);
            fill_parts(windows[k]);
        }
    }
}

static void run(int rounds)
{
    state = mix(seed);
    make_comms();
    for (round_now = 0; round_now < rounds; round_now++) {
        phase_now = -1;
        while (window_count > 0 && (window_count == WINDOWS_MAX || one_in(3)))
            free_window(below(window_count));
        while (window_count == 0 || (window_count < WINDOWS_MAX && one_in(2)))
            make_window();
        int phases = 1 + below(4);
        for (phase_now = 0; phase_now < phases; phase_now++)
            phase();
    }
    while (window_count > 0)
        free_window(window_count - 1);
    free_comms();
}

int main(int argc, char **argv)
{
    int option, rounds = 20, seconds = 0, more = 1, runs = 0;

    start(&argc, &argv);
    seed = (uint64_t) time(NULL);
    while ((option = getopt(argc, argv, "s:n:t:av")) != -1) {
        switch (option) {
        case 's':
            seed = strtoull(optarg, NULL, 0);
            break;
        case 'n':
            rounds = atoi(optarg);
            break;
        case 't':
            seconds = atoi(optarg);
            break;
        case 'a':
            all_share = true;
            break;
        case 'v':
            verbose = true;
            break;
        default:
            CHECK(false, "usage: onesided [-s SEED] [-n ROUNDS] [-t SECONDS] [-a] [-v]");
        }
    }
    CHECK(size <= RANKS_MAX, "more than %d ranks", RANKS_MAX);
    MPI_Bcast(&seed, 1, MPI_UINT64_T, 0, MPI_COMM_WORLD);
    if (rank == 0) {
        printf("seed %llu\n", (unsigned long long) seed);
        fflush(stdout);
    }
    add_basics();
    for (double begun = MPI_Wtime(); more; seed++, runs++) {
        run(rounds);
        more = MPI_Wtime() - begun < seconds;
        MPI_Bcast(&more, 1, MPI_INT, 0, MPI_COMM_WORLD);
    }
    if (rank == 0)
        printf("%d runs\n", runs);
    expected.lmt_max = 1LL << 50; /* MPICH chooses */
    finish();
    return 0;
}
