/* SPDX-License-Identifier: mpich2 */
/*
 * Finding peers. A business card names the region and the endpoint of a rank, or says that it has
 * none, so that two ranks know whether they share a region without trying. Who sends to us is found
 * the other way: its endpoint's entry says its job and rank.
 */
#include "ivshmem_netmod.h"

/* The last part of the card; the dot at the end shows that nothing was cut off. */
#define BC_KEY "ivshmem"
#define BC_FORMAT "%016llx%016llx.%u.%u." /* region id, endpoint, generation */
#define BC_NONE "none."

#define STREAM_TAG_SHIFT 16
#define STREAM_TAG_MASK UINT32_C(0x7fff)
#define STREAM_COUNT_MASK UINT32_C(0xffff)
#define STREAMS_MAX 4096  /* open at once; who calls beyond that is not heard */
#define PATIENT_SECONDS 2 /* for what is said to callers, and then not for so long: */
#define IMPATIENT_SECONDS 60
#define TURNED_AWAY_MAX 8 /* cells with a process that calls in vain and does not listen */

static int streams_open(void)
{
    int n = 0;

    for (MPIDI_VC_t *vc = MPID_nem_ivshmem.dynamic; vc; vc = VC_IVSHMEM(vc)->next_dynamic)
        n++;
    return n;
}

/* Our part of the card. */
int MPID_nem_ivshmem_add_to_card(char **bc_val_p, int *val_max_sz_p)
{
    int mpi_errno = MPI_SUCCESS;
    char card[80] = BC_NONE;
    const struct ivshm_owner *self = &MPID_nem_ivshmem.transport.endpoint.owner;
    const uint64_t *id = MPID_nem_ivshmem.region.id;

    if (MPID_nem_ivshmem.joined)
        snprintf(card, sizeof(card), BC_FORMAT, (unsigned long long) id[0],
                 (unsigned long long) id[1], self->endpoint, self->generation);
    int str_errno = MPL_str_add_string_arg(bc_val_p, val_max_sz_p, BC_KEY, card);
    MPIR_ERR_CHKANDJUMP(str_errno, mpi_errno, MPI_ERR_OTHER, "**buscard_len");

fn_exit:
    return mpi_errno;
fn_fail:
    goto fn_exit;
}

/* For the name of a port. */
int MPID_nem_ivshmem_get_business_card(int my_rank, char **bc_val_p, int *val_max_sz_p)
{
    int mpi_errno = MPI_SUCCESS;

    mpi_errno = MPID_nem_ivshmem_path_get_card(my_rank, bc_val_p, val_max_sz_p);
    MPIR_ERR_CHECK(mpi_errno);
    if (MPID_nem_ivshmem.joined || MPIR_CVAR_NEMESIS_IVSHMEM_FALLBACK != 0)
        mpi_errno = MPID_nem_ivshmem_add_to_card(bc_val_p, val_max_sz_p);
    else
        mpi_errno = MPID_nem_ivshmem_error(MPID_nem_ivshmem.diag.text);
    MPIR_ERR_CHECK(mpi_errno);

fn_exit:
    return mpi_errno;
fn_fail:
    goto fn_exit;
}

/*
 * Whether the process with that card shares our region, and if so which endpoint is its. Both ends
 * find the same, so a card that cannot be read is an error, as is a pair that would need tcp where
 * that is forbidden: false then, and why in `text`. `who` is for that. Only a process of another
 * job, `elsewhere`, may have a card without our part: from MPICH's own tcp.
 */
