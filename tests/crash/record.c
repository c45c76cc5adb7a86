/* Records, in order, everything that a command does to the files below a folder; and, when asked, makes one of these
 * operations fail.
 *
 * usage: crash-record [--fail N ERROR] [--and-after] [--short] [--ops NAME,...] TRACE ROOT COMMAND...
 *
 * The command runs under ptrace, so nothing it does is missed, whichever library does it. A system call that may change a
 * file and is not understood here, or is not known to be harmless, ends the recording with status 120: a trace is complete
 * or there is none. replay.c holds the trace against the real folder besides.
 *
 * TRACE (read by trace.c; paths are relative to ROOT, H counts the files opened):
 *   open H FLAGS PATH | write H OFFSET N, N bytes and a newline follow (OFFSET -1: at the file's position) | seek H POSITION |
 *   truncate H SIZE | fsync H | close H | mkdir PATH | rmdir PATH | unlink PATH | rename FROM TO | link FROM TO |
 *   symlink TEXT PATH (two operands: a tab between them) | end CHANGES
 *
 * Faults: the N-th change (counted from 1; an open that may create or write, write, truncate, fsync, mkdir, rmdir, unlink,
 * rename, link, symlink) is not carried out and gives ERROR (ENOSPC, EIO, EROFS, EACCES). --ops: count and fail these alone.
 * --and-after: all that follow, too. --short: if it is a write, half of it is written and the next one fails. Exit status:
 * the command's; 128 and its signal; 120: not recorded; 77: this machine allows no tracing. x86-64 Linux. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <unistd.h>

enum { EXIT_SKIP = 77, EXIT_LOST = 120, PATH_SIZE = 4096, FDS = 1024, THREADS = 64 };

typedef struct Thread {
  pid_t tid;
  bool inside;                     /* between entry and exit of a call */
  struct user_regs_struct in;      /* registers at the entry */
  char a[PATH_SIZE], b[PATH_SIZE]; /* the call's paths below ROOT, read at the entry; "" when not below it */
  bool below;
  int fault; /* errno that this call is to give */
} Thread;

static struct {
  FILE *trace;
  const char *root;
  size_t nroot;
  pid_t child;
  Thread thread[THREADS];
  int nthreads;
  int handle[FDS]; /* H of the descriptors below ROOT, 0 for others */
  int handles;
  long changes;
  long fail_at;
  int fail_error;
  bool and_after, is_short, failed;
  const char *ops;
} r;

__attribute__((noreturn, format(printf, 1, 2))) static void lost(const char *fmt, ...) {
  va_list ap;
  va_start(ap, fmt);
  fputs("crash-record: ", stderr);
  vfprintf(stderr, fmt, ap);
  fputc('\n', stderr);
  va_end(ap);
  if (r.child > 0) kill(r.child, SIGKILL);
  exit(EXIT_LOST);
}

/* ---- the command's memory */

static void read_memory(pid_t tid, uint64_t at, void *to, size_t n) {
  struct iovec local = {to, n}, remote = {(void *)(uintptr_t)at, n};
  if (n && process_vm_readv(tid, &local, 1, &remote, 1, 0) != (ssize_t)n)
    lost("cannot read %zu bytes of the command", n);
}

static void read_text(pid_t tid, uint64_t at, char to[PATH_SIZE]) {
  for (size_t n = 0; n < PATH_SIZE;) { /* page by page: the next one may not be mapped */
    size_t part = 4096 - (at + n) % 4096;
    if (part > PATH_SIZE - n) part = PATH_SIZE - n;
    read_memory(tid, at + n, to + n, part);
    if (memchr(to + n, 0, part)) return;
    n += part;
  }
  lost("a path longer than %d bytes", PATH_SIZE);
}

/* A path of the command as one relative to ROOT ("." for itself); false when it does not lie there. The command's paths are
 * absolute, or relative to the folder that the recorder was started in. */
