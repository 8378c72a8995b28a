/* SPDX-License-Identifier: mpich2 */
/*
 * ivshmem send and ivshmem recv: standard input of one process is standard output of others on the
 * same region. The bytes are read into the region and written out of it, with no other copy: a
 * system call fills several chunks of a pipeline, or empties them, while the other side does the
 * contrary.
 */
#define _GNU_SOURCE /* pipe2 */
#include "ivshmem_pipe.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#define BATCH_MAX 8   /* chunks of one system call */
#define POLL_TIME 200 /* ms, for a descriptor that does not block */

struct pipe {
    struct link link;
    const struct pipe_user *user;
    int fd;
    uint32_t batch; /* half a pipeline at most: the other side works on the other half */
    uint64_t bytes; /* that were read, or written */
    uint64_t moved_bytes, moved_at;
    /* With a checksum, the bytes go through memory that nobody else can change. */
    unsigned char *private;
    pid_t summer; /* sha256sum, with its input and output */
    int summer_in, summer_out;
    char checksum[LINK_CHECKSUM_MAX];
    bool must_agree; /* who has none is an error */
    struct ivshm_diag diag;
};

/* The checksum, by sha256sum(1) */

static int begin_checksum(struct pipe *p, size_t chunk_size)
{
    int in[2], out[2];
    if (!(p->private = malloc(p->batch * chunk_size)))
        return ivshm_diag_fail(&p->diag, ENOMEM, "out of memory");
    if (pipe2(in, O_CLOEXEC) != 0)
        return ivshm_diag_fail(&p->diag, errno, "cannot make a pipe: %s", strerror(errno));
    if (pipe2(out, O_CLOEXEC) != 0) {
        int err = errno;
        close(in[0]);
        close(in[1]);
        return ivshm_diag_fail(&p->diag, err, "cannot make a pipe: %s", strerror(err));
    }
    p->summer = fork();
    if (p->summer == 0) {
        if (dup2(in[0], STDIN_FILENO) >= 0 && dup2(out[1], STDOUT_FILENO) >= 0)
            execlp("sha256sum", "sha256sum", (char *) NULL);
        _exit(127);
    }
    int err = errno;
    close(in[0]);
    close(out[1]);
    p->summer_in = in[1];
    p->summer_out = out[0];
    return p->summer > 0
               ? 0
               : ivshm_diag_fail(&p->diag, err, "cannot start sha256sum: %s", strerror(err));
}

/* If it does not take them, it has no checksum in the end. */
static void add_to_checksum(struct pipe *p, const unsigned char *bytes, size_t count)
{
    while (count > 0) {
        ssize_t n = write(p->summer_in, bytes, count);
        if (n < 0 && errno != EINTR)
            return;
        bytes += n > 0 ? n : 0;
        count -= n > 0 ? (size_t) n : 0;
    }
}

static void end_checksum(struct pipe *p)
{
    size_t have = 0;
    ssize_t n = 1;
    if (!p->private)
        return;
    if (p->summer_in >= 0) {
        close(p->summer_in);
        while (have < sizeof(p->checksum) - 1 && n != 0) {
            n = read(p->summer_out, p->checksum + have, sizeof(p->checksum) - 1 - have);
            if (n < 0 && errno != EINTR)
                break;
            have += n > 0 ? (size_t) n : 0;
        }
        close(p->summer_out);
    }
    p->checksum[have] = 0;
    p->checksum[strspn(p->checksum, "0123456789abcdef")] = 0; /* a name follows */
    if (p->summer > 0)
        while (waitpid(p->summer, NULL, 0) < 0 && errno == EINTR)
            ;
    free(p->private);
    p->private = NULL;
}

/* This side's checksum is complete. */
static int complete_checksum(struct pipe *p)
{
    const bool has_one = p->private != NULL;
    end_checksum(p);
    if (has_one && strlen(p->checksum) != 64)
        return ivshm_diag_fail(&p->diag, ENOENT,
                               "there is no checksum: cannot run sha256sum; install it");
    return 0;
}

/* What was sent, and what has arrived there or here. */
static int compare_checksums(struct pipe *p, const struct link_peer *peer)
{
    if (!*p->checksum || strcmp(p->checksum, peer->checksum) == 0)
        return 0;
    return ivshm_diag_fail(&p->diag, EBADMSG,
                           "the checksums differ: %.16s... here, %.16s... at the %s (%s): "
                           "something changed the data on their way; run `ivshmem check`, and copy "
                           "again",
                           p->checksum, *peer->checksum ? tool_printable(peer->checksum) : "none",
                           link_other(&p->link), peer->who);
}

