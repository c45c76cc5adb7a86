/* A corpus: documents out of text files, JSON lines and folders, read as a stream.
 *
 * A .txt file is one document; each line of a .jsonl file is one, its text the string "text". Folders are walked in
 * sorted order for such files; names that begin with a dot are left out. Documents without text are left out and
 * counted. Only the list of documents is held in memory (32 bytes each): text passes through a window, or a line. */
#ifndef DATA_CORPUS_H
#define DATA_CORPUS_H
#include "ink/base.h"

typedef struct CorpusFile {
  char *path;
  bool jsonl;
  uint64_t bytes, hash; /* XXH3 of the whole file */
  int64_t written;      /* its time of modification when it was read first */
} CorpusFile;

typedef struct Document {
  uint64_t at, raw; /* bytes of the file: the whole of it, or a line */
  uint64_t bytes;   /* of its text */
  uint32_t file;
  uint32_t line; /* of a .jsonl file, from 1 */
} Document;

typedef struct Corpus {
  CorpusFile *files;
  size_t nfiles, cap_files;
  Document *docs;
  size_t ndocs, cap_docs;
  uint64_t bytes;           /* of text, all documents together */
  uint64_t empty;           /* documents left out */
  const volatile int *stop; /* reading ends with an error when this is set; may be NULL */
} Corpus;

/* Lists the files. NULL after errors: a missing input, an unknown kind of file, a folder without any. */
Corpus *corpus_open(const char *const *inputs, int n, Diags *err);
void corpus_free(Corpus *c);

/* Reads everything once: finds the documents, checks the JSON, hashes the files. */
bool corpus_index(Corpus *c, Diags *err);

/* Puts the documents in an order drawn from the seed. */
void corpus_shuffle(Corpus *c, uint64_t seed);

/* Hands documents [from, to) on, in portions: at == 0 begins one, `last` ends it. The portions are never empty. */
typedef bool (*CorpusFn)(void *ctx, size_t doc, uint64_t at, const char *text, size_t n, bool last);
bool corpus_each(Corpus *c, size_t from, size_t to, CorpusFn fn, void *ctx, Diags *err);
#endif
