/* A shared file system at its worst, for LD_PRELOAD: files under one folder become visible late, reads are short, calls fail.
 *
 * Files that another process has made or renamed within DELAY_MS are not there (lookup, listing), or are there with no bytes
 * or half of their bytes; which of these depends on the name. Reads return fewer bytes than asked for. Every Nth call of one
 * kind fails with an error number, before anything was done, or after it was done and the answer was lost.
 *
 * The process under test calls shared_fs_configure(); without that nothing changes.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define MAX_FD 4096
#define MAX_OWN 4096

static char root[4096];
static long delay_ms;
static int short_reads, fail_errno, fail_after;
static unsigned fail_every;
static char fail_call[16];
static atomic_uint calls;
static atomic_ulong reads;
static char inside_fd[MAX_FD];      /* descriptors of files under the root */
static long limit_fd[MAX_FD];       /* bytes of them that are visible, or -1 */
static long offset_fd[MAX_FD];
static ino_t own[MAX_OWN];          /* files that this process has made: visible to itself at once */
static unsigned owned;

void shared_fs_configure(const char *folder, long delay, int shorten, const char *call, int error, unsigned every, int after)
{
    snprintf(root, sizeof root, "%s", folder);
    snprintf(fail_call, sizeof fail_call, "%s", call);
    delay_ms = delay, short_reads = shorten, fail_errno = error, fail_every = every, fail_after = after;
    atomic_store(&calls, 0);
}

#define REAL(name) ((__typeof__(&name)) dlsym(RTLD_NEXT, #name))

static int is_inside(const char *path)
{
    char here[4096], whole[8192];
    if (!root[0] || !path)
        return 0;
    if (path[0] != '/' && getcwd(here, sizeof here)) {
        snprintf(whole, sizeof whole, "%s/%s", here, path);
        path = whole;
    }
    return !strncmp(path, root, strlen(root));
}

/* 1 if this call of this kind is one that fails. */
static int fails(const char *call, const char *path)
{
    if (!fail_every || strcmp(call, fail_call) || !is_inside(path))
        return 0;
    return atomic_fetch_add(&calls, 1) % fail_every == fail_every - 1;
}

static int fails_on(const char *call, int fd)
{
    return fd >= 0 && fd < MAX_FD && inside_fd[fd] ? fails(call, root) : 0;
}

static void remember(const char *path)
{
    struct stat status;
    if (delay_ms && is_inside(path) && !REAL(fstatat)(AT_FDCWD, path, &status, AT_SYMLINK_NOFOLLOW))
        own[owned++ % MAX_OWN] = status.st_ino;
}

static int is_own(ino_t inode)
{
    for (unsigned i = 0; i < MAX_OWN && i < owned; i++)
        if (own[i] == inode)
            return 1;
    return 0;
}

/* How a file looks: -1 whole, -2 not there, else the number of its visible bytes. */
static long looks(const char *path, const struct stat *status)
{
    struct timespec now;
    if (!delay_ms || !S_ISREG(status->st_mode) || is_own(status->st_ino) || strstr(path, ".tmp"))
        return -1;
    clock_gettime(CLOCK_REALTIME, &now);
    long age = (now.tv_sec - status->st_ctim.tv_sec) * 1000 + (now.tv_nsec - status->st_ctim.tv_nsec) / 1000000;
    if (age >= delay_ms)
        return -1;
    switch (status->st_ino % 3) {
    case 0: return -2;
    case 1: return 0;
    default: return status->st_size / 2;
    }
}

static long looks_now(int folder, const char *path)
{
    struct stat status;
    if (!is_inside(path) || REAL(fstatat)(folder, path, &status, AT_SYMLINK_NOFOLLOW))
        return -1;
    return looks(path, &status);
}

static int opened(const char *path, int flags, mode_t mode)
{
    if (fails("open", path)) {
        errno = fail_errno;
        return -1;
    }
    long visible = flags & O_CREAT ? -1 : looks_now(AT_FDCWD, path);
    if (visible == -2) {
        errno = ENOENT;
        return -1;
    }
    int fd = REAL(open)(path, flags, mode);
    if (fd >= 0 && fd < MAX_FD) {
        inside_fd[fd] = is_inside(path);
        limit_fd[fd] = visible;
        offset_fd[fd] = 0;
        if (flags & O_CREAT)
            remember(path);
    }
    return fd;
}

int open(const char *path, int flags, ...)
{
    va_list list;
    va_start(list, flags);
    mode_t mode = flags & O_CREAT ? va_arg(list, mode_t) : 0;
    va_end(list);
    return opened(path, flags, mode);
}

int open64(const char *path, int flags, ...)
{
    va_list list;
    va_start(list, flags);
    mode_t mode = flags & O_CREAT ? va_arg(list, mode_t) : 0;
    va_end(list);
    return opened(path, flags, mode);
}

int close(int fd)
{
    if (fd >= 0 && fd < MAX_FD)
        inside_fd[fd] = 0;
    return REAL(close)(fd);
}

