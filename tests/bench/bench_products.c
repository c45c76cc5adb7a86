/* Matrix products, ours beside other libraries': a linear layer's forward (y = x w^T) and its two backward products.
 *
 *   bench_products [--quick] [--best] [--dtype DTYPE] [--only PATTERN] [--threads LIST] [--target TARGET]
 *     --quick          few shapes, few turns
 *     --best           the best spell of each side instead of medians of ratios: for a machine with others on it
 *     --dtype DTYPE    of the operands: f32, or bf16: the same numbers rounded; results are f32. Or i8, any bytes: results are i32,
 *                      and weights are packed
 *     --only PATTERN   rows whose name FORM.MxNxK has it somewhere: 'forward.1x', 'dw', '256x*x768'
 *     --threads LIST   "1,2": as many as there are cores, one and all, unless said
 *     --target TARGET  of our kernels: cpu:native
 *
 * A row: x is [M, K], w [N, K]; packed: a forward product whose weights lie in panels, as in a program that serves. Ours is the
 * kernel that a program would have, on its pool. Every turn runs all sides once, and the probes; what is printed is the median of the turns: our GFLOP/s, its share of what multiply-adds in registers reached in
 * the same turn ("fma"; in bf16 and i8 what dot products of pairs and quads reached, "bf16", "int8", where machine and target have
 * them), or, where
 * reading w from memory takes longer than computing, the share of what a plain read reached ("read"); for each library its
 * GFLOP/s and how many times as fast we are.
 * Up to M = 64 every call meets other weights, which come from memory, as in a model; above, the same.
 * Before a library is timed its result must be ours, but for rounding. */
#include "tests/bench/peer.h"
#include "tests/bench/turns.h"
#include "tests/unit/kernel_harness.h"
#include <fnmatch.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { COLD_M = 64, MAX_COPIES = 64, MAX_THREADS = 256, MAX_LISTS = 8, PEERS = 3, LARGE_M = 256 };

typedef struct Form {
  const char *name, *rule;
  int m, n, k; /* which of M, N, K (0, 1, 2) is which of the product */
  bool a_turned, b_turned, packed;
} Form;
static const Form forms[] = {
    {"packed", "mk,nk->mn", 0, 1, 2, false, true, true},
    {"forward", "mk,nk->mn", 0, 1, 2, false, true, false}, /* y = x w^T */
    {"dx", "mk,kn->mn", 0, 2, 1, false, false, false},     /* dx = dy w */
    {"dw", "km,kn->mn", 1, 2, 0, true, false, false},      /* dw = dy^T x */
};
static const int layers[][2] = {{768, 768}, {3072, 768}, {768, 3072}, {50257, 768}, {4096, 4096}}; /* N, K */
static const int batches[] = {1, 4, 16, 64, 256, 1024, 2048};
static const int quick_layers[] = {0, 1}, quick_batches[] = {1, 16, 256};

typedef struct Options {
  bool quick, best;
  DType dtype;
  Probe peak; /* what our products are made of */
  const char *only, *target;
  int threads[MAX_LISTS], nthreads;
} Options;

typedef struct Library {
  const Peer *peer;
  const char *missing, *version;
  struct Score {
    double logs, worst;
    int n;
    char row[64];
  } score[MAX_LISTS][2]; /* by list entry; of small M, of large */
} Library;

typedef struct Row {
  char name[64];
  Product p;
  int mnk[3];
  double flops, bytes;
  void *a, *b[MAX_COPIES];  /* b, c by copy: each its own of the large one, all with the same numbers */
  void *packed[MAX_COPIES]; /* b as ours has it, where the form says so */
  Type weights;
  void *cs[MAX_COPIES], *c_peer;
  int copies;
  bool cold;
} Row;

typedef struct PeerCalls {
  const Peer *peer;
  void *prepared;
  const Row *row;
  int next;
} PeerCalls;

static void peer_spell(void *ctx, int calls) {
  PeerCalls *p = ctx;
  for (int i = 0; i < calls; i++) {
    int copy = p->next++ % p->row->copies;
    p->peer->run(p->prepared, p->row->a, copy, p->row->cs[copy]);
  }
}

static void row_name(const Form *f, const int mnk[3], char name[64]) {
  snprintf(name, 64, "%s.%dx%dx%d", f->name, mnk[0], mnk[1], mnk[2]);
}

