/* Kills the process with SIGKILL right before its n-th call of a kind, for LD_PRELOAD: the way to die inside a commit of
   SQLite, which no hook of Python reaches. kill_at("pwrite", 3) arms it. */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <signal.h>
#include <string.h>
#include <sys/types.h>
#include <unistd.h>

static const char *armed = "";
static char copy[32];
static int left;

void kill_at(const char *call, int nth)
{
    strncpy(copy, call, sizeof copy - 1);
    armed = copy;
    left = nth;
}

static void *real(const char *name, const char *call)
{
    if (!strcmp(armed, call) && --left == 0)
        kill(getpid(), SIGKILL);
    return dlsym(RTLD_NEXT, name);
}

ssize_t pwrite(int file, const void *data, size_t size, off_t offset)
{
    return ((ssize_t(*)(int, const void *, size_t, off_t))real("pwrite", "pwrite"))(file, data, size, offset);
}

ssize_t pwrite64(int file, const void *data, size_t size, off64_t offset)
{
    return ((ssize_t(*)(int, const void *, size_t, off64_t))real("pwrite64", "pwrite"))(file, data, size, offset);
}

int fsync(int file) { return ((int (*)(int))real("fsync", "fsync"))(file); }
int fdatasync(int file) { return ((int (*)(int))real("fdatasync", "fsync"))(file); }
int unlink(const char *path) { return ((int (*)(const char *))real("unlink", "unlink"))(path); }
