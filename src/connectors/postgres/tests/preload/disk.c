/* A disk without room for tables and indexes while PLACE/full is there: what lies on it can be written
   again, but no file of a database grows. The write-ahead log has room: a server without any stops. */
#define _GNU_SOURCE
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

static int full(int file, off_t end) {
    char link[64], path[4096];
    struct stat is;
    if (access(PLACE "/full", F_OK) != 0) return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", file);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (length < 0) return 0;
    path[length] = 0;
    return strstr(path, "/base/") && fstat(file, &is) == 0 && end > is.st_size;
}

ssize_t pwrite64(int file, const void *bytes, size_t count, off_t at) {
    if (full(file, at + count)) return errno = ENOSPC, -1;
    return syscall(SYS_pwrite64, file, bytes, count, at);
}

ssize_t pwrite(int file, const void *bytes, size_t count, off_t at) { return pwrite64(file, bytes, count, at); }

ssize_t pwritev64(int file, const struct iovec *parts, int count, off_t at) {
    if (full(file, at + 1)) return errno = ENOSPC, -1;
    return syscall(SYS_pwritev, file, parts, count, at, 0L);
}

ssize_t pwritev(int file, const struct iovec *parts, int count, off_t at) { return pwritev64(file, parts, count, at); }

int posix_fallocate64(int file, off_t at, off_t length) {
    if (full(file, at + length)) return ENOSPC;
    return syscall(SYS_fallocate, file, 0, at, length) == 0 ? 0 : errno;
}

int posix_fallocate(int file, off_t at, off_t length) { return posix_fallocate64(file, at, length); }