/* After a system call that failed or was interrupted: 0 if it is to be tried again. */
static int after_call(struct pipe *p, short events)
{
    int err = errno;
    if (err == EAGAIN)
        poll(&(struct pollfd){.fd = p->fd, .events = events}, 1, POLL_TIME);
    if (err == EAGAIN || err == EINTR)
        return 0;
    if (err == EFAULT)
        return ivshm_diag_fail(&p->diag, err, TOOL_MEMORY_IS_GONE);
    return ivshm_diag_fail(&p->diag, err, "cannot %s %s: %s", events == POLLIN ? "read" : "write",
                           p->user->input_or_output, strerror(err));
}

/* What may have happened while this side was busy. */
static int look_around(struct pipe *p)
{
    if (link_is_due()) {
        link_serve(&p->link);
        link_tell(&p->link, p->bytes);
        if (p->user->show)
            p->user->show(p->user->arg, p->bytes);
    }
    if (p->user->client) {
        const uint64_t now = tool_now_ns();
        if (!p->moved_at || p->bytes != p->moved_bytes)
            p->moved_at = now;
        p->moved_bytes = p->bytes;
        if (now - p->moved_at > p->link.timeout * UINT64_C(1000000000))
            return ivshm_diag_fail(&p->diag, ETIMEDOUT, "nothing has moved for %u s",
                                   p->link.timeout);
    }
    return tool_was_interrupted() ? ivshm_diag_fail(&p->diag, EINTR, "interrupted") : 0;
}

static int finish(struct pipe *p, int err)
{
    if (p->user->show)
        p->user->show(p->user->arg, p->bytes);
    return p->user->finish(p->user->arg, err, &p->diag);
}

/* The sender */

/* The next receiver that is there, from `peer` on; NULL behind the last one. */
static struct link_peer *receiver_from(struct link *link, struct link_peer *peer)
{
    while (peer < link->peers + link->count && peer->is_lost)
        peer++;
    return peer < link->peers + link->count ? peer : NULL;
}

/* Chunks that every receiver has emptied. */
static uint32_t room_for_all(struct pipe *p)
{
    struct link *link = &p->link;
    uint32_t room = p->batch;
    for (struct link_peer *r = link->peers; (r = receiver_from(link, r)); r++)
        room = ivshm_pipeline_room_spsc(&r->pipeline, room);
    return room;
}

static void publish(struct link *link, struct link_peer *receiver, size_t bytes)
{
    const size_t size = ivshm_pipeline_chunk_size(&receiver->pipeline);
    for (size_t at = 0; at < bytes; at += size)
        ivshm_pipeline_publish_spsc(&receiver->pipeline,
                                    (uint32_t) (bytes - at < size ? bytes - at : size), 0);
    link_wake(link, receiver);
}

/* Reads into the first receiver's chunks. The others' come next in the same place of theirs. */
static int fill_chunks(struct pipe *p, struct link_peer *first, uint32_t room)
{
    struct link *link = &p->link;
    unsigned char *chunk = ivshm_pipeline_reserve_spsc(&first->pipeline);
    unsigned char *into = p->private ? p->private : chunk;
    ssize_t got = read(p->fd, into, (size_t) room * ivshm_pipeline_chunk_size(&first->pipeline));
    if (got < 0) {
        int err = after_call(p, POLLIN);
        return err ? err : -EAGAIN;
    }
    for (struct link_peer *r = first + 1; got && (r = receiver_from(link, r)); r++) {
        memcpy(ivshm_pipeline_reserve_spsc(&r->pipeline), into, (size_t) got);
        publish(link, r, (size_t) got);
    }
    if (p->private) {
        add_to_checksum(p, into, (size_t) got);
        memcpy(chunk, into, (size_t) got);
    }
    publish(link, first, (size_t) got);
    p->bytes += (uint64_t) got;
    return got == 0;
}

static int no_receiver_left(struct pipe *p)
{
    return ivshm_diag_fail(&p->diag, ESHUTDOWN, "%s", p->link.peers[p->link.count - 1].why.text);
}

/* Copies the input, until its end. */
static int send_input(struct pipe *p)
{
    struct link *link = &p->link;
    for (;;) {
        int got, err = look_around(p);
        struct link_peer *first = receiver_from(link, link->peers);
        if (err)
            return err;
        if (!first)
            return no_receiver_left(p);
        uint32_t room = room_for_all(p);
        if (room == 0) {
            link_wait(link);
            continue;
        }
        link_found(link);
        got = fill_chunks(p, first, room);
        if (got == 1)
            return 0;
        if (got < 0 && got != -EAGAIN)
            return got;
    }
}