static bool read_card(const char *card, const char *who, bool elsewhere, struct ivshm_owner *peer,
                      bool *shared, char text[IVSHMEM_TEXT_MAX])
{
    const MPID_nem_ivshmem_t *self = &MPID_nem_ivshmem;
    char value[80] = "";
    unsigned long long id[2], endpoint = 0, generation = 0;
    int end = 0;

    *shared = false;
    bool ours = MPL_str_get_string_arg(card, BC_KEY, value, sizeof(value)) == MPL_SUCCESS;
    bool has_region = ours && strcmp(value, BC_NONE) != 0;
    if (has_region)
        sscanf(value, "%16llx%16llx.%llu.%llu.%n", &id[0], &id[1], &endpoint, &generation, &end);
    if (has_region ? end == 0 || value[end] : !ours && !elsewhere) {
        snprintf(text, IVSHMEM_TEXT_MAX,
                 "the business card of %s was cut short or damaged on its way through the process "
                 "manager: it ends in '%s', expected REGION.ENDPOINT.GENERATION. or " BC_NONE,
                 who, ours ? value : card + strlen(card) - MPL_MIN(strlen(card), 60));
        return false;
    }
    bool same =
        self->joined && has_region && id[0] == self->region.id[0] && id[1] == self->region.id[1];
    if (same && (endpoint >= self->region.geo.endpoints || generation >> IVSHM_CLAIM_GEN_BITS)) {
        snprintf(text, IVSHMEM_TEXT_MAX,
                 "the business card of %s names endpoint %llu, generation %llu of region %s, which "
                 "has %u endpoints, and generations of %d bits: it was damaged on its way, or made "
                 "up by that process; see what is on the region by `ivshmem ps`",
                 who, endpoint, generation, self->region.map.name, self->region.geo.endpoints,
                 IVSHM_CLAIM_GEN_BITS);
        return false;
    }
    *peer = (struct ivshm_owner){(uint32_t) endpoint, (uint32_t) generation};
    *shared = same;
    if (same || self->tcp)
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
                 who, self->region.map.name, no_tcp);
    else
        snprintf(
            text, IVSHMEM_TEXT_MAX,
            "%s is in region %016llx%016llx, this rank in %016llx%016llx, and %s: give every VM "
            "of the job the same memory backend",
            who, id[0], id[1], (unsigned long long) self->region.id[0],
            (unsigned long long) self->region.id[1], no_tcp);
    return false;
}

/*
 * Whether that rank shares our region, and which endpoint is its. Why no path leads there in
 * `text`, else nothing.
 */
int MPID_nem_ivshmem_find_peer(MPIDI_VC_t *vc, struct ivshm_owner *peer, bool *shared,
                               char text[IVSHMEM_TEXT_MAX])
{
    int mpi_errno = MPI_SUCCESS;
    const char *who = MPID_nem_ivshmem_vc_name(vc);
    int size = ivshmem_compat_max_val_size();
    char *card = MPL_malloc(size, MPL_MEM_OTHER);

    *shared = false;
    MPIR_ERR_CHKANDJUMP(!card, mpi_errno, MPI_ERR_OTHER, "**nomem");
    mpi_errno = vc->pg->getConnInfo(vc->pg_rank, card, size, vc->pg);
    MPIR_ERR_CHECK(mpi_errno);
    if (read_card(card, who, vc->pg != MPIDI_Process.my_pg, peer, shared, text))
        *text = '\0';

fn_exit:
    MPL_free(card);
    return mpi_errno;
fn_fail:
    goto fn_exit;
}

/* False if the peer is not there any more; why in `text`. */
static bool open_channel(struct ivshm_owner peer, const char *who, struct ivshm_channel **channel,
                         char text[IVSHMEM_TEXT_MAX])
{
    struct ivshm_diag diag = {""};

    if (ivshm_channel_open(&MPID_nem_ivshmem.transport, peer, channel, &diag) == 0)
        return true;
    snprintf(text, IVSHMEM_TEXT_MAX, "%s cannot be reached: %.300s", who, diag.text);
    return false;
}

/*
 * Binds the job's own connection with a rank to the channel to its endpoint. In MPI_Finalize, where
 * CH3 has closed all connections that it knew, it is closed as well: whoever has sent there waits
 * for that (MPIX_Comm_revoke sends to ranks that were never met).
 */
static int bind_vc(MPIDI_VC_t *vc, struct ivshm_channel *channel)
{
    bool is_late = vc->state == MPIDI_VC_STATE_INACTIVE_CLOSED;

    VC_IVSHMEM(vc)->channel = channel;
    MPID_nem_ivshmem.vcs[channel->peer.endpoint] = vc;
    if (is_late || vc->state == MPIDI_VC_STATE_INACTIVE)
        MPIDI_CHANGE_VC_STATE(vc, ACTIVE);
    return is_late ? MPIDI_CH3U_VC_SendClose(vc, vc->pg_rank) : MPI_SUCCESS;
}

