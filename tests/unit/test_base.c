/* Arenas, interning, text, diagnostics, near misses, files. */
#include "ink/base.h"
#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <errno.h>
#include <glob.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static Arena *a;
static Diags *d;
static void setup(void) {
  a = arena_new();
  d = diags_new(a);
}
static void teardown(void) {
  arena_free(a);
}
TestSuite(base, .init = setup, .fini = teardown);

Test(base, arena_blocks_are_zeroed_aligned_and_apart) {
  unsigned char *last = NULL;
  for (int i = 0; i < 2000; i++) {
    size_t n = (size_t)(i * 37 % 5000);
    unsigned char *p = arena_alloc(a, n);
    cr_assert(zero(sz, (uintptr_t)p % 16));
    for (size_t k = 0; k < n; k++) cr_assert(zero(u8, p[k]));
    memset(p, 0xaa, n);
    cr_assert(ne(ptr, p, last));
    last = p;
  }
  unsigned char *big = arena_alloc(a, 1 << 20);
  cr_assert(zero(sz, (uintptr_t)big % 64));
  cr_assert(zero(u8, big[(1 << 20) - 1]));
}

Test(base, push_keeps_what_is_there) {
  int *v = NULL, n = 0, cap = 0;
  for (int i = 0; i < 1000; i++) PUSH(a, v, n, cap, i);
  cr_assert(eq(int, n, 1000));
  for (int i = 0; i < 1000; i++) cr_assert(eq(int, v[i], i));
}

Test(base, arena_texts) {
  cr_assert(eq(str, arena_strdup(a, "abc"), "abc"));
  cr_assert(eq(str, arena_strndup(a, "abcdef", 3), "abc"));
  char *s = arena_printf(a, "%s %d %0300d", "x", 7, 1);
  cr_assert(eq(sz, strlen(s), 304));
}

static void *intern_many(void *out) {
  const char **p = out;
  char name[32];
  for (int i = 0; i < 5000; i++) {
    snprintf(name, sizeof name, "name%d", i);
    p[i] = intern(name);
  }
  return NULL;
}

Test(base, equal_texts_are_one_pointer_in_all_threads) {
  static const char *got[4][5000];
  pthread_t t[4];
  for (int i = 0; i < 4; i++) pthread_create(&t[i], NULL, intern_many, got[i]);
  for (int i = 0; i < 4; i++) pthread_join(t[i], NULL);
  for (int i = 0; i < 5000; i++) {
    for (int k = 1; k < 4; k++) cr_assert(eq(ptr, (void *)got[k][i], (void *)got[0][i]));
    if (i) cr_assert(ne(ptr, (void *)got[0][i], (void *)got[0][i - 1]));
  }
  cr_assert(eq(str, (char *)got[0][4999], "name4999"));
  cr_assert(eq(ptr, (void *)internn("name12345", 5), (void *)intern("name1")));
}

Test(base, text_grows) {
  Text t = {0};
  for (int i = 0; i < 1000; i++) text_add(&t, "%d,", i);
  text_write(&t, "\0end", 4);
  cr_assert(eq(sz, t.n, 3890 + 4));
  cr_assert(zero(int, strncmp(t.s, "0,1,2,", 6)));
  cr_assert(zero(int, memcmp(t.s + 3890, "\0end", 5)));
  text_add(&t, "%s", ""); /* nothing */
  cr_assert(eq(sz, t.n, 3894));
  text_free(&t);
  cr_assert(zero(ptr, t.s));
  text_add(&t, "%2000d", 1); /* longer than the first block */
  cr_assert(eq(sz, t.n, 2000));
  text_free(&t);
}

static void renders(const char *want) {
  Text t = {0};
  diags_render(d, &t);
  cr_assert(eq(str, t.s ? t.s : "", (char *)want));
  text_free(&t);
}

static uint32_t source(const char *path, const char *s) {
  return diags_source(d, path, s, strlen(s));
}

