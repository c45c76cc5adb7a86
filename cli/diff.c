/* ink diff: what one pass changed, side by side, and what that saved.
 *
 * Graphs of a name are aligned (align.c); runs of lines that are the same fold to a count. A graph that the pass made or
 * removed is one line with its size, unless --graph asks for it. Marks between the columns:
 *
 *   (blank) the same    ~ the same op, other operands    < only before    > only after    | both, unlike
 *
 * Costs are the graph's own arithmetic and the bytes that its nodes read and write (ir/cost.c), calls with what they call;
 * where kernels are there already, also the memory that the program's plan takes. */
#include "cli/align.h"
#include "cli/compile.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

enum { IR_LIMIT = 256 << 20, CONTEXT = 2, PIPED = 123, NARROW = 60 };

typedef struct Diff {
  Args *args;
  Arena *arena;
  Diags *d;
  const PassInfo *pass;
  const Target *target;
  const Module *before, *after;
  const char *graph; /* NULL: all */
  bool spans, unified;
  int width; /* of a line */
  Text out;
} Diff;

/* ---- lines */

/* At most `room` bytes of *s, up to a blank where there is one; *s moves behind them. */
static int piece(const char **s, int room) {
  int n = (int)strlen(*s);
  if (n > room) {
    n = room;
    while (n > room / 2 && (*s)[n] != ' ') n--;
    if ((*s)[n] != ' ') n = room;
  }
  *s += n;
  return n;
}

/* Two texts beside each other; long ones go on below, indented. */
static void row(Diff *x, const char *left, char mark, const char *right) {
  int room = (x->width - 3) / 2;
  for (bool first = true; first || *left || *right; first = false) {
    int indent = first ? 2 : 8;
    while (!first && *left == ' ') left++;
    while (!first && *right == ' ') right++;
    if (!first && !*left && !*right) break;
    const char *l = left, *r = right;
    int n = piece(&left, room - indent), k = piece(&right, room - indent);
    text_add(&x->out, "%*s%.*s", n ? indent : 0, "", n, l);
    char m = first ? mark : ' ';
    if (k || m != ' ') text_add(&x->out, "%*s %c", room - (n ? n + indent : 0), "", m);
    if (k) text_add(&x->out, " %*s%.*s", indent, "", k, r);
    text_add(&x->out, "\n");
  }
}

static void unified(Diff *x, const char *left, char mark, const char *right) {
  if (mark == ' ') {
    text_add(&x->out, "  %s\n", right);
    return;
  }
  if (*left) text_add(&x->out, "- %s\n", left);
  if (*right) text_add(&x->out, "+ %s\n", right);
}

static void show(Diff *x, const char *left, char mark, const char *right) {
  (x->unified ? unified : row)(x, left, mark, right);
}

/* ---- graphs */

typedef struct Cost {
  int nodes, calls;
  double flops, bytes;
} Cost;

static Cost cost_of(const Graph *g) {
  Cost c = {.nodes = g->nnodes};
  for (int i = 0; i < g->nnodes; i++) {
    c.flops += node_flops(g, &g->nodes[i]);
    c.bytes += node_bytes(g, &g->nodes[i]);
    c.calls += g->nodes[i].op == OP_call;
  }
  return c;
}

static const char *number(Arena *a, double v) {
  static const char unit[] = " kMGTPE";
  int i = 0;
  for (; v >= 1000 && unit[i + 1]; i++) v /= 1000;
  return i ? arena_printf(a, "%.3g%c", v, unit[i]) : arena_printf(a, "%.0f", v);
}

static void cost_text(Diff *x, const Cost *c) {
  text_add(&x->out, "%d nodes", c->nodes);
  if (c->calls) text_add(&x->out, " (%d calls)", c->calls);
  text_add(&x->out, ", %sFLOP, %sB", number(x->arena, c->flops), number(x->arena, c->bytes));
}

static void cost_change(Diff *x, const Cost *c, const Cost *n) {
  if (!memcmp(c, n, sizeof *c)) {
    cost_text(x, c);
    return;
  }
  text_add(&x->out, "nodes %d -> %d", c->nodes, n->nodes);
  if (c->calls || n->calls) text_add(&x->out, ", calls %d -> %d", c->calls, n->calls);
  text_add(&x->out, ", FLOP %s -> %s, bytes %s -> %s", number(x->arena, c->flops), number(x->arena, n->flops),
           number(x->arena, c->bytes), number(x->arena, n->bytes));
}

