/* A file layer for LD_PRELOAD that remembers what a power cut would take back.
 *
 * Every write, truncation, creation and removal below POWERLOSS_DIR is noted in POWERLOSS_TRACE with
 * what was there before, and every sync that was completed. The test kills the process and undoes what
 * was not synced. POWERLOSS_FULL: from that many bytes on, writes fail for want of space.
 *
 * Names count as durable only once their directory is synced. Renames, and what a program does by
 * calling the kernel itself, count as durable at once: the layer does not see them.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <limits.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

enum { WRITE = 1, TRUNCATE = 2, SYNC = 3, CREATE = 4, UNLINK = 5 };

struct record {
    uint64_t kind, file, dir, offset, old_size, len, mark, extra;
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static const char *root, *grave;
static int trace = -1;
static int paused;
static uint64_t noted, written, full = UINT64_MAX;

__attribute__((constructor)) static void begin(void) {
    root = getenv("POWERLOSS_DIR");
    grave = getenv("POWERLOSS_GRAVE");
    const char *path = getenv("POWERLOSS_TRACE"), *limit = getenv("POWERLOSS_FULL");
    if (limit) full = strtoull(limit, NULL, 10);
    if (root && path) trace = syscall(SYS_openat, AT_FDCWD, path, O_CREAT | O_WRONLY | O_APPEND | O_CLOEXEC, 0644);
}

static int is_ours(const char *path) {
    return trace >= 0 && !paused && root && strncmp(path, root, strlen(root)) == 0;
}

static int fd_is_ours(int fd) {
    char link[64], path[PATH_MAX];
    if (trace < 0 || fd == trace) return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t len = syscall(SYS_readlinkat, AT_FDCWD, link, path, sizeof path - 1);
    if (len <= 0) return 0;
    path[len] = 0;
    return is_ours(path);
}

static void note(struct record *r, const void *extra) {
    struct iovec parts[2] = {{r, sizeof *r}, {(void *)extra, r->extra}};
    if (syscall(SYS_writev, trace, parts, 2) != (ssize_t)(sizeof *r + r->extra)) abort();
    noted++;
}

/* What [offset, offset+len) holds; the descriptor itself may be for writing only. */
static void *before(int fd, uint64_t offset, uint64_t len) {
    char link[64];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    int copy = syscall(SYS_openat, AT_FDCWD, link, O_RDONLY | O_CLOEXEC, 0);
    char *old = calloc(1, len + 1);
    if (copy < 0 || !old) abort();
    for (uint64_t got = 0; got < len;) {
        ssize_t n = syscall(SYS_pread64, copy, old + got, len - got, offset + got);
        if (n <= 0) abort();
        got += n;
    }
    syscall(SYS_close, copy);
    return old;
}

static void note_change(int fd, int kind, uint64_t offset, uint64_t len) {
    struct stat s;
    if (fstat(fd, &s)) abort();
    uint64_t size = s.st_size, from = offset, to = kind == WRITE ? offset + len : size;
    if (to > size) to = size;
    if (from > to) from = to;
    struct record r = {kind, s.st_ino, 0, offset, size, len, 0, to - from};
    void *old = before(fd, from, to - from);
    note(&r, old);
    free(old);
}

static int64_t place(int fd) {
    struct stat s;
    if (fcntl(fd, F_GETFL) & O_APPEND) return fstat(fd, &s) ? 0 : s.st_size;
    return lseek(fd, 0, SEEK_CUR);
}

#define GUARDED(fd, len, at, call)                              \
    if (!fd_is_ours(fd)) return call;                           \
    pthread_mutex_lock(&lock);                                  \
    ssize_t done = -1;                                          \
    if (written + (len) > full) {                               \
        errno = ENOSPC;                                         \
    } else {                                                    \
        written += (len);                                       \
        note_change(fd, WRITE, at, len);                        \
        done = call;                                            \
    }                                                           \
    int error = errno;                                          \
    pthread_mutex_unlock(&lock);                                \
    errno = error;                                              \
    return done;

ssize_t write(int fd, const void *data, size_t len) {
    GUARDED(fd, len, place(fd), syscall(SYS_write, fd, data, len))
}

ssize_t pwrite64(int fd, const void *data, size_t len, off64_t at) {
    GUARDED(fd, len, at, syscall(SYS_pwrite64, fd, data, len, at))
}

ssize_t pwrite(int fd, const void *data, size_t len, off_t at) { return pwrite64(fd, data, len, at); }

ssize_t writev(int fd, const struct iovec *parts, int count) {
    size_t len = 0;
    for (int i = 0; i < count; i++) len += parts[i].iov_len;
    GUARDED(fd, len, place(fd), syscall(SYS_writev, fd, parts, count))
}

int ftruncate64(int fd, off64_t size) {
    if (!fd_is_ours(fd)) return syscall(SYS_ftruncate, fd, size);
    pthread_mutex_lock(&lock);
    note_change(fd, TRUNCATE, size, 0);
    int done = syscall(SYS_ftruncate, fd, size);
    pthread_mutex_unlock(&lock);
    return done;
}