/* Before the first message to a rank. */
int MPID_nem_ivshmem_connect(MPIDI_VC_t *vc)
{
    int mpi_errno = MPI_SUCCESS;
    struct ivshm_channel *channel;
    char text[IVSHMEM_TEXT_MAX];

    if (vc->state == MPIDI_VC_STATE_MORIBUND) { /* CH3 asks before all messages but large ones */
        mpi_errno = MPID_nem_ivshmem_vc_error(vc, "its process is dead");
        goto fn_exit;
    }
    if (MPID_nem_ivshmem.vcs[VC_IVSHMEM(vc)->peer.endpoint]) {
        mpi_errno = MPID_nem_ivshmem_vc_error(vc, "another rank is at the endpoint that its "
                                                  "business card names");
        goto fn_exit;
    }
    const char *who = MPID_nem_ivshmem_vc_name(vc);
    if (!open_channel(VC_IVSHMEM(vc)->peer, who, &channel, text)) {
        /* Receives from it must not wait, either. */
        mpi_errno = MPID_nem_ivshmem_vc_fail(vc, text + strlen(who) + 1);
        MPIR_ERR_CHECK(mpi_errno);
        mpi_errno = MPID_nem_ivshmem_peer_error(text);
    }
    MPIR_ERR_CHECK(mpi_errno);
    IVSHM_POINT(connected);
    mpi_errno = bind_vc(vc, channel);
    MPIR_ERR_CHECK(mpi_errno);

fn_exit:
    return mpi_errno;
fn_fail:
    goto fn_exit;
}

static void add_dynamic(MPIDI_VC_t *vc, struct ivshm_channel *channel, uint32_t stream)
{
    VC_IVSHMEM(vc)->channel = channel;
    VC_IVSHMEM(vc)->stream = stream;
    VC_IVSHMEM(vc)->next_dynamic = MPID_nem_ivshmem.dynamic;
    MPID_nem_ivshmem.dynamic = vc;
}

static MPIDI_VC_t *find_stream(const struct ivshm_channel *channel, uint32_t stream)
{
    MPIDI_VC_t *vc = MPID_nem_ivshmem.dynamic;

    while (vc && (VC_IVSHMEM(vc)->channel != channel || VC_IVSHMEM(vc)->stream != stream))
        vc = VC_IVSHMEM(vc)->next_dynamic;
    return vc;
}

/* One that is not in use, and never 0, which is the job's own connection. */
static uint32_t new_stream(const struct ivshm_channel *channel, int port_tag)
{
    static uint32_t count;
    uint32_t stream;

    do {
        count = count % STREAM_COUNT_MASK + 1;
        stream = ((uint32_t) port_tag & STREAM_TAG_MASK) << STREAM_TAG_SHIFT | count;
    } while (find_stream(channel, stream));
    return stream;
}

int MPID_nem_ivshmem_connect_to_root(const char *business_card, MPIDI_VC_t *new_vc)
{
    int mpi_errno = MPI_SUCCESS;
    static const char who[] = "the process at that port";
    struct ivshm_channel *channel;
    struct ivshm_outgoing hello;
    struct ivshm_owner peer;
    char text[IVSHMEM_TEXT_MAX];
    bool shared;

    mpi_errno = MPIDI_GetTagFromPort(business_card, &new_vc->port_name_tag);
    MPIR_ERR_CHECK(mpi_errno);
    if (!read_card(business_card, who, true, &peer, &shared, text))
        mpi_errno = MPID_nem_ivshmem_port_error(text);
    MPIR_ERR_CHECK(mpi_errno);
    if (!shared) {
        mpi_errno = MPID_nem_ivshmem_tcp_connect_to_root(business_card, new_vc);
        goto fn_exit;
    }
    if (!open_channel(peer, who, &channel, text))
        mpi_errno = MPID_nem_ivshmem_port_error(text);
    MPIR_ERR_CHECK(mpi_errno);
    MPID_nem_ivshmem_take_region(new_vc, peer);
    add_dynamic(new_vc, channel, new_stream(channel, new_vc->port_name_tag));
    /* An empty cell lets the other side accept before the first message; that one serves too. */
    if (ivshm_cell_reserve(&MPID_nem_ivshmem.transport, channel, 0, VC_IVSHMEM(new_vc)->stream,
                           &hello) == 0) {
        ivshm_cell_publish(&MPID_nem_ivshmem.transport, channel, &hello, 0);
        MPID_nem_ivshmem.stats.cells_sent++;
    }

fn_exit:
    return mpi_errno;
fn_fail:
    goto fn_exit;
}

