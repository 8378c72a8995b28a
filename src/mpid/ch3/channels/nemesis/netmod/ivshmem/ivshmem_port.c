/* SPDX-License-Identifier: mpich2 */
/*
 * Ports: MPI_Comm_connect and the other side of it. A call is a stream of its own beside the job's
 * own connection, and the stream ends with the call. Called by MPICH through the function table,
 * and by the progress call, under MPICH's global lock.
 */
#include "ivshmem_netmod.h"
#include "ivshmem_port.h"

#include "ivshmem_path.h"
#include "ivshmem_vc.h"
#include "ivshmem_card.h"
#include "ivshmem_packet.h"
#include "ivshmem_error.h"

#define STREAM_TAG_SHIFT 16
#define STREAM_TAG_MASK UINT32_C(0x7fff)
#define STREAM_COUNT_MASK UINT32_C(0xffff)
/* Streams open at once. Further callers are ignored. */
#define STREAMS_MAX 4096
/* How long to wait for callers to take our messages; at most once in IMPATIENT_SECONDS. */
#define PATIENT_SECONDS 2
#define IMPATIENT_SECONDS 60
/* Cells in flight to a process that connects in vain and does not receive. */
#define REFUSED_CELLS_MAX 8

static int streams_open(void)
{
    int n = 0;

    for (MPIDI_VC_t *vc = MPID_nem_ivshmem.dynamic; vc; vc = VC_IVSHMEM(vc)->next_dynamic)
        n++;
    return n;
}

int MPID_nem_ivshmem_port_get_card(int my_rank, char **bc_val_p, int *val_max_sz_p)
{
    int mpi_errno = MPI_SUCCESS;

    mpi_errno = MPID_nem_ivshmem_path_get_card(my_rank, bc_val_p, val_max_sz_p);
    MPIR_ERR_CHECK(mpi_errno);
    if (MPID_nem_ivshmem.joined || MPIR_CVAR_NEMESIS_IVSHMEM_FALLBACK != 0)
        mpi_errno = MPID_nem_ivshmem_card_add(bc_val_p, val_max_sz_p);
    else
        mpi_errno = MPID_nem_ivshmem_error(MPID_nem_ivshmem.diag.text);
    MPIR_ERR_CHECK(mpi_errno);

fn_exit:
    return mpi_errno;
fn_fail:
    goto fn_exit;
}

/* The name of a stream that is not in use. It is never 0, which is the job's own connection. */
static uint32_t new_stream(const struct ivshm_channel *channel, int port_tag)
{
    uint32_t *count = &MPID_nem_ivshmem.port.streams, stream;

    do {
        *count = *count % STREAM_COUNT_MASK + 1;
        stream = ((uint32_t) port_tag & STREAM_TAG_MASK) << STREAM_TAG_SHIFT | *count;
    } while (MPID_nem_ivshmem_vc_find_call(channel, stream));
    return stream;
}

int MPID_nem_ivshmem_port_connect(const char *business_card, MPIDI_VC_t *new_vc)
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
    if (!MPID_nem_ivshmem_card_read(business_card, who, true, &peer, &shared, text))
        mpi_errno = MPID_nem_ivshmem_port_error(text);
    MPIR_ERR_CHECK(mpi_errno);
    if (!shared) {
        mpi_errno = MPID_nem_ivshmem_path_tcp_connect(business_card, new_vc);
        goto fn_exit;
    }
    if (!MPID_nem_ivshmem_path_open_channel(peer, who, &channel, text))
        mpi_errno = MPID_nem_ivshmem_port_error(text);
    MPIR_ERR_CHECK(mpi_errno);
    MPID_nem_ivshmem_path_bind_call(new_vc, channel, new_stream(channel, new_vc->port_name_tag));
    /*
     * An empty message lets the other side accept before the first packet. Without a free cell, the
     * first packet does.
     */
    if (ivshm_message_reserve(&MPID_nem_ivshmem.transport, channel, 0, VC_IVSHMEM(new_vc)->stream,
                              &hello) == 0) {
        ivshm_message_publish(&MPID_nem_ivshmem.transport, channel, &hello, 0);
        MPID_nem_ivshmem.stats.messages_sent++;
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
    ivshm_channel_hold(channel);
    MPID_nem_ivshmem_path_bind_call(vc, channel, stream | IVSHMEM_STREAM_REPLY);
    vc->port_name_tag = port_of(stream);
    MPIDI_CH3I_Acceptq_enqueue(vc, vc->port_name_tag);
    *vc_p = vc;

fn_exit:
    return mpi_errno;
fn_fail:
    goto fn_exit;
}

