/* The artifact file: what is written is read again; what is cut, changed or made up is refused. */
#include "artifact/container.h"
#include "tests/unit/runtime_criterion.h"
#include "tests/unit/runtime_files.h"

static bool is_true(bool x) {
  return x;
}

static Dir dir;
static Report err;
static void setup(void) {
  dir = dir_new();
}
static void teardown(void) {
  report_free(&err);
  dir_free(&dir);
}
TestSuite(container, .init = setup, .fini = teardown);

static const char program[] = "\177ELF, or so";

static const char *artifact(void) {
  file_put(in(&dir, "elf"), program, sizeof(program));
  chmod(in(&dir, "elf"), 0750);
  ArtifactWriter *w = artifact_create(in(&dir, "a"), in(&dir, "elf"), &err);
  cr_assert(ne(ptr, w, NULL), "%s", err.text);
  artifact_begin(w, "tokenizer/vocab.json", 1);
  artifact_add(w, "{", 1);
  artifact_add(w, "}", 1);
  artifact_begin(w, "empty", ARTIFACT_ALIGN);
  artifact_begin(w, "weights.safetensors", ARTIFACT_PAGE);
  for (int i = 0; i < 1000; i++) artifact_add(w, "0123456789", 10);
  int n;
  const ArtifactSection *s = artifact_written(w, &n);
  cr_assert(eq(int, n, 4));
  cr_assert(eq(u64, s[1].hash, fs_hash("{}", 2)));
  cr_assert(not(fs_exists(in(&dir, "a"))));
  cr_assert(artifact_finish(w, &err), "%s", err.text);
  return in(&dir, "a");
}

Test(container, round_trip) {
  const char *path = artifact();
  struct stat st;
  cr_assert(not(stat(path, &st)));
  cr_assert(eq(int, (int)(st.st_mode & 0777), 0750));
  cr_assert(not(fs_exists(in(&dir, ".tmp-a"))));
  cr_assert(artifact_is(path));
  cr_assert(not(artifact_is(in(&dir, "elf"))));
  cr_assert(not(artifact_is(in(&dir, "none"))));
  Artifact *a = artifact_open(path, &err);
  cr_assert(ne(ptr, a, NULL), "%s", err.text);
  cr_assert(artifact_check(a, NULL, &err), "%s", err.text);
  cr_assert(eq(int, a->n, 4));
  const ArtifactSection *s = artifact_section(a, "program"), *t = artifact_section(a, "tokenizer/vocab.json"),
                        *weights = artifact_section(a, "weights.safetensors");
  cr_assert(s && t && weights);
  cr_assert(eq(u64, s->bytes, sizeof(program)));
  cr_assert(zero(int, memcmp(artifact_bytes(a, s), program, sizeof(program))));
  cr_assert(zero(int, memcmp(artifact_bytes(a, t), "{}", 2)));
  cr_assert(eq(u64, weights->offset % ARTIFACT_PAGE, 0));
  cr_assert(eq(u64, weights->bytes, 10000));
  cr_assert(eq(u64, artifact_section(a, "empty")->bytes, 0));
  cr_assert(eq(ptr, (void *)artifact_section(a, "card.json"), NULL));
  artifact_close(a);
}

Test(container, abandoned_leaves_nothing) {
  file_put(in(&dir, "elf"), program, sizeof(program));
  ArtifactWriter *w = artifact_create(in(&dir, "a"), in(&dir, "elf"), &err);
  artifact_begin(w, "x", 1);
  artifact_add(w, "y", 1);
  artifact_abandon(w);
  artifact_abandon(NULL);
  cr_assert(is_true(!fs_exists(in(&dir, "a")) && !fs_exists(in(&dir, ".tmp-a"))));
  cr_assert(eq(ptr, artifact_create(in(&dir, "a"), in(&dir, "none"), &err), NULL));
  cr_assert(not(fs_exists(in(&dir, ".tmp-a"))));
}

Test(container, names_too_long_fail_at_the_end) {
  char name[100];
  memset(name, 'x', sizeof(name));
  name[99] = 0;
  file_put(in(&dir, "elf"), program, sizeof(program));
  ArtifactWriter *w = artifact_create(in(&dir, "a"), in(&dir, "elf"), &err);
  artifact_begin(w, name, 1);
  artifact_add(w, "y", 1);
  cr_assert(not(artifact_finish(w, &err)));
  cr_assert(strstr(err.text, "name is too long") != NULL);
  cr_assert(not(fs_exists(in(&dir, "a"))));
}

