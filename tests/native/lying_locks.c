/* Makes the locks of a process fail or lie, for LD_PRELOAD. LYING_LOCKS says how, for flock and fcntl locks alike:

   yes       every lock is granted, and none is taken
   enolck    refused: no locks available
   enosys    refused: not implemented */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>

static int lie(void)
{
    const char *how = getenv("LYING_LOCKS");
    if (how && !strcmp(how, "yes"))
        return 0;
    errno = how && !strcmp(how, "enosys") ? ENOSYS : ENOLCK;
    return -1;
}

int flock(int descriptor, int operation)
{
    (void)descriptor;
    (void)operation;
    return lie();
}

static int control(const char *name, int descriptor, int command, void *argument)
{
    if (command == F_SETLK || command == F_SETLKW || command == F_OFD_SETLK || command == F_OFD_SETLKW)
        return lie();
    if (command == F_GETLK || command == F_OFD_GETLK) {
        ((struct flock *)argument)->l_type = F_UNLCK;
        return lie();
    }
    int (*real)(int, int, ...) = (int (*)(int, int, ...))dlsym(RTLD_NEXT, name);
    return real(descriptor, command, argument);
}

int fcntl(int descriptor, int command, ...)
{
    va_list words;
    va_start(words, command);
    void *argument = va_arg(words, void *);
    va_end(words);
    return control("fcntl", descriptor, command, argument);
}

int fcntl64(int descriptor, int command, ...)
{
    va_list words;
    va_start(words, command);
    void *argument = va_arg(words, void *);
    va_end(words);
    return control("fcntl64", descriptor, command, argument);
}