static int port_of(uint32_t stream)
{
    return (int) (stream >> STREAM_TAG_SHIFT & STREAM_TAG_MASK);
}

/* Somebody connects to a port of ours. */
static int accept_stream(struct ivshm_channel *channel, uint32_t stream, MPIDI_VC_t **vc_p)
{
    int mpi_errno = MPI_SUCCESS;
    MPIDI_VC_t *vc = MPL_malloc(sizeof(*vc), MPL_MEM_ADDRESS);

    MPIR_ERR_CHKANDJUMP(!vc, mpi_errno, MPI_ERR_OTHER, "**nomem");
    /* Freed by MPICH's FreeNewVC, like the connector's. */
    MPIDI_VC_Init(vc, NULL, 0);
    MPIDI_CHANGE_VC_STATE(vc, ACTIVE);
    vc->ch.recv_active = NULL;
    MPID_nem_ivshmem_take_region(vc, channel->peer);
    channel->users++;
    add_dynamic(vc, channel, stream | IVSHMEM_STREAM_REPLY);
    vc->port_name_tag = port_of(stream);
    MPIDI_CH3I_Acceptq_enqueue(vc, vc->port_name_tag);
    *vc_p = vc;

fn_exit:
    return mpi_errno;
fn_fail:
    goto fn_exit;
}

/* If there is no room for it, the caller learns it when its time is over. */
static void reply(const struct ivshm_incoming *in, const MPIDI_CH3_Pkt_t *pkt)
{
    struct ivshm_transport *t = &MPID_nem_ivshmem.transport;
    uint32_t bytes = (uint32_t) MPID_nem_ivshmem_packet_header_bytes((int) pkt->type);
    struct ivshm_outgoing out;

    if (ivshm_cell_reserve(t, in->channel, bytes, in->stream | IVSHMEM_STREAM_REPLY, &out) != 0)
        return;
    memcpy(out.payload, pkt, bytes);
    ivshm_cell_publish(t, in->channel, &out, bytes);
    MPID_nem_ivshmem.stats.cells_sent++;
    MPID_nem_ivshmem.stats.eager_sent++;
    MPID_nem_ivshmem.stats.eager_sent_bytes += bytes;
}

/*
 * Somebody calls at a port that is not open. CH3 would keep a connection for each such call until
 * MPI_Finalize, and wait for its end there: so this is no connection, and we answer as CH3 would,
 * as far as there is room. The caller says that it calls, or that it closes.
 */
static void turn_away(const struct ivshm_incoming *in)
{
    MPIDI_CH3_Pkt_t pkt;

    if (ivshm_transport_is_half_out(&MPID_nem_ivshmem.transport) ||
        ivshm_channel_cells_out(&MPID_nem_ivshmem.transport, in->channel) > TURNED_AWAY_MAX)
        return;
    memset(&pkt, 0, sizeof(pkt));
    if (in->len == 0) {
        MPIDI_Pkt_init(&pkt.conn_ack, MPIDI_CH3_PKT_CONN_ACK);
        pkt.conn_ack.ack = FALSE;
        reply(in, &pkt);
        return;
    }
    if (in->len < sizeof(pkt.close))
        return;
    memcpy(&pkt.close, in->payload, sizeof(pkt.close));
    if (pkt.close.type == MPIDI_CH3_PKT_CLOSE && !pkt.close.ack) {
        reply(in, &pkt);
        pkt.close.ack = TRUE;
        reply(in, &pkt);
    }
}

