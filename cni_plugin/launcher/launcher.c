/* podwire's launcher: hands one CNI call to the warm agent and prints the agent's answer.
 *
 * A runtime starts this instead of Python, because a cold interpreter costs more than the rest
 * of a call. Without an agent it executes the very same Python directly. docs/agent.md ("The
 * wire") has the messages and the rules. The one that must never be broken: a call that may
 * have reached the agent is never begun a second time because it takes long.
 *
 * Static buffers instead of a heap: the kernel gives only the pages that are used. stdio makes
 * the text of errors and warnings only: the normal path costs its system calls and no more. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#ifndef PYTHON_TREE /* hack/launcher.sh passes both */
#define PYTHON_TREE "/opt/podwire/current"
#define AGENT_SOCKET "/run/podwire/agent.sock"
#endif

enum {
    WIRE_VERSION = 1, HEADER = 20, REQUEST_MAGIC = 0x50575251 /* PWRQ */, REPLY_MAGIC = 0x50575250,
    ENV_MAX = 64 << 10, STDIN_MAX = 1 << 20, STDOUT_MAX = 4 << 20, STDERR_MAX = 1 << 20, /* bytes */
    DEADLINE_MS = 110000, /* kubelet gives up most calls after 2 minutes */
};
/* The messages as they travel, integers big-endian; no field needs padding. */
static struct {
    uint32_t magic;
    uint16_t version, flags; /* flags: 1 when CNI_NETNS's descriptor comes with the first byte */
    uint32_t env_size, stdin_size, wait_ms;
    char rest[ENV_MAX + STDIN_MAX + 1]; /* one more, to notice what is too much */
} request;
static struct {
    uint32_t magic;
    uint16_t version, kind; /* kind: 0 done; 1 declined, nothing was done */
    uint32_t status, stdout_size, stderr_size;
    char rest[STDOUT_MAX + STDERR_MAX];
} reply;
_Static_assert(offsetof(typeof(request), rest) == HEADER && offsetof(typeof(reply), rest) == HEADER,
               "the compiler put padding into a message");

enum answer { DONE, DECLINED, ENDED, LATE, WRONG };
static struct { const char *field; uint32_t value; } wrong; /* what is WRONG with the reply */
static struct timespec deadline; /* on the monotonic clock */
static const char *socket_path;

static bool write_all(int fd, const char *data, size_t size)
{
    while (size) {
        ssize_t written = write(fd, data, size);
        if (written < 0 && errno != EINTR)
            return false;
        data += written > 0 ? written : 0;
        size -= written > 0 ? (size_t)written : 0;
    }
    return true;
}

/* The body of a JSON string, at most 6 bytes for each of `from`. What is not ASCII is shown as
 * \xNN: a path may hold what is no UTF-8, and then the JSON would be none. */
static char *escape(char *to, const char *from)
{
    for (; *from; from++) {
        unsigned char byte = (unsigned char)*from;
        const char *how = byte < ' ' || byte == 0x7f ? "\\u%04x" : byte > 0x7f ? "\\\\x%02x" :
                          byte == '"' || byte == '\\' ? "\\%c" : "%c";
        to += sprintf(to, how, byte);
    }
    return to;
}

/* Ends with error JSON on stdout; both texts are escaped. */
__attribute__((format(printf, 3, 4)))
static _Noreturn void fail(int code, const char *details, const char *format, ...)
{
    static char msg[4096], line[6 * sizeof msg + 4096];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(msg, sizeof msg, format, arguments);
    va_end(arguments);
    char *end = line + sprintf(line, "{\"cniVersion\":\"1.0.0\",\"code\":%d,\"msg\":\"", code);
    end = escape(end, msg);
    end = escape(stpcpy(end, "\",\"details\":\""), details);
    end = stpcpy(end, "\"}\n");
    write_all(STDOUT_FILENO, line, (size_t)(end - line));
    _exit(1);
}

/* False when the deadline passed. */
static bool wait_for(int fd, short events)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    long left_ms = (deadline.tv_sec - now.tv_sec) * 1000;
    left_ms += (deadline.tv_nsec - now.tv_nsec) / 1000000;
    return left_ms > 0 && poll(&(struct pollfd){.fd = fd, .events = events}, 1, (int)left_ms) != 0;
}

