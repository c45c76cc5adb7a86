/* A model's own tokenizer: text to token ids and back, exactly as the files beside a checkpoint say.
 *
 * Files understood, by the names they have in a checkpoint's folder:
 *     tokenizer.json             Hugging Face's: BPE (byte-level, or SentencePiece-like with byte fallback), normalizers,
 *                                pre-tokenizers, added tokens, post-processor, decoders
 *     encoder.json, vocab.bpe    GPT-2's own; vocab.json and merges.txt likewise
 *     tokenizer.model            SentencePiece (BPE or unigram), or tiktoken's lines of base64 and rank; told apart by content
 *     tokenizer_config.json      beside each of these: special tokens, add_bos_token, the pattern's name
 * What a file asks for and this reader does not know is an error that names it, never left out.
 *
 * Files are data from strangers: sizes, depths and the work of every pattern are bounded. A Codec does not change once it
 * is open, but encoding remembers pieces: one thread at a time, or one codec_share() a thread. */
#ifndef TEXT_CODEC_H
#define TEXT_CODEC_H
#include "ink/base.h"
#include "text/memory.h"

typedef struct Codec Codec;

/* A file in memory: an artifact holds its tokenizer so. */
typedef struct CodecFile {
  const char *name; /* "tokenizer.json" */
  const void *bytes;
  size_t n;
} CodecFile;

Codec *codec_open(const char *folder, Diags *err); /* or the path of one of the files */
Codec *codec_open_files(const CodecFile *files, int n, Diags *err);
Codec *codec_share(Codec *c); /* the same tokenizer with working memory of its own; freed alike, in any order */
void codec_free(Codec *c);

enum {
  CODEC_SPECIAL = 1, /* spellings of special tokens in the text become those tokens (a rendered chat, /tokenize) */
  CODEC_ADD = 2,     /* what the tokenizer puts around a text: <s>, [CLS], ... */
};
/* Appends the ids of UTF-8 text; bytes that are no UTF-8 count as U+FFFD each. Fails only on text that no token stands for. */
bool codec_encode(Codec *c, const char *text, size_t n, unsigned flags, Ids *out, Diags *err);

/* Appends the text of ids. skip: special tokens are left out, as `skip_special_tokens` has it. An id out of range is nothing. */
void codec_decode(const Codec *c, const uint32_t *ids, size_t n, bool skip, Text *out);

/* Ids to text one at a time: what comes out after each id is whole UTF-8 characters, as far as they are settled; together
 * they are what codec_decode gives. A zeroed CodecStream is ready; skip is the caller's to set. */
typedef struct CodecStream {
  bool skip;
  Ids ids;
  size_t told, from; /* bytes told of the text of ids[from..] */
} CodecStream;
void codec_stream(const Codec *c, CodecStream *s, uint32_t id, Text *out); /* appends */
void codec_stream_end(const Codec *c, CodecStream *s, Text *out); /* what is left, broken bytes as U+FFFD; frees */

uint32_t codec_vocab(const Codec *c);                            /* ids are below this */
const char *codec_token(const Codec *c, uint32_t id, size_t *n); /* its bytes in running text; NULL: no such id */
bool codec_special(const Codec *c, uint32_t id);
int64_t codec_find(const Codec *c, const char *token); /* id of a token as the files spell it; -1 */
/* Of tokenizer_config.json or the files' own: "bos_token", "eos_token", "pad_token", "unk_token"; -1: none. */
int64_t codec_role(const Codec *c, const char *role);
const char *
codec_template(const Codec *c); /* chat_template of tokenizer_config.json or chat_template.jinja; NULL: none */
/* The files it was made from, as they are: what an artifact keeps. Lives as long as the codec. */
int codec_files(const Codec *c, const CodecFile **files);
#endif
