/* ink bisect: where a compiled program leaves the evaluator, and the smallest file that shows it.
 *
 * The work is check/'s: every stage of the pipeline against the one before it, in a child process, so that a crash or a
 * hang of the compiler or of a kernel is a finding like others. Here: what is asked, how large, and the answer for people.
 * Exit status 0: no difference, 1: a finding, 2: the question cannot be asked (command line, files, inputs). */
#include "check/check.h"
#include "cli/compile.h"
#include "cli/sizes.h"
#include "runtime/machine.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { EXIT_SAME = 0, EXIT_FOUND = 1, BATCH = 2, SEQ = 16 };
static const double EVALUATOR = 1e8; /* operations a second, about */
static const double SMALL = 2e9;     /* operations of all stages: some 20 seconds */
static const double WARN = 6e9;
static const double PATIENCE = 5;     /* seconds for a stage, beside the evaluator's */
static const double NODE_TIME = 5e-3; /* seconds more for each node */
static const double SHRINK_TIME = 40; /* seconds */

typedef struct Ask {
  Args *args;
  Arena *arena;
  Diags *d;
  const char *path;
  Module *mod;
  Check check;
  Given *given;
  bool is_case; /* a file that a bisection wrote */
} Ask;

/* ---- progress, from the child process */

static void progress(void *ctx, const char *stage, const Module *m) {
  static char last[32];
  char first[32];
  (void)ctx, (void)m;
  if (!strcmp(stage, "evaluation")) return;
  if (isatty(2)) {
    fprintf(stderr, "\r\033[K%.70s ...", stage);
    return;
  }
  snprintf(first, sizeof first, "%.*s", (int)strcspn(stage, " "), stage); /* one line for all kernels */
  if (!strcmp(first, "pass") || strcmp(first, last)) fprintf(stderr, "%s ...\n", stage);
  snprintf(last, sizeof last, "%s", first);
}

static void progress_end(void) {
  if (isatty(2)) fputs("\r\033[K", stderr);
}

/* ---- the question */

static bool ends_with(const char *s, const char *end) {
  size_t n = strlen(s), k = strlen(end);
  return n > k && !strcmp(s + n - k, end);
}

static bool ask_seed(Ask *q) {
  const char *text = args_get(q->args, "--seed");
  char *end;
  if (!text) return true;
  errno = 0;
  unsigned long long v = strtoull(text, &end, 10);
  if (*end || !*text || *text == '-' || errno) {
    cli_error("bisect: --seed takes a whole number, not '%s'", text);
    return false;
  }
  q->check.values.seed = v;
  return true;
}

static bool ask_file(Ask *q) {
  static const char *const others[] = {"--for", "--train", "--set", "--batch", "--seq"};
  Case c;
  for (int i = 0; i < LEN(others); i++)
    if (args_get(q->args, others[i])) {
      cli_error("bisect: %s goes with a model; %s is checked as it is", others[i], q->path);
      return false;
    }
  bool ok = case_read(q->arena, q->d, q->path, &c);
  q->given = c.given;
  if (!ok) return cli_diags(q->d), false;
  q->mod = c.mod;
  q->check = c.check;
  q->is_case = c.asks;
  return true;
}

static bool asked_size(const Compile *c, const char *key) {
  size_t n = strlen(key);
  for (int i = 0; i < c->nsets; i++)
    if (!strncmp(c->sets[i], key, n) && c->sets[i][n] == '=') return true;
  return c->train_path != NULL;
}

/* Small unless other sizes are asked for; a model shorter than that stays as short as it is. */
static bool load_model(Compile *c) {
  Compile whole = *c;
  if (!c->batch && !asked_size(c, "micro_batch")) whole.batch = BATCH;
  if (!compile_run(&whole, STAGE_GRAPH)) return false;
  bool shorter = !c->time && !asked_size(c, "seq") && whole.model->time > SEQ;
  *c = whole;
  if (!shorter) return true;
  c->time = SEQ;
  return compile_run(c, STAGE_GRAPH);
}

static bool ask_model(Ask *q, Compile *c) {
  static const char *target[1];
  if (!compile_options(c, q->args, q->path)) return false;
  if (!load_model(c)) return cli_diags(c->diags), false;
  q->mod = c->model->mod;
  q->check = (Check){.values = {.seed = 1}, .gradients = true, .round = true};
  target[0] = c->target_name;
  q->check.targets = target;
  q->check.ntargets = 1;
  double work = sizes_work(c->model);
  fprintf(stderr, "%s: batch %" PRId64 ", %" PRId64 " positions, %d params, %.2g operations forward\n", c->model->name,
          c->model->batch, c->model->time, c->model->nparams, sizes_flops(c->model));
  if (work > WARN) {
    const char *sets = sizes_smaller(c, SMALL);
    cli_error("bisect: the evaluator does some %.0e operations a second, so this takes about %.0f minutes.%s%s",
              EVALUATOR, work / EVALUATOR / 60,
              sets ? " Most faults show in a smaller model, too:" : " Smaller dimensions (--set dims.NAME=N) help.",
              sets ? sets : "");
  }
  return true;
}

