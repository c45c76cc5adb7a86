/* Criterion, or where it cannot run, what these tests use of it.
 *
 * Criterion maps memory that its workers share at addresses which ThreadSanitizer does not allow, so under -fsanitize=thread
 * a test program would end before its first test. Here is the same language on a page: Test and TestSuite register
 * themselves, main runs each test in a child process, cr_assert ends it. Arguments of assertions mean the same. */
#ifndef RUNTIME_CRITERION_H
#define RUNTIME_CRITERION_H
#ifndef __SANITIZE_THREAD__
#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#else
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

typedef struct MiniTest {
  const char *suite, *name;
  void (*run)(void), (*init)(void), (*fini)(void);
  double timeout;
  struct MiniTest *next;
} MiniTest;
static MiniTest *mini_tests, *mini_suites;
static MiniTest *mini_now;

#define MINI_REGISTER(list, item)                                                                                      \
  __attribute__((constructor)) static void item##_register(void) {                                                     \
    item.next = list;                                                                                                  \
    list = &item;                                                                                                      \
  }
#define TestSuite(S, ...)                                                                                              \
  static MiniTest S##_suite = {.suite = #S, __VA_ARGS__};                                                              \
  MINI_REGISTER(mini_suites, S##_suite)
#define Test(S, N, ...)                                                                                                \
  static void S##_##N##_impl(void);                                                                                    \
  static MiniTest S##_##N##_test = {.suite = #S, .name = #N, .run = S##_##N##_impl, __VA_ARGS__};                      \
  MINI_REGISTER(mini_tests, S##_##N##_test)                                                                            \
  static void S##_##N##_impl(void)

static MiniTest *mini_suite(const char *name) {
  for (MiniTest *s = mini_suites; s; s = s->next)
    if (!strcmp(s->suite, name)) return s;
  return NULL;
}

static void mini_end(int status) {
  MiniTest *s = mini_suite(mini_now->suite);
  if (s && s->fini) s->fini();
  fflush(NULL);
  _exit(status);
}

#define cr_assert(...) MINI_ASSERT(__VA_ARGS__, "%s", "")
#define MINI_ASSERT(cond, ...)                                                                                         \
  do {                                                                                                                 \
    if (cond) break;                                                                                                   \
    fprintf(stderr, "%s:%d: %s.%s: not so: %s: ", __FILE__, __LINE__, mini_now->suite, mini_now->name, #cond);         \
    mini_say(__VA_ARGS__);                                                                                             \
    mini_end(1);                                                                                                       \
  } while (0)
static void mini_say(const char *fmt, ...) {
  va_list ap;
  va_start(ap, fmt);
  vfprintf(stderr, fmt, ap);
  va_end(ap);
  fputc('\n', stderr);
}

#define cr_fail(...)                                                                                                   \
  do {                                                                                                                 \
    fprintf(stderr, "%s:%d: %s.%s: ", __FILE__, __LINE__, mini_now->suite, mini_now->name);                            \
    mini_say(__VA_ARGS__);                                                                                             \
    mini_end(1);                                                                                                       \
  } while (0)

#define MINI_IS_str(a, b) (!strcmp((a), (b)))
#define MINI_IS_int(a, b) ((a) == (b))
#define MINI_IS_chr(a, b) ((a) == (b))
#define MINI_IS_i64(a, b) ((a) == (b))
#define MINI_IS_u32(a, b) ((a) == (b))
#define MINI_IS_u64(a, b) ((a) == (b))
#define MINI_IS_sz(a, b) ((a) == (b))
#define MINI_IS_flt(a, b) ((a) == (b))
#define MINI_IS_dbl(a, b) ((a) == (b))
#define MINI_IS_ptr(a, b) ((const void *)(a) == (const void *)(b))
#define eq(T, a, b) MINI_IS_##T(a, b)
#define ne(T, a, b) (!MINI_IS_##T(a, b))
#define lt(T, a, b) ((a) < (b))
#define le(T, a, b) ((a) <= (b))
#define gt(T, a, b) ((a) > (b))
#define ge(T, a, b) ((a) >= (b))
#define not(x) (!(x))
#define zero(T, x) (!(x))
#define epsilon_eq(T, a, b, e) (fabs((a) - (b)) <= (e))
#define ieee_ulp_eq(T, a, b, n) (fabs((a) - (b)) <= (n)*2.3e-16 * fabs((double)(b)))

int main(void) {
  int failed = 0, n = 0;
  for (MiniTest *t = mini_tests; t; t = t->next, n++) {
    fflush(NULL);
    pid_t pid = fork();
    if (!pid) {
      MiniTest *s = mini_suite(t->suite);
      mini_now = t;
      if (s && s->init) s->init();
      t->run();
      mini_end(0);
    }
    int status = 0;
    waitpid(pid, &status, 0);
    if (status) fprintf(stderr, "%s.%s: failed (status %d)\n", t->suite, t->name, status), failed++;
  }
  fprintf(stderr, "Tested: %d | Failing: %d\n", n, failed);
  return failed != 0;
}
#endif
#endif