/* If there is no free cell for the reply, the caller times out instead. */
static void send_reply(const struct ivshm_incoming *in, const MPIDI_CH3_Pkt_t *pkt)
{
    struct ivshm_transport *t = &MPID_nem_ivshmem.transport;
    uint32_t bytes = (uint32_t) MPID_nem_ivshmem_packet_header_bytes((int) pkt->type);
    struct ivshm_outgoing out;

    if (ivshm_message_reserve(t, in->channel, bytes, in->stream | IVSHMEM_STREAM_REPLY, &out) != 0)
        return;
    memcpy(out.payload, pkt, bytes);
    ivshm_message_publish(t, in->channel, &out, bytes);
    MPID_nem_ivshmem.stats.messages_sent++;
    MPID_nem_ivshmem.stats.eager_sent++;
    MPID_nem_ivshmem.stats.eager_sent_bytes += bytes;
}

/*
 * Somebody connects to a port that is not open. CH3 would keep a connection for each such call
 * until MPI_Finalize, and wait there for its end. So we make no connection, and answer as CH3
 * would, as long as there are free cells. The caller's message is either a new call or a CLOSE.
 */
static void refuse_call(const struct ivshm_incoming *in)
{
    MPIDI_CH3_Pkt_t pkt;

    if (ivshm_transport_is_half_in_flight(&MPID_nem_ivshmem.transport) ||
        ivshm_channel_cells_in_flight(&MPID_nem_ivshmem.transport, in->channel) > REFUSED_CELLS_MAX)
        return;
    memset(&pkt, 0, sizeof(pkt));
    if (in->len == 0) {
        MPIDI_Pkt_init(&pkt.conn_ack, MPIDI_CH3_PKT_CONN_ACK);
        pkt.conn_ack.ack = FALSE;
        send_reply(in, &pkt);
        return;
    }
    if (in->len < sizeof(pkt.close))
        return;
    memcpy(&pkt.close, in->payload, sizeof(pkt.close));
    if (pkt.close.type == MPIDI_CH3_PKT_CLOSE && !pkt.close.ack) {
        send_reply(in, &pkt);
        pkt.close.ack = TRUE;
        send_reply(in, &pkt);
    }
}

/* Whether to wait a little for callers to take our messages. Some may never do so. */
static bool is_patient(void)
{
    time_t *start = &MPID_nem_ivshmem.port.patient_since;
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC_COARSE, &now);
    if (*start == 0 || now.tv_sec - *start > IMPATIENT_SECONDS)
        *start = now.tv_sec;
    return now.tv_sec - *start < PATIENT_SECONDS;
}

/*
 * Marks the calls that were never answered and that CH3 is closing, with their port or in
 * MPI_Finalize. CH3 would wait for the callers' part of the close protocol, and a caller may be
 * anybody. Our messages to them are sent first, if they take them. refuse_call answers callers that
 * connect only now.
 */
void MPID_nem_ivshmem_port_close_unanswered(void)
{
    for (MPIDI_VC_t *vc = MPID_nem_ivshmem.dynamic; vc; vc = VC_IVSHMEM(vc)->next_dynamic) {
        const MPID_nem_ivshmem_vc_t *area = VC_IVSHMEM(vc);
        if (area->met || !(area->stream & IVSHMEM_STREAM_REPLY) ||
            (vc->state != MPIDI_VC_STATE_LOCAL_CLOSE && vc->state != MPIDI_VC_STATE_CLOSE_ACKED))
            continue;
        if (area->sendq.head && is_patient())
            continue;
        MPID_nem_ivshmem_vc_mark_failed(vc, "connected, but its call was not answered");
    }
}

/* The call to which a message belongs. *vc_p is NULL if there is none; drop the message then. */
int MPID_nem_ivshmem_port_find_vc(const struct ivshm_incoming *in, MPIDI_VC_t **vc_p)
{
    int mpi_errno = MPI_SUCCESS;
    MPIDI_VC_t *vc = MPID_nem_ivshmem_vc_find_call(in->channel, in->stream ^ IVSHMEM_STREAM_REPLY);

    if (!vc && !(in->stream & IVSHMEM_STREAM_REPLY)) {
        if (!MPID_nem_ivshmem_port_is_open(port_of(in->stream)))
            refuse_call(in);
        else if (streams_open() < STREAMS_MAX)
            mpi_errno = accept_stream(in->channel, in->stream, &vc);
        MPIR_ERR_CHECK(mpi_errno);
    }
    if (!vc && in->len > 0) { /* a message of a call that has ended */
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
