/* Makes the calls with which a program changes files fail, or kills it there.
 *
 * Preloaded into a program under test (LD_PRELOAD). Only files under FAULT_FOLDER count, and only
 * the calls named in FAULT_CALLS (any of "write sync truncate rename unlink"). From the FAULT_AT-th on, FAULT_COUNT
 * of them meet FAULT: "kill" ends the program; the others set errno and return -1. A write of more than a sector is
 * cut in half by the kill: less than that neither kernel nor disk tears.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static atomic_long seen;

static long number(const char *name, long otherwise) {
  const char *text = getenv(name);
  return text ? atol(text) : otherwise;
}

static int counts(const char *call, const char *path) {
  const char *folder = getenv("FAULT_FOLDER"), *calls = getenv("FAULT_CALLS");
  return folder && calls && strstr(calls, call) && strncmp(path, folder, strlen(folder)) == 0;
}

/* 0: go on; 1: kill; else the errno. */
static int fault(const char *call, const char *path) {
  if (!counts(call, path)) return 0;
  long at = number("FAULT_AT", 0), nth = atomic_fetch_add(&seen, 1) + 1;
  if (nth < at || nth >= at + number("FAULT_COUNT", 1)) return 0;
  const char *what = getenv("FAULT");
  if (!what || strcmp(what, "kill") == 0) return 1;
  if (strcmp(what, "enospc") == 0) return ENOSPC;
  if (strcmp(what, "edquot") == 0) return EDQUOT;
  return EIO;
}

static int fault_at(const char *call, int fd) {
  char link[64], path[4096];
  struct stat about;
  int saved = errno;
  snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
  ssize_t length = readlink(link, path, sizeof path - 1);
  /* SQLite ignores what the sync of a folder returns; the journal syncs it once more itself. */
  int is_file = length > 0 && fstat(fd, &about) == 0 && S_ISREG(about.st_mode);
  errno = saved;
  if (!is_file) return 0;
  path[length] = 0;
  return fault(call, path);
}

static int fails(int fault) {
  if (fault == 1) kill(getpid(), SIGKILL);
  errno = fault;
  return -1;
}

#define REAL(name) ((typeof(&name))dlsym(RTLD_NEXT, #name))

ssize_t write(int fd, const void *octets, size_t length) {
  int found = fault_at("write", fd);
  if (found == 1 && length > 512) REAL(write)(fd, octets, length / 2);
  return found ? fails(found) : REAL(write)(fd, octets, length);
}

ssize_t pwrite(int fd, const void *octets, size_t length, off_t at) {
  int found = fault_at("write", fd);
  if (found == 1 && length > 512) REAL(pwrite)(fd, octets, length / 2, at);
  return found ? fails(found) : REAL(pwrite)(fd, octets, length, at);
}

ssize_t pwrite64(int fd, const void *octets, size_t length, off64_t at) {
  int found = fault_at("write", fd);
  if (found == 1 && length > 512) REAL(pwrite64)(fd, octets, length / 2, at);
  return found ? fails(found) : REAL(pwrite64)(fd, octets, length, at);
}

int fsync(int fd) {
  int found = fault_at("sync", fd);
  return found ? fails(found) : REAL(fsync)(fd);
}

int fdatasync(int fd) {
  int found = fault_at("sync", fd);
  return found ? fails(found) : REAL(fdatasync)(fd);
}

int ftruncate(int fd, off_t length) {
  int found = fault_at("truncate", fd);
  return found ? fails(found) : REAL(ftruncate)(fd, length);
}

int ftruncate64(int fd, off64_t length) {
  int found = fault_at("truncate", fd);
  return found ? fails(found) : REAL(ftruncate64)(fd, length);
}

int rename(const char *from, const char *to) {
  int found = fault("rename", from);
  return found ? fails(found) : REAL(rename)(from, to);
}

int unlink(const char *path) {
  int found = fault("unlink", path);
  return found ? fails(found) : REAL(unlink)(path);
}
