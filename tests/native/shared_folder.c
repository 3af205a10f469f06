/* A file system in user space that shows a folder of this machine as a network file system shows a server's.

   shared_folder SOURCE MOUNTPOINT LOCKS DELAY CACHE

   LOCKS   host     the kernel plays flock and fcntl locks for each mount on its own: two mounts are two hosts that do
                    not see each other's locks, as with NFS and nolock or local_lock=all
           server   both kinds reach the folder behind, and with that every other mount
           none     both are refused with ENOLCK
   DELAY   microseconds that each request takes, like a round trip to a server
   CACHE   seconds for which names and attributes may be remembered; with 0 the data of files is not cached either

   Runs in the foreground until the mount goes away. Needs root and libfuse 3. */

#define _GNU_SOURCE
#define FUSE_USE_VERSION 31
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <fuse.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

static int source;
static long delay;
static double cache;
static const char *locks;

/* Names are resolved below the source's descriptor: the mount may lie over the source itself. */
static const char *below(const char *path) { return path[1] ? path + 1 : "."; }

static int answer(long result) { return result < 0 ? -errno : (int)result; }

static void travel(void)
{
    if (delay)
        usleep(delay);
}

static int do_getattr(const char *path, struct stat *status, struct fuse_file_info *file)
{
    travel();
    if (file)
        return answer(fstat(file->fh, status));
    return answer(fstatat(source, below(path), status, AT_SYMLINK_NOFOLLOW));
}

static int do_readlink(const char *path, char *target, size_t size)
{
    travel();
    ssize_t length = readlinkat(source, below(path), target, size - 1);
    if (length < 0)
        return -errno;
    target[length] = 0;
    return 0;
}

static int do_mkdir(const char *path, mode_t mode) { travel(); return answer(mkdirat(source, below(path), mode)); }
static int do_unlink(const char *path) { travel(); return answer(unlinkat(source, below(path), 0)); }
static int do_rmdir(const char *path) { travel(); return answer(unlinkat(source, below(path), AT_REMOVEDIR)); }

static int do_symlink(const char *target, const char *path)
{
    travel();
    return answer(symlinkat(target, source, below(path)));
}

static int do_rename(const char *from, const char *to, unsigned int flags)
{
    travel();
    return answer(renameat2(source, below(from), source, below(to), flags));
}

static int do_link(const char *from, const char *to)
{
    travel();
    return answer(linkat(source, below(from), source, below(to), 0));
}

static int do_chmod(const char *path, mode_t mode, struct fuse_file_info *file)
{
    travel();
    return answer(file ? fchmod(file->fh, mode) : fchmodat(source, below(path), mode, 0));
}

static int do_chown(const char *path, uid_t user, gid_t group, struct fuse_file_info *file)
{
    travel();
    if (file)
        return answer(fchown(file->fh, user, group));
    return answer(fchownat(source, below(path), user, group, AT_SYMLINK_NOFOLLOW));
}

static int do_truncate(const char *path, off_t size, struct fuse_file_info *file)
{
    travel();
    if (file)
        return answer(ftruncate(file->fh, size));
    int descriptor = openat(source, below(path), O_WRONLY);
    if (descriptor < 0)
        return -errno;
    int result = answer(ftruncate(descriptor, size));
    close(descriptor);
    return result;
}

static int do_utimens(const char *path, const struct timespec times[2], struct fuse_file_info *file)
{
    travel();
    return answer(file ? futimens(file->fh, times) : utimensat(source, below(path), times, AT_SYMLINK_NOFOLLOW));
}

static int opened(int descriptor, struct fuse_file_info *file)
{
    if (descriptor < 0)
        return -errno;
    file->fh = descriptor;
    file->direct_io = cache == 0;
    return 0;
}

static int do_create(const char *path, mode_t mode, struct fuse_file_info *file)
{
    travel();
    return opened(openat(source, below(path), file->flags | O_CREAT, mode), file);
}

static int do_open(const char *path, struct fuse_file_info *file)
{
    travel();
    int result = opened(openat(source, below(path), file->flags & ~(O_CREAT | O_EXCL)), file);
    /* The kernel remembers a name that another host has deleted. Like a client of NFS, let it look again. */
    return result == -ENOENT ? -ESTALE : result;
}

