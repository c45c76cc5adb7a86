/* /v1/embeddings: the hidden row of a text's last token, of length 1. */
#include "serve/api.h"

#include <math.h>
#include <string.h>

static bool prepare(Job *j, json_t *body) {
  const json_t *format = json_object_get(body, "encoding_format");
  const char *word = json_string_value(format);
  if (!api_model(j, body, true)) return false;
  if (format && !json_is_null(format) && (!word || (strcmp(word, "float") && strcmp(word, "base64"))))
    return api_refuse(j, 400, "encoding_format", "invalid_value", "'encoding_format' must be \"float\" or \"base64\"");
  j->base64 = word && !strcmp(word, "base64");
  j->request.hidden = true;
  j->request.sample = j->api->served->defaults;
  return api_prompts(j, json_object_get(body, "input"), "input", j->api->o->inputs,
                     CODEC_SPECIAL | (j->fields.add_special_tokens ? CODEC_ADD : 0u));
}

static void put_base64(Text *out, const unsigned char *s, size_t n) {
  static const char digit[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  text_write(out, "\"", 1);
  for (size_t i = 0; i < n; i += 3) {
    unsigned v = (unsigned)s[i] << 16 | (i + 1 < n ? (unsigned)s[i + 1] << 8 : 0) | (i + 2 < n ? s[i + 2] : 0);
    char four[4] = {digit[v >> 18], digit[v >> 12 & 63], i + 1 < n ? digit[v >> 6 & 63] : '=',
                    i + 2 < n ? digit[v & 63] : '='};
    text_write(out, four, 4);
  }
  text_write(out, "\"", 1);
}

static void put_row(const Prompt *p, bool base64, Text *out) {
  double square = 0;
  for (int i = 0; i < p->nhidden; i++) square += (double)p->hidden[i] * p->hidden[i];
  double scale = square > 0 ? 1 / sqrt(square) : 0;
  for (int i = 0; i < p->nhidden; i++) p->hidden[i] = (float)(p->hidden[i] * scale);
  if (base64) { /* floats of 32 bits, little-endian, as all targets have them */
    put_base64(out, (const unsigned char *)p->hidden, (size_t)p->nhidden * sizeof *p->hidden);
    return;
  }
  text_add(out, "[");
  for (int i = 0; i < p->nhidden; i++) text_add(out, i ? ",%.9g" : "%.9g", (double)p->hidden[i]);
  text_add(out, "]");
}

static void end(Job *j, Text *out) {
  text_add(out, "{\"object\":\"list\",\"data\":[");
  for (int i = 0; i < j->nprompts; i++) {
    text_add(out, "%s{\"object\":\"embedding\",\"index\":%d,\"embedding\":", i ? "," : "", i);
    put_row(&j->prompts[i], j->base64, out);
    text_add(out, "}");
  }
  text_add(out, "],\"model\":");
  json_puts(out, j->model);
  api_usage(j, out);
  text_add(out, "}");
}

const ApiCall api_embeddings = {FOR_EMBEDDING, prepare, NULL, NULL, NULL, end, NULL};
