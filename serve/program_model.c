/* A compiled program as a ServeModel: its DATA buffers are the batch, its STATE buffers the cache.
 *
 * The cache of each layer is one run of pages, [pages][...], so that a page's number says where it lies in all of them. All are
 * one mapping that costs memory only where it was written. */
#include "serve/program_model.h"
#include "runtime/machine.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

typedef struct ProgramModel {
  ServeModel m;
  const Program *p;
  Engine *e;
  int list;
  unsigned char *cache;
  uint64_t cache_bytes, page_bytes; /* mapped; of a page of all states */
  void **given;                     /* by buffer */
  int32_t *positions;               /* the model's own input of them; NULL: it has none */
} ProgramModel;

static const ProgramBuffer *buffer(const Program *p, const char *name) {
  int i = program_buffer(p, name);
  return i < 0 ? NULL : &p->buffers[i];
}

bool program_model_possible(const Program *p) {
  static const char *const needed[] = {"serve.slots", "serve.starts", "serve.table",
                                       "serve.rows",  "serve.logits", "serve.positions"};
  for (int i = 0; i < 6; i++) {
    const ProgramBuffer *b = buffer(p, needed[i]);
    if (!b || b->kind != BUF_DATA || b->rank < 1) return false;
  }
  return program_list(p, "serve") >= 0 && program_source(p, "tokens") >= 0 && buffer(p, "serve.table")->rank == 2 &&
         buffer(p, "serve.logits")->rank == 2;
}

static uint64_t page_of(const ProgramBuffer *b) {
  return b->dim[0] > 0 ? b->bytes / (uint64_t)b->dim[0] : 0;
}

static ServeLimits limits_of(const Program *p) {
  const ProgramBuffer *logits = buffer(p, "serve.logits"), *hidden = buffer(p, "serve.hidden"),
                      *table = buffer(p, "serve.table");
  return (ServeLimits){.vocab = (int)logits->dim[1],
                       .hidden = hidden && hidden->rank == 2 ? (int)hidden->dim[1] : 0,
                       .ctx = (int)p->h->time,
                       .tokens = (int)buffer(p, "serve.slots")->dim[0],
                       .seqs = (int)table->dim[0],
                       .rows = (int)logits->dim[0]};
}

/* How many pages: what all sequences can fill, what the program numbers, what was asked or half of what is free. With too few
 * for the context, that becomes shorter. */
static bool choose_pages(ProgramModel *pm, uint64_t asked, Report *err) {
  const ProgramBuffer *table = buffer(pm->p, "serve.table");
  ServeLimits *l = &pm->m.limits;
  uint64_t most = (uint64_t)table->dim[0] * (uint64_t)table->dim[1], room = asked ? asked : machine_memory() / 2;
  for (int i = 0; i < pm->p->nbuffers; i++) {
    const ProgramBuffer *b = &pm->p->buffers[i];
    if (b->kind != BUF_STATE) continue;
    pm->page_bytes += page_of(b);
    if ((uint64_t)b->dim[0] < most) most = (uint64_t)b->dim[0];
  }
  uint64_t pages = pm->page_bytes ? room / pm->page_bytes : most;
  if (pages > most) pages = most;
  char text[2][32];
  if (!pages)
    return report_add(err, "a cache of %s has no room for a page of %d tokens (%s)", machine_size(room, text[0]),
                      PAGE_TOKENS, machine_size(pm->page_bytes, text[1]));
  l->pages = (int)pages;
  /* a sequence at its longest must fit, or it would wait for ever */
  if ((uint64_t)l->ctx > pages * PAGE_TOKENS) l->ctx = (int)(pages * PAGE_TOKENS);
  return true;
}