/* The second operand's type in ours; packed by two vectors of columns. */
static Type weights_type(const Form *f, DType dt, int n, int k, const Target *t) {
  Type w = type_make(dt, 2, f->b_turned ? (int64_t[]){n, k} : (int64_t[]){k, n});
  if (f->packed) w.split = 1, w.panel = 2 * t->lanes;
  return w;
}

/* The operand of N x K elements is the large one: w, or dw. The others are shared by all copies. */
static Row row_new(const Form *f, DType dt, const int mnk[3], const Target *t) {
  Row r = {.p = {mnk[f->m], mnk[f->n], mnk[f->k], f->a_turned, f->b_turned, f->m == 0, dt},
           .mnk = {mnk[0], mnk[1], mnk[2]}};
  const Product *p = &r.p;
  row_name(f, mnk, r.name);
  int64_t na = (int64_t)p->m * p->k, nb = (int64_t)p->k * p->n, nc = (int64_t)p->m * p->n;
  bool writes_large = f->m == 1;
  int64_t large = (int64_t)mnk[1] * mnk[2] * dtype_bytes[writes_large ? DT_f32 : dt], copies = 1 + 2 * t->l3 / large;
  r.cold = mnk[0] <= COLD_M;
  r.copies = !r.cold ? 1 : copies > MAX_COPIES ? MAX_COPIES : (int)copies;
  r.flops = 2.0 * p->m * p->n * p->k;
  r.bytes = (double)((na + nb) * dtype_bytes[dt] + 4 * nc);
  r.a = numbers_new(dt, na, 1);
  for (int i = 0; i < r.copies; i++) {
    r.b[i] = i && writes_large ? r.b[0] : numbers_new(dt, nb, 2);
    r.cs[i] = i && !writes_large ? r.cs[0] : numbers_new(DT_f32, nc, 3);
  }
  r.c_peer = numbers_new(DT_f32, nc, 4);
  r.weights = weights_type(f, dt, p->n, p->k, t);
  size_t one = (size_t)dtype_bytes[dt];
  for (int i = 0; i < r.copies && f->packed; i++) {
    char *to = r.packed[i] = numbers_new(DT_i8, type_bytes(r.weights), 0);
    memset(to, 0, (size_t)type_bytes(r.weights));
    for (int64_t x = 0; x < nb; x++)
      memcpy(to + one * (size_t)type_panel_at(r.weights, x / p->k, x % p->k), (char *)r.b[i] + one * (size_t)x, one);
  }
  return r;
}

static void row_free(Row *r) {
  const Product *p = &r->p;
  int64_t na = (int64_t)p->m * p->k, nb = (int64_t)p->k * p->n, nc = (int64_t)p->m * p->n;
  for (int i = r->copies; i-- > 0;) {
    if (!i || r->b[i] != r->b[0]) numbers_free(r->b[i], p->dtype, nb);
    if (!i || r->cs[i] != r->cs[0]) numbers_free(r->cs[i], DT_f32, nc);
  }
  for (int i = 0; i < r->copies; i++) numbers_free(r->packed[i], DT_i8, type_bytes(r->weights));
  numbers_free(r->a, p->dtype, na);
  numbers_free(r->c_peer, DT_f32, nc);
}

/* But for what rounding may do to f32 sums of so many products. The same for bf16: products of two are exact in f32, so that only
 * the order of the sums differs. Sums or results held in bf16 are off by several times as much. Sums of i8 are exact. */
static bool alike(const Row *r) {
  const float *ours = r->cs[0], *theirs = r->c_peer;
  if (r->p.dtype == DT_i8) return !memcmp(ours, theirs, sizeof *ours * (size_t)r->p.m * (size_t)r->p.n);
  double most = 1e-4 * sqrt(r->p.k);
  for (int64_t i = 0; i < (int64_t)r->p.m * r->p.n; i++)
    if (!(fabs((double)ours[i] - (double)theirs[i]) <= most)) return false;
  return true;
}

/* flops, bytes: what the probes did in the time of a call of ours. */
static void share_text(const Row *r, Probe peak, double flops, double bytes, char text[24]) {
  double compute = r->flops / flops, read = r->cold ? r->bytes / bytes : 0;
  snprintf(text, 24, "%3.0f%% %s", 100 * (read > compute ? read : compute),
           read > compute       ? "read"
           : peak == PROBE_BF16 ? "bf16"
           : peak == PROBE_INT8 ? "int8"
                                : "fma");
}

static double seconds_of(const Options *o, const Side *s) {
  return o->best ? samples_least(&s->seconds) : samples_median(&s->seconds);
}