off_t lseek64(int fd, off_t offset, int whence)
{
    off_t place = REAL(lseek64)(fd, offset, whence);
    if (fd >= 0 && fd < MAX_FD)
        offset_fd[fd] = place;
    return place;
}

off_t lseek(int fd, off_t offset, int whence)
{
    return lseek64(fd, offset, whence);
}

ssize_t read(int fd, void *buffer, size_t count)
{
    if (fails_on("read", fd)) {
        errno = fail_errno;
        return -1;
    }
    if (fd < 0 || fd >= MAX_FD || !inside_fd[fd])
        return REAL(read)(fd, buffer, count);
    if (short_reads && count > 1)
        count = 1 + atomic_fetch_add(&reads, 1) * 2654435761u % count;
    if (limit_fd[fd] >= 0 && offset_fd[fd] + (long) count > limit_fd[fd])
        count = limit_fd[fd] > offset_fd[fd] ? limit_fd[fd] - offset_fd[fd] : 0;
    ssize_t got = REAL(read)(fd, buffer, count);
    if (got > 0)
        offset_fd[fd] += got;
    return got;
}

ssize_t write(int fd, const void *buffer, size_t count)
{
    if (fails_on("write", fd)) {
        errno = fail_errno;
        return -1;
    }
    if (fd >= 0 && fd < MAX_FD && inside_fd[fd] && short_reads && count > 1)
        count = 1 + atomic_fetch_add(&reads, 1) * 2654435761u % count;
    return REAL(write)(fd, buffer, count);
}

int fsync(int fd)
{
    if (fails_on("fsync", fd)) {
        errno = fail_errno;
        return -1;
    }
    return REAL(fsync)(fd);
}

/* A call that changes names: it fails before it is done, or is done and reported as failed. */
#define CHANGE(call, path, real, done)            \
    int failing = fails(call, path);              \
    if (failing && !fail_after) {                 \
        errno = fail_errno;                       \
        return -1;                                \
    }                                             \
    int result = real;                            \
    if (!result) {                                \
        done;                                     \
    }                                             \
    if (failing) {                                \
        errno = fail_errno;                       \
        return -1;                                \
    }                                             \
    return result;

int rename(const char *from, const char *to) { CHANGE("rename", to, REAL(rename)(from, to), remember(to)) }
int link(const char *from, const char *to) { CHANGE("link", to, REAL(link)(from, to), remember(to)) }
int linkat(int a, const char *from, int b, const char *to, int flags)
{
    CHANGE("link", to, REAL(linkat)(a, from, b, to, flags), remember(to))
}
int unlink(const char *path) { CHANGE("unlink", path, REAL(unlink)(path), (void) 0) }
int mkdir(const char *path, mode_t mode) { CHANGE("mkdir", path, REAL(mkdir)(path, mode), (void) 0) }

static int lie(const char *path, struct stat *status, int result)
{
    if (result || !is_inside(path))
        return result;
    long visible = looks(path, status);
    if (visible == -2) {
        errno = ENOENT;
        return -1;
    }
    if (visible >= 0)
        status->st_size = visible;
    return 0;
}

int stat(const char *path, struct stat *status) { return lie(path, status, REAL(fstatat)(AT_FDCWD, path, status, 0)); }
int stat64(const char *path, struct stat64 *status) { return stat(path, (struct stat *) status); }
int lstat(const char *path, struct stat *status)
{
    return lie(path, status, REAL(fstatat)(AT_FDCWD, path, status, AT_SYMLINK_NOFOLLOW));
}
int lstat64(const char *path, struct stat64 *status) { return lstat(path, (struct stat *) status); }
int fstat(int fd, struct stat *status)
{
    int result = REAL(fstatat)(fd, "", status, AT_EMPTY_PATH);
    if (!result && fd >= 0 && fd < MAX_FD && inside_fd[fd] && limit_fd[fd] >= 0)
        status->st_size = limit_fd[fd];
    return result;
}
int fstat64(int fd, struct stat64 *status) { return fstat(fd, (struct stat *) status); }

static int lists_inside(DIR *folder)
{
    char link[64], path[4096];
    snprintf(link, sizeof link, "/proc/self/fd/%d", dirfd(folder));
    ssize_t length = readlink(link, path, sizeof path - 1);
    path[length > 0 ? length : 0] = 0;
    return is_inside(path);
}

struct dirent *readdir(DIR *folder)
{
    struct dirent *entry;
    struct stat status;
    int lies = delay_ms && root[0] && lists_inside(folder);
    while ((entry = REAL(readdir)(folder)) && lies && entry->d_type == DT_REG)
        if (REAL(fstatat)(dirfd(folder), entry->d_name, &status, AT_SYMLINK_NOFOLLOW) || looks(entry->d_name, &status) != -2)
            break;
    return entry;
}
struct dirent64 *readdir64(DIR *folder) { return (struct dirent64 *) readdir(folder); }
