/* A vocabulary and a list of merges in two files: GPT-2's encoder.json and vocab.bpe, or vocab.json and merges.txt. The second is
 * a line a merge, best first, behind a line "#version". They are read as the BPE model of a tokenizer.json that they make.
 *
 * The published encoder.json may lack the end-of-text token, which is then the next id; a damaged one gives it the id of the
 * last merge's token, which is missing (see data/gpt2.c for both). */
#include "text/codec_parts.h"

#include <string.h>

#define END_OF_TEXT "<|endoftext|>"

static json_t *read_merges(const CodecFile *f, Diags *err) {
  json_t *list = json_array();
  int line = 0;
  const char *s = f->bytes, *end = s + f->n;
  while (s < end) {
    const char *stop = memchr(s, '\n', (size_t)(end - s));
    size_t n = (size_t)((stop ? stop : end) - s), k = n && s[n - 1] == '\r' ? n - 1 : n;
    line++;
    if (k && !(line == 1 && k >= 8 && !memcmp(s, "#version", 8))) {
      json_t *merge = json_stringn(s, k);
      if (!merge || json_array_append_new(list, merge)) {
        diag_error(err, (Span){0}, "%s:%d: no UTF-8", f->name, line);
        json_decref(list);
        return NULL;
      }
    }
    s += n + 1;
  }
  return list;
}

/* The damaged file's last token goes where the end-of-text token stands, and that one behind it. */
static void mend(json_t *vocab, const json_t *merges) {
  json_int_t eot = json_integer_value(json_object_get(vocab, END_OF_TEXT));
  size_t n = json_array_size(merges);
  if (!n || eot != 255 + (json_int_t)n || (size_t)eot + 1 != json_object_size(vocab)) return;
  const char *last = json_string_value(json_array_get(merges, n - 1)), *space = strchr(last, ' ');
  Text token = {0};
  if (space) text_add(&token, "%.*s%s", (int)(space - last), last, space + 1);
  if (space && !json_object_get(vocab, token.s)) {
    json_object_set_new(vocab, token.s, json_integer(eot));
    json_object_set_new(vocab, END_OF_TEXT, json_integer(eot + 1));
  }
  text_free(&token);
}

/* Whether the tokenizer's class splits as GPT-2's does; NULL: not said. */
static bool known_class(const char *class) {
  static const char *const ends[] = {"PT2Tokenizer",  "PT2TokenizerFast",  "RobertaTokenizer", "RobertaTokenizerFast",
                                     "BartTokenizer", "BartTokenizerFast", "CodeGenTokenizer", "CodeGenTokenizerFast"};
  size_t n = class ? strlen(class) : 0;
  for (int i = 0; class && i < LEN(ends); i++)
    if (n >= strlen(ends[i]) && !strcmp(class + n - strlen(ends[i]), ends[i])) return true;
  return !class;
}

static bool read_model(CodecTables *t, json_t *vocab, json_t *merges, bool own, Spellings *tokens, Diags *err) {
  json_t *eot = json_object_get(vocab, END_OF_TEXT);
  json_int_t id = (json_int_t)json_object_size(vocab);
  if (own && eot) mend(vocab, merges);
  if ((eot = json_object_get(vocab, END_OF_TEXT)) != NULL) id = json_integer_value(eot);
  bool added = own || eot;
  if (own) json_object_del(vocab, END_OF_TEXT);
  json_t *model = json_pack("{s:s, s:O, s:O}", "type", "BPE", "vocab", vocab, "merges", merges);
  bool ok = codec_read_model(t, model, true, tokens, err);
  json_decref(model);
  if (!ok) return false;
  if (!codec_spell(t, tokens, err)) return false;
  if (!added) return true;
  json_t *token = json_pack("{s:s, s:b}", "content", END_OF_TEXT, "special", 1);
  ok = codec_read_added(t, token, id, tokens, t->source, err);
  json_decref(token);
  if (!ok || !codec_spell(t, tokens, err)) return false;
  for (int i = 0; i < 2 && own; i++) t->role[i] = id;
  return true;
}

bool codec_read_pairs(CodecTables *t, const CodecFile *vocab, const CodecFile *merges, const json_t *config,
                      Diags *err) {
  bool own = !strcmp(vocab->name, "encoder.json");
  const char *class = json_string_value(json_object_get(config, "tokenizer_class"));
  t->source = vocab->name;
  json_t *tokens = codec_json(t, vocab, err), *list = tokens ? read_merges(merges, err) : NULL;
  Spellings spelled = {0};
  bool ok = list && (json_is_object(tokens) || diag_error(err, (Span){0}, "%s: not an object", vocab->name));
  if (ok && codec_json_bool(config, "add_prefix_space", false)) {
    Pretokenize *s = pretokenizer_add(&t->pretokenizer, PRETOKENIZE_PREPEND);
    s->with = codec_copy(" ", s->nwith = 1);
  }
  ok = ok && codec_read_pattern(t, config, known_class(class) ? "r50k_base" : NULL, vocab->name, err) &&
       read_model(t, tokens, list, own, &spelled, err);
  decoder_add(&t->decoder, DECODE_BYTE_LEVEL);
  spellings_free(&spelled);
  json_decref(tokens), json_decref(list);
  return ok;
}
