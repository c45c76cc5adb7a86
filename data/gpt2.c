/* GPT-2's tokenizer files, and the byte-level spelling that they and Hugging Face's share.
 *
 * encoder.json maps token spellings to ids, vocab.bpe lists merges, one "left right" a line, best first. Spellings use a
 * character a byte (byte_level_code). The published encoder.json may lack the end-of-text token; it is then the next
 * free id. Files from strangers: every id, spelling and merge is checked, and the ids must be 0 to n - 1, each once.
 *
 * A damaged encoder.json is about, too: it lacks the last merge's token (" gazed", 50255) and gives that id to the
 * end-of-text token, which is 50256 in every GPT-2 checkpoint. In GPT-2's construction the merge of rank r makes the
 * token 256 + r, so the damage can be told from the files; it is mended, and tokenizer_note says so. */
#include "data/tokenizer.h"
#include "text/byte_level.h"

#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum { LIMIT = 256 << 20 }; /* bytes of a file */

/* The bytes that a spelling stands for, in out; false when it is none. */
static bool despell(const char *s, size_t n, Text *out) {
  out->n = 0;
  return n > 0 && byte_level_despell(s, n, out);
}

/* The file's text, malloc'ed and NUL-terminated. Errors name the path. */
static char *read_file(const char *path, size_t *n, Diags *err) {
  FILE *f = fopen(path, "rb");
  char *text = NULL;
  size_t cap = 0;
  *n = 0;
  bool ok = f != NULL;
  while (ok) {
    RESERVE(text, cap, *n + 65536);
    size_t k = fread(text + *n, 1, 65535, f);
    *n += k;
    if (*n > LIMIT) {
      diag_error(err, (Span){0}, "%s: larger than the limit of %d bytes", path, LIMIT);
      fclose(f);
      free(text);
      return NULL;
    }
    if (k < 65535) break;
  }
  if (!ok || ferror(f)) {
    diag_error(err, (Span){0}, "%s: cannot read: %m", path);
    if (f) fclose(f);
    free(text);
    return NULL;
  }
  fclose(f);
  text[*n] = 0;
  return text;
}

/* ---- encoder.json */

static bool check_entry(const char *path, const char *key, const json_t *value, const char **slot, size_t ids,
                        Diags *err) {
  if (!json_is_integer(value)) return diag_error(err, (Span){0}, "%s: the id of '%s' is no integer", path, key);
  json_int_t id = json_integer_value(value);
  if (id < 0 || (uint64_t)id >= ids)
    return diag_error(err, (Span){0},
                      "%s: the id of '%s' is %" JSON_INTEGER_FORMAT "; %zu tokens have the ids below %zu", path, key,
                      id, ids, ids);
  if (slot[id])
    return diag_error(err, (Span){0}, "%s: '%s' and '%s' both have the id %" JSON_INTEGER_FORMAT, path, slot[id], key,
                      id);
  slot[id] = key;
  return true;
}

static bool add_tokens(Bpe *b, const char *path, const json_t *root, int64_t *eot, Diags *err) {
  size_t ids = json_object_size(root);
  if (!json_is_object(root) || !ids || ids > BPE_MOST_TOKENS)
    return diag_error(err, (Span){0}, "%s: not an object of 1 to %d tokens", path, BPE_MOST_TOKENS);
  const char **slot = memory_zeroed(ids, sizeof *slot);
  const char *key;
  json_t *value;
  Text bytes = {0};
  bool ok = true;
  json_object_foreach((json_t *)root, key, value) ok = ok && check_entry(path, key, value, slot, ids, err);
  *eot = -1;
  for (size_t id = 0; ok && id < ids; id++) {
    uint32_t twin;
    if (!strcmp(slot[id], END_OF_TEXT)) {
      *eot = (int64_t)id;
      if (id + 1 < ids) bpe_add(b, NULL, 0); /* the last one waits for the merges */
    } else if (!despell(slot[id], strlen(slot[id]), &bytes) || bytes.n > BPE_LONGEST_TOKEN) {
      ok = diag_error(err, (Span){0}, "%s: '%s' is no byte-level spelling", path, slot[id]);
    } else if (bpe_find(b, bytes.s, bytes.n, &twin)) {
      ok = diag_error(err, (Span){0}, "%s: '%s' stands there twice", path, slot[id]);
    } else {
      bpe_add(b, bytes.s, bytes.n);
    }
  }
  text_free(&bytes);
  free(slot);
  return ok;
}