static void title(Diff *x, const Graph *g) {
  if (g->region)
    text_add(&x->out, "region %s @%s", g->region, g->name);
  else
    text_add(&x->out, "graph @%s", g->name);
}

/* A graph on one side only. */
static void one_sided(Diff *x, const Graph *g, bool added) {
  Cost c = cost_of(g);
  text_add(&x->out, "%c ", added ? '+' : '-');
  title(x, g);
  text_add(&x->out, ": ");
  cost_text(x, &c);
  text_add(&x->out, "\n");
  if (!x->graph) return;
  AlignSide s = align_lines(x->arena, g, x->spans);
  for (int i = 0; i < s.n; i++) show(x, added ? "" : s.line[i].text, added ? '>' : '<', added ? s.line[i].text : "");
}

/* How many lines from (i, j) on are the same. */
static int same_run(const AlignSide *b, const AlignSide *a, int i, int j) {
  int n = 0;
  while (i + n < b->n && j + n < a->n && b->line[i + n].same && b->line[i + n].pair == j + n) n++;
  return n;
}

static void same_lines(Diff *x, const AlignSide *b, const AlignSide *a, int i, int j, int n) {
  bool first = i == 0 && j == 0, last = i + n == b->n && j + n == a->n;
  int head = first ? 0 : CONTEXT, tail = last ? 0 : CONTEXT;
  for (int k = 0; k < n; k++) {
    if (k == head && n > head + tail + 1) {
      text_add(&x->out, "  ... %d lines the same ...\n", n - head - tail);
      k = n - tail;
      if (k == n) break;
    }
    show(x, b->line[i + k].text, ' ', a->line[j + k].text);
  }
}

/* What differs, up to the next pair. */
static void other_lines(Diff *x, const AlignSide *b, const AlignSide *a, int *i, int *j) {
  int from = *i, lo = *j;
  while (*i < b->n && b->line[*i].pair < 0) ++*i;
  while (*j < a->n && a->line[*j].pair < 0) ++*j;
  int left = *i - from, right = *j - lo;
  for (int k = 0; k < left || k < right; k++)
    show(x, k < left ? b->line[from + k].text : "",
         k >= left    ? '>'
         : k >= right ? '<'
                      : '|',
         k < right ? a->line[lo + k].text : "");
}

static bool two_sided(Diff *x, const Graph *before, const Graph *after) {
  AlignSide b = align_lines(x->arena, before, x->spans), a = align_lines(x->arena, after, x->spans);
  align(x->arena, &b, &a);
  int whole = same_run(&b, &a, 0, 0);
  if (whole == b.n && whole == a.n && !x->graph) return false;
  Cost was = cost_of(before), is = cost_of(after);
  text_add(&x->out, "\n");
  title(x, after);
  text_add(&x->out, ": ");
  cost_change(x, &was, &is);
  text_add(&x->out, "\n");
  for (int i = 0, j = 0; i < b.n || j < a.n;) {
    int n = same_run(&b, &a, i, j);
    if (n) {
      same_lines(x, &b, &a, i, j, n);
      i += n, j += n;
    } else if (i < b.n && j < a.n && b.line[i].pair == j) {
      show(x, b.line[i++].text, '~', a.line[j++].text);
    } else {
      other_lines(x, &b, &a, &i, &j);
    }
  }
  return true;
}

/* ---- modules */

static int regions(const Module *m) {
  int n = 0;
  for (int i = 0; i < m->ngraphs; i++) n += m->graphs[i]->region != NULL;
  return n;
}

/* Bytes of the plan's arena; negative: there is no program of the module yet. */
static int64_t plan_of(Diff *x, const Module *m) {
  static const Lowering cpu = {lower_region, NULL, region_alias};
  ProgramSpec spec = {.model = m->name, .text = ""};
  ProgramReport r = {0};
  Text blob = {0};
  int errors = x->d->n;
  bool ok = regions(m) && program_build((Module *)(uintptr_t)m, &spec, x->target, &cpu, kmodule_new(x->arena, m->name),
                                        x->d, &blob, &r);
  text_free(&blob);
  x->d->n = errors; /* a module that is no program yet is no error here */
  return ok ? r.arena : -1;
}