/* Waits until each receiver has written everything, or is lost. */
static int await_receivers(struct pipe *p)
{
    struct link *link = &p->link;
    for (unsigned i = 0; i < link->count;) {
        struct link_peer *r = &link->peers[i];
        int err = look_around(p);
        if (err)
            return err;
        if (r->is_lost || (r->ended && r->bytes == p->bytes)) {
            /* One that wants none has none. */
            err = !r->is_lost && (*r->checksum || p->must_agree) ? compare_checksums(p, r) : 0;
            if (err)
                return err;
            i++;
        } else if (r->ended)
            return ivshm_diag_fail(&p->diag, EBADMSG,
                                   "the receiver (%s) has written %llu of %llu bytes: run the same "
                                   "release of ivshmem on both sides",
                                   r->who, (unsigned long long) r->bytes,
                                   (unsigned long long) p->bytes);
        else
            link_wait(link);
    }
    return 0;
}

static int say_end(struct pipe *p)
{
    struct link *link = &p->link;
    for (struct link_peer *r = link->peers; (r = receiver_from(link, r)); r++)
        while (!r->is_lost && !link_end(link, r, p->bytes, p->checksum)) {
            int err = look_around(p);
            if (err)
                return err;
            link_wait(link);
        }
    return 0;
}

/* With several receivers: which were lost, while the others went on. */
static int count_lost(struct pipe *p)
{
    unsigned lost = 0;
    for (unsigned i = 0; i < p->link.count; i++) {
        lost += p->link.peers[i].is_lost;
        if (p->link.peers[i].is_lost && p->link.count > 1)
            tool_error("%s", p->link.peers[i].why.text);
    }
    if (lost == 0)
        return 0;
    if (p->link.count == 1)
        return no_receiver_left(p);
    return ivshm_diag_fail(&p->diag, ESHUTDOWN, "%u of %u receivers do not have everything", lost,
                           p->link.count);
}

static int send_all(struct pipe *p)
{
    int err = finish(p, send_input(p));
    if (!err)
        err = complete_checksum(p);
    if (!err)
        err = say_end(p);
    if (!err)
        err = await_receivers(p);
    return err ? err : count_lost(p);
}

/* The receiver */

/* Writes the chunks that are there, or a part of them; *skip bytes of the first are written. */
static int empty_chunks(struct pipe *p, struct link_peer *sender, uint32_t *skip)
{
    struct iovec parts[BATCH_MAX];
    uint32_t count = 0, len;
    const unsigned char *chunk;
    while (count < p->batch &&
           (chunk = ivshm_pipeline_peek_behind_spsc(&sender->pipeline, count, &len))) {
        if (len == 0 || (count == 0 && len <= *skip))
            return ivshm_diag_fail(&p->diag, EBADMSG,
                                   "the sender (%s) sent a piece of invalid length: run the same "
                                   "release of ivshmem on both sides",
                                   sender->who);
        parts[count++] = (struct iovec){(void *) (uintptr_t) chunk, len};
    }
    if (count == 0)
        return 0;
    link_found(&p->link);
    parts[0].iov_base = (char *) parts[0].iov_base + *skip;
    parts[0].iov_len -= *skip;
    for (uint32_t i = 0, at = 0; p->private && i < count; at += (uint32_t) parts[i++].iov_len) {
        memcpy(p->private + at, parts[i].iov_base, parts[i].iov_len);
        parts[i].iov_base = p->private + at;
    }
    ssize_t written = writev(p->fd, parts, (int) count);
    if (written < 0) {
        int err = after_call(p, POLLOUT);
        return err ? err : -EAGAIN;
    }
    p->bytes += (uint64_t) written;
    if (p->private)
        add_to_checksum(p, p->private, (size_t) written);
    if (p->user->limit && p->bytes > p->user->limit)
        return ivshm_diag_fail(&p->diag, EFBIG, "more than the %s that this server takes",
                               tool_size(p->user->limit));
    for (uint32_t i = 0; i < count && written > 0; i++) {
        size_t part = parts[i].iov_len;
        if ((size_t) written < part) {
            *skip = (uint32_t) written + (i == 0 ? *skip : 0);
            break;
        }
        written -= (ssize_t) part;
        *skip = 0;
        ivshm_pipeline_consume_spsc(&sender->pipeline);
    }
    link_wake(&p->link, sender);
    return 1;
}

static int receive_all(struct pipe *p)
{
    struct link *link = &p->link;
    struct link_peer *sender = link->peers;
    uint32_t skip = 0;
    for (;;) {
        int err = look_around(p);
        if (err)
            return err;
        /* Before the look: what was sent until then is there now. */
        bool has_ended = sender->ended, was_lost = sender->is_lost;
        int got = empty_chunks(p, sender, &skip);
        if (got < 0 && got != -EAGAIN)
            return got;
        if (got != 0)
            continue;
        if (has_ended && p->bytes == sender->bytes) {
            err = complete_checksum(p);
            return err ? err : compare_checksums(p, sender);
        }
        if (has_ended)
            return ivshm_diag_fail(&p->diag, EBADMSG,
                                   "the sender (%s) says that it sent %llu bytes, but %llu came: "
                                   "run the same release of ivshmem on both sides",
                                   sender->who, (unsigned long long) sender->bytes,
                                   (unsigned long long) p->bytes);
        if (was_lost)
            return ivshm_diag_fail(&p->diag, ESHUTDOWN, "%s", sender->why.text);
        link_wait(link);
    }
}