static bool below_root(pid_t tid, int dir, uint64_t at, char out[PATH_SIZE]) {
  char path[PATH_SIZE], full[2 * PATH_SIZE];
  read_text(tid, at, path);
  if (path[0] == '/')
    snprintf(full, sizeof(full), "%s", path);
  else if (dir == AT_FDCWD) {
    if (!getcwd(full, PATH_SIZE)) lost("no current folder");
    size_t n = strlen(full);
    snprintf(full + n, sizeof(full) - n, "/%s", path);
  } else if (!*path || dir < 0 || dir >= FDS || !r.handle[dir])
    return false; /* fstat by another name; a folder that is not below ROOT */
  else
    lost("a path relative to an open folder: %s", path);
  if (strstr(full, "/../") || strstr(full, "/./") || strstr(full, "//")) lost("a path that is not plain: %s", full);
  size_t n = strlen(full);
  if (n > 1 && full[n - 1] == '/') full[n - 1] = 0;
  if (strncmp(full, r.root, r.nroot) || (full[r.nroot] && full[r.nroot] != '/')) return false;
  snprintf(out, PATH_SIZE, "%s", full[r.nroot] ? full + r.nroot + 1 : ".");
  return true;
}

static int handle_of(uint64_t fd) {
  return fd < FDS ? r.handle[fd] : 0;
}

/* ---- faults */

static bool listed(const char *names, const char *name) {
  size_t n = strlen(name);
  for (const char *at = names; at && *at; at += strcspn(at, ","), at += *at == ',')
    if (strcspn(at, ",") == n && !strncmp(at, name, n)) return true;
  return false;
}

/* Called at the entry of every change. A call that is to fail is replaced by one that does not exist. */
static void change(Thread *t, const char *op) {
  if (r.ops && !listed(r.ops, op)) return;
  r.changes++;
  bool hit = r.fail_at && (r.changes == r.fail_at || (r.failed && r.and_after));
  if (!hit) return;
  struct user_regs_struct regs = t->in;
  bool first = !r.failed;
  r.failed = true;
  if (first && r.is_short && !strcmp(op, "write") && regs.rdx > 1) {
    regs.rdx /= 2;
    if (!r.and_after) r.fail_at++;
  } else {
    regs.orig_rax = (unsigned long long)-1;
    t->fault = r.fail_error;
  }
  if (ptrace(PTRACE_SETREGS, t->tid, 0, &regs)) lost("cannot change a call");
}

/* ---- calls */

static bool harmless(long nr) {
  static const long known[] = {SYS_read,
                               SYS_pread64,
                               SYS_readv,
                               SYS_fstat,
                               SYS_stat,
                               SYS_lstat,
                               SYS_newfstatat,
                               SYS_statx,
                               SYS_statfs,
                               SYS_fstatfs,
                               SYS_access,
                               SYS_faccessat,
                               SYS_faccessat2,
                               SYS_readlink,
                               SYS_readlinkat,
                               SYS_getdents64,
                               SYS_getcwd,
                               SYS_flock,
                               SYS_fadvise64,
                               SYS_munmap,
                               SYS_mprotect,
                               SYS_mremap,
                               SYS_madvise,
                               SYS_brk,
                               SYS_rt_sigaction,
                               SYS_rt_sigprocmask,
                               SYS_rt_sigreturn,
                               SYS_sigaltstack,
                               SYS_futex,
                               SYS_exit,
                               SYS_exit_group,
                               SYS_clock_gettime,
                               SYS_clock_nanosleep,
                               SYS_nanosleep,
                               SYS_gettimeofday,
                               SYS_getrandom,
                               SYS_prlimit64,
                               SYS_set_tid_address,
                               SYS_set_robust_list,
                               SYS_rseq,
                               SYS_arch_prctl,
                               SYS_uname,
                               SYS_sysinfo,
                               SYS_sched_getaffinity,
                               SYS_sched_setaffinity,
                               SYS_sched_yield,
                               SYS_getpid,
                               SYS_gettid,
                               SYS_getuid,
                               SYS_geteuid,
                               SYS_getgid,
                               SYS_getegid,
                               SYS_poll,
                               SYS_restart_syscall,
                               SYS_tgkill};
  for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++)
    if (known[i] == nr) return true;
  return false;
}

