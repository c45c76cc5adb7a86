/* What a codec is made of, for the files codec*.c alone: tables that the readers of files fill and that do not change any more
 * once codec_open returns, shared by all codec_share()s; and the working memory of one of them. */
#ifndef TEXT_CODEC_PARTS_H
#define TEXT_CODEC_PARTS_H
#include "text/added.h"
#include "text/codec.h"
#include "text/decode.h"
#include "text/normalize.h"
#include "text/pretokenize.h"
#include "text/subword.h"

#include <jansson.h>
#include <stdatomic.h>

enum {
  CODEC_MOST_TOKENS = 1 << 20,
  CODEC_LONGEST_TOKEN = 1 << 16,
  CODEC_LARGEST_FILE = 256 << 20,
  CODEC_ROLES = 4,
};

typedef struct CodecTables {
  atomic_int shares;
  CodecFile *file; /* copies of ours */
  int nfiles;
  Vocab spelled; /* tokens by id as the files spell them */
  Vocab
      written; /* the same as they are decoded: added tokens that are normalized, normalized; empty: as they are spelled */
  bool *special; /* by id */
  Added added;
  Normalizer normalizer;
  Pretokenizer pretokenizer;
  Subword model;
  Decoder decoder;
  signed char *kinds; /* SentencePiece's of each piece, DECODE_IS_... */
  Ids before, after;  /* what CODEC_ADD puts around a text */
  int64_t role[CODEC_ROLES];
  Text template;
  bool has_template;
  bool late;          /* decoder_late */
  const char *source; /* the file that messages name */
  bool nul;           /* U+10FFFF in strings of JSON is U+0000 */
  Vocab running;      /* tokens by id in running text */
} CodecTables;

struct Codec {
  CodecTables *t;
  SubwordWork work;
  PatternWork *patterns;
  Pieces pieces;
  Segments segments, inner;
  Text clean, text, other;
};

extern const char *const codec_roles[CODEC_ROLES];

/* A file's bytes among those given, by the name at the end of its path; NULL: not there. */
const CodecFile *codec_file(const CodecTables *t, const char *name);

/* JSON with what jansson lacks, U+0000 in a key: it becomes U+10FFFF, and t->nul says so. */
json_t *codec_json(CodecTables *t, const CodecFile *f, Diags *err);
/* The bytes of a string of such a file, as they were; valid until the next call with the same out. */
const char *codec_json_string(const CodecTables *t, const char *s, size_t *n, Text *out);
/* Keys of an object that are not in the list (which ends with NULL), and not null, false or empty, are an error. */
bool codec_json_only(const json_t *o, const char *where, Diags *err, ...);
bool codec_json_bool(const json_t *o, const char *key, bool otherwise);

/* Tokens by id, holes between them allowed, into t->spelled. */
typedef struct Spellings {
  struct Spelling {
    char *s;
    size_t n;
  } * v;
  size_t n, cap;
} Spellings;
bool spellings_put(Spellings *p, const char *s, size_t n, int64_t id, const char *where, Diags *err);
void spellings_free(Spellings *p);
bool codec_spell(CodecTables *t, const Spellings *p, Diags *err);
bool spellings_dense(const Spellings *p, const char *where, Diags *err); /* not mostly holes */

/* The readers. Each fills t from its files. */
bool codec_read_json(CodecTables *t, const CodecFile *f, Diags *err); /* tokenizer.json */
bool codec_read_model(CodecTables *t, const json_t *model, bool spelled, Spellings *tokens, Diags *err);
bool codec_read_normalizer(CodecTables *t, const json_t *z, Diags *err);
bool codec_read_pretokenizer(CodecTables *t, const json_t *z, bool *spelled,
                             Diags *err); /* spelled: ends with byte_level spelling, left to the model */
bool codec_read_processor(CodecTables *t, const json_t *z, Diags *err); /* what CODEC_ADD adds */
bool codec_read_decoder(CodecTables *t, const json_t *z, Diags *err);
/* {"String": ...} or {"Regex": ...} or a plain string. */
bool codec_read_string_or_pattern(const json_t *z, const char *where, char **what, size_t *nwhat, Pattern **pattern,
                                  Diags *err);
char *codec_copy(const char *s, size_t n); /* NUL-terminated */
/* A token's id and flags into t->added, t->special and, where it is new, tokens; from is a JSON object as Hugging Face writes it. */
bool codec_read_added(CodecTables *t, const json_t *from, int64_t id, Spellings *tokens, const char *where, Diags *err);
bool codec_index_added(CodecTables *t, Diags *err); /* once all are there and the normalizer is */
bool codec_read_spm(CodecTables *t, const CodecFile *f, const json_t *config, Diags *err);   /* SentencePiece */
bool codec_read_ranks(CodecTables *t, const CodecFile *f, const json_t *config, Diags *err); /* tiktoken */
bool codec_read_pairs(CodecTables *t, const CodecFile *vocab, const CodecFile *merges, const json_t *config,
                      Diags *err);
/* tokenizer_config.json (NULL: none) and the template's file, after the tokens. */
bool codec_read_config(CodecTables *t, const json_t *config, Diags *err);
/* The pattern that text is split by, of ranks or pairs: config's "pattern", or `name`. */
bool codec_read_pattern(CodecTables *t, const json_t *config, const char *name, const char *where, Diags *err);

/* Decoded base64 appended to out; false: it is none. */
bool base64_decode(const char *s, size_t n, Text *out);
#endif