static bool read_tokens(Bpe *b, const char *path, int64_t *eot, Diags *err) {
  size_t n;
  char *text = read_file(path, &n, err);
  if (!text) return false;
  json_error_t e;
  json_t *root = json_loadb(text, n, JSON_REJECT_DUPLICATES, &e);
  free(text);
  bool ok = root ? add_tokens(b, path, root, eot, err)
                 : diag_error(err, (Span){0}, "%s:%d:%d: %s", path, e.line, e.column, e.text);
  json_decref(root);
  return ok;
}

/* ---- vocab.bpe */

/* Whether a merge's missing token is the one whose id the end-of-text token took; see the head of this file. */
static bool mends(const Bpe *b, int64_t eot) {
  return eot == (int64_t)bpe_count(b) && eot == 256 + (int64_t)bpe_merges(b);
}

static bool add_merge(Bpe *b, int64_t eot, const char *path, int line, const char *s, size_t n, Diags *err) {
  const char *space = memchr(s, ' ', n);
  Text l = {0}, r = {0};
  uint32_t left = 0, right = 0, merged = 0;
  bool ok = space && !memchr(space + 1, ' ', n - (size_t)(space + 1 - s)) && despell(s, (size_t)(space - s), &l) &&
            despell(space + 1, n - (size_t)(space + 1 - s), &r);
  if (!ok) diag_error(err, (Span){0}, "%s:%d: a merge is two byte-level spellings with one space between", path, line);
  const char *missing = NULL;
  if (ok && !bpe_find(b, r.s, r.n, &right)) missing = "right part";
  if (ok && !bpe_find(b, l.s, l.n, &left)) missing = "left part";
  if (ok && !missing) {
    text_write(&l, r.s, r.n);
    if (!bpe_find(b, l.s, l.n, &merged)) {
      if (mends(b, eot))
        merged = bpe_add(b, l.s, l.n);
      else
        missing = "result";
    }
  }
  if (missing) ok = diag_error(err, (Span){0}, "%s:%d: the vocabulary lacks the merge's %s", path, line, missing);
  if (ok && !bpe_merge(b, left, right, merged))
    ok = diag_error(err, (Span){0}, "%s:%d: this merge stands there twice", path, line);
  text_free(&l);
  text_free(&r);
  return ok;
}

static bool read_merges(Bpe *b, int64_t eot, const char *path, Diags *err) {
  size_t n;
  char *text = read_file(path, &n, err);
  if (!text) return false;
  int line = 0, wrong = 0;
  for (const char *s = text, *end = text + n; s < end && wrong < 20;) {
    const char *stop = memchr(s, '\n', (size_t)(end - s));
    size_t k = (size_t)((stop ? stop : end) - s), len = k && s[k - 1] == '\r' ? k - 1 : k;
    line++;
    if (len && !(line == 1 && len >= 8 && !memcmp(s, "#version", 8)))
      wrong += !add_merge(b, eot, path, line, s, len, err);
    s += k + 1;
  }
  free(text);
  return !wrong;
}

Tokenizer *tokenizer_gpt2(const char *dir, Diags *err) {
  static const char *const names[2][2] = {{"encoder.json", "vocab.bpe"}, {"vocab.json", "merges.txt"}};
  Text path[2] = {{0}, {0}};
  int set = -1;
  for (int i = 0; i < 2 && set < 0; i++) {
    for (int k = 0; k < 2; k++) {
      path[k].n = 0;
      text_add(&path[k], "%s/%s", dir, names[i][k]);
    }
    if (!access(path[0].s, F_OK) && !access(path[1].s, F_OK)) set = i;
  }
  Bpe *b = bpe_new();
  int64_t eot = -1;
  size_t n;
  bool ok = set >= 0 || diag_error(err, (Span){0},
                                   "%s holds neither encoder.json with vocab.bpe nor vocab.json with merges.txt", dir);
  ok = ok && read_tokens(b, path[0].s, &eot, err) && read_merges(b, eot, path[1].s, err);
  bool mended = ok && eot >= 0 && eot < bpe_count(b) && (bpe_bytes(b, (uint32_t)eot, &n), n > 0);
  if (ok && (mended || eot < 0 || eot == bpe_count(b))) eot = bpe_add(b, NULL, 0);
  Tokenizer *t = ok ? tokenizer_bpe(b, eot, err) : NULL;
  if (!ok) bpe_free(b);
  if (t && mended) {
    text_add(&t->note, "%s gives the id %" PRId64 " of the last merge's token to %s; taken as %" PRId64 " and %" PRId64,
             path[0].s, eot - 1, END_OF_TEXT, eot - 1, eot);
  }
  text_free(&path[0]);
  text_free(&path[1]);
  return t;
}
