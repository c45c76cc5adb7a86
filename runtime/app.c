/* A training binary from start to end: options, checks, start state, the loop, the last words.
 *
 * Order at the start, so that a mistake costs nothing: options, settings, CPU features, the run folder, memory, the
 * checkpoint or the initial weights, the data. This file and progress alone print. */
#include "runtime/app.h"
#include "ink/base.h"
#include "runtime/check_nan.h"
#include "runtime/checkpoint.h"
#include "runtime/detokenize.h"
#include "runtime/machine.h"
#include "runtime/options.h"
#include "runtime/profile.h"
#include "runtime/random.h"
#include "runtime/sampler.h"
#include "runtime/sites.h"
#include "runtime/train.h"
#include "runtime/weights.h"
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

enum { EXIT_DONE = 0, EXIT_FAILED = 1, EXIT_USAGE = 2, EXIT_STOPPED = 130 };
enum { TRACE_STEPS = 3 };
static const double TEMPERATURE = 0.8;

typedef struct App {
  Program program;
  Options opt;
  Engine *e;
  NanCheck *check;  /* NULL: off */
  Profile *profile; /* NULL: off */
  Loader *data;
  Trainer train;
  Metrics *metrics;
  Progress progress;
  Detokenizer *names;
  RunState state; /* settings in force, position at the start, best validation loss */
  bool told_val;  /* that a validation loss is not finite */
  int64_t saved;  /* step of the newest checkpoint; -1: none */
  int lock;
  Report err;
} App;

/* ---- Ctrl-C: the first one is a wish, the second an order */

static volatile sig_atomic_t stop_wanted;

static void on_signal(int sig) {
  (void)sig;
  if (stop_wanted) _exit(EXIT_STOPPED);
  stop_wanted = 1;
}

static void catch_signals(void) {
  struct sigaction a = {.sa_handler = on_signal, .sa_flags = SA_RESTART};
  sigemptyset(&a.sa_mask);
  stop_wanted = 0;
  sigaction(SIGINT, &a, NULL);
  sigaction(SIGTERM, &a, NULL);
}

/* A mapped file that is cut short, or whose disk fails, while it is read: no value can carry that error. */
static void on_bus(int sig, siginfo_t *info, void *context) {
  (void)context;
  static const char before[] = "error: cannot read ", after[] = ": it was cut short meanwhile, or its disk fails\n";
  const char *path = fs_mapped(info->si_addr);
  if (path && write(2, before, sizeof(before) - 1) > 0 && write(2, path, strlen(path)) > 0 &&
      write(2, after, sizeof(after) - 1) > 0)
    _exit(EXIT_FAILED);
  signal(sig, SIG_DFL); /* the instruction faults again, and ends the program */
}

/* ---- start */

static void show(FILE *to, const char *prefix, const Report *r) {
  for (const char *line = r->text; line && *line;) {
    size_t n = strcspn(line, "\n");
    fprintf(to, "%s%.*s\n", prefix, (int)n, line);
    line += n + (line[n] == '\n');
  }
}

static int fail(App *a, int status) {
  progress_break(&a->progress);
  show(stderr, "error: ", &a->err);
  if (a->check) show(stderr, "", &a->check->text);
  if (a->metrics && a->saved >= 0)
    fprintf(stderr, "the newest checkpoint is of step %" PRId64 "; --resume goes on from it\n", a->saved);
  return status;
}

static bool apply_settings(Settings *s, const Options *o, Report *err) {
  bool ok = true;
  for (int i = 0; i < o->nset; i++) ok = settings_assign(s, o->set[i], err) && ok;
  return ok;
}

/* A new or empty folder, or one to resume; locked against a second process. */
static bool take_run_folder(App *a) {
  const char *run = a->opt.run;
  char path[FS_PATH];
  FsList names = {0};
  if (!fs_mkdirs(run, &a->err) || !fs_list_dir(&names, run, &a->err)) return false;
  bool used = false;
  for (int i = 0; i < names.n; i++) used = used || strcmp(names.name[i], ".lock");
  fs_list_free(&names);
  if (used && !a->opt.resume)
    return report_add(&a->err, "the run folder %s is not empty: --resume goes on with it, another --run starts anew",
                      run);
  if (!fs_join(path, run, ".lock", &a->err)) return false;
  a->lock = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0666);
  if (a->lock < 0) return fs_failed(&a->err, "write", path, errno);
  if (flock(a->lock, LOCK_EX | LOCK_NB))
    return errno == EWOULDBLOCK ? report_add(&a->err, "another process is training in %s", run)
                                : fs_failed(&a->err, "lock", path, errno);
  checkpoint_clean(run);
  return true;
}