/* What is harmless unless it touches a file below ROOT. */
static bool harmless_elsewhere(const struct user_regs_struct *g) {
  switch (g->orig_rax) {
  case SYS_ioctl:
  case SYS_fcntl:
  case SYS_dup:
  case SYS_dup2:
  case SYS_dup3:
    return !handle_of(g->rdi) || (g->orig_rax == SYS_fcntl && g->rsi != F_DUPFD && g->rsi != F_DUPFD_CLOEXEC);
  case SYS_mmap: return (g->r10 & MAP_ANONYMOUS) || !(g->r10 & MAP_SHARED) || !handle_of(g->r8);
  case SYS_clone:
  case SYS_clone3: return true; /* a process, and not a thread, is refused when it appears */
  default: return false;
  }
}

static void enter(Thread *t) {
  const struct user_regs_struct *g = &t->in;
  pid_t id = t->tid;
  uint64_t a0 = g->rdi, a1 = g->rsi, a2 = g->rdx, a3 = g->r10;
  t->below = false;
  t->fault = 0;
  switch (g->orig_rax) {
  case SYS_open:
  case SYS_openat:
  case SYS_creat: {
    bool at = g->orig_rax == SYS_openat;
    t->below = below_root(id, at ? (int)a0 : AT_FDCWD, at ? a1 : a0, t->a);
    int flags = g->orig_rax == SYS_creat ? O_CREAT | O_WRONLY | O_TRUNC : (int)(at ? a2 : a1);
    if (t->below && ((flags & O_ACCMODE) != O_RDONLY || flags & (O_CREAT | O_TRUNC))) change(t, "open");
    return;
  }
  case SYS_write:
  case SYS_pwrite64:
    if ((t->below = handle_of(a0))) change(t, "write");
    return;
  case SYS_lseek:
  case SYS_close: t->below = handle_of(a0); return;
  case SYS_ftruncate:
    if ((t->below = handle_of(a0))) change(t, "truncate");
    return;
  case SYS_fsync:
  case SYS_fdatasync:
    if ((t->below = handle_of(a0))) change(t, "fsync");
    return;
  case SYS_mkdir:
  case SYS_mkdirat: {
    bool at = g->orig_rax == SYS_mkdirat;
    if ((t->below = below_root(id, at ? (int)a0 : AT_FDCWD, at ? a1 : a0, t->a))) change(t, "mkdir");
    return;
  }
  case SYS_rmdir:
    if ((t->below = below_root(id, AT_FDCWD, a0, t->a))) change(t, "rmdir");
    return;
  case SYS_unlink:
  case SYS_unlinkat: {
    bool at = g->orig_rax == SYS_unlinkat;
    t->below = below_root(id, at ? (int)a0 : AT_FDCWD, at ? a1 : a0, t->a);
    if (t->below) change(t, at && a2 & AT_REMOVEDIR ? "rmdir" : "unlink");
    return;
  }
  case SYS_rename:
  case SYS_renameat:
  case SYS_renameat2:
  case SYS_link: {
    bool at = g->orig_rax == SYS_renameat || g->orig_rax == SYS_renameat2;
    if (g->orig_rax == SYS_renameat2 && g->r8) lost("a rename with flags");
    bool from = below_root(id, at ? (int)a0 : AT_FDCWD, at ? a1 : a0, t->a);
    bool to = below_root(id, at ? (int)a2 : AT_FDCWD, at ? a3 : a1, t->b);
    if (from != to) lost("a file moved into or out of %s", r.root);
    if ((t->below = from)) change(t, g->orig_rax == SYS_link ? "link" : "rename");
    return;
  }
  case SYS_symlink:
  case SYS_symlinkat: {
    bool at = g->orig_rax == SYS_symlinkat;
    if ((t->below = below_root(id, at ? (int)a1 : AT_FDCWD, at ? a2 : a1, t->b))) {
      read_text(id, a0, t->a);
      change(t, "symlink");
    }
    return;
  }
  default:
    if (!harmless((long)g->orig_rax) && !harmless_elsewhere(g))
      lost("system call %lld is not understood", (long long)g->orig_rax);
  }
}

