/* SPDX-License-Identifier: mpich2 */
/*
 * Business cards. A card names the region and the endpoint of a rank, or says that it has no
 * region. So two ranks know whether they share a region without trying. Called at start, by the
 * code that chooses a path, and for ports, under MPICH's global lock.
 */
#include "ivshmem_card.h"

#include "ivshmem_vc.h"

#ifdef IVSHMEM_COMPAT_PMI
#include IVSHMEM_COMPAT_PMI
#endif

/* The last part of the card. The dot at its end shows that nothing was cut off. */
#define BC_KEY "ivshmem"
/* Region id, endpoint, generation, proof, release. */
#define BC_FORMAT "%016llx%016llx.%u.%u.%016llx.%016llx.%s."
#define BC_NONE "none."

/*
 * What ranks say to each other is MPICH's packets and ours, which only the same release
 * understands. The number changes whenever ours do.
 */
#define RELEASE MPICH_VERSION "-1"
#define RELEASE_MAX 32 /* bytes */
_Static_assert(sizeof(RELEASE) <= RELEASE_MAX, "a card's release can be read");

/* What a card says for the case that there are copies of the region's file, with the same id. */
typedef struct {
    unsigned long long seal; /* of the rank's entry */
    unsigned long long file; /* which file it is, in its kernel; 0 for a device */
} proof_t;

/* In a card, the release has no dots, which separate the card's parts. */
static void change_all(char *text, char from, char to)
{
    while ((text = strchr(text, from)))
        *text = to;
}

static proof_t own_proof(void)
{
    return (proof_t){.seal = ivshm_transport_seal(&MPID_nem_ivshmem.transport),
                     .file = ivshm_map_file_id(ivshm_region_map(&MPID_nem_ivshmem.region))};
}

/*
 * Whether this rank and the peer are both in this region, and not one of them in a copy. Both ends
 * check both entries. An entry that was made after the copy is only in one of the files. One that
 * is older is in both; then, in one kernel, the checksums of the files differ. If the peer is of
 * another job, an entry that was taken over means that it has left; of our own job, we would know.
 */
static bool is_here(struct ivshm_owner peer, proof_t proof, bool elsewhere)
{
    const struct ivshm_region *region = &MPID_nem_ivshmem.region;
    const struct ivshm_transport *transport = &MPID_nem_ivshmem.transport;
    const struct ivshm_owner self = ivshm_transport_self(transport);
    const proof_t own = own_proof();
    struct ivshm_endpoint_info info;

    int found = ivshm_endpoint_find(region, peer, proof.seal);
    if (ivshm_endpoint_find(region, self, own.seal) != 0 || (found != 0 && !elsewhere) ||
        found == -ENOENT)
        return false;
    if (found != 0 || !proof.file || !own.file || proof.file == own.file ||
        ivshm_endpoint_read(region, peer.endpoint, &info) != 0)
        return true;
    enum ivshm_locality where = ivshm_transport_locality(transport, &info);
    return where != IVSHM_LOCALITY_HERE && where != IVSHM_LOCALITY_CONTAINER;
}

int MPID_nem_ivshmem_card_add(char **bc_val_p, int *val_max_sz_p)
{
    int mpi_errno = MPI_SUCCESS;
    char card[160] = BC_NONE, release[] = RELEASE;
    const struct ivshm_owner self = ivshm_transport_self(&MPID_nem_ivshmem.transport);
    const uint64_t *id = ivshm_region_id(&MPID_nem_ivshmem.region);

    if (MPID_nem_ivshmem.joined) {
        const proof_t proof = own_proof();
        change_all(release, '.', '_');
        snprintf(card, sizeof(card), BC_FORMAT, (unsigned long long) id[0],
                 (unsigned long long) id[1], self.endpoint, self.generation, proof.seal, proof.file,
                 release);
    }
    int str_errno = MPL_str_add_string_arg(bc_val_p, val_max_sz_p, BC_KEY, card);
    MPIR_ERR_CHKANDJUMP(str_errno, mpi_errno, MPI_ERR_OTHER, "**buscard_len");

fn_exit:
    return mpi_errno;
fn_fail:
    goto fn_exit;
}

/*
 * Both ends must reach the same decision. So a card that cannot be read is an error, and not a
 * reason to use tcp, and so is a pair that would need tcp where that is forbidden.
 */
bool MPID_nem_ivshmem_card_read(const char *card, const char *who, bool elsewhere,
                                struct ivshm_owner *peer, bool *shared, char text[IVSHMEM_TEXT_MAX])
{
    const MPID_nem_ivshmem_t *self = &MPID_nem_ivshmem;
    char value[160] = "", release[RELEASE_MAX] = "";
    proof_t proof = {0};
    unsigned long long id[2], endpoint = 0, generation = 0;
    int end = 0;

