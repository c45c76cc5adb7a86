/* The pipeline, to be read from top to bottom in compile_run(). */
#include "driver/compile.h"
#include "runtime/machine.h"

#include <stdio.h>
#include <string.h>

static const char *const setting_names[] = {
#define KEY(c, key, ...) key,
#include "ink/train.def"
};

void compile_phase(Compile *c, const char *name, double *since) {
  double now = machine_seconds();
  if (c->nphases < LEN(c->phases)) c->phases[c->nphases++] = (Phase){name, now - *since};
  *since = now;
}

/* --set KEY=VALUE: a key of train.def changes the training specification, any other goes to the model. */
static bool apply_sets(Compile *c, const char **model_sets, int *n) {
  bool ok = true;
  for (int i = 0; i < c->nsets; i++) {
    const char *eq = strchr(c->sets[i], '='), *key = arena_strndup(c->arena, c->sets[i], (size_t)(eq - c->sets[i]));
    int k = train_key(key);
    if (k < 0) {
      model_sets[(*n)++] = c->sets[i];
      continue;
    }
    const char *wrong = train_check(c->arena, key, eq + 1, false);
    if (wrong)
      ok = diag_error(c->diags, (Span){0}, "--set %s: %s", c->sets[i], wrong);
    else
      c->train.value[k] = eq + 1;
  }
  int64_t *counts[] = {&c->batch, &c->time};
  static const char *const keys[] = {"micro_batch", "seq"};
  for (int i = 0; i < 2; i++) { /* the option wins, then --set, then the file */
    long long v;
    if (!*counts[i] && sscanf(c->train.value[train_key(keys[i])], "%lld", &v) == 1) *counts[i] = v;
  }
  return ok;
}

static void infer_defaults(InferSpec *s) {
  if (!s->seqs) s->seqs = 32;
  if (!s->tokens) s->tokens = s->seqs < 512 ? 512 : s->seqs;
  if (!s->rows) s->rows = s->seqs > 64 ? s->seqs : 64;
  if (!s->pages) s->pages = 1 << 20;
}

/* What the module asks of passes. */
static void ask(Compile *c) {
  Module *m = c->module;
  if (!c->infer) {
    if (!strcmp(c->train.value[train_key("dtype")], "bf16")) m->compute = DT_bf16;
    return;
  }
  const InferSpec *s = &c->serve;
  m->compute = s->dtype;
  m->serve = (ServeShape){s->seqs, s->rows, s->pages, (s->ctx + PAGE_KEYS - 1) / PAGE_KEYS};
}

/* Positions of a sequence: what was asked, and no more than the model has. */
static bool infer_context(Compile *c) {
  if (!c->model->time) return diag_error(c->diags, (Span){0}, "the model reads no tokens: there is nothing to serve");
  if (!c->model->ctx && !c->serve.ctx)
    return diag_error(c->diags, (Span){0},
                      "the model has no dimension 'ctx': how many positions a sequence has must be given");
  if (!c->serve.ctx) c->serve.ctx = c->model->ctx;
  return !c->model->ctx || c->serve.ctx <= c->model->ctx ||
         diag_error(c->diags, (Span){0}, "a context of %lld; the model has %lld positions", (long long)c->serve.ctx,
                    (long long)c->model->ctx);
}

static bool load(Compile *c) {
  const TrainSpec *train = c->train_text ? train_text(c->arena, c->diags, c->train_path, c->train_text)
                                         : train_load(c->arena, c->diags, c->train_path);
  if (!train || c->diags->n) return false;
  c->train = *train;
  const char **sets = NEW_ARRAY(c->arena, const char *, c->nsets + 1);
  int n = 0;
  if (!apply_sets(c, sets, &n)) return false;
  ModelOptions opt = {.sets = sets,
                      .nsets = n,
                      .batch = c->infer ? 1 : c->batch,
                      .time = c->infer ? c->serve.tokens : c->time,
                      .serving = c->infer,
                      .models = c->models,
                      .text = c->model_text,
                      .folder = c->folder};
  c->model = model_load(c->arena, c->diags, c->model_path, &opt);
  return c->model && !c->diags->n && (!c->infer || infer_context(c));
}

static bool run_passes(Compile *c) {
  double since = machine_seconds();
  if (!module_verify(c->module)) return false;
  for (int i = 0; i < pass_count; i++) {
    const PassInfo *p = &pass_table[i];
    const Module *before = c->module;
    Module *m = p->run == pass_remat ? budget_run(c, p) : p->run(c->module, &c->target);
    if (!m || c->diags->n) return false;
    compile_phase(c, p->name, &since);
    if (!module_verify(m))
      return diag_error(c->diags, (Span){0}, "pass %s left a module that does not verify", p->name);
    compile_phase(c, "verify", &since);
    c->module = m;
    if (c->observe && !c->observe(c->observe_ctx, p, before, m)) return false;
    if (c->stop_after && !strcmp(c->stop_after, p->name)) break;
  }
  return true;
}

/* The forward graph's contractions and attention, once forward and twice backward. */
static double model_flops(const Graph *g) {
  double sum = 0;
  for (int i = 0; i < g->nnodes; i++) {
    OpKind op = g->nodes[i].op;
    if (op == OP_contract || op == OP_contract_from || op == OP_attend) sum += node_flops(g, &g->nodes[i]);
  }
  return 3 * sum;
}

