/* bin/python3 of podwire's tree: starts the tree's interpreter with the tree's own loader and C
 * library, so that it runs on a host that has another C library or none. Static.
 *
 * The tree may lie anywhere: it is found by this executable's own path. It is the real one and not
 * what was asked for, which leads through a link that an upgrade switches: whatever the interpreter
 * imports later comes from the same version.
 *
 * A shared lock on this very file, kept open as long as Python runs, tells `podwire install` that
 * this version is in use; it works from container to container, where no process sees the other. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#define SELF "/proc/self/exe"
enum { FIRST_FREE = 3, OPTIONS = 7 };

static _Noreturn void fail(const char *what)
{
    fprintf(stderr, "podwire: %s: %s\n", what, strerror(errno));
    exit(1);
}

/* False when this version has been removed since it was executed: then no more of it is there. */
static int hold(void)
{
    struct stat found;
    int self = open(SELF, O_RDONLY);
    if (self < 0)
        fail("cannot open " SELF " (is /proc mounted?)");
    if (self < FIRST_FREE) { /* a standard stream is closed, and its number is not ours */
        int other = fcntl(self, F_DUPFD, FIRST_FREE);
        close(self);
        self = other;
    }
    if (self < 0 || fstat(self, &found))
        fail("cannot look at " SELF);
    flock(self, LOCK_SH); /* waits for who removes it; a file system without locks has no upgrades */
    return !fstat(self, &found) && found.st_nlink > 0;
}

int main(int argc, char **argv)
{
    static char tree[PATH_MAX], loader[PATH_MAX + 32], lib[PATH_MAX + 32], name[PATH_MAX + 32],
        python[PATH_MAX + 32];
    if (!hold()) {
        execv(argv[0], argv); /* through the link again, to the version that it leads to now */
        fail("this version is being removed, and there is no other");
    }
    ssize_t size = readlink(SELF, tree, sizeof tree - 1);
    if (size < 0)
        fail("cannot read " SELF);
    for (int level = 0; level < 2; level++) { /* less /bin/python3 */
        char *end = strrchr(tree, '/');
        if (end)
            *end = 0;
    }
    sprintf(loader, "%s/lib/podwire-python", tree);
    sprintf(lib, "%s/lib", tree);
    sprintf(name, "%s/bin/python3", tree);
    sprintf(python, "%s/lib/python3", tree);
    char *args[argc + OPTIONS + 1];
    memcpy(args, (char *[]){loader, "--inhibit-cache", "--library-path", lib, "--argv0", name, python},
           OPTIONS * sizeof *args);
    if (argc)
        memcpy(args + OPTIONS, argv + 1, (size_t)argc * sizeof *args); /* its NULL too */
    args[argc ? OPTIONS + argc - 1 : OPTIONS] = NULL;
    unsetenv("LD_PRELOAD"); /* libraries for the host's C library do not fit this one */
    unsetenv("LD_AUDIT");
    execv(loader, args);
    fail(loader);
}