static void record_write(Thread *t, long long n) {
  const struct user_regs_struct *g = &t->in;
  long long offset = g->orig_rax == SYS_pwrite64 ? (long long)g->r10 : -1;
  unsigned char *bytes = malloc((size_t)n + 1);
  if (!bytes) lost("out of memory");
  read_memory(t->tid, g->rsi, bytes, (size_t)n);
  fprintf(r.trace, "write %d %lld %lld\n", handle_of(g->rdi), offset, n);
  fwrite(bytes, 1, (size_t)n, r.trace);
  fputc('\n', r.trace);
  free(bytes);
}

/* The call is over and gave `result`; what failed changed nothing. */
static void leave(Thread *t, long long result) {
  const struct user_regs_struct *g = &t->in;
  if (!t->below || result < 0) return;
  int h = handle_of(g->rdi);
  switch (g->orig_rax) {
  case SYS_open:
  case SYS_openat:
  case SYS_creat: {
    uint64_t flags = g->orig_rax == SYS_openat ? g->rdx
                     : g->orig_rax == SYS_open ? g->rsi
                                               : O_CREAT | O_WRONLY | O_TRUNC;
    if (result >= FDS) lost("more than %d open files", FDS);
    r.handle[result] = ++r.handles;
    fprintf(r.trace, "open %d %llu %s\n", r.handles, (unsigned long long)flags, t->a);
    return;
  }
  case SYS_write:
  case SYS_pwrite64: record_write(t, result); return;
  case SYS_lseek: fprintf(r.trace, "seek %d %lld\n", h, result); return;
  case SYS_ftruncate: fprintf(r.trace, "truncate %d %lld\n", h, (long long)g->rsi); return;
  case SYS_fsync:
  case SYS_fdatasync: fprintf(r.trace, "fsync %d\n", h); return;
  case SYS_close:
    fprintf(r.trace, "close %d\n", h);
    r.handle[g->rdi] = 0;
    return;
  case SYS_mkdir:
  case SYS_mkdirat: fprintf(r.trace, "mkdir %s\n", t->a); return;
  case SYS_rmdir: fprintf(r.trace, "rmdir %s\n", t->a); return;
  case SYS_unlink: fprintf(r.trace, "unlink %s\n", t->a); return;
  case SYS_unlinkat: fprintf(r.trace, "%s %s\n", g->rdx & AT_REMOVEDIR ? "rmdir" : "unlink", t->a); return;
  case SYS_rename:
  case SYS_renameat:
  case SYS_renameat2: fprintf(r.trace, "rename %s\t%s\n", t->a, t->b); return;
  case SYS_link: fprintf(r.trace, "link %s\t%s\n", t->a, t->b); return;
  case SYS_symlink:
  case SYS_symlinkat: fprintf(r.trace, "symlink %s\t%s\n", t->a, t->b); return;
  }
}

/* ---- following the command */

static Thread *thread_of(pid_t tid) {
  for (int i = 0; i < r.nthreads; i++)
    if (r.thread[i].tid == tid) return &r.thread[i];
  if (r.nthreads == THREADS) lost("more than %d threads", THREADS);
  r.thread[r.nthreads] = (Thread){.tid = tid};
  return &r.thread[r.nthreads++];
}

static void stopped_at_call(Thread *t) {
  struct user_regs_struct regs;
  if (ptrace(PTRACE_GETREGS, t->tid, 0, &regs)) return; /* killed meanwhile */
  t->inside = !t->inside;
  if (t->inside) {
    t->in = regs;
    enter(t);
    return;
  }
  if (t->fault) {
    regs.rax = (unsigned long long)-t->fault;
    if (ptrace(PTRACE_SETREGS, t->tid, 0, &regs)) lost("cannot change a result");
  }
  leave(t, (long long)regs.rax);
}