static void score(struct Score *s, double ratio, const char *row) {
  s->logs += log(ratio);
  if (!s->n++ || ratio < s->worst) {
    s->worst = ratio;
    snprintf(s->row, sizeof s->row, "%s", row);
  }
}

/* A row on so many threads: the sides, and what the turns gave. */
typedef struct Contest {
  const Options *o;
  const Row *row;
  int list, threads, nsides;
  Side side[1 + PEERS]; /* ours, then those libraries that take part */
  int of[1 + PEERS];    /* by side: number of the library */
  PeerCalls calls[PEERS];
  Samples ratio[PEERS]; /* by library: its seconds over ours, turn by turn */
  Samples flops, bytes; /* what the probes did in the time of a call of ours; with --best their rates */
} Contest;

/* Each library that is there, once its result is seen to be that of ours in copy 0. */
static bool add_peers(Contest *c, Library *lib) {
  const Row *r = c->row;
  bool ok = true;
  for (int i = 0; i < PEERS; i++) {
    if (lib[i].missing) continue;
    const Peer *peer = lib[i].peer;
    c->calls[i] = (PeerCalls){peer, peer->prepare(&r->p, c->threads, r->b, r->copies), r, 0};
    if (!c->calls[i].prepared) {
      fprintf(stderr, "%s: %s cannot prepare it\n", r->name, peer->name);
      ok = false;
      continue;
    }
    peer->run(c->calls[i].prepared, r->a, 0, r->c_peer);
    if (!alike(r)) {
      fprintf(stderr, "%s: %s has another result\n", r->name, peer->name);
      ok = false;
    }
    c->of[c->nsides] = i;
    c->side[c->nsides++] = (Side){peer->name, peer_spell, &c->calls[i]};
  }
  return ok;
}

static void take_turns(Contest *c, Meter *m) {
  const Options *o = c->o;
  bool several = c->threads > 1;
  double start = turns_wall(), budget = o->quick ? 0.2 : 1.5;
  for (int t = 0; t < TURNS_MOST && (t < (o->quick ? 3 : 5) || turns_wall() - start < budget); t++) {
    Reading peak = {0}, read = {0};
    meter_read(m, o->peak, LEVEL_L1, several, &peak);
    meter_read(m, PROBE_READ, LEVEL_DRAM, several, &read);
    for (int i = 0; i < c->nsides; i++) side_turn(&c->side[(i + t) % c->nsides], c->threads);
    double ours = c->side[0].now, while_ours = o->best ? 1 : ours;
    for (int i = 1; i < c->nsides; i++) samples_add(&c->ratio[c->of[i]], c->side[i].now / ours);
    samples_add(&c->flops, while_ours * (several ? peak.rate : peak.cpu_rate));
    samples_add(&c->bytes, while_ours * (several ? read.rate : read.cpu_rate));
  }
}

static void print_row(const Contest *c, Library *lib) {
  const Row *r = c->row;
  bool best = c->o->best;
  double ours = seconds_of(c->o, &c->side[0]);
  char share[24];
  if (best)
    share_text(r, c->o->peak, samples_most(&c->flops) * ours, samples_most(&c->bytes) * ours, share);
  else
    share_text(r, c->o->peak, samples_median(&c->flops), samples_median(&c->bytes), share);
  printf("%-8.*s %5d %6d %5d %3d %9.1f %9s", (int)strcspn(r->name, "."), r->name, r->mnk[0], r->mnk[1], r->mnk[2],
         c->threads, 1e-9 * r->flops / ours, share);
  for (int i = 0; i < PEERS; i++) {
    int s = 0;
    for (int k = 1; k < c->nsides; k++)
      if (c->of[k] == i) s = k;
    if (!s) {
      printf("  %9s %6s", "-", "");
      continue;
    }
    double theirs = seconds_of(c->o, &c->side[s]), x = best ? theirs / ours : samples_median(&c->ratio[i]);
    printf("  %9.1f %5.2fx", 1e-9 * r->flops / theirs, x);
    score(&lib[i].score[c->list][r->mnk[0] >= LARGE_M], x, r->name);
  }
  printf("\n");
  fflush(stdout);
}