static ProgramSpec program_spec(Compile *c) {
  const Model *m = c->model;
  const Graph *forward = module_find(m->mod, "forward");
  Arena *a = c->arena;
  ProgramSpec s = {.model = m->name,
                   .batch = c->infer ? c->serve.seqs : m->batch,
                   .time = c->infer ? c->serve.ctx : m->time,
                   .nparams = m->nparams,
                   .nsources = m->ninputs,
                   .nsettings = c->infer ? 0 : LEN(setting_names),
                   .nfiles = 3,
                   .serves = c->infer,
                   .model_flops = model_flops(forward)};
  ParamSpec *params = NEW_ARRAY(a, ParamSpec, m->nparams + 1);
  for (int i = 0; i < m->nparams; i++) {
    const ModelParam *p = &m->params[i];
    PieceSpec *pieces = NEW_ARRAY(a, PieceSpec, p->npieces + 1);
    for (int k = 0; k < p->npieces; k++) {
      const Piece *f = &p->pieces[k];
      PieceSpec *t = &pieces[k];
      *t = (PieceSpec){.tensor = f->tensor, .hf_rank = f->hf_rank, .rank = f->rank, .start = f->start, .base = f->base};
      memcpy(t->hf_dim, f->hf_dim, sizeof t->hf_dim);
      memcpy(t->dim, f->dim, sizeof t->dim);
      memcpy(t->pstride, f->pstride, sizeof t->pstride);
      memcpy(t->stride, f->stride, sizeof t->stride);
    }
    params[i] = (ParamSpec){.name = p->name,
                            .init = p->init,
                            .init_a = p->init_a,
                            .init_b = p->init_b,
                            .decay = p->decay,
                            .pieces = pieces,
                            .npieces = p->npieces};
    const Input *in = graph_find_input(forward, p->name);
    if (in) s.model_params += (double)type_elements(val_type(forward, in->val));
  }
  NamedText *sources = NEW_ARRAY(a, NamedText, m->ninputs + 1), *settings = NEW_ARRAY(a, NamedText, LEN(setting_names)),
            *files = NEW_ARRAY(a, NamedText, 3);
  for (int i = 0; i < m->ninputs; i++) sources[i] = (NamedText){m->inputs[i].name, m->inputs[i].source};
  Text text = {0};
  text_add(&text, "%s\n---\n", m->effective ? m->effective : "");
  for (int i = 0; i < s.nsettings; i++) {
    settings[i] = (NamedText){setting_names[i], c->train.value[i]};
    /* A budget changes no number: a checkpoint goes on in a program that was built with another one. */
    if (i != train_key("memory")) text_add(&text, "%s: %s\n", setting_names[i], c->train.value[i]);
  }
  files[0] = (NamedText){"config.json", m->config_json};
  files[1] = (NamedText){"generation_config.json", m->generation_config_json};
  files[2] = (NamedText){"model.yaml", m->effective}; /* the run can be served as it is */
  s.skip = m->skip && *m->skip ? m->skip : NULL;
  s.text = arena_strdup(a, text.s);
  text_free(&text);
  s.params = params;
  s.sources = sources;
  s.settings = settings;
  s.files = files;
  return s;
}

/* Regions to kernels and steps, with the schedules of the tuning database where it has some. */
static bool lower_program(Compile *c, const ProgramSpec *spec) {
  static const Lowering cpu = {lower_region, lower_peak, region_alias};
  if (!tune_use_open(&c->tuned, c->arena, c->diags, c->tune_db, c->tune_db_must, &c->target)) return false;
  Target t = c->target;
  t.schedules = &c->tuned.source;
  bool ok = program_build(c->module, spec, &t, &cpu, c->kernels, c->diags, &c->blob, &c->report);
  tune_use_close(&c->tuned);
  return ok && !c->tuned.failed;
}

bool compile_run(Compile *c, Stage until) {
  double since = machine_seconds();
  if (c->infer) infer_defaults(&c->serve);
  if (!target_resolve(c->arena, c->diags, c->target_name, &c->target)) return false;
  if (!load(c)) return false;
  compile_phase(c, "read", &since);
  if (until == STAGE_SOURCE) return true;

  c->module = c->model->mod;
  ask(c);
  if (until == STAGE_GRAPH && !c->stop_after) return true;
  ProgramSpec spec = program_spec(c);
  if (!run_passes(c)) return false;
  if (until <= STAGE_FUSED) return true;

  since = machine_seconds();
  c->kernels = kmodule_new(c->arena, c->model->name);
  if (!lower_program(c, &spec)) return false;
  compile_phase(c, "program", &since);
  for (int i = 0; i < c->kernels->n; i++)
    if (!kernel_verify(c->kernels->kernels[i], c->diags)) return false;
  compile_phase(c, "verify", &since);
  if (until < STAGE_OBJECT) return true;

  if (!llvm_compile(c->kernels, &c->target, LLVM_OBJECT, NULL, c->blob.s, c->blob.n, c->diags, &c->object))
    return false;
  compile_phase(c, "machine code", &since);
  return true;
}

void compile_free(Compile *c) {
  text_free(&c->blob);
  text_free(&c->object);
}