/* The last word of a receiver; its sender waits for it. */
static int receive_and_confirm(struct pipe *p)
{
    struct link_peer *sender = p->link.peers;
    int err = finish(p, receive_all(p));
    if (err)
        return err;
    p->moved_at = 0;
    while (!sender->is_lost && !link_end(&p->link, sender, p->bytes, p->checksum) &&
           look_around(p) == 0)
        link_wait(&p->link);
    return 0;
}

/* Both */

static int run_pipe(struct pipe *p)
{
    struct link *link = &p->link;
    int err = link_open(link, &p->diag);
    if (err)
        return err;
    err = link_connect(link, &p->diag);
    if (!err && link->has_checksum)
        err = begin_checksum(p, ivshm_pipeline_chunk_size(&link->peers->pipeline));
    if (!err)
        err = p->user->begin(p->user->arg, &p->fd, &p->diag);
    if (!err)
        err = link->is_sender ? send_all(p) : receive_and_confirm(p);
    end_checksum(p);
    if (err)
        link_give_up(link, p->diag.text, p->bytes);
    link_close(link);
    return err;
}

int pipe_run(const struct tool_options *opt, const struct pipe_user *user)
{
    struct ivshm_region region;
    char name[LINK_NAME_MAX];
    struct pipe p = {.user = user,
                     .summer_in = -1,
                     .must_agree = opt->checksum,
                     .link = {.is_sender = user->is_sender,
                              .name = user->server ? name : opt->name,
                              .has_checksum = opt->checksum,
                              .server_name = user->server,
                              .path = user->path,
                              .only = user->client,
                              .count = 1,
                              .timeout = opt->timeout,
                              .region = &region}};
    if (opt->tee) {
        char *end;
        unsigned long count = strtoul(opt->tee, &end, 10);
        if (*end || *opt->tee < '0' || *opt->tee > '9' || count < 1 || count > LINK_PEERS_MAX)
            return tool_usage_error("--tee %s is not a number of receivers from 1 to %d", opt->tee,
                                    LINK_PEERS_MAX);
        p.link.count = (unsigned) count;
    }
    if (user->server) {
        uint64_t random;
        if (getrandom(&random, sizeof(random), 0) != sizeof(random))
            return tool_error("cannot get random bytes: %s", strerror(errno));
        snprintf(name, sizeof(name), "%s:%016llx", user->server, (unsigned long long) random);
    }
    tool_catch_signals();
    if (ivshm_region_open(opt->region, &region, &p.diag) != 0)
        return tool_error("%s", p.diag.text);
    tool_open_bell(&region);
    const uint32_t half = ivshm_region_geometry(&region)->pipeline_chunks / 2;
    p.batch = half < BATCH_MAX ? half : BATCH_MAX;
    p.link.peers = calloc(p.link.count, sizeof(*p.link.peers));
    int err = p.link.peers ? run_pipe(&p) : ivshm_diag_fail(&p.diag, ENOMEM, "out of memory");
    free(p.link.peers);
    ivshm_region_close(&region);
    if (err == -EPIPE) { /* as other filters: nobody wants to know */
        signal(SIGPIPE, SIG_DFL);
        raise(SIGPIPE);
    }
    return err ? tool_error("%s", p.diag.text) : TOOL_OK;
}

/* send and recv */

static int use_standard(void *arg, int *fd, struct ivshm_diag *diag)
{
    (void) diag;
    *fd = *(int *) arg;
    return 0;
}

/* An output is complete only if it can be closed. */
static int finish_standard(void *arg, int err, struct ivshm_diag *diag)
{
    if (!err && *(int *) arg == STDOUT_FILENO && close(STDOUT_FILENO) != 0 && errno != EINTR)
        return ivshm_diag_fail(diag, errno, "cannot write standard output: %s", strerror(errno));
    return err;
}

int tool_send(const struct tool_options *opt)
{
    int fd = STDIN_FILENO;
    return pipe_run(opt, &(struct pipe_user){.is_sender = true,
                                             .input_or_output = "standard input",
                                             .arg = &fd,
                                             .begin = use_standard,
                                             .finish = finish_standard});
}

int tool_recv(const struct tool_options *opt)
{
    int fd = STDOUT_FILENO;
    return pipe_run(opt, &(struct pipe_user){.input_or_output = "standard output",
                                             .arg = &fd,
                                             .begin = use_standard,
                                             .finish = finish_standard});
}