static int tell_ch3(MPIDI_VC_t *vc, MPIDI_CH3_Pkt_t *pkt)
{
    return MPID_nem_handle_pkt(vc, (char *) pkt, sizeof(*pkt));
}

/*
 * The other side of a connection by MPI_Comm_connect is gone, or sent nonsense. CH3 waits for it in
 * ways that no error ends: for its yes, and for its part of the closing. So we say what it would
 * have said, as CH3 comes to each of them: no, and that it has closed. Once both have agreed, and
 * before either closes, it is a connection like others, and fails like them.
 */
int MPID_nem_ivshmem_call_off(MPIDI_VC_t *vc, const char *why)
{
    int mpi_errno = MPI_SUCCESS;
    MPID_nem_ivshmem_vc_t *area = VC_IVSHMEM(vc);
    MPIDI_CH3_Pkt_t pkt;

    if (vc->state == MPIDI_VC_STATE_ACTIVE && area->met)
        return MPID_nem_ivshmem_vc_fail(vc, why);
    int req_errno = MPID_nem_ivshmem_vc_error(vc, why);
    mpi_errno = MPID_nem_ivshmem_vc_fail_requests(vc, req_errno);
    MPIR_ERR_CHECK(mpi_errno);
    vc->ch.pending_pkt_len = 0;
    if (vc->state == MPIDI_VC_STATE_ACTIVE && !area->refused) {
        area->refused = true;
        MPIDI_Pkt_init(&pkt.conn_ack, area->stream & IVSHMEM_STREAM_REPLY ? MPIDI_CH3_PKT_ACCEPT_ACK
                                                                          : MPIDI_CH3_PKT_CONN_ACK);
        pkt.conn_ack.ack = FALSE;
        mpi_errno = tell_ch3(vc, &pkt);
    } else if (vc->state == MPIDI_VC_STATE_LOCAL_CLOSE || vc->state == MPIDI_VC_STATE_CLOSE_ACKED) {
        MPIDI_Pkt_init(&pkt.close, MPIDI_CH3_PKT_CLOSE);
        pkt.close.ack = TRUE;
        mpi_errno = tell_ch3(vc, &pkt);
    }
    MPIR_ERR_CHECK(mpi_errno);

fn_exit:
    return mpi_errno;
fn_fail:
    goto fn_exit;
}

/* Whether to wait a little for callers to take what we say to them, of whom some may never. */
static bool have_patience(void)
{
    static time_t start;
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC_COARSE, &now);
    if (start == 0 || now.tv_sec - start > IMPATIENT_SECONDS)
        start = now.tv_sec;
    return now.tv_sec - start < PATIENT_SECONDS;
}

/*
 * Ends the calls that were never answered, and that CH3 is closing, with their port or at the end.
 * It would wait for the callers' part in that, and those may be anybody. What we say to them is
 * first sent, if they take it; one that calls only now hears it from turn_away.
 */
int MPID_nem_ivshmem_end_unanswered_calls(void)
{
    int mpi_errno = MPI_SUCCESS;

    for (MPIDI_VC_t *next, *vc = MPID_nem_ivshmem.dynamic; vc; vc = next) {
        MPID_nem_ivshmem_vc_t *area = VC_IVSHMEM(vc);
        next = area->next_dynamic;
        if (area->met || !(area->stream & IVSHMEM_STREAM_REPLY) ||
            (vc->state != MPIDI_VC_STATE_LOCAL_CLOSE && vc->state != MPIDI_VC_STATE_CLOSE_ACKED))
            continue;
        if (area->sendq.head && have_patience())
            continue;
        area->given_up = area->gone = true;
        mpi_errno = MPID_nem_ivshmem_call_off(vc, "called, and was not answered");
        MPIR_ERR_CHECK(mpi_errno);
    }

fn_exit:
    return mpi_errno;
fn_fail:
    goto fn_exit;
}