/* Whether this is podwire-ipam, the same program by another name: other plugins execute it for an
 * address. */
static bool is_ipam(int argc, char **argv)
{
    const char *name = argc ? strrchr(argv[0], '/') : NULL;
    return argc && !strcmp(name ? name + 1 : argv[0], "podwire-ipam");
}

/* Executes Python in this process's place, with `input` as its stdin unless that is NULL.
 * request_id: of what the agent may have begun, for Python to find and complete, or NULL. */
static _Noreturn void run_directly(int argc, char **argv, const char *input, size_t size,
                                   const char *request_id)
{
    const char *python = getenv("PODWIRE_PYTHON");
    if (!python || !*python)
        python = PYTHON_TREE "/bin/python3";
    /* -I: nothing of the caller's environment or folder is imported; -B: nothing is written
     * beside the sources. The kernel keeps argv below a quarter of the stack: a copy has room. */
    char *args[argc + 6];
    char *module = is_ipam(argc, argv) ? "ipam.plugin" : "cni_plugin";
    memcpy(args, (char *[]){(char *)python, "-I", "-B", "-m", module, NULL}, 6 * sizeof *args);
    if (argc) /* kernels before 5.18 let a program start without even its name */
        memcpy(args + 5, argv + 1, (size_t)argc * sizeof *args); /* its NULL too */
    int copy = input ? memfd_create("stdin", MFD_CLOEXEC) : STDIN_FILENO;
    if (input && (!write_all(copy, input, size) || lseek(copy, 0, SEEK_SET) || dup2(copy, 0)))
        fail(5, "", "stdin cannot be kept for the direct run: %s", strerror(errno));
    if (request_id ? setenv("PODWIRE_REQUEST", request_id, 1) : unsetenv("PODWIRE_REQUEST"))
        fail(5, "", "PODWIRE_REQUEST cannot be set: %s", strerror(errno));
    signal(SIGPIPE, SIG_DFL); /* else it would stay ignored in what Python executes */
    execve(python, args, environ);
    fail(5, "install podwire's Python there, name another by PODWIRE_PYTHON, or start the agent",
         "%.1000s cannot be executed: %s; the agent's socket is %.1000s", python, strerror(errno),
         *socket_path ? socket_path : "off");
}

/* A stream that is closed is taken by one that refuses: otherwise the socket would get its
 * number, and the agent what is meant for the runtime. open answers the lowest free number. */
static void hold_places(void)
{
    for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; fd++)
        if (fcntl(fd, F_GETFD) < 0 && open("/dev/null", fd ? O_RDONLY : O_WRONLY) < 0)
            fail(5, "", "a standard stream is closed, and /dev/null cannot be opened");
}

static size_t add_variable(size_t used, const char *name, const char *value)
{
    size_t size = strlen(name) + strlen(value) + 1;
    if (size > ENV_MAX - used)
        fail(4, "CNI_*, TRACEPARENT and TRACESTATE are limited together",
             "the environment holds more than 64 KiB: no room for %.64s%.64s", name, value);
    stpcpy(stpcpy(request.rest + used, name), value);
    return used + size;
}

static size_t collect_environment(const char *request_id, int netns_errno)
{
    size_t used = 0;
    for (char **entry = environ; *entry; entry++)
        if (!strncmp(*entry, "CNI_", 4) || !strncmp(*entry, "TRACEPARENT=", 12) ||
            !strncmp(*entry, "TRACESTATE=", 11))
            used = add_variable(used, *entry, "");
    used = add_variable(used, "PODWIRE_REQUEST=", request_id);
    char number[16];
    if (netns_errno && sprintf(number, "%d", netns_errno))
        used = add_variable(used, "PODWIRE_NETNS_ERRNO=", number);
    return used;
}

static size_t read_stdin(char *to)
{
    size_t size = 0;
    ssize_t got;
    do { /* until end of file, or no room is left: a read of no bytes answers 0 too */
        got = read(STDIN_FILENO, to + size, STDIN_MAX + 1 - size);
        if (got < 0 && errno != EINTR)
            fail(5, "", "stdin cannot be read: %s", strerror(errno));
        size += got > 0 ? (size_t)got : 0;
    } while (got);
    if (size > STDIN_MAX)
        fail(6, "stdin is the network configuration", "stdin holds more than 1 MiB");
    return size;
}