static int do_read(const char *path, char *data, size_t size, off_t offset, struct fuse_file_info *file)
{
    travel();
    return answer(pread(file->fh, data, size, offset));
}

static int do_write(const char *path, const char *data, size_t size, off_t offset, struct fuse_file_info *file)
{
    travel();
    return answer(pwrite(file->fh, data, size, offset));
}

static int do_fsync(const char *path, int only_data, struct fuse_file_info *file)
{
    travel();
    return answer(only_data ? fdatasync(file->fh) : fsync(file->fh));
}

static int do_release(const char *path, struct fuse_file_info *file)
{
    travel();
    close(file->fh);
    return 0;
}

static int do_readdir(const char *path, void *buffer, fuse_fill_dir_t fill, off_t offset,
                      struct fuse_file_info *file, enum fuse_readdir_flags flags)
{
    travel();
    int descriptor = openat(source, below(path), O_RDONLY | O_DIRECTORY);
    DIR *folder = descriptor < 0 ? NULL : fdopendir(descriptor);
    if (!folder)
        return -errno;
    for (struct dirent *entry; (entry = readdir(folder));) {
        struct stat status = {.st_ino = entry->d_ino, .st_mode = DTTOIF(entry->d_type)};
        if (fill(buffer, entry->d_name, &status, 0, 0))
            break;
    }
    closedir(folder);
    return 0;
}

static int do_fsyncdir(const char *path, int only_data, struct fuse_file_info *file)
{
    travel();
    int descriptor = openat(source, below(path), O_RDONLY | O_DIRECTORY);
    int result = answer(descriptor < 0 ? -1 : fsync(descriptor));
    if (descriptor >= 0)
        close(descriptor);
    return result;
}

static int do_statfs(const char *path, struct statvfs *status) { travel(); return answer(fstatvfs(source, status)); }

static int do_flock(const char *path, struct fuse_file_info *file, int operation)
{
    travel();
    if (!strcmp(locks, "none")) {
        return -ENOLCK;
    }
    return answer(flock(file->fh, operation));
}

static int do_lock(const char *path, struct fuse_file_info *file, int command, struct flock *range)
{
    travel();
    if (!strcmp(locks, "none"))
        return -ENOLCK;
    /* One open file here is one open file of a process there, which is what SQLite's locks hang on. */
    range->l_pid = 0;
    return answer(fcntl(file->fh, command == F_GETLK ? F_OFD_GETLK : F_OFD_SETLK, range));
}

static void *do_init(struct fuse_conn_info *connection, struct fuse_config *settings)
{
    settings->entry_timeout = settings->attr_timeout = cache;
    settings->negative_timeout = 0;
    settings->use_ino = 1;
    return NULL;
}

int main(int count, char **words)
{
    if (count != 6) {
        fprintf(stderr, "usage: %s SOURCE MOUNTPOINT host|server|none DELAY CACHE\n", words[0]);
        return 2;
    }
    source = open(words[1], O_RDONLY | O_DIRECTORY);
    if (source < 0) {
        perror(words[1]);
        return 1;
    }
    locks = words[3];
    delay = atol(words[4]);
    cache = atof(words[5]);
    umask(0);
    struct fuse_operations operations = {
        .init = do_init, .getattr = do_getattr, .readlink = do_readlink, .mkdir = do_mkdir, .unlink = do_unlink,
        .rmdir = do_rmdir, .symlink = do_symlink, .rename = do_rename, .link = do_link, .chmod = do_chmod,
        .chown = do_chown, .truncate = do_truncate, .utimens = do_utimens, .create = do_create, .open = do_open,
        .read = do_read, .write = do_write, .fsync = do_fsync, .release = do_release, .readdir = do_readdir,
        .fsyncdir = do_fsyncdir, .statfs = do_statfs,
    };
    if (strcmp(locks, "host")) {
        operations.flock = do_flock;
        operations.lock = do_lock;
    }
    char *arguments[] = {words[0], "-f", "-o", "allow_other,default_permissions,subtype=shared_folder", words[2], NULL};
    return fuse_main(5, arguments, &operations, NULL);
}
