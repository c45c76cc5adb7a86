/* Artifacts from strangers: the container, the card, the weights, and what `weights` writes of them.
 *
 * The bytes are the file. Where they end with a trailer, its hash and the index's are made right, so that mutations reach what
 * lies behind them. The program is one of two parameters, which weights.safetensors may or may not hold. */
#include "artifact/card.h"
#include "tests/fuzz/fuzz.h"
#include "tests/unit/artifact_program.h"

static Made *made;

static void start(void) {
  made = made_new();
  made_param(made, "w", DTYPE_F32, 2, I64(3, 4), 4, 1);
  made_piece(made, "w.weight", 2, I64(3, 4), 1, I64(12), I64(1), I64(1), 0, 0);
  made_param(made, "b", DTYPE_BF16, 1, I64(4), 0, 0);
  made_piece(made, "b.weight", 1, I64(8), 1, I64(4), I64(1), I64(1), 0, 2);
}

static void put(const uint8_t *data, size_t size) {
  uint8_t *all = malloc(size + 1);
  ArtifactTrailer t;
  memcpy(all, data, size);
  if (size >= sizeof t) {
    memcpy(&t, data + size - sizeof t, sizeof t);
    if (t.index < size - sizeof t) t.index_hash = fs_hash(data + t.index, size - sizeof t - t.index);
    t.hash = fs_hash(&t, sizeof t - sizeof t.hash);
    memcpy(all + size - sizeof t, &t, sizeof t);
  }
  fuzz_put("x", all, size);
  free(all);
}

static void read_card(const Artifact *a) {
  Report err = {0};
  Text t = {0};
  json_t *card = card_read(a, &err);
  if (card) card_print(card, &t);
  fuzz_report(&err, !card);
  text_free(&t);
  json_decref(card);
}

static void read_weights(const Artifact *a) {
  Report err = {0}, notes = {0};
  void *param[MADE];
  SafeFile *f = pack_open(a, &err);
  bool ok = f && pack_find(&made->p, f, param, &err);
  for (int i = 0; ok && i < made->p.nbuffers; i++) {
    const unsigned char *at = param[i], *end = at + made->buffer[i].bytes;
    MUST(at >= a->map.at && end <= a->map.at + a->map.n, "parameter %d is not inside the file", i);
  }
  fuzz_report(&err, !ok);
  safe_close(f);
  err = (Report){0};
  ok = pack_restore(&made->p, a, fuzz_path("out"), &notes, &err);
  fuzz_report(&err, !ok);
  fuzz_report(&notes, false);
  if (fs_exists(fuzz_path("out"))) {
    Report gone = {0};
    MUST(fs_remove_flat(fuzz_path("out"), &gone), "%s", gone.text);
    report_free(&gone);
  }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  Report err = {0};
  if (!made) start();
  put(data, size);
  Artifact *a = artifact_open(fuzz_path("x"), &err);
  fuzz_report(&err, !a);
  if (!a) return 0;
  for (int i = 0; i < a->n; i++) {
    const ArtifactSection *s = &a->section[i];
    MUST(s->offset <= a->map.n && s->bytes <= a->map.n - s->offset, "section %d is not inside its file", i);
    MUST(artifact_section(a, s->name) == s, "section '%s' is not found", s->name);
  }
  err = (Report){0};
  bool ok = artifact_check(a, NULL, &err);
  fuzz_report(&err, !ok);
  read_card(a);
  read_weights(a);
  artifact_close(a);
  return 0;
}