/* A socket whose other end is served by our own user; otherwise -1, and nothing was sent.
 * Non-blocking: a full backlog is a refusal too, and no place to hang. */
static int connect_agent(void)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    struct ucred peer = {.uid = (uid_t)-1};
    if (!*socket_path || strlen(socket_path) >= sizeof address.sun_path)
        return -1;
    strcpy(address.sun_path, socket_path);
    int agent = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (agent < 0 || connect(agent, (struct sockaddr *)&address, sizeof address))
        return -1;
    if (!getsockopt(agent, SOL_SOCKET, SO_PEERCRED, &peer, &(socklen_t){sizeof peer}) &&
        peer.uid == geteuid())
        return agent;
    char quoted[6 * sizeof address.sun_path];
    escape(quoted, socket_path);
    dprintf(STDERR_FILENO, "podwire: the agent's socket %s is served by uid %u, not by %u: "
            "the call runs without the agent\n", quoted, peer.uid, geteuid());
    return -1;
}

/* False when the deadline passed. Any other failure shows in what is received then: a reply
 * that was sent before the agent closed, or end of file, which shutdown asks of one that waits. */
static bool send_request(int agent, size_t size, int netns)
{
    union {
        struct cmsghdr head;
        char bytes[CMSG_SPACE(sizeof netns)];
    } control = {.head = {.cmsg_len = CMSG_LEN(sizeof netns), .cmsg_level = SOL_SOCKET,
                          .cmsg_type = SCM_RIGHTS}};
    memcpy(CMSG_DATA(&control.head), &netns, sizeof netns);
    struct iovec left = {&request, size};
    struct msghdr message = {.msg_iov = &left, .msg_iovlen = 1, .msg_control = &control,
                             .msg_controllen = netns < 0 ? 0 : sizeof control.bytes};
    while (left.iov_len) {
        ssize_t sent = sendmsg(agent, &message, MSG_NOSIGNAL);
        if (sent >= 0) {
            left = (struct iovec){(char *)left.iov_base + sent, left.iov_len - (size_t)sent};
            message.msg_controllen = 0; /* the descriptor went with the first byte */
        } else if (errno == EAGAIN && !wait_for(agent, POLLOUT)) {
            return false;
        } else if (errno != EAGAIN && errno != EINTR) {
            return shutdown(agent, SHUT_WR), true;
        }
    }
    return true;
}

static enum answer receive(int agent, char *to, size_t size)
{
    while (size) {
        ssize_t got = recv(agent, to, size, 0);
        if (got > 0) {
            to += got;
            size -= (size_t)got;
        } else if (got < 0 && errno == EAGAIN && !wait_for(agent, POLLIN)) {
            return LATE;
        } else if (got == 0 || (errno != EAGAIN && errno != EINTR)) {
            return ENDED;
        }
    }
    return DONE;
}

static enum answer misfit(const char *field, uint32_t value)
{
    wrong.field = field;
    wrong.value = value;
    return WRONG;
}

/* An agent that has done something waits for the receipt. One that hung up undoes it when nobody
 * took it in time, as from a launcher that was stopped: then what is in the socket is the past. */
static enum answer still_true(int agent)
{
    unsigned char more;
    ssize_t got = recv(agent, &more, 1, 0);
    if (got > 0)
        return misfit("byte after the end", more);
    return reply.status || (got < 0 && errno == EAGAIN) ? DONE : ENDED;
}

/* Into `reply`, the header in the machine's order. Whole: of a reply that breaks off nothing may
 * have been printed. */