    *shared = false;
    bool ours = MPL_str_get_string_arg(card, BC_KEY, value, sizeof(value)) == MPL_SUCCESS;
    bool has_region = ours && strcmp(value, BC_NONE) != 0;
    if (has_region)
        sscanf(value, "%16llx%16llx.%llu.%llu.%16llx.%16llx.%31[^.].%n", &id[0], &id[1], &endpoint,
               &generation, &proof.seal, &proof.file, release, &end);
    if (has_region ? end == 0 || value[end] : !ours && !elsewhere) {
        snprintf(text, IVSHMEM_TEXT_MAX,
                 "the business card of %s was cut short or damaged on its way through the process "
                 "manager: it ends in '%s', expected REGION.ENDPOINT.GENERATION.SEAL.FILE.RELEASE. "
                 "or " BC_NONE,
                 who, ours ? value : card + strlen(card) - MPL_MIN(strlen(card), 60));
        return false;
    }
    bool same = self->joined && has_region && id[0] == ivshm_region_id(&self->region)[0] &&
                id[1] == ivshm_region_id(&self->region)[1];
    if (same &&
        (endpoint >= ivshm_region_endpoints(&self->region) || generation >> IVSHM_CLAIM_GEN_BITS)) {
        snprintf(text, IVSHMEM_TEXT_MAX,
                 "the business card of %s names endpoint %llu, generation %llu of region %s, which "
                 "has %u endpoints and generations of %d bits: the card was damaged on its way, or "
                 "forged by that process; list the processes in the region with `ivshmem ps`",
                 who, endpoint, generation, ivshm_region_name(&self->region),
                 ivshm_region_endpoints(&self->region), IVSHM_CLAIM_GEN_BITS);
        return false;
    }
    change_all(release, '_', '.');
    if (same && strcmp(release, RELEASE) != 0) {
        snprintf(text, IVSHMEM_TEXT_MAX,
                 "%s runs release %s (of MPICH, and of this module's packets), this rank %s: they "
                 "do not understand each other; install the same mpich-ivshmem in all VMs and on "
                 "the host",
                 who, release, RELEASE);
        return false;
    }
    *peer = (struct ivshm_owner){(uint32_t) endpoint, (uint32_t) generation};
    *shared = same && is_here(*peer, proof, elsewhere);
    if (*shared || self->tcp)
        return true;

    const char *no_tcp = MPIR_CVAR_NEMESIS_IVSHMEM_FALLBACK == 0
                             ? "MPIR_CVAR_NEMESIS_IVSHMEM_FALLBACK=0 forbids tcp"
                             : "tcp cannot be used here";
    if (!self->joined)
        snprintf(text, IVSHMEM_TEXT_MAX, "%.*s", IVSHMEM_TEXT_MAX - 1, self->diag.text);
    else if (!has_region)
        snprintf(text, IVSHMEM_TEXT_MAX,
                 "%s has no ivshmem region, this rank has %s, and %s: give every VM of the job the "
                 "same ivshmem device",
                 who, ivshm_region_name(&self->region), no_tcp);
    else if (same)
        snprintf(text, IVSHMEM_TEXT_MAX,
                 "%s is not in region %s, but in another one with the same id, and %s: one file is "
                 "a copy of the other; give every VM of the job the same memory backend",
                 who, ivshm_region_name(&self->region), no_tcp);
    else
        snprintf(
            text, IVSHMEM_TEXT_MAX,
            "%s is in region %016llx%016llx, this rank in %016llx%016llx, and %s: give every VM "
            "of the job the same memory backend",
            who, id[0], id[1], (unsigned long long) ivshm_region_id(&self->region)[0],
            (unsigned long long) ivshm_region_id(&self->region)[1], no_tcp);
    return false;
}

int MPID_nem_ivshmem_card_find_peer(MPIDI_VC_t *vc, struct ivshm_owner *peer, bool *shared,
                                    char text[IVSHMEM_TEXT_MAX])
{
    int mpi_errno = MPI_SUCCESS;
    char name[IVSHMEM_NAME_MAX];
    const char *who = MPID_nem_ivshmem_vc_name(vc, name);
    int size = ivshmem_compat_max_val_size();
    char *card = MPL_malloc(size, MPL_MEM_OTHER);

    *shared = false;
    MPIR_ERR_CHKANDJUMP(!card, mpi_errno, MPI_ERR_OTHER, "**nomem");
    mpi_errno = vc->pg->getConnInfo(vc->pg_rank, card, size, vc->pg);
    MPIR_ERR_CHECK(mpi_errno);
    if (MPID_nem_ivshmem_card_read(card, who, vc->pg != MPIDI_Process.my_pg, peer, shared, text))
        *text = '\0';

fn_exit:
    MPL_free(card);
    return mpi_errno;
fn_fail:
    goto fn_exit;
}
