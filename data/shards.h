/* Token files: llm.c's shards, nanoGPT's plain files.
 *
 *     llm.c     STEM_000000.bin ...: 256 int32 (magic 20240520, version 1, count), then uint16 ids; or, for vocabularies
 *               over 65,536, magic 20240801, version 7, then uint32 ids. All little-endian.
 *     nanoGPT   STEM.bin: uint16 ids and nothing else.
 *     FILE.docs beside each, when asked for: uint64 positions in FILE at which documents start. */
#ifndef DATA_SHARDS_H
#define DATA_SHARDS_H
#include "ink/base.h"

enum {
  SHARD_HEADER = 256,
  SHARD_MAGIC_U16 = 20240520,
  SHARD_VERSION_U16 = 1,
  SHARD_MAGIC_U32 = 20240801,
  SHARD_VERSION_U32 = 7
};

typedef enum { SHARDS_LLMC, SHARDS_NANOGPT } ShardFormat;

typedef struct ShardFile {
  char name[64]; /* within the folder */
  uint64_t tokens;
} ShardFile;

typedef struct Shards Shards;

/* Files STEM*.bin in `dir`, none before the first token. vocab decides the width; most: tokens a shard, 1 to 2^31 - 1
 * (llm.c only). NULL when nanoGPT's format cannot hold the vocabulary. */
Shards *shards_new(const char *dir, const char *stem, ShardFormat format, uint32_t vocab, uint64_t most, bool docs,
                   Diags *err);
bool shards_add(Shards *s, const uint32_t *ids, size_t n, Diags *err);
bool shards_document(Shards *s, Diags *err); /* the next token begins a document */
bool shards_finish(Shards *s, Diags *err);   /* all is written and synced when true comes back */
void shards_free(Shards *s);                 /* files not finished stay as they are */

uint64_t shards_tokens(const Shards *s);
int shards_count(const Shards *s);
const ShardFile *shards_file(const Shards *s, int i);
#endif