/* A job's name in the table of endpoints is cut. */
static bool is_name_of(const struct ivshm_endpoint_info *info, const MPIDI_PG_t *pg)
{
    return strncmp(info->job, (const char *) pg->id, sizeof(info->job) - 1) == 0;
}

/* The rank whose endpoint this is; NULL if it is of no job that we know. */
static MPIDI_VC_t *find_rank(const struct ivshm_channel *channel)
{
    struct ivshm_endpoint_info info;
    MPIDI_PG_iterator iter;
    MPIDI_PG_t *pg;
    MPIDI_VC_t *vc;

    if (ivshm_endpoint_read(&MPID_nem_ivshmem.region, channel->peer.endpoint, &info) != 0)
        return NULL;
    MPIDI_PG_Get_iterator(&iter);
    while (MPIDI_PG_Has_next(&iter)) {
        MPIDI_PG_Get_next(&iter, &pg);
        if (!is_name_of(&info, pg) || info.rank >= (uint32_t) pg->size)
            continue;
        MPIDI_PG_Get_vc(pg, (int) info.rank, &vc);
        if (MPID_nem_ivshmem_is_at(vc, channel->peer))
            return vc;
    }
    return NULL;
}

/* The connection with the rank whose endpoint this is, whose first message has come. */
static int adopt_rank(struct ivshm_channel *channel, MPIDI_VC_t **vc_p)
{
    MPIDI_VC_t *vc = find_rank(channel);

    *vc_p = NULL;
    /* One that has failed already, or that this process has left: its last words come too late. */
    if (!vc || VC_IVSHMEM(vc)->channel || vc->state == MPIDI_VC_STATE_MORIBUND ||
        (vc->state == MPIDI_VC_STATE_INACTIVE_CLOSED && MPIR_Object_get_ref(vc) == 0))
        return MPI_SUCCESS;
    IVSHM_POINT(adopted);
    channel->users++;
    *vc_p = vc;
    return bind_vc(vc, channel);
}

/* Its sender says to be of a job that this process has not heard of. */
bool MPID_nem_ivshmem_is_of_unknown_job(const struct ivshm_incoming *in)
{
    struct ivshm_endpoint_info info;
    MPIDI_PG_iterator iter;
    MPIDI_PG_t *pg;

    if (in->stream != 0 ||
        ivshm_endpoint_read(&MPID_nem_ivshmem.region, in->channel->peer.endpoint, &info) != 0)
        return false;
    MPIDI_PG_Get_iterator(&iter);
    while (MPIDI_PG_Has_next(&iter)) {
        MPIDI_PG_Get_next(&iter, &pg);
        if (is_name_of(&info, pg))
            return false;
    }
    return true;
}

/*
 * Whose message this is: without a stream, that of the job's own connection. *vc_p is NULL if
 * nobody's whom we know; it is to be dropped then.
 */
int MPID_nem_ivshmem_find_vc(const struct ivshm_incoming *in, MPIDI_VC_t **vc_p)
{
    int mpi_errno = MPI_SUCCESS;
    MPIDI_VC_t *vc = NULL;

    if (in->stream == 0) {
        vc = MPID_nem_ivshmem.vcs[in->channel->peer.endpoint];
        if (!vc)
            mpi_errno = adopt_rank(in->channel, &vc);
        MPIR_ERR_CHECK(mpi_errno);
        goto fn_exit;
    }
    vc = find_stream(in->channel, in->stream ^ IVSHMEM_STREAM_REPLY);
    if (!vc && !(in->stream & IVSHMEM_STREAM_REPLY)) {
        if (!MPID_nem_ivshmem_port_is_open(port_of(in->stream)))
            turn_away(in);
        else if (streams_open() < STREAMS_MAX)
            mpi_errno = accept_stream(in->channel, in->stream, &vc);
        MPIR_ERR_CHECK(mpi_errno);
    }
    if (!vc && in->len > 0) { /* a message of a call that is over */
        MPID_nem_ivshmem.stats.eager_received++;
        MPID_nem_ivshmem.stats.eager_received_bytes += in->len;
    }

fn_exit:
    *vc_p = vc;
    return mpi_errno;
fn_fail:
    vc = NULL;
    goto fn_exit;
}