static bool opens(const void *bytes, size_t n) {
  report_free(&err);
  file_put(in(&dir, "b"), bytes, n);
  Artifact *a = artifact_open(in(&dir, "b"), &err);
  bool ok = a && artifact_check(a, NULL, &err);
  artifact_close(a);
  cr_assert(ok == !err.lines, "refused without a word");
  return ok;
}

/* Every length but the right one is refused. */
Test(container, cut_anywhere) {
  size_t n;
  char *all = file_get(artifact(), &n);
  for (size_t k = 0; k < n; k += k < 300 || k + 700 > n ? 1 : 997) cr_assert(not(opens(all, k)), "cut at %zu", k);
  all = realloc(all, n + 1);
  all[n] = 0;
  cr_assert(not(opens(all, n + 1)));
  cr_assert(opens(all, n));
  free(all);
}

/* Every bit belongs to a hash, or must be zero. */
Test(container, any_bit_changed) {
  size_t n;
  char *all = file_get(artifact(), &n);
  for (size_t k = 0; k < n; k += k < 200 || k + 600 > n ? 1 : 499)
    for (int bit = 0; bit < 8; bit += 3) {
      all[k] ^= (char)(1 << bit);
      cr_assert(not(opens(all, n)), "bit %d of byte %zu of %zu", bit, k, n);
      all[k] ^= (char)(1 << bit);
    }
  free(all);
}

/* Indexes that a stranger made, with hashes that are right. */
static void seal(char *all, size_t n, ArtifactTrailer *t) {
  t->index_hash = fs_hash(all + t->index, n - sizeof(*t) - t->index);
  t->hash = fs_hash(t, sizeof(*t) - sizeof(t->hash));
  memcpy(all + n - sizeof(*t), t, sizeof(*t));
}

static bool says(const char *what) {
  return err.text && strstr(err.text, what);
}

Test(container, hostile_indexes) {
  size_t n;
  char *all = file_get(artifact(), &n);
  ArtifactTrailer t, good;
  memcpy(&t, all + n - sizeof(t), sizeof(t));
  good = t;
  ArtifactSection *s = (void *)(all + t.index), keep[4];
  memcpy(keep, s, sizeof(keep));
#define TRY(change, words)                                                                                             \
  do {                                                                                                                 \
    change;                                                                                                            \
    seal(all, n, &t);                                                                                                  \
    cr_assert(not(opens(all, n)), #change);                                                                            \
    cr_assert(says(words), "%s: %s", #change, err.text);                                                               \
    memcpy(s, keep, sizeof(keep));                                                                                     \
    t = good;                                                                                                          \
  } while (0)
  TRY(s[1].offset = 2, "overlaps");
  TRY(s[1].offset = UINT64_MAX, "does not lie in the file");
  TRY(s[3].bytes = UINT64_MAX - 10, "does not lie in the file");
  TRY(s[3].bytes = t.index - s[3].offset + 1, "does not lie in the file");
  TRY(s[3].bytes -= 100, "belong to nothing");
  TRY(s[1].bytes -= 1, "belong to nothing");
  TRY(s[3].offset += 1, "belong to nothing");
  TRY(memcpy(s[2].name, "program", 8), "two sections");
  TRY(memcpy(s[2].name, "../up", 6), "impossible name");
  TRY(memcpy(s[2].name, "/root", 6), "impossible name");
  TRY(memset(s[2].name, 'x', sizeof(s[2].name)), "impossible name");
  TRY(s[2].name[70] = 'x', "impossible name");
  TRY(s[2].name[0] = 0, "impossible name");
  TRY(s[2].name[1] = '\033', "impossible name");
  TRY(memcpy(s[0].name, "Program", 8), "begin with its program");
  TRY(s[0].offset = 1, "belong to nothing");
  TRY(t.version = 2, "format 2");
  TRY(t.sections = 5, "makes no sense");
  TRY(t.sections = 0, "makes no sense");
  TRY(t.sections = UINT32_MAX, "makes no sense");
  TRY(t.index += 1, "makes no sense");
  TRY(t.bytes += 1, "were written");
  TRY(t.zero[1] = 1, "makes no sense");
  seal(all, n, &t);
  cr_assert(opens(all, n), "%s", err.text);
  free(all);
}
