/* Tokenizers in Hugging Face's format, for `tokenizers`, `transformers` and whatever samples from a trained model.
 *
 * All kinds are that format's BPE model: bpe with its merges behind the ByteLevel pre-tokenizer; bytes the same without
 * merges and without the split; char without either, its vocabulary the characters themselves, so that encoding looks
 * up each and decoding (Fuse) joins them with nothing. Written by hand, in id order and with the same bytes every time;
 * a JSON library would sort or lose U+0000. */
#include "data/tokenizer.h"
#include "text/byte_level.h"
#include "text/utf8.h"

#include <inttypes.h>

static void write_char(Text *out, uint32_t cp) {
  char utf8[4];
  if (cp == '"' || cp == '\\')
    text_add(out, "\\%c", (int)cp);
  else if (cp < 0x20 || cp == 0x7f)
    text_add(out, "\\u%04" PRIx32, cp);
  else
    text_write(out, utf8, (size_t)utf8_put(cp, utf8));
}

static void write_byte_level(Text *out, const char *bytes, size_t n) {
  for (size_t i = 0; i < n; i++) write_char(out, byte_level_code((unsigned char)bytes[i]));
}

static void write_token(const Tokenizer *t, Text *out, uint32_t id) {
  if ((int64_t)id == t->eot) {
    text_add(out, "%s", END_OF_TEXT);
  } else if (t->kind == TOKENIZER_CHAR) {
    write_char(out, t->code_of[id]);
  } else if (t->kind == TOKENIZER_BYTES) {
    char c = (char)id;
    write_byte_level(out, &c, 1);
  } else {
    size_t n;
    const char *bytes = bpe_bytes(t->bpe, id, &n);
    write_byte_level(out, bytes, n);
  }
}

static void write_model(const Tokenizer *t, Text *out) {
  text_add(out,
           "  \"model\": {\n    \"type\": \"BPE\",\n    \"dropout\": null,\n    \"unk_token\": null,\n"
           "    \"continuing_subword_prefix\": null,\n    \"end_of_word_suffix\": null,\n    \"fuse_unk\": false,\n"
           "    \"byte_fallback\": false,\n    \"vocab\": {");
  for (uint32_t id = 0; id < t->vocab; id++) {
    text_add(out, "%s\n      \"", id ? "," : "");
    write_token(t, out, id);
    text_add(out, "\": %" PRIu32, id);
  }
  text_add(out, "\n    },\n    \"merges\": [");
  uint32_t merges = t->bpe ? bpe_merges(t->bpe) : 0, left, right;
  for (uint32_t i = 0; i < merges; i++) {
    bpe_pair(t->bpe, i, &left, &right);
    text_add(out, "%s\n      \"", i ? "," : "");
    write_token(t, out, left);
    text_add(out, " ");
    write_token(t, out, right);
    text_add(out, "\"");
  }
  text_add(out, "%s]\n  }\n", merges ? "\n    " : "");
}

void tokenizer_json(const Tokenizer *t, Text *out) {
  text_add(out, "{\n  \"version\": \"1.0\",\n  \"truncation\": null,\n  \"padding\": null,\n  \"added_tokens\": [");
  if (t->eot >= 0)
    text_add(out,
             "\n    {\"id\": %" PRId64 ", \"content\": \"%s\", \"single_word\": false, \"lstrip\": false, "
             "\"rstrip\": false, \"normalized\": false, \"special\": true}\n  ",
             t->eot, END_OF_TEXT);
  text_add(out, "],\n  \"normalizer\": null,\n");
  if (t->kind == TOKENIZER_CHAR)
    text_add(out, "  \"pre_tokenizer\": null,\n  \"post_processor\": null,\n  \"decoder\": {\"type\": \"Fuse\"},\n");
  else
    text_add(out,
             "  \"pre_tokenizer\": {\"type\": \"ByteLevel\", \"add_prefix_space\": false, \"trim_offsets\": true, "
             "\"use_regex\": %s},\n  \"post_processor\": null,\n  \"decoder\": {\"type\": \"ByteLevel\", "
             "\"add_prefix_space\": false, \"trim_offsets\": true, \"use_regex\": true},\n",
             t->kind == TOKENIZER_BPE ? "true" : "false");
  write_model(t, out);
  text_add(out, "}\n");
}

void tokenizer_config_json(const Tokenizer *t, Text *out) {
  text_add(out, "{\n  \"tokenizer_class\": \"PreTrainedTokenizerFast\",\n");
  if (t->eot >= 0) text_add(out, "  \"bos_token\": \"%s\",\n  \"eos_token\": \"%s\",\n", END_OF_TEXT, END_OF_TEXT);
  text_add(out, "  \"clean_up_tokenization_spaces\": false\n}\n");
}