/* One row on the threads of an entry of the list. false: a library fails, or its result is not ours. */
static bool measure(const Options *o, const Row *r, const KernelSet *set, Meter *m, int list, Library *lib) {
  Contest c = {.o = o, .row = r, .list = list, .threads = o->threads[list], .nsides = 1};
  void *bufs[MAX_COPIES][32] = {{0}}, *scratch[MAX_THREADS];
  int64_t nscratch = set->lowered[0].scratch / 4 + 16;
  for (int i = 0; i < r->copies; i++)
    bufs[i][0] = r->a, bufs[i][1] = r->packed[i] ? r->packed[i] : r->b[i], bufs[i][2] = r->cs[i];
  for (int i = 0; i < c.threads; i++) scratch[i] = numbers_new(DT_f32, nscratch, 5);
  KernelCalls ours = {set->fn[0], bufs, r->copies, 0, scratch, c.threads > 1 ? meter_pool(m) : NULL};
  c.side[0] = (Side){"ours", kernel_spell, &ours};
  kernel_spell(&ours, 1); /* into copy 0 */
  bool ok = add_peers(&c, lib);
  take_turns(&c, m);
  print_row(&c, lib);
  for (int i = 1; i < c.nsides; i++) lib[c.of[i]].peer->release(c.calls[c.of[i]].prepared);
  for (int i = 0; i < c.threads; i++) numbers_free(scratch[i], DT_f32, nscratch);
  return ok;
}

static bool run_row(const Options *o, const Form *f, const int mnk[3], Meter **meters, Library *lib, Arena *arena,
                    const Target *t, int *rows) {
  char name[64], pattern[256];
  row_name(f, mnk, name);
  snprintf(pattern, sizeof pattern, "*%s*", o->only);
  if (fnmatch(pattern, name, 0)) return true;
  int m = mnk[f->m], n = mnk[f->n], k = mnk[f->k];
  Text text = {0}, why = {0};
  Type weights = weights_type(f, o->dtype, n, k, t);
  const char *packed = weights.panel ? arena_printf(arena, " panels(1, %d)", weights.panel) : "";
  text_add(&text,
           "module \"bench\"\nregion contract @product(%%a: %s[%d, %d] data, %%b: %s[%d, %d]%s data) {\n"
           "  %%1 = contract %%a, %%b {rule=\"%s\"} : %s[%d, %d]\n  return y=%%1\n}\n",
           dtype_name[o->dtype], f->a_turned ? k : m, f->a_turned ? m : k, dtype_name[o->dtype], f->b_turned ? n : k,
           f->b_turned ? k : n, packed, f->rule, o->dtype == DT_i8 ? "i32" : "f32", m, n);
  KernelSet set;
  bool ok = kernels_build(&set, o->target, text.s, &why);
  if (ok && !set.fn[0]) {
    fprintf(stderr, "%s: this machine cannot run it\n", o->target);
    ok = false;
  } else if (!ok) {
    fputs(why.s, stderr);
  }
  if (ok) {
    Row r = row_new(f, o->dtype, mnk, &set.target);
    for (int i = 0; i < o->nthreads; i++) ok = measure(o, &r, &set, meters[i], i, lib) && ok;
    row_free(&r);
    kernels_free(&set);
    ++*rows;
  }
  text_free(&text), text_free(&why);
  return ok;
}

static bool run_all(const Options *o, Meter **meters, Library *lib, Arena *arena, const Target *target) {
  int nlayers = o->quick ? LEN(quick_layers) : LEN(layers), nbatches = o->quick ? LEN(quick_batches) : LEN(batches),
      rows = 0;
  bool ok = true;
  printf("%-8s %5s %6s %5s %3s %9s %9s", dtype_name[o->dtype], "M", "N", "K", "thr", "GFLOP/s", "share of");
  for (int i = 0; i < PEERS; i++) printf("  %9s %6s", lib[i].peer->name, "ours");
  printf("\n");
  for (int l = 0; l < nlayers; l++)
    for (int f = 0; f < (o->dtype == DT_i8 ? 1 : LEN(forms)); f++) /* bytes: packed alone */
      for (int b = 0; b < nbatches; b++) {
        const int *layer = layers[o->quick ? quick_layers[l] : l];
        ok = run_row(o, &forms[f], (int[]){o->quick ? quick_batches[b] : batches[b], layer[0], layer[1]}, meters, lib,
                     arena, target, &rows) &&
             ok;
      }
  if (!rows) {
    fprintf(stderr, "no row matches '%s'; names are FORM.MxNxK, FORM one of packed, forward, dx, dw\n", o->only);
    return false;
  }
  for (int i = 0; i < PEERS; i++)
    for (int t = 0; t < o->nthreads; t++)
      for (int large = 0; large < 2; large++) {
        const struct Score *s = &lib[i].score[t][large];
        if (s->n)
          printf("beside %-8s on %d thread%s, M %s %d: %.2fx (geometric mean of %d), least %.2fx at %s\n",
                 lib[i].peer->name, o->threads[t], o->threads[t] > 1 ? "s" : "", large ? "from" : "below", LARGE_M,
                 exp(s->logs / s->n), s->n, s->worst, s->row);
      }
  return ok;
}