/* Parameters: from the run's checkpoint, from --init, or from the seed. */
static bool start_state(App *a) {
  Report notes = {0};
  CheckpointResult found = CHECKPOINT_NONE;
  if (a->opt.resume) found = checkpoint_load(a->e, &a->state, a->opt.run, &notes, &a->err);
  show(stderr, "note: ", &notes);
  report_free(&notes);
  if (found == CHECKPOINT_FAILED) return false;
  /* What the command line says counts more than what the run was started with. */
  if (!apply_settings(&a->state.set, &a->opt, &a->err) || !settings_check(&a->state.set, &a->program, &a->err))
    return false;
  if (found == CHECKPOINT_LOADED) {
    a->saved = a->state.step;
    fprintf(stderr, "going on from step %" PRId64 " of %s\n", a->state.step, a->opt.run);
    if (a->opt.init) fprintf(stderr, "note: --init is not used, for the run has a checkpoint\n");
    return a->lock < 0 || checkpoint_settle(a->opt.run, a->saved, a->state.set.ckpt_keep, &a->err);
  }
  if (a->opt.resume) fprintf(stderr, "note: %s has no checkpoint yet; starting at step 0\n", a->opt.run);
  init_params(a->e, (uint64_t)a->state.set.seed);
  return !a->opt.init || weights_load(a->e, a->opt.init, &a->err);
}

static bool open_data(App *a) {
  a->data =
      loader_open(a->e, a->opt.data, a->opt.val, a->opt.format, a->state.order, (uint64_t)a->state.set.seed, &a->err);
  if (!a->data) return false;
  if (a->saved < 0 || !a->opt.data) return true;
  if (a->state.data_items != loader_items(a->data))
    fprintf(stderr, "note: the training data has %" PRIu64 " items; the run was begun with %" PRIu64 "\n",
            loader_items(a->data), a->state.data_items);
  if (!loader_seek(a->data, a->state.data)) {
    fprintf(stderr, "note: the run's data position lies outside this data; it starts over\n");
    return loader_seek(a->data, (LoaderState){0, 0}) || report_add(&a->err, "the data cannot be read from its start");
  }
  return true;
}

/* With --check-nan: what is there already is finite, and from here on every step is looked through. */
static bool start_check(App *a) {
  char origin[FS_PATH + 64];
  if (!a->opt.check_nan) return true;
  if (a->saved >= 0)
    snprintf(origin, sizeof(origin), "the checkpoint %s/checkpoints/step-%" PRId64, a->opt.run, a->saved);
  else if (a->opt.init)
    snprintf(origin, sizeof(origin), "the checkpoint %s", a->opt.init);
  else
    snprintf(origin, sizeof(origin), "the initial values of the model file");
  if (!nan_loaded(a->e, origin, &a->err)) return false;
  a->check = nan_new(&a->program, pool_threads(engine_pool(a->e)), &a->err);
  engine_set_check(a->e, a->check);
  if (!a->check) return false;
  char size[32];
  fprintf(stderr, "check: every step; copies of what a step overwrites take %s\n",
          machine_size(a->check->kept_bytes, size));
  return true;
}

/* The machine's limits, as good as they were seen: before and after the run, for neighbours may disturb either. */
static bool measure_limit(App *a, Report *err) {
  Roofline *limit = &a->profile->limit;
  engine_set_check(a->e, NULL); /* the list's numbers are of no model */
  double peak = engine_peak(a->e, 0.1);
  engine_set_check(a->e, a->check);
  if (peak > limit->flops) limit->flops = peak;
  return roofline_memory(limit, engine_pool(a->e), 0.2, err);
}