int ftruncate(int fd, off_t size) { return ftruncate64(fd, size); }

static int sync_with(long call, int fd) {
    struct stat s;
    if (!fd_is_ours(fd) || fstat(fd, &s)) return syscall(call, fd);
    pthread_mutex_lock(&lock);
    uint64_t mark = noted;
    pthread_mutex_unlock(&lock);
    int done = syscall(call, fd);
    if (done == 0) {
        struct record r = {SYNC, s.st_ino, 0, 0, 0, 0, mark, 0};
        pthread_mutex_lock(&lock);
        note(&r, NULL);
        pthread_mutex_unlock(&lock);
    }
    return done;
}

int fsync(int fd) { return sync_with(SYS_fsync, fd); }
int fdatasync(int fd) { return sync_with(SYS_fdatasync, fd); }

static uint64_t inode(int at, const char *path) {
    struct stat s;
    return fstatat(at, path, &s, AT_SYMLINK_NOFOLLOW) ? 0 : s.st_ino;
}

/* `path` made absolute, as far as the tests need it. */
static const char *absolute(int at, const char *path, char *out) {
    char link[64];
    if (path[0] == '/' || at == AT_FDCWD) return path;
    snprintf(link, sizeof link, "/proc/self/fd/%d", at);
    ssize_t len = syscall(SYS_readlinkat, AT_FDCWD, link, out, PATH_MAX - 1);
    if (len <= 0) return path;
    snprintf(out + len, PATH_MAX - len, "/%s", path);
    return out;
}

static void note_name(int kind, uint64_t file, const char *path, uint64_t mark) {
    char copy[PATH_MAX], name[PATH_MAX];
    snprintf(copy, sizeof copy, "%s", path);
    snprintf(name, sizeof name, "%s", basename(copy));
    snprintf(copy, sizeof copy, "%s", path);
    struct record r = {kind, file, inode(AT_FDCWD, dirname(copy)), 0, getpid(), 0, mark, strlen(name)};
    note(&r, name);
}

static int open_with(int at, const char *given, int flags, mode_t mode) {
    char buffer[PATH_MAX];
    const char *path = absolute(at, given, buffer);
    /* How the test switches the layer off and on in its own process. */
    if (!strcmp(path, "/powerloss/pause") || !strcmp(path, "/powerloss/resume")) {
        paused = path[11] == 'p';
        errno = ENOENT;
        return -1;
    }
    if (!is_ours(path) || !(flags & (O_CREAT | O_TRUNC))) return syscall(SYS_openat, at, given, flags, mode);
    pthread_mutex_lock(&lock);
    int existed = inode(AT_FDCWD, path) != 0;
    int fd = syscall(SYS_openat, at, given, existed ? flags & ~O_TRUNC : flags, mode);
    int error = errno;
    if (fd >= 0 && !existed) note_name(CREATE, inode(AT_FDCWD, path), path, 0);
    if (fd >= 0 && existed && (flags & O_TRUNC)) {
        note_change(fd, TRUNCATE, 0, 0);
        if (syscall(SYS_ftruncate, fd, 0)) abort();
    }
    pthread_mutex_unlock(&lock);
    errno = error;
    return fd;
}

#define MODE(flags)                             \
    mode_t mode = 0;                            \
    if ((flags) & (O_CREAT | O_TMPFILE)) {      \
        va_list rest;                           \
        va_start(rest, flags);                  \
        mode = va_arg(rest, int);               \
        va_end(rest);                           \
    }

int open(const char *path, int flags, ...) { MODE(flags) return open_with(AT_FDCWD, path, flags, mode); }
int open64(const char *path, int flags, ...) { MODE(flags) return open_with(AT_FDCWD, path, flags, mode); }
int openat(int at, const char *path, int flags, ...) { MODE(flags) return open_with(at, path, flags, mode); }
int openat64(int at, const char *path, int flags, ...) { MODE(flags) return open_with(at, path, flags, mode); }

/* A removed file lives on in the graveyard: its name may come back, and its number is not used again. */
int unlinkat(int at, const char *given, int flags) {
    char buffer[PATH_MAX], tomb[PATH_MAX];
    const char *path = absolute(at, given, buffer);
    if (!is_ours(path) || (flags & AT_REMOVEDIR)) return syscall(SYS_unlinkat, at, given, flags);
    pthread_mutex_lock(&lock);
    uint64_t file = inode(AT_FDCWD, path), number = noted;
    snprintf(tomb, sizeof tomb, "%s/%d-%llu", grave, getpid(), (unsigned long long)number);
    if (syscall(SYS_linkat, AT_FDCWD, path, AT_FDCWD, tomb, 0) == 0) note_name(UNLINK, file, path, number);
    int done = syscall(SYS_unlinkat, at, given, flags);
    int error = errno;
    pthread_mutex_unlock(&lock);
    errno = error;
    return done;
}

int unlink(const char *path) { return unlinkat(AT_FDCWD, path, 0); }
