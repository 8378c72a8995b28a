/* SPDX-License-Identifier: mpich2 */
/*
 * Derived datatypes: neighbours exchange the same elements between buffers of different layouts.
 * The test computes itself, element by element, what lies where, so that MPI's packing is checked
 * independently.
 */
#include "mpitest.h"

enum { PIECES_MAX = 16 };

/* One element of a layout: `pieces` of basic types, in the order in which they are sent. */
struct layout {
    const char *name;
    MPI_Datatype type;
    int pieces;
    MPI_Aint at[PIECES_MAX];
    int len[PIECES_MAX];
    MPI_Aint extent;
};

static int packed_size(const struct layout *l)
{
    int sum = 0;
    for (int i = 0; i < l->pieces; i++)
        sum += l->len[i];
    return sum;
}

static MPI_Aint offset_of_block(const struct layout *l, int k, int i)
{
    return l->at[i] + k * l->extent;
}

static unsigned char *stream, *buf[2];

/* The stream of elements into a buffer of that layout; everything between them is 0xee. */
static void scatter(const struct layout *l, int count, unsigned char *to, size_t room)
{
    const unsigned char *from = stream;
    memset(to, 0xee, room);
    for (int k = 0; k < count; k++)
        for (int i = 0; i < l->pieces; from += l->len[i++])
            memcpy(to + offset_of_block(l, k, i), from, l->len[i]);
}

static size_t room_for(const struct layout *l, int count)
{
    size_t end = 0;
    for (int k = count > 0 ? count - 1 : 0; k <= count; k++)
        for (int i = 0; i < l->pieces; i++)
            if ((size_t) (offset_of_block(l, k, i) + l->len[i]) > end)
                end = offset_of_block(l, k, i) + l->len[i];
    return end + 64;
}

