/* The card of an artifact, card.json: what it is, without running it. */
#ifndef ARTIFACT_CARD_H
#define ARTIFACT_CARD_H
#include "artifact/pack.h"
#include "ink/base.h"
#include <jansson.h>

#define CARD_SECTION "card.json"
enum { CARD_FORMAT = 1 };

/* What the program does not say itself. */
typedef struct CardInfo {
  const char *dtype;        /* of the program's products and cache: "f32", "bf16" */
  const char *const *flags; /* what it was built with, as on the command line */
  int nflags;
  const PackReport *weights;
} CardInfo;

/* The text of the card, malloc'ed; with the hashes of the sections written so far. */
char *card_make(const Program *p, const CardInfo *info, const ArtifactSection *section, int n, Report *err);
/* The card of an open artifact, checked: every key that card_print and open.c use is there. The caller's. */
json_t *card_read(const Artifact *a, Report *err);
void card_print(const json_t *card, Text *out); /* for people */
#endif