/* --input, for the model's graph and, in a checkpoint, the states that training adds. */
static bool ask_input(Ask *q, const Model *m) {
  const char *path = args_get(q->args, "--input");
  if (!path) return true;
  Given *g = given_open(q->arena, q->d, path, m);
  int named = 0, most = 0, inputs = 0;
  bool ok = g != NULL;
  for (int i = 0; ok && i < q->mod->ngraphs; i++) {
    ok = given_fits(g, q->mod->graphs[i], q->d, &named);
    if (named > most || !inputs) most = named, inputs = q->mod->graphs[i]->ninputs;
  }
  if (ok && !most)
    ok = diag_error(q->d, (Span){0}, "%s holds no input of %s by name; ink dump --stage graph shows the names", path,
                    q->path);
  if (!ok) {
    given_close(g);
    cli_diags(q->d);
    return false;
  }
  fprintf(stderr, "%s: %d of %d inputs; the others are made up\n", path, most, inputs);
  given_close(q->given);
  q->given = g;
  q->check.values.given = g;
  return true;
}

static bool ask_target(Ask *q) {
  static const char *target[1];
  const char *name = args_get(q->args, "--target");
  Target t;
  if (name || !q->check.ntargets) {
    target[0] = name ? name : "cpu:native";
    q->check.targets = target;
    q->check.ntargets = 1;
  }
  for (int i = 0; i < q->check.ntargets; i++)
    if (!target_resolve(q->arena, q->d, q->check.targets[i], &t)) return cli_diags(q->d), false;
  return true;
}

/* ---- the answer */

static void print_ops(const Bisect *b) {
  const Module *m = b->least;
  bool seen[OP_COUNT] = {false};
  const char *sep = b->fault.kind == FAULT_GRADIENT ? "derivative of: " : "ops left: ";
  for (int i = 0; i < m->ngraphs; i++)
    for (int k = 0; k < m->graphs[i]->nnodes; k++) {
      OpKind op = m->graphs[i]->nodes[k].op;
      if (seen[op] || op == OP_call) continue;
      seen[op] = true;
      printf("%s%s", sep, op_info[op].name);
      sep = ", ";
    }
  if (*sep == ',') printf("\n");
}

static void print_headline(const Fault *f) {
  static const char *const keeps[] = {"makes other graphs", "keeps values in real arithmetic", "keeps every bit"};
  const char *stage = f->stage;
  const PassInfo *p = !strncmp(stage, "pass ", 5) ? pass_find(stage + 5) : NULL;
  switch (f->kind) {
  case FAULT_TEXT: printf("text: what is printed at '%s' does not read back\n", stage); break;
  case FAULT_PASS: printf("pass %s is wrong\n", f->where); break;
  case FAULT_GRADIENT: printf("gradient: d loss / d %s is wrong\n", f->where); break;
  case FAULT_COMPILE: printf("compile: refused for %s\n", f->where); break;
  case FAULT_KERNEL: printf("kernel %s is wrong\n", f->where); break;
  case FAULT_PROGRAM: printf("program: list %s is wrong, its kernels are not\n", f->where); break;
  case FAULT_CRASH: printf("crash: in %s\n", stage); break;
  case FAULT_HANG: printf("hang: in %s\n", stage); break;
  default: printf("%s: %s\n", fault_name[f->kind], f->where);
  }
  if (p) printf("passes.def: %s: it %s: %s\n", p->name, keeps[p->keeps], p->doc);
  if (*f->place) printf("from %s\n", f->place);
}

/* Lines of text, indented. */
static void print_text(const char *text) {
  for (const char *s = text; *s;) {
    size_t n = strcspn(s, "\n");
    if (n) printf("  %.*s\n", (int)n, s);
    s += n + (s[n] == '\n');
  }
}

/* The least module, and beside it the given values that it needs. */
static bool write_case(Ask *q, const Bisect *b, const char *path) {
  Text t = {0};
  const char *input = NULL;
  bool ok = true;
  if (b->question.values.given) {
    size_t n = strlen(path) - (ends_with(path, ".ir") ? 3 : 0);
    const char *file = arena_printf(q->arena, "%.*s.safetensors", (int)n, path), *slash = strrchr(file, '/');
    int inputs;
    input = slash ? slash + 1 : file;
    ok = given_write(b->question.values.given, b->least, file, q->d, &inputs);
    if (!ok) cli_diags(q->d);
  }
  case_print(b->least, &b->question, &b->fault, input, &t);
  ok = ok && cli_write(path, t.s, t.n);
  text_free(&t);
  return ok;
}