static void summary(Diff *x, int same) {
  Cost sum[2] = {{0}, {0}};
  for (int s = 0; s < 2; s++) {
    const Module *m = s ? x->after : x->before;
    for (int i = 0; i < m->ngraphs; i++) {
      Cost c = cost_of(m->graphs[i]);
      if (m->graphs[i]->region) continue; /* counted where it is called */
      sum[s].nodes += c.nodes, sum[s].calls += c.calls, sum[s].flops += c.flops, sum[s].bytes += c.bytes;
    }
  }
  text_add(&x->out, "pass %s: %s\nall graphs: ", x->pass->name, x->pass->doc);
  cost_change(x, &sum[0], &sum[1]);
  if (regions(x->before) || regions(x->after))
    text_add(&x->out, ", regions %d -> %d", regions(x->before), regions(x->after));
  text_add(&x->out, "\n");
  int64_t was = plan_of(x, x->before), is = plan_of(x, x->after);
  if (is >= 0) {
    text_add(&x->out, "memory of temporaries: ");
    if (was >= 0) text_add(&x->out, "%s -> ", cli_bytes(x->arena, was));
    text_add(&x->out, "%s\n", cli_bytes(x->arena, is));
  }
  if (same) text_add(&x->out, "%d graphs are the same\n", same);
}

static bool wanted(const Diff *x, const Graph *g) {
  return !x->graph || !strcmp(g->name, x->graph);
}

static void compare(Diff *x) {
  Text body = {0};
  int same = 0;
  for (int i = 0; i < x->before->ngraphs; i++) {
    const Graph *g = x->before->graphs[i];
    if (wanted(x, g) && !module_find(x->after, g->name)) one_sided(x, g, false);
  }
  for (int i = 0; i < x->after->ngraphs; i++) {
    const Graph *g = x->after->graphs[i];
    if (wanted(x, g) && !module_find(x->before, g->name)) one_sided(x, g, true);
  }
  for (int i = 0; i < x->after->ngraphs; i++) {
    const Graph *g = x->after->graphs[i], *was = module_find(x->before, g->name);
    if (was && wanted(x, g)) same += !two_sided(x, was, g);
  }
  body = x->out;
  x->out = (Text){0};
  if (!x->graph) summary(x, same);
  if (body.n) text_write(&x->out, body.s, body.n);
  text_free(&body);
}

/* ---- the command */

static bool keep(void *ctx, const PassInfo *pass, const Module *before, const Module *after) {
  Diff *x = ctx;
  if (pass == x->pass) x->before = before, x->after = after;
  return true;
}

static bool from_model(Diff *x, Compile *c) {
  c->stop_after = x->pass->name;
  c->observe = keep;
  c->observe_ctx = x;
  x->d = c->diags;
  x->target = &c->target;
  return compile_run(c, STAGE_GRAPH);
}

static bool from_file(Diff *x, Compile *c) {
  uint32_t file;
  const char *target = args_get(x->args, "--target");
  if (!target_resolve(x->arena, x->d, target ? target : "cpu:native", &c->target)) return false;
  x->target = &c->target;
  if (!diags_read(x->d, x->args->operand[0], IR_LIMIT, &file)) return false;
  Module *m = module_parse(x->arena, x->d, file);
  if (!m || !module_verify(m)) return false;
  x->before = m;
  x->after = x->pass->run(m, &c->target);
  return x->after && !x->d->n && module_verify(x->after);
}

static bool graph_known(const Diff *x) {
  if (!x->graph || module_find(x->before, x->graph) || module_find(x->after, x->graph)) return true;
  const char **names = NEW_ARRAY(x->arena, const char *, x->before->ngraphs + x->after->ngraphs);
  int n = 0;
  for (int i = 0; i < x->before->ngraphs; i++) names[n++] = x->before->graphs[i]->name;
  for (int i = 0; i < x->after->ngraphs; i++) names[n++] = x->after->graphs[i]->name;
  const char *near = near_miss(x->graph, names, n);
  cli_error("diff: no graph '%s' before or after %s%s%s%s", x->graph, x->pass->name, near ? "; did you mean '" : "",
            near ? near : "", near ? "'?" : "");
  return false;
}