static int follow(void) {
  for (;;) {
    int status, signal = 0;
    pid_t tid = waitpid(-1, &status, __WALL);
    if (tid < 0) lost("the command is gone");
    if (WIFEXITED(status) || WIFSIGNALED(status)) {
      if (tid == r.child) return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
      for (int i = 0; i < r.nthreads; i++)
        if (r.thread[i].tid == tid) r.thread[i] = r.thread[--r.nthreads];
      continue;
    }
    int sig = WSTOPSIG(status), event = status >> 16;
    if (sig == (SIGTRAP | 0x80))
      stopped_at_call(thread_of(tid));
    else if (event == PTRACE_EVENT_FORK || event == PTRACE_EVENT_VFORK)
      lost("the command starts a process of its own");
    else if (event || sig == SIGSTOP) /* a thread is born */
      thread_of(tid);
    else
      signal = sig;
    ptrace(PTRACE_SYSCALL, tid, 0, signal);
  }
}

static void start(char **argv) {
  r.child = fork();
  if (r.child < 0) lost("cannot fork: %s", strerror(errno));
  if (!r.child) {
    if (ptrace(PTRACE_TRACEME, 0, 0, 0)) _exit(EXIT_SKIP);
    execv(argv[0], argv);
    _exit(EXIT_LOST);
  }
  int status;
  if (waitpid(r.child, &status, 0) != r.child || !WIFSTOPPED(status)) {
    if (WIFEXITED(status) && WEXITSTATUS(status) == EXIT_SKIP) {
      fprintf(stderr, "crash-record: this machine allows no tracing\n");
      exit(EXIT_SKIP);
    }
    lost("cannot run %s", argv[0]);
  }
  long options =
      PTRACE_O_TRACESYSGOOD | PTRACE_O_TRACECLONE | PTRACE_O_TRACEFORK | PTRACE_O_TRACEVFORK | PTRACE_O_EXITKILL;
  if (ptrace(PTRACE_SETOPTIONS, r.child, 0, options)) lost("cannot trace: %s", strerror(errno));
  thread_of(r.child);
  ptrace(PTRACE_SYSCALL, r.child, 0, 0);
}

static int error_named(const char *name) {
  static const struct {
    const char *name;
    int error;
  } known[] = {{"ENOSPC", ENOSPC}, {"EIO", EIO}, {"EROFS", EROFS}, {"EACCES", EACCES}};
  for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++)
    if (!strcmp(known[i].name, name)) return known[i].error;
  lost("unknown error %s", name);
}

int main(int argc, char **argv) {
  int i = 1;
  for (; i < argc && !strncmp(argv[i], "--", 2); i++)
    if (!strcmp(argv[i], "--fail") && i + 2 < argc) {
      r.fail_at = strtol(argv[i + 1], NULL, 10);
      r.fail_error = error_named(argv[i + 2]);
      i += 2;
    } else if (!strcmp(argv[i], "--and-after"))
      r.and_after = true;
    else if (!strcmp(argv[i], "--short"))
      r.is_short = true;
    else if (!strcmp(argv[i], "--ops") && i + 1 < argc)
      r.ops = argv[++i];
    else
      lost("unknown option %s", argv[i]);
  if (argc - i < 3)
    lost("usage: crash-record [--fail N ERROR] [--and-after] [--short] [--ops NAME,...] TRACE ROOT COMMAND...");
  r.root = realpath(argv[i + 1], NULL);
  if (!r.root || strcmp(r.root, argv[i + 1])) lost("%s is not the plain, absolute path of a folder", argv[i + 1]);
  r.nroot = strlen(r.root);
  r.trace = fopen(argv[i], "w");
  if (!r.trace) lost("cannot write %s: %s", argv[i], strerror(errno));
  start(argv + i + 2);
  int status = follow();
  fprintf(r.trace, "end %ld\n", r.changes);
  if (fclose(r.trace)) lost("cannot write %s", argv[i]);
  return status;
}
