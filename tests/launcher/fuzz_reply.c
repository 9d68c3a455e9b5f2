/* Feeds the launcher's reply parser mutated replies over a socket pair, and holds each verdict
 * against one made from the bytes alone. Built with the sanitizers by test_fuzz.py.
 *
 *   fuzz_reply SEED MILLISECONDS */
#define main launcher_main
#include "../../cni_plugin/launcher/launcher.c"
#undef main

enum { ROOM = 4096 };

static uint64_t state;

static uint32_t number(uint32_t below) /* xorshift64*: the same numbers on each machine */
{
    state ^= state >> 12, state ^= state << 25, state ^= state >> 27;
    return (uint32_t)((state * 0x2545f4914f6cdd1dULL) >> 33) % below;
}

static uint32_t field(const unsigned char *at, int size)
{
    uint32_t value = 0;
    while (size--)
        value = value << 8 | *at++;
    return value;
}

static void set_field(unsigned char *at, uint32_t value)
{
    for (int i = 3; i >= 0; i--, value >>= 8)
        at[i] = (unsigned char)value;
}

/* A reply of sound form and its size; then up to 4 changes, some of them at the limits. */
static size_t mutated(unsigned char *to)
{
    static const uint32_t edges[] = {0, 1, 255, 256, STDERR_MAX, STDERR_MAX + 1, STDOUT_MAX,
                                     STDOUT_MAX + 1, INT_MAX, 0x80000000, UINT32_MAX};
    uint32_t out = number(200), err = number(100);
    size_t size = HEADER + out + err;
    memcpy(to, "PWRP\0\1\0\0", 8);
    to[7] = number(8) == 0;
    set_field(to + 8, number(256));
    set_field(to + 12, out);
    set_field(to + 16, err);
    for (size_t i = HEADER; i < size; i++)
        to[i] = (unsigned char)number(256);
    for (uint32_t changes = number(5); changes; changes--)
        switch (number(5)) {
        case 0: to[number(HEADER)] = (unsigned char)number(256); break;
        case 1: to[number(HEADER)] ^= (unsigned char)(1 << number(8)); break;
        case 2: set_field(to + 8 + 4 * number(3), edges[number(sizeof edges / sizeof *edges)]); break;
        case 3: size = number((uint32_t)size + 1); break;
        case 4: /* bytes after the end */
            for (uint32_t more = number(50); more && size < ROOM; more--)
                to[size++] = (unsigned char)number(256);
        }
    return size;
}

static enum answer expected(const unsigned char *from, size_t size, bool stays)
{
    if (size < HEADER)
        return ENDED;
    if (memcmp(from, "PWRP", 4))
        return WRONG;
    if (field(from + 6, 2) == 1)
        return DECLINED;
    if (field(from + 4, 4) != 0x10000 || field(from + 8, 4) > 255 ||
        field(from + 12, 4) > STDOUT_MAX || field(from + 16, 4) > STDERR_MAX)
        return WRONG;
    uint32_t told = field(from + 12, 4) + field(from + 16, 4);
    if (size - HEADER != told)
        return size - HEADER < told ? ENDED : WRONG;
    return stays || field(from + 8, 4) ? DONE : ENDED;
}

int main(int argc, char **argv)
{
    static unsigned char bytes[ROOM];
    static uint64_t seen[WRONG + 1];
    if (argc != 3)
        return 2;
    uint64_t iterations = 0;
    state = strtoull(argv[1], NULL, 10) | 1; /* 0 would stay 0 */
    clock_gettime(CLOCK_MONOTONIC, &deadline);
    struct timespec end = deadline, now;
    end.tv_sec += atoi(argv[2]) / 1000;
    end.tv_nsec += atoi(argv[2]) % 1000 * 1000000;
    deadline.tv_sec += 3600;
    do {
        int ends[2];
        if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, ends))
            return 2;
        size_t size = mutated(bytes);
        if (write(ends[1], bytes, size) != (ssize_t)size)
            return 2;
        /* Only one that says as much as it has may stay: else it would be waited for. */
        bool stays = number(2) && size >= HEADER &&
            (uint64_t)field(bytes + 12, 4) + field(bytes + 16, 4) <= size - HEADER;
        if (!stays)
            close(ends[1]);
        enum answer answer = receive_reply(ends[0]), right = expected(bytes, size, stays);
        close(ends[0]);
        if (stays)
            close(ends[1]);
        if (answer != right || (answer == DONE && memcmp(reply.rest, bytes + HEADER,
                                                        reply.stdout_size + reply.stderr_size))) {
            printf("iteration %llu: answer %d, expected %d, of", (unsigned long long)iterations,
                   answer, right);
            for (size_t i = 0; i < size; i++)
                printf(" %02x", bytes[i]);
            printf("\n");
            return 1;
        }
        seen[answer]++;
        iterations++;
        clock_gettime(CLOCK_MONOTONIC, &now);
    } while ((end.tv_sec - now.tv_sec) * 1000000000LL + end.tv_nsec - now.tv_nsec > 0);
    printf("done %llu declined %llu ended %llu wrong %llu\n", (unsigned long long)seen[DONE],
           (unsigned long long)seen[DECLINED], (unsigned long long)seen[ENDED],
           (unsigned long long)seen[WRONG]);
    return 0;
}