/* With --profile or --trace: memory for all that is noted is taken now, so that the run is not disturbed. */
static bool start_profile(App *a) {
  const Options *o = &a->opt;
  const Program *p = &a->program;
  int threads = pool_threads(engine_pool(a->e));
  if (!o->profile && !o->trace) return true;
  a->profile = profile_new(p, threads, &a->err);
  if (!a->profile || (o->profile && !measure_limit(a, &a->err))) return false;
  if (o->trace) {
    int64_t *calls = calloc((size_t)p->nsteps + 1, sizeof(int64_t)), n = 0;
    int64_t micro_batches = a->state.set.global_batch / p->h->batch;
    if (!calls) return report_add(&a->err, "out of memory");
    sites_count(p, a->train.micro, micro_batches, calls);
    sites_count(p, a->train.update, 1, calls);
    for (int i = 0; i < p->nsteps; i++) n += calls[i];
    free(calls);
    int64_t spans =
        2 * micro_batches + 16; /* a micro-batch and its data; the rest of a step, and what comes behind it */
    a->profile->trace = trace_new(p, threads, o->trace_steps ? o->trace_steps : TRACE_STEPS, n, spans, &a->err);
    if (!a->profile->trace) return false;
  }
  a->train.profile = a->profile;
  return true;
}

/* What --profile and --trace have to say, however the run ended. */
static bool tell_profile(App *a) {
  if (!a->profile) return true;
  progress_break(&a->progress);
  if (a->opt.profile) {
    Text table = {0};
    Report notes = {0};
    measure_limit(a, &notes); /* when it fails, what was measured before the run stays */
    show(stderr, "note: ", &notes);
    report_free(&notes);
    profile_table(a->profile, &table);
    fputs(table.s, stdout);
    fflush(stdout); /* before what is said on standard error */
    text_free(&table);
  }
  if (!a->opt.trace) return true;
  if (!trace_write(a->profile->trace, a->opt.trace, &a->err)) return false;
  fprintf(stderr, "trace: %s\n", a->opt.trace);
  return true;
}

/* The tokenizer beside the data, for samples. None is no error: ids are written then. */
static void open_names(App *a) {
  static const char *const places[] = {"tokenizer.json", "tokenizer/tokenizer.json"};
  const char *dir = loader_folder(a->data);
  char path[FS_PATH];
  Report why = {0};
  for (int i = 0; dir && !a->names && i < 2; i++)
    if (fs_join(path, dir, places[i], &why) && fs_exists(path)) a->names = detokenizer_open(path, &why);
  show(stderr, "note: ", &why);
  report_free(&why);
}

static void describe(const App *a) {
  const ProgramHeader *h = a->program.h;
  int threads = pool_threads(engine_pool(a->e));
  char size[4][32], data[512];
  fprintf(stderr, "%s: %.2f M parameters, built for %s, %d thread%s\n", program_string(&a->program, h->model),
          h->model_params / 1e6, program_string(&a->program, h->target), threads, threads == 1 ? "" : "s");
  fprintf(stderr, "memory: parameters and state %s, arena %s (%s without sharing), scratch %d x %s\n",
          machine_size(h->persistent_bytes, size[0]), machine_size(h->arena_bytes, size[1]),
          machine_size(h->sum_temp_bytes, size[2]), threads, machine_size(h->scratch_bytes, size[3]));
  loader_describe(a->data, data, sizeof(data));
  fprintf(stderr, "data: %s\n", data);
}

/* ---- checkpoints, evaluations, samples */

static bool save(App *a) {
  if (a->saved == a->train.step) return true;
  int64_t from = profile_from(a->profile);
  a->state.step = a->train.step;
  a->state.data = loader_state(a->data);
  a->state.data_items = loader_items(a->data);
  if (!metrics_sync(a->metrics, &a->err) ||
      !checkpoint_save(a->e, &a->state, a->opt.run, loader_folder(a->data), &a->err))
    return false;
  a->saved = a->train.step;
  profile_to(a->profile, PROFILE_SAVE, a->saved, from);
  return true;
}

static bool evaluate(App *a) {
  double loss;
  int64_t from = profile_from(a->profile);
  if (!trainer_evaluate(&a->train, &loss, &a->err)) return false;
  profile_to(a->profile, PROFILE_EVAL, a->train.step, from);
  a->state.last_val = a->progress.last_val = loss;
  if (!(a->state.best_val <= loss)) a->state.best_val = loss;
  if (!isfinite(loss) && !a->told_val) {
    a->told_val = true;
    progress_break(&a->progress);
    fprintf(stderr, "note: the validation loss is %g; --check-nan names the kernel, line and layer that made it so\n",
            loss);
  }
  return metrics_val(a->metrics, a->train.step, loss, &a->err);
}

