/* The functions of text/ that the server calls: a tokenizer with a token a byte and four special ones, and a template like ChatML.
 * What is linked before the real ones takes their place. */
#include "tests/serve/fake_served.h"

#include <string.h>

struct Codec {
  int shares;
};

static const char *const specials[] = {"<s>", "</s>", "<|im_start|>", "<|im_end|>"};
static const char bytes[256] = {
#define B4(n) (char)(n), (char)((n) + 1), (char)((n) + 2), (char)((n) + 3)
#define B16(n) B4(n), B4((n) + 4), B4((n) + 8), B4((n) + 12)
#define B64(n) B16(n), B16((n) + 16), B16((n) + 32), B16((n) + 48)
    B64(0), B64(64), B64(128), B64(192)};

Codec *codec_share(Codec *c) {
  return memory_zeroed(1, sizeof *c);
}
void codec_free(Codec *c) {
  free(c);
}
bool codec_special(const Codec *c, uint32_t id) {
  return id >= FAKE_BOS;
}

bool codec_encode(Codec *c, const char *text, size_t n, unsigned flags, Ids *out, Diags *err) {
  if (flags & CODEC_ADD) ids_add(out, FAKE_BOS);
  for (size_t i = 0; i < n;) {
    int special = -1;
    for (int k = 0; k < LEN(specials) && flags & CODEC_SPECIAL; k++)
      if (n - i >= strlen(specials[k]) && !memcmp(text + i, specials[k], strlen(specials[k]))) special = k;
    if (text[i] == 0x7f) return diag_error(err, (Span){0}, "no token stands for it");
    ids_add(out, special >= 0 ? (uint32_t)(256 + special) : (unsigned char)text[i]);
    i += special >= 0 ? strlen(specials[special]) : 1;
  }
  return true;
}

const char *codec_token(const Codec *c, uint32_t id, size_t *n) {
  if (id >= FAKE_VOCAB) return NULL;
  *n = id < 256 ? 1 : strlen(specials[id - 256]);
  return id < 256 ? bytes + id : specials[id - 256];
}

void codec_decode(const Codec *c, const uint32_t *ids, size_t n, bool skip, Text *out) {
  for (size_t i = 0; i < n; i++) {
    size_t k;
    const char *s = codec_token(c, ids[i], &k);
    if (s && (ids[i] < 256 || !skip)) text_write(out, s, k);
  }
}

/* ---- the template: ChatML */

json_t *chat_variables(const Codec *c) {
  return json_pack("{s:s}", "eos_token", "</s>");
}

bool chat_render(const ChatTemplate *t, const json_t *messages, const json_t *tools, const json_t *variables,
                 bool generation, Text *out, Diags *err) {
  size_t i;
  json_t *m;
  const char *mark = json_string_value(json_object_get(variables, "mark"));
  if (tools) text_add(out, "%zu tools\n", json_array_size(tools));
  if (mark) text_add(out, "%s\n", mark);
  json_array_foreach(messages, i, m) {
    const json_t *content = json_object_get(m, "content");
    text_add(out, "<|im_start|>%s\n", json_string_value(json_object_get(m, "role")));
    if (json_is_string(content)) {
      if (!strcmp(json_string_value(content), "raise")) return diag_error(err, (Span){0}, "I was told to refuse");
      text_write(out, json_string_value(content), json_string_length(content));
    }
    text_add(out, "<|im_end|>\n");
  }
  if (generation) text_add(out, "<|im_start|>assistant\n");
  return true;
}
