/* tokenizer.json: decoders, as steps of decode.h. */
#include "text/codec_parts.h"

#include <string.h>

enum { NESTED = 8, STEPS = 64, TIMES = 64 };

static const char where[] = "tokenizer.json: decoder";

static bool string(const json_t *z, const char *key, const char *otherwise, char **to, size_t *n, Diags *err) {
  const json_t *s = json_object_get(z, key);
  if (s ? !json_is_string(s) || json_string_length(s) > NORMALIZE_LONGEST : !otherwise)
    return diag_error(err, (Span){0}, "%s: '%s' is no string of at most %d bytes", where, key, NORMALIZE_LONGEST);
  const char *text = s ? json_string_value(s) : otherwise;
  *n = strlen(text);
  *to = codec_copy(text, *n);
  return true;
}

static uint32_t count(const json_t *z, const char *key) {
  json_int_t v = json_integer_value(json_object_get(z, key));
  return v < 0 ? 0 : v > INT32_MAX ? INT32_MAX : (uint32_t)v;
}

static bool read_decoder(CodecTables *t, const json_t *z, int depth, Diags *err) {
  const char *type = json_string_value(json_object_get(z, "type"));
  if (!type || depth > NESTED || t->decoder.n >= STEPS)
    return diag_error(err, (Span){0}, "%s '%s' is not supported", where, type ? type : "without a type");
  if (!strcmp(type, "Sequence")) {
    size_t i;
    json_t *one;
    json_array_foreach(json_object_get(z, "decoders"), i, one) if (!read_decoder(t, one, depth + 1, err)) return false;
    return codec_json_only(z, where, err, "type", "decoders", NULL);
  }
  if (!strcmp(type, "ByteLevel")) {
    decoder_add(&t->decoder, DECODE_BYTE_LEVEL);
    return codec_json_only(z, where, err, "type", "add_prefix_space", "trim_offsets", "use_regex", NULL);
  }
  if (!strcmp(type, "ByteFallback") || !strcmp(type, "Fuse")) {
    decoder_add(&t->decoder, type[0] == 'F' ? DECODE_FUSE : DECODE_FALLBACK);
    return codec_json_only(z, where, err, "type", NULL);
  }
  if (!strcmp(type, "Metaspace")) {
    const char *scheme = json_string_value(json_object_get(z, "prepend_scheme"));
    Decode *s = decoder_add(&t->decoder, DECODE_METASPACE);
    s->first = scheme ? strcmp(scheme, "never") != 0 : codec_json_bool(z, "add_prefix_space", true);
    return codec_json_only(z, where, err, "type", "replacement", "str_rep", "prepend_scheme", "add_prefix_space",
                           "split", NULL) &&
           string(z, "replacement", NULL, &s->what, &s->nwhat, err);
  }
  if (!strcmp(type, "Replace")) {
    Decode *s = decoder_add(&t->decoder, DECODE_REPLACE);
    return codec_json_only(z, where, err, "type", "pattern", "content", NULL) &&
           codec_read_string_or_pattern(json_object_get(z, "pattern"), where, &s->what, &s->nwhat, &s->pattern, err) &&
           string(z, "content", NULL, &s->with, &s->nwith, err);
  }
  if (!strcmp(type, "Strip")) {
    Decode *s = decoder_add(&t->decoder, DECODE_STRIP);
    s->start = count(z, "start");
    s->stop = count(z, "stop");
    return codec_json_only(z, where, err, "type", "content", "start", "stop", NULL) &&
           string(z, "content", NULL, &s->what, &s->nwhat, err);
  }
  if (!strcmp(type, "WordPiece")) {
    Decode *s = decoder_add(&t->decoder, DECODE_WORDPIECE);
    s->cleanup = codec_json_bool(z, "cleanup", true);
    return codec_json_only(z, where, err, "type", "prefix", "cleanup", NULL) &&
           string(z, "prefix", "##", &s->what, &s->nwhat, err);
  }
  if (!strcmp(type, "BPEDecoder")) {
    Decode *s = decoder_add(&t->decoder, DECODE_SUFFIX);
    return codec_json_only(z, where, err, "type", "suffix", NULL) &&
           string(z, "suffix", "</w>", &s->what, &s->nwhat, err);
  }
  return diag_error(err, (Span){0}, "%s '%s' is not supported", where, type);
}

/* How much longer its replacements may make a text, at worst. */
static bool short_enough(const Decoder *z, Diags *err) {
  size_t times = 1;
  for (size_t i = 0; i < z->n && times <= TIMES; i++) {
    const Decode *s = &z->step[i];
    if (s->kind == DECODE_REPLACE)
      times *= s->pattern ? s->nwith + 1 : s->nwith > s->nwhat ? (s->nwith + s->nwhat - 1) / s->nwhat : 1;
  }
  return times <= TIMES ||
         diag_error(err, (Span){0}, "%s: its replacements may make the text more than %d times as long", where, TIMES);
}

bool codec_read_decoder(CodecTables *t, const json_t *z, Diags *err) {
  if (z && !json_is_null(z)) return read_decoder(t, z, 0, err) && short_enough(&t->decoder, err);
  decoder_add(&t->decoder, DECODE_JOIN);
  return true;
}
