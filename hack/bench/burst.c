/* Starts CNI plugins as a container runtime does and times each from outside.
 *
 * Python's subprocess starts about 350 processes a second and would be what gets measured, so
 * sequential runs and bursts of both peers go through this one driver.
 *
 * On stdin, any number of batches: a line `PARALLEL COUNT`, then COUNT lines of seven fields
 * separated by tabs:
 *     executables  verb  container-id  netns  ifname  files-with-configs  file-for-the-output
 * A chain of plugins has as many executables as configs, separated by colons; each is started when
 * the one before it has ended well. What ADD of one printed goes to the next: the config of every
 * plugin but the first ends with `"prevResult":`, and the output and a brace come after it.
 * On stdout, for each batch: COUNT lines `exit-status start end` in the order of the jobs, in
 * nanoseconds since the batch began. A status of 128 + N means killed by signal N.
 *
 * The environment of a plugin is PATH, CNI_PATH (both inherited) and its CNI_* variables; its
 * working directory is /. The config waits in a pipe before the plugin starts, so it must be
 * smaller than a pipe (64 KiB).
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <spawn.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { FIELDS = 7, MAX_JOBS = 4096, MAX_LINE = 4096, MAX_CONFIG = 65536 };
enum { EXECUTABLE, VERB, ID, NETNS, IFNAME, CONFIG, OUTPUT };

struct job {
    char line[MAX_LINE];
    char *field[FIELDS];
    char *executable, *config; /* the chain's rest, after those that were started */
    bool first;
    pid_t pid;
    int status;
    int64_t start_ns, end_ns;
};

static struct job jobs[MAX_JOBS];

static void fail(const char *what) {
    fprintf(stderr, "burst: %s: %s\n", what, strerror(errno));
    exit(1);
}

static int64_t now_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

static void read_job(struct job *job) {
    if (!fgets(job->line, MAX_LINE, stdin)) fail("a batch that ends early");
    job->line[strcspn(job->line, "\n")] = 0;
    char *rest = job->line;
    for (int i = 0; i < FIELDS; i++) {
        if (!rest) fail("a job with too few fields");
        job->field[i] = strsep(&rest, "\t");
    }
    job->executable = job->field[EXECUTABLE];
    job->config = job->field[CONFIG];
    job->first = true;
}

static size_t append(const char *path, char *buffer, size_t size) {
    int file = open(path, O_RDONLY | O_CLOEXEC);
    if (file < 0) fail(path);
    ssize_t length = read(file, buffer + size, MAX_CONFIG - size);
    close(file);
    if (length < 0 || size + (size_t)length == MAX_CONFIG) fail("a config that is no small file");
    return size + (size_t)length;
}

/* The reading end of a pipe that holds the whole config. previous: the file of the result that
 * comes after it, or NULL. */
static int pipe_with(const char *path, const char *previous) {
    static char config[MAX_CONFIG];
    size_t length = append(path, config, 0);
    if (previous) {
        length = append(previous, config, length);
        config[length++] = '}';
    }
    int ends[2];
    if (pipe2(ends, O_CLOEXEC)) fail("pipe");
    if (write(ends[1], config, length) != (ssize_t)length) fail("write to a pipe");
    close(ends[1]);
    return ends[0];
}

static char *variable(const char *name, const char *value) {
    char *text;
    if (asprintf(&text, "%s=%s", name, value ? value : "") < 0) fail("asprintf");
    return text;
}

static void start(struct job *job, int64_t origin_ns) {
    char *environment[] = {
        variable("CNI_COMMAND", job->field[VERB]),
        variable("CNI_CONTAINERID", job->field[ID]),
        variable("CNI_NETNS", job->field[NETNS]),
        variable("CNI_IFNAME", job->field[IFNAME]),
        variable("CNI_ARGS", ""),
        variable("CNI_PATH", getenv("CNI_PATH")),
        variable("PATH", getenv("PATH")),
        NULL,
    };
    char *arguments[] = {strsep(&job->executable, ":"), NULL};
    bool after = !job->first && !strcmp(job->field[VERB], "ADD");
    char *config = strsep(&job->config, ":");
    if (!config) fail("fewer configs than executables");
    int input = pipe_with(config, after ? job->field[OUTPUT] : NULL);
    int output = open(job->field[OUTPUT], O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (output < 0) fail(job->field[OUTPUT]);
    posix_spawn_file_actions_t streams;
    posix_spawn_file_actions_init(&streams);
    posix_spawn_file_actions_adddup2(&streams, input, 0);
    posix_spawn_file_actions_adddup2(&streams, output, 1);
    if (job->first) job->start_ns = now_ns() - origin_ns;
    job->first = false;
    int error = posix_spawn(&job->pid, arguments[0], &streams, NULL, arguments, environment);
    if (error) {
        errno = error;
        fail(arguments[0]);
    }
    posix_spawn_file_actions_destroy(&streams);
    close(input);
    close(output);
    for (char **text = environment; *text; text++) free(*text);
}

/* Waits for one process; true when its job has ended with it. */
static bool finish_one(int count, int64_t origin_ns) {
    int status;
    pid_t pid = waitpid(-1, &status, 0);
    int64_t end_ns = now_ns() - origin_ns;
    if (pid < 0) fail("waitpid");
    for (int i = 0; i < count; i++) {
        struct job *job = &jobs[i];
        if (job->pid != pid) continue;
        job->pid = 0;
        job->end_ns = end_ns;
        job->status = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
        if (job->status || !job->executable) return true;
        start(job, origin_ns);
        return false;
    }
    return false;
}

int main(void) {
    int parallel, count;
    char line[64];
    if (chdir("/")) fail("/");
    while (fgets(line, sizeof line, stdin)) {
        if (sscanf(line, "%d %d", &parallel, &count) != 2 || count > MAX_JOBS || parallel < 1) {
            fprintf(stderr, "burst: not a batch: %s", line);
            return 1;
        }
        for (int i = 0; i < count; i++) read_job(&jobs[i]);
        int64_t origin_ns = now_ns();
        int running = 0;
        for (int i = 0; i < count; i++) {
            while (running == parallel)
                if (finish_one(count, origin_ns)) running--;
            start(&jobs[i], origin_ns);
            running++;
        }
        while (running)
            if (finish_one(count, origin_ns)) running--;
        for (int i = 0; i < count; i++)
            printf("%d %lld %lld\n", jobs[i].status, (long long)jobs[i].start_ns,
                   (long long)jobs[i].end_ns);
        fflush(stdout);
    }
    return 0;
}