/* The sample of this moment, into a file of the run folder. */
static bool sample(App *a, const char *name) {
  char *text = NULL;
  size_t n = 0;
  if (!a->opt.sample) return true;
  FILE *out = open_memstream(&text, &n);
  bool ok = out != NULL || report_add(&a->err, "out of memory");
  ok = ok && sampler_run(a->e, a->names, a->opt.sample, TEMPERATURE, (uint64_t)a->state.set.seed, out, &a->err);
  if (out && fclose(out)) ok = report_add(&a->err, "out of memory");
  ok = ok && fs_replace(a->opt.run, name, text, n, &a->err);
  free(text);
  return ok;
}

static void print_sample(App *a, const char *name, int64_t step) {
  char path[FS_PATH];
  size_t n;
  Report ignored = {0};
  char *text = fs_join(path, a->opt.run, name, &ignored) ? fs_read(path, 64u << 20, &n, &ignored) : NULL;
  if (text) {
    Text shown = {0}; /* the vocabulary comes from outside: its tokens may hold anything */
    text_write_clean(&shown, text, n);
    printf("---- what it writes after %" PRId64 " steps\n%s", step, shown.s ? shown.s : "");
    text_free(&shown);
  }
  free(text);
  report_free(&ignored);
}

/* ---- the loop */

static bool one_step(App *a, StepMetrics *m) {
  Trainer *t = &a->train;
  const Settings *s = &t->set;
  if (!trainer_step(t, m, &a->err)) return false;
  int64_t from = profile_from(a->profile);
  if (!metrics_step(a->metrics, m, &a->err)) return false;
  profile_to(a->profile, PROFILE_LOG, -1, from);
  bool last = t->step == s->steps;
  if (s->eval_every && (last || t->step % s->eval_every == 0) && loader_val_batches(a->data) && !evaluate(a))
    return false;
  from = profile_from(a->profile);
  progress_show(&a->progress, m, last || stop_wanted);
  profile_to(a->profile, PROFILE_LOG, -1, from);
  return !s->ckpt_every || t->step % s->ckpt_every || save(a);
}

static void last_words(App *a) {
  progress_break(&a->progress);
  if (!isnan(a->state.last_val))
    fprintf(stderr, "validation loss %.4f, best %.4f\n", a->state.last_val, a->state.best_val);
  fprintf(stderr, "metrics: %s/metrics.jsonl\ncheckpoint: %s/checkpoints/step-%" PRId64 "\n", a->opt.run, a->opt.run,
          a->saved);
}

static int train(App *a) {
  Trainer *t = &a->train;
  a->metrics = metrics_open(a->opt.run, a->train.step, &a->err);
  if (!a->metrics) return fail(a, EXIT_FAILED);
  if (a->train.step == 0 && !sample(a, "sample-0.txt")) return fail(a, EXIT_FAILED);
  a->progress = progress_new(t->step, t->set.steps, a->program.h->time ? "tok" : "img");
  a->progress.last_val = a->state.last_val;
  catch_signals();
  bool ok = true;
  while (ok && t->step < t->set.steps && !stop_wanted) {
    StepMetrics m;
    ok = one_step(a, &m);
  }
  ok = ok && save(a);
  if (!tell_profile(a) || !ok) return fail(a, EXIT_FAILED);
  if (stop_wanted) {
    progress_break(&a->progress);
    fprintf(stderr, "stopped at step %" PRId64 "; a checkpoint is saved, --resume goes on\n", t->step);
    return EXIT_STOPPED;
  }
  if (!sample(a, "sample-final.txt")) return fail(a, EXIT_FAILED);
  last_words(a);
  if (a->opt.sample) {
    print_sample(a, "sample-0.txt", 0);
    print_sample(a, "sample-final.txt", t->step);
  }
  return EXIT_DONE;
}

/* ---- what needs no run folder */

/* Gradients of the step that comes next, leaving everything as it was. */
static bool write_gradients(App *a) {
  double loss;
  LoaderState before = loader_state(a->data);
  if (!trainer_gradients(&a->train, &loss, &a->err) || !trainer_save_gradients(&a->train, loss, a->opt.grads, &a->err))
    return false;
  const Program *p = &a->program;
  for (int i = 0; i < p->nparams; i++)
    memset(engine_buffer(a->e, (int)p->params[i].grad), 0, p->buffers[p->params[i].grad].bytes);
  fprintf(stderr, "loss %.9g; gradients in %s\n", loss, a->opt.grads);
  return loader_seek(a->data, before);
}

static int eval_only(App *a) {
  double loss;
  if (!trainer_evaluate(&a->train, &loss, &a->err)) return fail(a, EXIT_FAILED);
  printf("val_loss %.9g\n", loss);
  return EXIT_DONE;
}