static bool parse(Options *o, int argc, char **argv) {
  *o = (Options){.only = "", .target = "cpu:native"};
  const char *threads = NULL, *dtype = "f32";
  for (int i = 1; i < argc; i++) {
    const char **value = !strcmp(argv[i], "--only")      ? &o->only
                         : !strcmp(argv[i], "--threads") ? &threads
                         : !strcmp(argv[i], "--dtype")   ? &dtype
                         : !strcmp(argv[i], "--target")  ? &o->target
                                                         : NULL;
    if (!strcmp(argv[i], "--quick"))
      o->quick = true;
    else if (!strcmp(argv[i], "--best"))
      o->best = true;
    else if (value && i + 1 < argc)
      *value = argv[++i];
    else
      return false;
  }
  o->nthreads = turns_threads(threads, o->threads, MAX_LISTS, MAX_THREADS);
  o->dtype = !strcmp(dtype, "bf16") ? DT_bf16 : !strcmp(dtype, "i8") ? DT_i8 : DT_f32;
  return o->nthreads > 0 && !strcmp(dtype, dtype_name[o->dtype]);
}

/* What a share is of; says so where it is not what the dtype leads to expect. */
static bool choose_peak(Options *o, Arena *arena, Diags *d, const Target *native, Target *t) {
  o->peak = PROBE_FMA;
  if (!target_resolve(arena, d, o->target, t)) return false;
  if (o->dtype == DT_f32) return true;
  bool pairs = o->dtype == DT_bf16;
  Probe dots = pairs ? PROBE_BF16 : PROBE_INT8;
  if ((pairs ? t->dpbf16 : t->dpbusd >= t->lanes) && !probe_lacks(native, dots))
    o->peak = dots;
  else
    printf("%s: no dot products of %s; the share is of the rate of f32 multiply-adds\n", o->target,
           pairs ? "bf16 pairs" : "i8 quads");
  return true;
}

/* Libraries' threads wait for more work in a loop for a while, on the cores that the next side needs. They read how long when
 * they are loaded, so that it must be said before this program starts: it starts itself again. */
static void wait_shortly(char **argv) {
  if (getenv("GOMP_SPINCOUNT") && getenv("OPENBLAS_THREAD_TIMEOUT")) return;
  setenv("GOMP_SPINCOUNT", "20000", 1);       /* turns, about 0.3 ms */
  setenv("OPENBLAS_THREAD_TIMEOUT", "20", 1); /* 2^20 cycles, about 0.3 ms */
  execv("/proc/self/exe", argv);
}

int main(int argc, char **argv) {
  Options o;
  if (!parse(&o, argc, argv)) {
    fprintf(stderr, "usage: bench_products [--quick] [--best] [--dtype f32|bf16|i8] [--only PATTERN] [--threads LIST] "
                    "[--target TARGET]\n");
    return 2;
  }
  wait_shortly(argv);
  Library lib[PEERS] = {{&peer_openblas}, {&peer_blis}, {&peer_onednn}};
  for (int i = 0; i < PEERS; i++) {
    lib[i].missing = lib[i].peer->open(o.dtype, &lib[i].version);
    printf("%s: %s\n", lib[i].peer->name, lib[i].missing ? lib[i].missing : lib[i].version);
  }
  Arena *arena = arena_new();
  Diags *d = diags_new(arena);
  Target native, target;
  Meter *meters[MAX_LISTS] = {0};
  bool ok = target_resolve(arena, d, "cpu:native", &native) && choose_peak(&o, arena, d, &native, &target);
  for (int i = 0; i < o.nthreads && ok; i++) ok = (meters[i] = meter_new(d, &native, o.threads[i])) != NULL;
  Text why = {0};
  diags_render(d, &why);
  if (!ok) fputs(why.s, stderr);
  ok = ok && run_all(&o, meters, lib, arena, &target);
  for (int i = 0; i < o.nthreads; i++) meter_free(meters[i]);
  text_free(&why);
  arena_free(arena);
  return ok ? 0 : 1;
}