Test(base, an_error_shows_its_line) {
  uint32_t f = source("gpt2.yaml", "dims:\n  heads: 12\n  hd: d / head\n");
  cr_assert(not(diag_hint(d, (Span){f, 3, 11}, "did you mean 'heads'?", "unknown dimension '%s'", "head")));
  renders("gpt2.yaml:3:11: error: unknown dimension 'head'\n"
          "      hd: d / head\n"
          "              ^\n"
          "  did you mean 'heads'?\n");
}

Test(base, errors_come_in_order) {
  uint32_t f = source("b", "one\ntwo\n"), g = source("a", "x\n");
  diag_error(d, (Span){g, 1, 1}, "fifth");
  diag_error(d, (Span){f, 2, 1}, "third");
  diag_error(d, (Span){f, 2, 3}, "fourth");
  diag_error(d, (Span){0}, "first");
  diag_error(d, (Span){f, 1, 0}, "second");
  renders("error: first\nb:1: error: second\n"
          "b:2:1: error: third\n    two\n    ^\n"
          "b:2:3: error: fourth\n    two\n      ^\n"
          "a:1:1: error: fifth\n    x\n    ^\n");
}

Test(base, tabs_accents_and_noise_keep_the_caret_in_place) {
  uint32_t f = source("f", "\ta\tb\n\xc3\xa9\xe2\x82\xac x\n\x1b[31m \xff y\n");
  diag_error(d, (Span){f, 1, 4}, "tab");
  diag_error(d, (Span){f, 2, 7}, "accents"); /* columns count bytes */
  diag_error(d, (Span){f, 3, 9}, "noise %s", "\x1b[2J\xe2\x80\xae");
  renders("f:1:4: error: tab\n        a    b\n             ^\n"
          "f:2:7: error: accents\n    \xc3\xa9\xe2\x82\xac x\n       ^\n"
          "f:3:9: error: noise ?[2J???\n    ?[31m ? y\n            ^\n");
}

Test(base, long_lines_are_clipped_around_the_caret) {
  size_t n = 3000000;
  char *s = malloc(n + 1);
  memset(s, 'x', n);
  s[n] = 0;
  s[1999999] = '!';
  uint32_t f = diags_source(d, "f", s, n);
  free(s);
  diag_error(d, (Span){f, 1, 2000000}, "far");
  diag_error(d, (Span){f, 1, 1}, "near");
  diag_error(d, (Span){f, 1, (uint32_t)n + 1}, "end");
  Text t = {0};
  diags_render(d, &t);
  char *line = strtok(t.s, "\n");
  int carets = 0;
  for (char *before = line; line; before = line, line = strtok(NULL, "\n")) {
    cr_assert(le(sz, strlen(line), 124));
    if (!strchr(line, '^')) continue;
    char under = before[strchr(line, '^') - line];
    cr_assert(eq(chr, under, carets == 0 ? 'x' : carets == 1 ? '!' : 0));
    carets++;
  }
  cr_assert(eq(int, carets, 3));
  text_free(&t);
}

Test(base, positions_outside_of_the_source_are_harmless) {
  uint32_t f = source("f", "one\n"), e = source("e", "");
  diag_error(d, (Span){f, 9, 1}, "no such line");
  diag_error(d, (Span){f, 1, 99}, "no such column");
  diag_error(d, (Span){e, 24, 3}, "empty");
  diag_error(d, (Span){77, 1, 1}, "no such file");
  renders("f:1:99: error: no such column\n    one\n       ^\n"
          "f:9:1: error: no such line\ne:24:3: error: empty\nerror: no such file\n");
}

Test(base, windows_line_ends) {
  uint32_t f = source("f", "one\r\ntwo\r\n");
  diag_error(d, (Span){f, 2, 4}, "end");
  renders("f:2:4: error: end\n    two\n       ^\n");
}

