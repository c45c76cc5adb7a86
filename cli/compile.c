/* The options that every command around the pipeline takes, and what was built, for people. */
#include "cli/compile.h"

#include <inttypes.h>
#include <string.h>

bool compile_options(Compile *c, const Args *a, const char *model_path) {
  *c = (Compile){
      .model_path = model_path, .arena = a->arena, .diags = diags_new(a->arena), .models = place_models(a->arena)};
  const char *what = args_get(a, "--for");
  if (!model_path) {
    cli_error("%s: which model? usage: ink %s %s", a->command->name, a->command->name, a->command->usage);
    return false;
  }
  if (what && strcmp(what, "train") && strcmp(what, "infer")) {
    cli_error("--for %s: it may be train or infer", what);
    return false;
  }
  c->infer = what && !strcmp(what, "infer");
  if (!what && a->command->asks_for) {
    cli_error("%s: what is the program for? give --for train or --for infer", a->command->name);
    return false;
  }
  c->train_path = args_get(a, "--train");
  c->target_name = args_get(a, "--target");
  if (!c->target_name) c->target_name = "cpu:native";
  c->tune_db = args_get(a, "--tune-db");
  c->tune_db_must = c->tune_db != NULL;
  if (c->tune_db && args_get(a, "--no-tune-db")) {
    cli_error("%s: --tune-db and --no-tune-db: one of them", a->command->name);
    return false;
  }
  if (!c->tune_db && !args_get(a, "--no-tune-db")) c->tune_db = tune_db_default(a->arena);
  const char *set;
  for (int i = 0; (set = args_at(a, "--set", i)); i++) {
    if (!strchr(set, '=') || set[0] == '=') {
      cli_error("--set takes KEY=VALUE, not '%s'", set);
      return false;
    }
    PUSH(c->arena, c->sets, c->nsets, c->cap_sets, set);
  }
  const char *dtype = args_get(a, "--dtype");
  if (dtype && strcmp(dtype, "f32") && strcmp(dtype, "bf16")) {
    cli_error("--dtype %s: it may be f32 or bf16", dtype);
    return false;
  }
  c->serve.dtype = dtype && !strcmp(dtype, "bf16") ? DT_bf16 : DT_f32;
  if (!args_count(a, "--max-batch", 4096, 0, &c->serve.seqs) || !args_count(a, "--ctx", 1 << 24, 0, &c->serve.ctx) ||
      !args_count(a, "--max-tokens", 1 << 16, 0, &c->serve.tokens))
    return false;
  return args_count(a, "--batch", 1000000, 0, &c->batch) && args_count(a, "--seq", 10000000, 0, &c->time);
}

/* It is absolute, or begins in the model file's folder. */
const char *compile_weights(const Compile *c) {
  const char *path = c->model->weights, *slash = strrchr(c->model_path, '/');
  if (!path || *path == '/' || !slash) return path;
  return arena_printf(c->arena, "%.*s%s", (int)(slash + 1 - c->model_path), c->model_path, path);
}

/* "tuned:  2 of 9 contraction kernels: contract.0, 4; 5 are best as they are" */
static void tuned_report(const TuneUse *u, Text *out) {
  const char *before = ": contract.";
  if (!u->asked) return;
  text_add(out, "tuned:  %d of %d contraction kernels", u->ntuned, u->asked);
  for (int i = 0; i < u->ntuned; i++, before = ", ") {
    const char *dot = strrchr(u->tuned[i], '.');
    text_add(out, "%s%s", before, dot ? dot + 1 : u->tuned[i]);
  }
  if (u->best)
    text_add(out, "; %d %s best as %s", u->best, u->best == 1 ? "is" : "are", u->best == 1 ? "it is" : "they are");
  text_add(out, "\n");
}

void compile_report(const Compile *c, int64_t threads, bool times, Text *out) {
  const ProgramReport *r = &c->report;
  Arena *a = c->arena;
  text_add(out, "%s for %s: %d kernels, %d steps", c->model->name, c->target.name, r->kernels, r->steps);
  if (r->copies) text_add(out, ", %d of them copies", r->copies);
  text_add(out, "\nmemory: %s = persistent %s + arena %s + scratch %s x %" PRId64 " threads + constants %s\n",
           cli_bytes(a, program_memory(r, (int)threads)), cli_bytes(a, r->persistent), cli_bytes(a, r->arena),
           cli_bytes(a, r->scratch), threads, cli_bytes(a, r->consts));
  text_add(out, "arena:  %s; alive at once at most %s; without sharing %s\n", cli_bytes(a, r->arena),
           cli_bytes(a, r->peak), cli_bytes(a, r->sum_temp));
  const Traded *t = &c->traded;
  if (t->calls)
    text_add(out, "traded: %s less memory for %.1f%% more FLOPs a step; %d of the steps compute something again\n",
             cli_bytes(a, t->memory), 100 * t->more / t->flops, t->calls);
  tuned_report(&c->tuned, out);
  if (!times) return;
  double verify = 0;
  for (int i = 0; i < c->nphases; i++)
    if (!strcmp(c->phases[i].name, "verify"))
      verify += c->phases[i].seconds;
    else
      text_add(out, "time:   %-14s %8.1f ms\n", c->phases[i].name, 1e3 * c->phases[i].seconds);
  text_add(out, "time:   %-14s %8.1f ms\n", "verify", 1e3 * verify);
}
