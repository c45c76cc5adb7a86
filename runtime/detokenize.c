/* Token ids to text. Three ways in which a tokenizer.json writes tokens are undone, by its "decoder": ByteLevel (each
 * byte stands as a printable character, GPT-2's table), a replaced space (Metaspace, or Replace of a string), and
 * ByteFallback ("<0x0A>" is a byte). Without a decoder tokens are plain text.
 *
 * The file comes from outside: ids are bounded, strings are copied, nothing in it is executed or used as a format. */
#include "runtime/detokenize.h"
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

enum { ID_LIMIT = 1 << 24, FILE_LIMIT = 256 << 20 };

struct Detokenizer {
  char **token; /* by id; NULL: unknown */
  bool *added;  /* by id: an added token, always plain text */
  int n;
  bool byte_level, byte_fallback;
  char space[16]; /* what stands for a space; "" for none */
};

static bool put(Detokenizer *d, const char *text, int64_t id, bool added) {
  if (id < 0 || id >= ID_LIMIT) return false;
  if (id >= d->n) {
    int n = (int)id + 1 > 2 * d->n ? (int)id + 1 : 2 * d->n;
    char **token = realloc(d->token, (size_t)n * sizeof(char *));
    if (token) d->token = token;
    bool *flags = realloc(d->added, (size_t)n * sizeof(bool));
    if (flags) d->added = flags;
    if (!token || !flags) return false;
    memset(token + d->n, 0, (size_t)(n - d->n) * sizeof(char *));
    memset(flags + d->n, 0, (size_t)(n - d->n) * sizeof(bool));
    d->n = n;
  }
  char *copy = strdup(text);
  if (!copy) return false;
  free(d->token[id]);
  d->token[id] = copy;
  d->added[id] = added;
  return true;
}

static void read_decoder(Detokenizer *d, const json_t *v) {
  const char *type = json_string_value(json_object_get(v, "type"));
  if (!type) return;
  if (!strcmp(type, "ByteLevel")) d->byte_level = true;
  if (!strcmp(type, "ByteFallback")) d->byte_fallback = true;
  const char *space = NULL;
  if (!strcmp(type, "Metaspace")) space = json_string_value(json_object_get(v, "replacement"));
  if (!strcmp(type, "Replace")) {
    const char *to = json_string_value(json_object_get(v, "content"));
    if (to && !strcmp(to, " ")) space = json_string_value(json_object_get(json_object_get(v, "pattern"), "String"));
  }
  if (space && strlen(space) < sizeof(d->space)) strcpy(d->space, space);
  const json_t *list = json_object_get(v, "decoders");
  for (size_t i = 0; i < json_array_size(list); i++) {
    const json_t *item = json_array_get(list, i);
    if (!json_object_get(item, "decoders")) read_decoder(d, item); /* one level: that is all the format uses */
  }
}

static bool read_vocab(Detokenizer *d, const json_t *root, const char *path, Report *err) {
  json_t *vocab = json_object_get(json_object_get(root, "model"), "vocab"), *v;
  const char *key;
  size_t i;
  if (json_is_object(vocab)) {
    json_object_foreach(vocab, key, v) if (!json_is_integer(v) ||
                                           !put(d, key, json_integer_value(v),
                                                false)) return report_add(err, "%s: token '%s' has an impossible id",
                                                                          path, key);
  } else if (json_is_array(vocab)) { /* Unigram: [[token, score], ...] */
    json_array_foreach(vocab, i, v) {
      const char *text = json_string_value(json_array_get(v, 0));
      if (!text || !put(d, text, (int64_t)i, false))
        return report_add(err, "%s: entry %zu of its vocabulary is broken", path, i);
    }
  } else
    return report_add(err, "%s: no vocabulary", path);
  json_t *added = json_object_get(root, "added_tokens");
  json_array_foreach(added, i, v) {
    const char *text = json_string_value(json_object_get(v, "content"));
    const json_t *id = json_object_get(v, "id");
    if (!text || !json_is_integer(id) || !put(d, text, json_integer_value(id), true))
      return report_add(err, "%s: added token %zu is broken", path, i);
  }
  return true;
}

/* The JSON library refuses the character U+0000 in a key, and vocabularies have it: it becomes U+2400, its picture. */
static void replace_nul(char *text) {
  for (; *text; text++) {
    if (*text != '\\') continue;
    text++;
    if (!strncmp(text, "u0000", 5)) text[1] = '2', text[2] = '4';
    if (!*text) return;
  }
}

Detokenizer *detokenizer_open(const char *path, Report *err) {
  size_t n;
  char *text = fs_read(path, FILE_LIMIT, &n, err);
  if (!text) return NULL;
  replace_nul(text);
  json_error_t e;
  json_t *root = json_loadb(text, n, 0, &e);
  free(text);
  Detokenizer *d = calloc(1, sizeof(Detokenizer));
  bool ok = root ? d != NULL || report_add(err, "out of memory")
                 : report_add(err, "%s:%d:%d: %s", path, e.line, e.column, e.text);
  ok = ok && read_vocab(d, root, path, err);
  if (ok) read_decoder(d, json_object_get(root, "decoder"));
  json_decref(root);
  if (ok) return d;
  detokenizer_close(d);
  return NULL;
}

void detokenizer_close(Detokenizer *d) {
  if (!d) return;
  for (int i = 0; i < d->n; i++) free(d->token[i]);
  free(d->token);
  free(d->added);
  free(d);
}

/* The byte that a character stands for in GPT-2's table, or -1: printable Latin-1 stands for itself, the other bytes got the
 * characters from 256 on, in order. */
static int byte_of(uint32_t c) {
  if ((c >= 33 && c <= 126) || (c >= 161 && c <= 172) || (c >= 174 && c <= 255)) return (int)c;
  if (c < 256 || c >= 256 + 68) return -1;
  c -= 256;
  if (c < 33) return (int)c;                 /* 0 .. 32 */
  if (c < 33 + 34) return (int)c - 33 + 127; /* 127 .. 160 */
  return 173;
}

static const char *next_char(const char *s, uint32_t *c) {
  unsigned char a = (unsigned char)s[0];
  if (a >= 0xC0 && a < 0xE0 && s[1]) {
    *c = (uint32_t)(a & 31) << 6 | ((unsigned char)s[1] & 63);
    return s + 2;
  }
  *c = a < 0x80 ? a : UINT32_MAX;
  return s + 1;
}

static void write_bytes(const char *s, FILE *out) {
  while (*s) {
    uint32_t c;
    const char *next = next_char(s, &c);
    int byte = byte_of(c);
    if (byte >= 0)
      fputc(byte, out);
    else
      fwrite(s, 1, (size_t)(next - s), out);
    s = next;
  }
}

void detokenizer_write(const Detokenizer *d, int32_t id, FILE *out) {
  if (id < 0 || id >= d->n || !d->token[id]) return;
  const char *s = d->token[id];
  unsigned byte;
  if (d->added[id]) {
    fputs(s, out);
    return;
  }
  if (d->byte_level) {
    write_bytes(s, out);
    return;
  }
  if (d->byte_fallback && strlen(s) == 6 && sscanf(s, "<0x%2X>", &byte) == 1) {
    fputc((int)byte, out);
    return;
  }
  size_t n = strlen(d->space);
  while (*s) {
    if (n && !strncmp(s, d->space, n))
      fputc(' ', out), s += n;
    else
      fputc(*s++, out);
  }
}

int32_t detokenizer_find(const Detokenizer *d, const char *token) {
  for (int i = 0; i < d->n; i++)
    if (d->token[i] && !strcmp(d->token[i], token)) return i;
  return -1;
}