static enum answer receive_reply(int agent)
{
    enum answer answer = receive(agent, (char *)&reply, HEADER);
    if (answer != DONE)
        return answer;
    if (ntohl(reply.magic) != REPLY_MAGIC)
        return misfit("magic number", ntohl(reply.magic));
    if (ntohs(reply.kind) == 1) /* the same in every version, so that an old agent can decline */
        return DECLINED;
    if (ntohs(reply.version) != WIRE_VERSION)
        return misfit("version", ntohs(reply.version));
    if (reply.kind)
        return misfit("kind", ntohs(reply.kind));
    if ((reply.status = ntohl(reply.status)) > 255)
        return misfit("exit status", reply.status);
    if ((reply.stdout_size = ntohl(reply.stdout_size)) > STDOUT_MAX)
        return misfit("stdout length", reply.stdout_size);
    if ((reply.stderr_size = ntohl(reply.stderr_size)) > STDERR_MAX)
        return misfit("stderr length", reply.stderr_size);
    answer = receive(agent, reply.rest, reply.stdout_size + reply.stderr_size);
    return answer == DONE ? still_true(agent) : answer;
}

/* 32 hex digits by which a direct run finds what the agent had begun for this call. */
static void make_request_id(char id[33])
{
    uint64_t random[2];
    if (getrandom(random, sizeof random, 0) != sizeof random)
        fail(5, "", "the kernel gives no random number: %s", strerror(errno));
    sprintf(id, "%016" PRIx64 "%016" PRIx64, random[0], random[1]);
}

int main(int argc, char **argv)
{
    const char *command = getenv("CNI_COMMAND"), *use = getenv("PODWIRE_AGENT");
    const char *netns_path = getenv("CNI_NETNS"), *wait = getenv("PODWIRE_DEADLINE_MS");
    socket_path = getenv("PODWIRE_SOCKET");
    socket_path = use && !strcmp(use, "off") ? "" : socket_path ? socket_path : AGENT_SOCKET;
    if (!command || !*command || is_ipam(argc, argv)) /* the agent serves whole attachments only */
        run_directly(argc, argv, NULL, 0, NULL);
    hold_places();
    signal(SIGPIPE, SIG_IGN); /* a reader that is gone shall be an error of write */

    int netns = -1, netns_errno = 0;
    if (netns_path && *netns_path) { /* O_NONBLOCK: a FIFO there would be a place to hang */
        netns = open(netns_path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
        netns_errno = netns < 0 ? errno : 0;
    }
    char request_id[33];
    make_request_id(request_id);
    size_t env_size = collect_environment(request_id, netns_errno);
    char *input = request.rest + env_size;
    size_t input_size = read_stdin(input);

    long wait_ms = wait ? strtol(wait, NULL, 10) : 0;
    if (wait_ms <= 0 || wait_ms > INT_MAX)
        wait_ms = DEADLINE_MS;
    clock_gettime(CLOCK_MONOTONIC, &deadline);
    deadline.tv_sec += wait_ms / 1000;
    deadline.tv_nsec += wait_ms % 1000 * 1000000;
    request.magic = htonl(REQUEST_MAGIC);
    request.version = htons(WIRE_VERSION);
    request.flags = htons(netns >= 0);
    request.env_size = htonl((uint32_t)env_size);
    request.stdin_size = htonl((uint32_t)input_size);
    request.wait_ms = htonl((uint32_t)wait_ms);

    int agent = connect_agent();
    enum answer answer = agent < 0 ? DECLINED :
        send_request(agent, HEADER + env_size + input_size, netns) ? receive_reply(agent) : LATE;
    if (answer == LATE)
        fail(11, "the call may still be finished or undone by it; see its log and docs/agent.md",
             "the agent gave no answer in %g s", (double)wait_ms / 1000);
    if (answer == WRONG)
        fail(11, "the call may have been done; are the agent and the launcher of one release?",
             "the agent's reply does not fit: its %s is %u (0x%08x)", wrong.field, wrong.value,
             wrong.value);
    if (answer == ENDED)
        dprintf(STDERR_FILENO, "podwire: the agent ended before it answered: the call is completed "
                "without it\n");
    if (answer != DONE)
        run_directly(argc, argv, input, input_size, answer == ENDED ? request_id : NULL);
    write_all(STDERR_FILENO, reply.rest + reply.stdout_size, reply.stderr_size);
    if (!write_all(STDOUT_FILENO, reply.rest, reply.stdout_size))
        return 1; /* and no `k`: the agent undoes an ADD whose result nobody has */
    send(agent, "k", 1, MSG_NOSIGNAL);
    return (int)reply.status;
}
