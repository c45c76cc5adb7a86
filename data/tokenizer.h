/* Tokenizers: text to ids and back, and the files that say how.
 *
 *     kind    ids                                                            end-of-text
 *     char    the text's characters in code point order                      the last id, when wanted
 *     bytes   a byte is its id                                               256, when wanted
 *     bpe     byte-pair tokens; GPT-2's, or trained here                     always
 *     model   a model's own (text/codec.h), of whatever kind                 its eos_token, or none
 *
 * The end-of-text token never comes out of text, not even out of its own spelling: only document boundaries make it.
 * A tokenizer is used by one thread at a time. */
#ifndef DATA_TOKENIZER_H
#define DATA_TOKENIZER_H
#include "ink/base.h"
#include "text/bpe.h"
#include "text/codec.h"
#include "text/memory.h"

#define END_OF_TEXT "<|endoftext|>"

typedef enum { TOKENIZER_CHAR, TOKENIZER_BYTES, TOKENIZER_BPE, TOKENIZER_MODEL } TokenizerKind;

typedef struct Tokenizer Tokenizer;

/* Characters seen, the vocabulary of a char tokenizer. Text comes in any portions; `offset` of the first byte that is no
 * UTF-8 goes to *bad when false comes back (the bytes since charset_new or the last `last`). */
typedef struct Charset Charset;
Charset *charset_new(void);
void charset_free(Charset *c);
bool charset_feed(Charset *c, const char *text, size_t n, bool last, uint64_t *bad);

Tokenizer *tokenizer_char(const Charset *c, bool eot);
Tokenizer *tokenizer_bytes(bool eot);
Tokenizer *tokenizer_bpe(Bpe *b, int64_t eot, Diags *err); /* takes b over, also when it fails; eot: a token's id */

/* GPT-2's files in `dir`: encoder.json and vocab.bpe, or vocab.json and merges.txt. */
Tokenizer *tokenizer_gpt2(const char *dir, Diags *err);

/* A model's own: a folder of its files, or one of them. It sees whole texts, so portions are kept until the last. */
Tokenizer *tokenizer_model(const char *path, Diags *err);

void tokenizer_free(Tokenizer *t);

TokenizerKind tokenizer_kind(const Tokenizer *t);
uint32_t tokenizer_vocab(const Tokenizer *t);   /* ids are below this; the end-of-text token counted */
int64_t tokenizer_eot(const Tokenizer *t);      /* -1: none */
const char *tokenizer_note(const Tokenizer *t); /* what was mended in its files, for the user; NULL: nothing */

/* Appends the ids of the next n bytes; the text may come in any portions, some ids come later, with `last` all of them,
 * and the next call begins another text. Fails for char on what its vocabulary lacks. */
bool tokenizer_feed(Tokenizer *t, const char *text, size_t n, bool last, Ids *out, Diags *err);
bool tokenizer_encode(Tokenizer *t, const char *text, size_t n, Ids *out, Diags *err); /* a whole text */

/* Appends the bytes; the end-of-text token is spelled. Fails on ids out of range. */
bool tokenizer_decode(const Tokenizer *t, const uint32_t *ids, size_t n, Text *out, Diags *err);

/* Hugging Face's tokenizer.json and tokenizer_config.json, appended to out. */
void tokenizer_json(const Tokenizer *t, Text *out); /* not of a model's: that has files of its own */
void tokenizer_config_json(const Tokenizer *t, Text *out);
int tokenizer_files(const Tokenizer *t, const CodecFile **files); /* a model's own; 0: of another kind */

/* ---- training of byte pairs */
typedef struct BpeTrainer BpeTrainer;
BpeTrainer *bpe_trainer_new(Diags *err);
void bpe_trainer_free(BpeTrainer *t);
bool bpe_trainer_feed(BpeTrainer *t, const char *text, size_t n, bool last, Diags *err); /* as tokenizer_feed */

/* Trains to `vocab` ids: the 256 bytes, a token a merge, the end-of-text token last (BPE_LEAST_VOCAB and more). Fewer
 * when no pair occurs twice any more. stop (may be NULL) ends it early with an error once it is set. */
enum { BPE_LEAST_VOCAB = 257 };
Tokenizer *bpe_trainer_finish(BpeTrainer *t, uint32_t vocab, const volatile int *stop, Diags *err);

/* ---- between tokenizer files (not for others) */
struct Tokenizer {
  TokenizerKind kind;
  uint32_t vocab;
  int64_t eot;
  uint32_t *id_of;   /* char: id + 1 by code point, UTF8_MAX of them; 0: none */
  uint32_t *code_of; /* char: code point by id */
  unsigned char pending[4];
  int npending; /* char: the begun character of the last portion */
  Bpe *bpe;
  struct Splitter *split;
  Codec *codec; /* model */
  Text whole;   /* model: the text's portions so far */
  Text note;
};
#endif