static int answer(Ask *q, const Bisect *b, double seconds) {
  const char *path = args_get(q->args, "-o");
  if (!path && b->budget > 0) path = "bisect.ir";
  print_headline(&b->first);
  print_text(b->first.text);
  if (b->nodes[1] < b->nodes[0]) {
    printf("shrunk from %d nodes to %d:\n", b->nodes[0], b->nodes[1]);
    print_text(b->fault.text);
  }
  print_ops(b);
  if (path && !write_case(q, b, path)) return EXIT_FOUND;
  if (path) printf("written: %s\n", path);
  printf("again:   ink bisect %s\n", path ? path : q->path);
  if (b->question.only && !strncmp(b->question.only, "pass ", 5))
    printf("look:    ink diff %s --pass %s\n", path ? path : q->path, b->question.only + 5);
  printf("%.1f s\n", seconds);
  return EXIT_FOUND;
}

static int nothing(const Fault *f, double seconds) {
  printf("no difference: %" PRId64 " passes, %" PRId64 " kernels, %" PRId64 " lists, %" PRId64
         " elements compared, %.1f s\n",
         f->seen.passes, f->seen.kernels, f->seen.lists, f->seen.elements, seconds);
  return EXIT_SAME;
}

static int work(Ask *q) {
  double start = machine_seconds();
  Bisect b = {.patience = PATIENCE + NODE_TIME * module_nodes(q->mod)};
  b.budget = q->is_case && !args_get(q->args, "-o") ? 0 : SHRINK_TIME; /* a case is small already */
  q->check.enter = progress;
  bool same = bisect_module(q->mod, &q->check, q->arena, &b);
  progress_end();
  if (same) return nothing(&b.first, machine_seconds() - start);
  if (b.first.kind != FAULT_INPUT) return answer(q, &b, machine_seconds() - start);
  cli_error("bisect: the evaluator itself refuses %s with these inputs:", q->path);
  fputs(b.first.text, stderr);
  return EXIT_USAGE;
}

static int run(Args *a) {
  Ask q = {.args = a, .arena = a->arena, .d = diags_new(a->arena), .path = a->operand[0]};
  Compile c = {0};
  if (!q.path) {
    cli_error("bisect: which model or file? usage: ink bisect %s", a->command->usage);
    return EXIT_USAGE;
  }
  bool file = ends_with(q.path, ".ir");
  bool ok = (file ? ask_file(&q) : ask_model(&q, &c)) && ask_seed(&q) && ask_target(&q) && ask_input(&q, c.model);
  if (args_get(a, "--no-gradients")) q.check.gradients = false;
  int status = ok ? work(&q) : EXIT_USAGE;
  given_close(q.given);
  compile_free(&c);
  return status;
}

static const Option options[] = {
    COMPILE_OPTIONS,
    {"--input", "DIR|FILE", false, "values of inputs: a run's checkpoint, or safetensors by the names of graph inputs"},
    {"--seed", "N", false, "of the values that are made up (default: 1)"},
    {"--no-gradients", NULL, false, "leave out autodiff against differences, the longest stage"},
    {"-o", "FILE.ir", false, "where the smallest module goes (default: bisect.ir)"},
};

const Command cmd_bisect = {
    .name = "bisect",
    .usage =
        "MODEL.yaml|FILE.ir [--input DIR] [--set KEY=VALUE ...] [--batch N] [--seq N] [--target TARGET] [-o FILE.ir]",
    .summary = "the first stage at which a compiled model leaves the evaluator",
    .doc = "Takes a model through gradients, every pass, every kernel and every list of its program, and holds each "
           "stage\n"
           "to the one before it with the reference evaluator. The first that differs, crashes or hangs is named, and "
           "the\n"
           "smallest module that shows it is written to a file, which ink bisect reads again.\n"
           "The evaluator is slow. Without --batch and --seq a model has 2 sequences of at most 16 positions; with\n"
           "--set dims.layers=2 and the like it is smaller still, and most faults do not mind.\n"
           "FILE.ir is a module of graphs, before or after fusion, or of regions alone.\n"
           "Exit status: 0 no difference, 1 there is one, 2 the question cannot be asked.",
    .options = options,
    .noptions = LEN(options),
    .operands = 1,
    .run = run,
};
