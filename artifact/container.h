/* The artifact file: a program (ELF) and behind it what it needs to serve a model.
 *
 *     program            the executable, from byte 0
 *     sections           each from a multiple of its alignment on; zeros between them
 *     index              ArtifactSection[], in the order of the file, `program` the first
 *     trailer            the last 64 bytes: where the index lies, and its hash
 *
 * Sections of today: tokenizer/NAME (files of a checkpoint's folder, as they are), checkpoint.json (what the weights were made
 * from, see pack.h), weights.safetensors (packed parameters, used where they lie), card.json (card.h). All numbers are little
 * endian. docs/artifact.md is the whole story.
 *
 * The reader takes files from strangers: nothing outside the file, no overlaps, no bytes that belong to nothing but zeros
 * between sections; names plain and once; hashes of index and trailer at opening, of all sections by artifact_check. */
#ifndef ARTIFACT_CONTAINER_H
#define ARTIFACT_CONTAINER_H
#include "runtime/fs.h"

#define ARTIFACT_MAGIC "INKSERVE"
enum { ARTIFACT_VERSION = 1, ARTIFACT_SECTIONS = 256, ARTIFACT_ALIGN = 64, ARTIFACT_PAGE = 65536 };

typedef struct ArtifactSection {
  char name[72];                /* NUL-terminated, zeros behind: letters, digits and . _ - / */
  uint64_t offset, bytes, hash; /* XXH3 of its bytes */
} ArtifactSection;

typedef struct ArtifactTrailer {
  char magic[8];
  uint32_t version, sections;
  uint64_t index, index_hash; /* offset; XXH3 of its bytes */
  uint64_t bytes;             /* of the whole file */
  uint64_t zero[2];
  uint64_t hash; /* XXH3 of the trailer up to here */
} ArtifactTrailer;

typedef struct Artifact {
  FsMap map; /* the file, read-only */
  char *path;
  ArtifactSection *section;
  int n;
} Artifact;

Artifact *artifact_open(const char *path, Report *err);
void artifact_close(Artifact *a);
/* The hash of every section but those whose name begins with `but` (NULL: none). */
bool artifact_check(const Artifact *a, const char *but, Report *err);
const ArtifactSection *artifact_section(const Artifact *a, const char *name); /* NULL: there is none */
const void *artifact_bytes(const Artifact *a, const ArtifactSection *s);
/* Is it one? For a path that may be anything; no messages. */
bool artifact_is(const char *path);

/* A new artifact, beginning with the program in a file. It is written aside, synced and renamed over `path` at the end, with the
 * program's permissions. After an error the writer stays failed; artifact_finish reports it. */
typedef struct ArtifactWriter ArtifactWriter;
ArtifactWriter *artifact_create(const char *path, const char *program, Report *err);
void artifact_begin(ArtifactWriter *w, const char *name, uint64_t align); /* ends the section before it */
void artifact_add(ArtifactWriter *w, const void *bytes, size_t n);
const ArtifactSection *artifact_written(ArtifactWriter *w, int *n); /* ends the section; all so far */
bool artifact_finish(ArtifactWriter *w, Report *err);               /* frees the writer */
void artifact_abandon(ArtifactWriter *w);                           /* leaves nothing behind; may be NULL */
#endif