static void exchange(const struct layout *a, const struct layout *b, int count, int late)
{
    int peer = rank ^ 1, got, element = packed_size(a);
    const struct layout *mine = rank & 1 ? b : a, *his = rank & 1 ? a : b;
    size_t room_out = room_for(mine, count), room_in = room_for(mine, count + 3);
    MPI_Request request[2];
    MPI_Status status[2];
    (void) his;

    CHECK(packed_size(a) == packed_size(b), "%s and %s differ", a->name, b->name);
    buf[0] = malloc(room_out);
    buf[1] = malloc(room_in);
    fill(stream, (size_t) count * element, rank);
    scatter(mine, count, buf[0], room_out);
    memset(buf[1], 0xee, room_in);
    /* The receive has room for more than arrives. */
    if (!late)
        MPI_Irecv(buf[1], count + 2, mine->type, peer, 1, MPI_COMM_WORLD, &request[1]);
    MPI_Isend(buf[0], count, mine->type, peer, 1, MPI_COMM_WORLD, &request[0]);
    expect_sent(peer, 1, (long long) count * element);
    if (late) {
        MPI_Probe(peer, 1, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
        MPI_Irecv(buf[1], count + 2, mine->type, peer, 1, MPI_COMM_WORLD, &request[1]);
    }
    MPI_Waitall(2, request, status);
    MPI_Get_count(&status[1], mine->type, &got);
    CHECK(got == count, "%s from %s: %d of %d elements", mine->name, his->name, got, count);

    /* buf[0] becomes what buf[1] has to be. */
    free(buf[0]);
    buf[0] = malloc(room_in);
    fill(stream, (size_t) count * element, peer);
    scatter(mine, count, buf[0], room_in);
    if (memcmp(buf[0], buf[1], room_in) != 0) {
        size_t at = 0;
        while (buf[0][at] == buf[1][at])
            at++;
        CHECK(0,
              "%s from %s, %d elements of %d bytes: byte %zu of the buffer is %02x, expected %02x",
              mine->name, his->name, count, element, at, buf[1][at], buf[0][at]);
    }
    free(buf[0]);
    free(buf[1]);
}

static struct layout contiguous(const char *name, MPI_Datatype base, int base_len, int n)
{
    struct layout l = {.name = name, .pieces = n};
    MPI_Type_contiguous(n, base, &l.type);
    for (int i = 0; i < n; i++) {
        l.at[i] = i * base_len;
        l.len[i] = base_len;
    }
    l.extent = (MPI_Aint) n * base_len;
    return l;
}

/* n blocks of `block` elements, `stride` elements apart. */
static struct layout vector(const char *name, MPI_Datatype base, int base_len, int n, int block,
                            int stride)
{
    struct layout l = {.name = name, .pieces = n * block};
    MPI_Datatype type;
    MPI_Type_vector(n, block, stride, base, &type);
    for (int i = 0; i < n * block; i++) {
        l.at[i] = (MPI_Aint) (i / block * stride + i % block) * base_len;
        l.len[i] = base_len;
    }
    l.extent = (MPI_Aint) n * stride * base_len;
    MPI_Type_create_resized(type, 0, l.extent, &l.type);
    MPI_Type_free(&type);
    return l;
}

/* Any order of displacements, in bytes. */
static struct layout structure(const char *name, int n, const MPI_Datatype *types, const int *lens,
                               const MPI_Aint *at, MPI_Aint extent)
{
    struct layout l = {.name = name, .pieces = n, .extent = extent};
    MPI_Datatype type;
    int ones[PIECES_MAX];
    for (int i = 0; i < n; i++) {
        ones[i] = 1;
        l.at[i] = at[i];
        l.len[i] = lens[i];
    }
    MPI_Type_create_struct(n, ones, at, types, &type);
    MPI_Type_create_resized(type, 0, extent, &l.type);
    MPI_Type_free(&type);
    return l;
}

static void all_pairs(struct layout *l, int n)
{
    static const int bytes[] = {1, 600, 20000, 33000, 70000, 300000, 1500000};
    for (int i = 0; i < n; i++)
        MPI_Type_commit(&l[i].type);
    for (int i = 0; i < n; i++)
        for (int k = 0; k < n; k++)
            for (int s = 0; s < 7; s++)
                exchange(&l[i], &l[k], 1 + bytes[s] / packed_size(&l[i]), (i + k + s) % 2);
    for (int i = 0; i < n; i++)
        MPI_Type_free(&l[i].type);
}

int main(int argc, char **argv)
{
    start(&argc, &argv);
    CHECK(size % 2 == 0, "an even number of ranks is needed");
    stream = malloc(2 << 20);

    struct layout doubles[] = {
        contiguous("doubles", MPI_DOUBLE, 8, 6),
        vector("every third double", MPI_DOUBLE, 8, 6, 1, 3),
        vector("pairs of doubles", MPI_DOUBLE, 8, 3, 2, 5),
        structure("doubles backwards", 6,
                  (MPI_Datatype[]){MPI_DOUBLE, MPI_DOUBLE, MPI_DOUBLE, MPI_DOUBLE, MPI_DOUBLE,
                                   MPI_DOUBLE},
                  (int[]){8, 8, 8, 8, 8, 8}, (MPI_Aint[]){80, 64, 40, 32, 8, 0}, 96),
    };
    all_pairs(doubles, 4);

    /* 25 bytes, so that chunks end inside every basic type. */
    static const MPI_Datatype mixed[] = {MPI_CHAR,  MPI_DOUBLE, MPI_INT,
                                         MPI_SHORT, MPI_DOUBLE, MPI_SHORT};
    static const int lens[] = {1, 8, 4, 2, 8, 2};
    struct layout structs[] = {
        structure("padded", 6, mixed, lens, (MPI_Aint[]){0, 8, 16, 20, 24, 32}, 40),
        structure("packed", 6, mixed, lens, (MPI_Aint[]){0, 1, 9, 13, 15, 23}, 25),
        structure("shuffled", 6, mixed, lens, (MPI_Aint[]){47, 8, 32, 36, 16, 0}, 48),
    };
    all_pairs(structs, 3);

    struct layout wide[] = {
        contiguous("long doubles", MPI_LONG_DOUBLE, 16, 3),
        vector("spread long doubles", MPI_LONG_DOUBLE, 16, 3, 1, 2),
    };
    all_pairs(wide, 2);

    struct layout wider[] = {
        vector("complex", MPI_C_LONG_DOUBLE_COMPLEX, 32, 2, 1, 2),
        structure("char and complex", 2,
                  (MPI_Datatype[]){MPI_C_LONG_DOUBLE_COMPLEX, MPI_C_LONG_DOUBLE_COMPLEX},
                  (int[]){32, 32}, (MPI_Aint[]){64, 0}, 112),
    };
    all_pairs(wider, 2);

    struct layout bytes[] = {
        contiguous("bytes", MPI_BYTE, 1, 12),
        vector("three of every five bytes", MPI_BYTE, 1, 4, 3, 5),
        vector("every other byte", MPI_BYTE, 1, 12, 1, 2),
    };
    all_pairs(bytes, 3);
    finish();
    return 0;
}