/* Columns of the terminal that the output goes to. */
static int terminal_width(const Args *a) {
  struct winsize w;
  const char *columns = getenv("COLUMNS");
  if (args_get(a, "-o") || !isatty(1)) return PIPED;
  if (columns && atoi(columns) >= NARROW) return atoi(columns);
  return !ioctl(1, TIOCGWINSZ, &w) && w.ws_col >= NARROW ? w.ws_col : PIPED;
}

static bool options_read(Diff *x) {
  Args *a = x->args;
  const char *name = args_get(a, "--pass");
  int64_t width;
  if (!a->noperands || !name) {
    cli_error(a->noperands ? "diff: which pass? give --pass NAME; ink help opt lists them"
                           : "diff: which model or file? usage: ink diff %s",
              a->command->usage);
    return false;
  }
  if (!(x->pass = pass_find(name))) {
    const char **names = NEW_ARRAY(x->arena, const char *, pass_count);
    for (int i = 0; i < pass_count; i++) names[i] = pass_table[i].name;
    const char *near = near_miss(name, names, pass_count);
    cli_error("diff: no pass '%s'%s%s%s; ink help opt lists them", name, near ? "; did you mean '" : "",
              near ? near : "", near ? "'?" : "");
    return false;
  }
  if (!args_count(a, "--width", 1000, terminal_width(a), &width)) return false;
  if (width < NARROW && !args_get(a, "--unified")) {
    cli_error("diff: two columns need a width of %d; --unified needs none", NARROW);
    return false;
  }
  x->width = (int)width;
  x->graph = args_get(a, "--graph");
  if (x->graph && x->graph[0] == '@') x->graph++;
  x->spans = args_get(a, "--spans") != NULL;
  x->unified = args_get(a, "--unified") != NULL;
  return true;
}

static int run(Args *a) {
  Diff x = {.args = a, .arena = a->arena, .d = diags_new(a->arena)};
  Compile c = {0};
  if (!options_read(&x)) return EXIT_USAGE;
  const char *path = a->operand[0], *dot = strrchr(path, '.');
  bool file = dot && !strcmp(dot, ".ir");
  if (!file && !compile_options(&c, a, path)) return EXIT_USAGE;
  bool ok = file ? from_file(&x, &c) : from_model(&x, &c);
  if (!ok) cli_diags(x.d);
  if (ok && !graph_known(&x)) {
    compile_free(&c);
    return EXIT_USAGE;
  }
  if (ok) {
    compare(&x);
    ok = cli_write(args_get(a, "-o"), x.out.s, x.out.n);
  }
  text_free(&x.out);
  compile_free(&c);
  return ok ? EXIT_OK : EXIT_FAILED;
}

static const Option options[] = {
    COMPILE_OPTIONS,
    {"--pass", "NAME", false, "the pass"},
    {"--graph", "NAME", false, "this graph only; one that is new or gone is shown whole"},
    {"--unified", NULL, false, "one column, - and +, instead of two"},
    {"--width", "N", false, "of a line with two columns (default: the terminal's; 2 x 60 into a file)"},
    {"--spans", NULL, false, "show where each value comes from"},
    {"-o", "FILE", false, "write there instead of to the terminal"},
};

const Command cmd_diff = {
    .name = "diff",
    .usage = "MODEL.yaml|FILE.ir --pass NAME [--graph NAME] [--unified] [--width N] [--spans] [-o FILE]",
    .summary = "what one pass changed, side by side, with the cost before and after",
    .doc =
        "Runs the pipeline up to the pass (on FILE.ir: the pass alone) and shows the graphs before and after it:\n"
        "  ~  the same op with other operands     <  only before     >  only after     |  both, unlike\n"
        "Values are matched by what they compute, so new numbers alone are no difference. Above each graph stands its\n"
        "cost: nodes, floating-point operations, bytes that its nodes read and write.",
    .options = options,
    .noptions = LEN(options),
    .operands = 1,
    .run = run,
};
