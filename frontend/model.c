/* model_load: a model file to the graph @forward and the facts beside it.
 *
 * The sections are read in the order in which they need each other: dims and consts, inputs, tables, parameters, functions,
 * blocks, then the forward code runs. It runs twice: the first run, into a graph that is thrown away, finds which blocks
 * are called with which indices, so that the second can declare all parameters before its first node (graph text has its
 * inputs at its head). An error in a section is reported and reading goes on as far as what follows still has a meaning. */
#include "frontend/config.h"
#include "frontend/reader.h"
#include "frontend/spec.h"
#include <string.h>

static const char *const sections[] = {"model",  "description", "dims",   "consts",  "inputs", "tables", "hf",
                                       "params", "functions",   "blocks", "forward", "loss",   "weights"};

/* ---- extents of a micro-batch */

/* T may be at most the model's ctx, if it has such a dimension. */
static void read_extents(Reader *r, const ModelOptions *opt) {
  r->batch = opt->batch > 0 ? opt->batch : 8;
  r->time = 0;
  if (read_has_time(r)) {
    Number *ctx = names_find(&r->names, "ctx");
    r->time = opt->time;
    if (ctx && names_resolve(&r->names, ctx)) {
      if (r->time <= 0) r->time = (int64_t)ctx->value;
      if ((double)r->time > ctx->value && !opt->serving)
        r->ok = diag_error(r->diags, ctx->at, "a sequence length of %lld is more than ctx=%lld", (long long)r->time,
                           (long long)ctx->value);
    } else if (!ctx && r->time <= 0) {
      r->ok = diag_error(r->diags, r->root->at,
                         "the sequence length is not given, and there is no dimension 'ctx' to take it from");
    }
    if (r->time <= 0) r->time = 1;
  }
  if (r->batch > MAX_EXTENT || r->time > MAX_EXTENT)
    r->ok = diag_error(r->diags, r->root->at, "batch or sequence length out of range");
  Number *b = names_find(&r->names, "B"), *t = names_find(&r->names, "T");
  b->value = (double)r->batch;
  if (t) t->value = (double)r->time;
}

/* ---- the graph */

static bool declare_inputs(Builder *b, Instance **known, int nknown) {
  bool ok = true;
  for (int i = 0; i < b->ninputs; i++)
    b->input[i].val = graph_input(b->g, b->input[i].name, IN_DATA, b->input[i].type, b->input[i].at);
  for (int i = 0; i < b->ntables; i++) b->table[i].val = 0;
  for (int i = 0; i < b->nparams; i++) {
    Type t;
    if (!param_type(b->names, b->param[i].shape, DT_f32, NULL, 0, &t))
      ok = false;
    else
      b->param_val[i] = graph_input(b->g, b->param[i].name, IN_PARAM, t, b->param[i].at);
  }
  for (int i = 0; i < nknown; i++) ok &= instance_declare(b, known[i]);
  return ok;
}

/* A parameter that nothing uses would have no gradient: a slip of the pen. */
static bool check_used(Builder *b) {
  bool ok = true;
  for (int i = 0; i < b->nparams; i++)
    if (!b->param_used[i]) ok = diag_error(b->diags, b->param[i].at, "parameter '%s' is never used", b->param[i].name);
  for (int i = 0; i < b->nblocks; i++) {
    const Block *k = &b->block[i];
    if (!k->called) ok = diag_error(b->diags, k->at, "block '%s' is never called", k->name);
    for (int p = 0; p < k->nparams && k->called; p++)
      if (!k->param_used[p])
        ok = diag_error(b->diags, k->param[p].at, "parameter '%s' of block '%s' is never used", k->param[p].name,
                        k->name);
  }
  return ok;
}

static bool build_graph(Reader *r, Module *mod) {
  Builder *b = &r->b;
  Val loss, logits;
  b->param_val = NEW_ARRAY(r->arena, Val, b->nparams + 1);
  b->param_used = NEW_ARRAY(r->arena, bool, b->nparams + 1);
  Arena *scratch = arena_new();
  Module *draft = module_new(scratch, r->diags, "draft");
  b->g = graph_new(draft, "forward");
  bool ok = declare_inputs(b, NULL, 0) && build_forward(b, &r->forward, r->loss, &loss, &logits);
  arena_free(scratch);
  if (!ok || !check_used(b)) return false;
  b->g = graph_new(mod, "forward");
  b->steps = b->exprs = 0;
  b->ndropouts = 0;
  if (!declare_inputs(b, b->order, b->norder)) return false;
  if (!build_forward(b, &r->forward, r->loss, &loss, &logits)) return false;
  graph_output(b->g, "loss", loss);
  if (logits) graph_output(b->g, "logits", logits);
  return true;
}

static bool count_pieces(Reader *r, const ModelParam *p, int *sum) {
  *sum += p->npieces;
  return *sum <= BUILD_PIECE_LIMIT ||
         diag_error(r->diags, p->span, "the parameters lie in more than %d parts of checkpoint tensors",
                    (int)BUILD_PIECE_LIMIT);
}

/* Names without the prefix that checkpoints of the model without its head lack. */
static void strip_prefix(Model *m, const char *prefix) {
  size_t n = strlen(prefix);
  for (int i = 0; i < m->nparams; i++)
    for (int k = 0; k < m->params[i].npieces; k++) {
      Piece *p = &m->params[i].pieces[k];
      if (!strncmp(p->tensor, prefix, n) && p->tensor[n]) p->tensor = intern(p->tensor + n);
    }
}