Test(base, a_hundred_errors_are_kept) {
  for (int i = 0; i < 150; i++) diag_error(d, (Span){0}, "error %d", i);
  cr_assert(eq(int, d->n, 100));
  Text t = {0};
  diags_render(d, &t);
  cr_assert(not(zero(ptr, strstr(t.s, "error: error 99\n50 more errors not shown\n"))));
  text_free(&t);
}

Test(base, near_misses) {
  static const char *const names[] = {"heads", "layers", "hd", "vocab", "ctx", "attend_grad"};
#define NEAR(word) near_miss(word, names, LEN(names))
  cr_assert(eq(str, (char *)NEAR("head"), "heads"));
  cr_assert(eq(str, (char *)NEAR("haeds"), "heads")); /* a swap counts once */
  cr_assert(eq(str, (char *)NEAR("Layers"), "layers"));
  cr_assert(eq(str, (char *)NEAR("atend_gard"), "attend_grad"));
  cr_assert(eq(str, (char *)NEAR("ctx"), "ctx"));
  cr_assert(zero(ptr, (void *)NEAR("h")));
  cr_assert(zero(ptr, (void *)NEAR("width")));
  cr_assert(zero(ptr, (void *)NEAR("")));
  char longer[4096];
  memset(longer, 'x', sizeof longer - 1);
  longer[sizeof longer - 1] = 0;
  cr_assert(zero(ptr, (void *)NEAR(longer)));
}

Test(base, files_are_written_whole) {
  char dir[] = "/tmp/ink-test-base-XXXXXX";
  cr_assert(not(zero(ptr, mkdtemp(dir))));
  char *path = arena_printf(a, "%s/f", dir), *none = arena_printf(a, "%s/none/f", dir);
  cr_assert(file_write_atomic(path, "first", 5));
  cr_assert(file_write_atomic(path, "\0second", 7));
  uint32_t f;
  cr_assert(diags_read(d, path, 7, &f));
  cr_assert(eq(sz, d->sources[f - 1].n, 7));
  cr_assert(zero(int, memcmp(d->sources[f - 1].text, "\0second", 8)));
  cr_assert(not(file_write_atomic(none, "x", 1)));
  cr_assert(eq(int, errno, ENOENT));
  cr_assert(not(file_write_atomic(dir, "x", 1)), "a folder was written over");
  glob_t g; /* nothing is left beside it, nor beside the folder */
  cr_assert(zero(int, glob(arena_printf(a, "%s*/*", dir), 0, NULL, &g)));
  cr_assert(eq(sz, g.gl_pathc, 1));
  globfree(&g);
  cr_assert(eq(int, glob(arena_printf(a, "%s.*", dir), 0, NULL, &g), GLOB_NOMATCH));
  unlink(path);
  rmdir(dir);
}

Test(base, reading) {
  char dir[] = "/tmp/ink-test-base-XXXXXX";
  cr_assert(not(zero(ptr, mkdtemp(dir))));
  char *path = arena_printf(a, "%s/f", dir);
  cr_assert(file_write_atomic(path, "123456", 6));
  uint32_t f;
  cr_assert(diags_read(d, path, 6, &f));
  cr_assert(eq(str, (char *)d->sources[f - 1].text, "123456"));
  cr_assert(not(diags_read(d, path, 5, &f)));
  cr_assert(not(diags_read(d, arena_printf(a, "%s/g", dir), 5, &f)));
  cr_assert(not(diags_read(d, dir, 5, &f)));
  renders(arena_printf(a,
                       "%s: error: larger than the limit of 5 bytes\n%s/g: error: cannot read: No such file or "
                       "directory\n%s: error: cannot read: Is a directory\n",
                       path, dir, dir));
  unlink(path);
  rmdir(dir);
}

Test(base, hash_is_xxh3) { /* values of the reference implementation's empty input and of seed 0 */
  cr_assert(eq(u64, hash64("", 0), 0x2d06800538d394c2ull));
  cr_assert(ne(u64, hash64("a", 1), hash64("b", 1)));
}