static int run(App *a) {
  const Options *o = &a->opt;
  Settings tried;
  sigaction(SIGBUS, &(struct sigaction){.sa_sigaction = on_bus, .sa_flags = SA_SIGINFO}, NULL);
  if (!settings_default(&a->state.set, &a->program, &a->err)) return fail(a, EXIT_FAILED);
  tried = a->state.set;
  bool ok = apply_settings(&tried, o, &a->err);
  bool training = o->run && !o->eval_only, wanted = training || o->grads || o->logits || o->eval_only;
  if (!o->data && !(o->eval_only && o->val)) ok = report_add(&a->err, "--data is missing: what is there to read?");
  if (!wanted) ok = report_add(&a->err, "--run is missing: where do metrics and checkpoints go?");
  if (o->resume && !o->run) ok = report_add(&a->err, "--resume needs --run");
  if (o->eval_only && !o->init && !o->resume)
    ok = report_add(&a->err, "--eval-only needs weights: --init, or --run with --resume");
  if (o->sample && !sampler_possible(&a->program)) ok = report_add(&a->err, "--sample: this program writes no text");
  if ((o->profile || o->trace) && !training)
    ok = report_add(&a->err, "%s goes with training: there are no steps to look at",
                    o->profile ? "--profile" : "--trace");
  if (o->trace_steps && !o->trace) ok = report_add(&a->err, "--trace-steps needs --trace");
  if (o->trace && !trace_possible(o->trace, &a->err)) ok = false;
  if (!ok) return fail(a, EXIT_USAGE);
  if (!machine_has(program_string(&a->program, a->program.h->cpu_features), &a->err)) return fail(a, EXIT_FAILED);
  if (training && !take_run_folder(a)) return fail(a, EXIT_FAILED);
  a->e = engine_new(&a->program, o->threads ? o->threads : machine_cores(), &a->err);
  if (!a->e || !start_state(a) || !open_data(a) || !trainer_init(&a->train, a->e, a->data, &a->state.set, &a->err))
    return fail(a, EXIT_FAILED);
  a->train.step = a->state.step;
  if (!o->eval_only) {
    describe(a);
    open_names(a);
    a->train.peak = engine_peak(a->e, 0.05);
    if (a->train.peak > 0) fprintf(stderr, "peak: %.1f GFLOP/s\n", 1e-9 * a->train.peak);
  }
  if (!start_check(a) || !start_profile(a)) return fail(a, EXIT_FAILED);
  if (o->eval_only) return eval_only(a);
  if (o->logits && !trainer_save_logits(&a->train, o->logits, &a->err)) return fail(a, EXIT_FAILED);
  if (o->grads && !write_gradients(a)) return fail(a, EXIT_FAILED);
  return training ? train(a) : EXIT_DONE;
}

int app_train(const unsigned char *blob, const KernelFn *kernels, int argc, char **argv) {
  App a = {.lock = -1, .saved = -1, .state = {.best_val = NAN, .last_val = NAN}};
  int status;
  if (!program_open(&a.program, blob, kernels, &a.err))
    status = fail(&a, EXIT_FAILED);
  else if (!options_parse(&a.opt, argc, argv, &a.err))
    status = fail(&a, EXIT_USAGE);
  else if (a.opt.help) {
    Report text = {0};
    options_help(&a.program, argc ? argv[0] : "PROGRAM", &text);
    show(stdout, "", &text);
    report_free(&text);
    status = EXIT_DONE;
  } else if (a.opt.version) {
    printf("%s for %s, built by ink %s (program format %d, checkpoint format %d, spec %016" PRIx64 ")\n",
           program_string(&a.program, a.program.h->model), program_string(&a.program, a.program.h->target), INK_VERSION,
           PROGRAM_VERSION, CHECKPOINT_FORMAT, a.program.h->spec_hash);
    status = EXIT_DONE;
  } else if (a.opt.licenses) {
    fputs(licenses_text, stdout);
    status = EXIT_DONE;
  } else {
    a.state.order = a.opt.order;
    status = run(&a);
  }
  metrics_close(a.metrics);
  detokenizer_close(a.names);
  loader_close(a.data);
  engine_free(a.e);
  nan_free(a.check);
  profile_free(a.profile);
  if (a.lock >= 0) close(a.lock);
  report_free(&a.err);
  return status;
}