static bool resolve_params(Reader *r, const ConfigTensors *tensors, Model *m) {
  Builder *b = &r->b;
  m->nparams = b->nparams;
  for (int i = 0; i < b->norder; i++) m->nparams += b->order[i]->block->nparams;
  m->params = NEW_ARRAY(r->arena, ModelParam, m->nparams + 1);
  bool ok = true;
  int n = 0, pieces = 0;
  for (int i = 0; i < b->nparams; i++, n++) {
    m->params[n].name = b->param[i].name;
    m->params[n].span = b->param[i].at;
    ok &= param_resolve(&r->names, &b->param[i], val_type(b->g, b->param_val[i]), NULL, 0, &m->params[n]);
    val_input(b->g, b->param_val[i])->decay = m->params[n].decay;
    if (!count_pieces(r, &m->params[n], &pieces)) return false;
  }
  for (int i = 0; i < b->norder; i++) {
    const Instance *inst = b->order[i];
    Local local = {"i", (double)inst->index};
    for (int k = 0; k < inst->block->nparams; k++, n++) {
      const ParamSpec *s = &inst->block->param[k];
      m->params[n].name = val_input(b->g, inst->param[k])->name;
      m->params[n].span = s->at;
      if (inst->block->failed) continue; /* said for an earlier index */
      bool good = param_resolve(&r->names, s, val_type(b->g, inst->param[k]), &local, inst->index >= 0, &m->params[n]);
      val_input(b->g, inst->param[k])->decay = m->params[n].decay;
      inst->block->failed = !good;
      ok &= good;
      if (!count_pieces(r, &m->params[n], &pieces)) return false;
    }
  }
  if (tensors->bare && ok) strip_prefix(m, tensors->prefix);
  return ok && view_check(&r->names, m->params, m->nparams);
}

static const char *read_name(Reader *r) {
  YNode *n = yaml_get(r->root, "model");
  if (!n) return r->ok = diag_error(r->diags, r->root->at, "the file has no 'model: NAME'"), "";
  if (!yaml_expect(r->diags, n, Y_SCALAR, "model")) return r->ok = false, "";
  static const char allowed[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-";
  if (!n->len || n->len > 64 || n->text[strspn(n->text, allowed)])
    r->ok = diag_error(r->diags, n->at, "a model's name has 1 to 64 letters, digits and . _ -");
  return intern(n->text);
}

/* Where the weights lie says nothing of the model: it goes to *weights and leaves the specification. */
static void read_weights(Reader *r, const char **weights) {
  YNode *n = yaml_get(r->root, "weights");
  if (!n) return;
  r->ok &= yaml_expect(r->diags, n, Y_SCALAR, "weights") &&
           (n->len || diag_error(r->diags, n->at, "weights: expected the path of a checkpoint"));
  *weights = n->text; /* NULL for another kind, which was an error */
  YNode *rest = NEW(r->arena, YNode);
  *rest = *r->root;
  rest->pair = NEW_ARRAY(r->arena, YPair, rest->n);
  rest->n = 0;
  for (int i = 0; i < r->root->n; i++)
    if (strcmp(r->root->pair[i].key->text, "weights")) rest->pair[rest->n++] = r->root->pair[i];
  rest->cap = rest->n;
  r->root = rest;
}

Model *model_load(Arena *a, Diags *d, const char *path, const ModelOptions *opt) {
  Reader *r = NEW(a, Reader);
  int errors = d->n;
  *r = (Reader){.arena = a, .diags = d, .names = {.arena = a, .diags = d}, .ok = true};
  if (!(r->root = spec_load(a, d, path, opt))) return NULL;
  r->b = (Builder){.arena = a, .diags = d, .names = &r->names};
  r->ok = yaml_check_keys(d, r->root, "a model", sections, LEN(sections));
  Model *m = NEW(a, Model);
  m->name = read_name(r);
  read_weights(r, &m->weights);
  names_builtin(&r->names, "B", 1, opt->symbolic);
  if (read_has_time(r)) names_builtin(&r->names, "T", 1, opt->symbolic || opt->serving);
  read_dims(r);
  read_extents(r, opt);
  r->ok &= names_resolve_all(&r->names);
  read_sections(r);
  ConfigTensors tensors;
  r->ok &= config_make(&r->names, yaml_get(r->root, "hf"), &m->config_json, &m->generation_config_json);
  r->ok &= config_tensors(&r->names, yaml_get(r->root, "hf"), &tensors);
  if (!r->ok || d->n > errors) return NULL;
  m->mod = module_new(a, d, m->name);
  if (!build_graph(r, m->mod) || !resolve_params(r, &tensors, m)) return NULL;
  m->skip = tensors.skip;
  m->inputs = NEW_ARRAY(a, ModelInput, r->b.ninputs + 1);
  for (int i = 0; i < r->b.ninputs; i++)
    m->inputs[m->ninputs++] = (ModelInput){r->b.input[i].name, r->b.input[i].source};
  m->batch = r->batch;
  m->time = r->time;
  const Number *ctx = names_find(&r->names, "ctx");
  m->ctx = ctx && ctx->dim ? (int64_t)ctx->value : 0;
  Text t = {0};
  yaml_write(r->root, &t);
  m->effective = arena_strdup(a, t.s);
  text_free(&t);
  return d->n > errors || !module_verify(m->mod) ? NULL : m;
}