static bool take_cache(ProgramModel *pm, Report *err) {
  uint64_t at = 0;
  char text[32];
  pm->cache_bytes = (uint64_t)pm->m.limits.pages * pm->page_bytes + 4096 * (uint64_t)pm->p->nbuffers;
  void *m = mmap(NULL, pm->cache_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (m == MAP_FAILED)
    return report_add(err, "cannot get %s for keys and values: %s", machine_size(pm->cache_bytes, text),
                      strerror(errno));
  pm->cache = m;
  /* A decode reads pages all over the cache: with large pages of memory its attention takes 0.83 to 0.94 of the time (134M, 512
   * tokens, two threads). A hint, so failing is fine. */
  madvise(m, pm->cache_bytes, MADV_HUGEPAGE);
  for (int i = 0; i < pm->p->nbuffers; i++) {
    const ProgramBuffer *b = &pm->p->buffers[i];
    if (b->kind != BUF_STATE) continue;
    pm->given[i] = pm->cache + at;
    at += ((uint64_t)pm->m.limits.pages * page_of(b) + 4095) / 4096 * 4096;
  }
  return true;
}

static bool run(ServeModel *m, Report *err) {
  ProgramModel *pm = (ProgramModel *)m;
  const ServeBatch *b = &m->batch;
  const ServeLimits *l = &m->limits;
  if (b->n < 1 || b->n > l->tokens || b->s < 1 || b->s > l->seqs || b->r < 0 || b->r > l->rows)
    return report_add(err, "a batch of %d tokens, %d sequences, %d rows", b->n, b->s, b->r);
  if (pm->positions) memcpy(pm->positions, b->positions, (size_t)b->n * sizeof(int32_t));
  engine_set_symbol(pm->e, "T", b->n);
  engine_set_symbol(pm->e, "S", b->s);
  engine_set_symbol(pm->e, "S1", b->s + 1);
  engine_set_symbol(pm->e, "R", b->r);
  return engine_run(pm->e, pm->list) || report_add(err, "the program stopped");
}

static void copy_page(ServeModel *m, int from, int to, int tokens) {
  ProgramModel *pm = (ProgramModel *)m;
  for (int i = 0; i < pm->p->nbuffers; i++) { /* the whole page: a token's keys lie all over it */
    const ProgramBuffer *b = &pm->p->buffers[i];
    unsigned char *at = pm->given[i];
    if (b->kind == BUF_STATE) memcpy(at + (uint64_t)to * page_of(b), at + (uint64_t)from * page_of(b), page_of(b));
  }
}

static void model_free(ServeModel *m) {
  ProgramModel *pm = (ProgramModel *)m;
  if (!pm) return;
  engine_free(pm->e);
  if (pm->cache) munmap(pm->cache, pm->cache_bytes);
  free(pm->given);
  free(pm);
}

static bool start(ProgramModel *pm, void *const *params, const ProgramModelOptions *o, Report *err) {
  const Program *p = pm->p;
  pm->given = calloc((size_t)p->nbuffers + 1, sizeof(void *));
  if (!pm->given) return report_add(err, "out of memory");
  for (int i = 0; i < p->nbuffers; i++)
    if (p->buffers[i].kind == BUF_PARAM) pm->given[i] = params[i];
  pm->list = program_list(p, "serve");
  pm->m.limits = limits_of(p);
  if (!choose_pages(pm, o->cache_bytes, err) || !take_cache(pm, err)) return false;
  pm->e = engine_new_given(p, o->threads ? o->threads : machine_cores(), pm->given, err);
  if (!pm->e) return false;
  engine_set_symbol(pm->e, "P", pm->m.limits.pages);
  ServeBatch *b = &pm->m.batch;
  *b = (ServeBatch){.tokens = engine_buffer(pm->e, program_source(p, "tokens")),
                    .positions = engine_named(pm->e, "serve.positions"),
                    .slots = engine_named(pm->e, "serve.slots"),
                    .starts = engine_named(pm->e, "serve.starts"),
                    .table = engine_named(pm->e, "serve.table"),
                    .table_width = (int)buffer(p, "serve.table")->dim[1],
                    .rows = engine_named(pm->e, "serve.rows"),
                    .logits = engine_named(pm->e, "serve.logits"),
                    .hidden = engine_named(pm->e, "serve.hidden")};
  int own = program_source(p, "positions");
  if (own >= 0) pm->positions = engine_buffer(pm->e, own);
  pm->m.run = run;
  pm->m.copy_page = copy_page;
  pm->m.free = model_free;
  return true;
}

ServeModel *program_model_new(const Program *p, void *const *params, const ProgramModelOptions *o, Report *err) {
  if (!program_model_possible(p)) {
    report_add(err, "the program does not serve: it was built for something else");
    return NULL;
  }
  ProgramModel *pm = calloc(1, sizeof *pm);
  if (!pm) {
    report_add(err, "out of memory");
    return NULL;
  }
  pm->p = p;
  if (start(pm, params, o, err)) return &pm->m;
  model_free(&pm->m);
  return NULL;
}

Engine *program_model_engine(ServeModel *m) {
  return ((ProgramModel *)m)->e;
}

uint64_t program_model_page_bytes(const ServeModel *m) {
  return ((const ProgramModel *)m)->page_bytes;
}
