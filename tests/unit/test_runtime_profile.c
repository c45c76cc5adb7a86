/* The parts of --profile and --trace: aligned tables, call sites, the machine's limits, the notes of an engine's threads, the
 * trace's ring and its file. Whole runs are in test_runtime_train.c. */
#include "runtime/columns.h"
#include "runtime/inkrt.h"
#include "runtime/profile.h"
#include "runtime/sites.h"
#include "tests/unit/runtime_criterion.h"
#include "tests/unit/runtime_files.h"
#include "tests/unit/runtime_fixture.h"
#include <jansson.h>

/* ---- tables */

Test(columns, are_aligned_and_clean) {
  Text cells = {0}, out = {0};
  columns_add(&cells, "name"), columns_add(&cells, "ms"), columns_add(&cells, "from"), columns_row(&cells);
  columns_add(&cells, "a\tb\033"), columns_add(&cells, "%.1f", 12.25), columns_add(&cells, "x"), columns_row(&cells);
  columns_row(&cells);
  columns_add(&cells, "größer"), columns_add(&cells, "7"), columns_add(&cells, "%s", ""), columns_row(&cells);
  columns_print(&cells, "lrl", &out);
  cr_assert(eq(str, out.s, "name      ms  from\na?b?    12.2  x\n\ngrößer     7\n"), "%s", out.s);
  text_free(&cells), text_free(&out);
}

/* ---- limits */

Test(roofline, takes_the_larger_time) {
  Roofline r = {.threads = 2, .flops = 1e9, .n = 2, .memory = {{1000, 4e9}, {100000, 1e9}}};
  cr_assert(eq(dbl, roofline_rate(&r, 10), 4e9));
  cr_assert(eq(dbl, roofline_rate(&r, 99999), 4e9));
  cr_assert(eq(dbl, roofline_rate(&r, 1e6), 1e9));
  cr_assert(epsilon_eq(dbl, roofline_seconds(&r, 2e6, 1e6), 2e-3, 1e-12));
  cr_assert(epsilon_eq(dbl, roofline_seconds(&r, 2e5, 1e6), 1e-3, 1e-12));
  cr_assert(epsilon_eq(dbl, roofline_seconds(&r, 0, 4e3), 1e-6, 1e-15));
  cr_assert(eq(dbl, roofline_seconds(&r, 0, 0), 0));
  r.flops = 0; /* not known */
  cr_assert(eq(dbl, roofline_seconds(&r, 1, 1e6), 0));
  cr_assert(eq(dbl, roofline_seconds(&(Roofline){.flops = 1e9}, 1, 1), 0));
  Text t = {0};
  roofline_text(
      &(Roofline){.threads = 1, .flops = 1e11, .n = 3, .memory = {{1024, 9e10}, {4096, 8.9e10}, {16384, 2e10}}}, &t);
  cr_assert(eq(str, t.s, "limit with 1 thread: 100.0 GFLOP/s; memory 90 GB/s, 20 GB/s from 16.0 KiB on\n"), "%s", t.s);
  text_free(&t);
}

Test(roofline, memory_is_measured) {
  Report err = {0};
  Pool *p = pool_new(2, &err);
  Roofline r = {0};
  cr_assert(roofline_memory(&r, p, 0.05, &err), "%s", err.text);
  cr_assert(r.n >= 2 && r.threads == 2);
  for (int i = 0; i < r.n; i++) {
    cr_assert(gt(dbl, r.memory[i].rate, 1e7));
    cr_assert(lt(dbl, r.memory[i].rate, 1e14)); /* a walk that was left out would pass that */
    if (i) cr_assert(r.memory[i].bytes > r.memory[i - 1].bytes && r.memory[i].rate <= r.memory[i - 1].rate);
  }
  Roofline better = r;
  for (int i = 0; i < better.n; i++) better.memory[i].rate = 1e15;
  cr_assert(roofline_memory(&better, p, 0.01, &err));
  cr_assert(eq(dbl, better.memory[0].rate, 1e15)); /* what was better stays */
  pool_free(p);
}

/* ---- a program with its places: list eval runs list sample three times */

static void give_place(ProgramStep *s, uint32_t place) {
  s->place = place;
  s->nplaces = 4; /* its own, two outputs' and another one */
}

static Fixture *placed(void) {
  Fixture *f = fixture_new();
  uint32_t file = fix_text(f, "a \"b\"\\\n.yaml"), first = fix_text(f, "layer.0"), second = fix_text(f, "layer.1");
  ProgramPlace at[8];
  for (int i = 0; i < 4; i++) at[i] = (ProgramPlace){.file = file, .line = 12, .in = first};
  for (int i = 4; i < 8; i++) at[i] = (ProgramPlace){.file = file, .line = 13, .in = second};
  f->h.places = fix_table(f, at, 8, sizeof *at);
  ProgramInt three = {.c = 3};
  f->h.ints = fix_table(f, &three, 1, sizeof three);
  f->h.bytes = f->n;
  ProgramStep *steps = (ProgramStep *)(f->blob + f->h.steps.at);
  ProgramList *lists = (ProgramList *)(f->blob + f->h.lists.at);
  for (uint32_t i = 0; i < f->h.steps.n; i++) steps[i].ints = steps[i].nints = 0;
  give_place(&steps[0], 0); /* forward in micro */
  ProgramStep *eval = &steps[lists[2].step];
  eval[1] = eval[0];
  give_place(&eval[1], 4); /* forward in eval */
  eval[0] = (ProgramStep){.kind = STEP_LIST, .kernel = 3, .count = 0};
  fixture_seal(f);
  return f;
}

Test(sites, are_counted_and_named) {
  Report err = {0};
  Fixture *f = placed();
  Program p;
  cr_assert(program_open(&p, f->blob, fix_kernels, &err), "%s", err.text);
  int64_t calls[32] = {0};
  sites_count(&p, program_list(&p, "micro"), 5, calls);
  sites_count(&p, program_list(&p, "eval"), 2, calls);
  sites_count(&p, -1, 2, calls);
  const ProgramList *micro = &p.lists[0], *eval = &p.lists[2], *sample = &p.lists[3];
  cr_assert(eq(i64, calls[micro->step], 5));
  cr_assert(eq(i64, calls[eval->step], 0)); /* the LIST itself */
  cr_assert(eq(i64, calls[eval->step + 1], 2));
  cr_assert(eq(i64, calls[sample->step], 6));
  Text line = {0}, layer = {0};
  sites_lines(&p, FIX_FORWARD, calls, &line), sites_layers(&p, FIX_FORWARD, calls, &layer);
  cr_assert(eq(int, sites_number(&p, FIX_FORWARD, calls), 2));
  cr_assert(eq(str, line.s, "a \"b\"\\\n.yaml:12,13"));
  cr_assert(eq(str, layer.s, "layer.0 to layer.1 (2)"));
  line.n = layer.n = 0;
  calls[eval->step + 1] = 0; /* that one is not called */
  sites_lines(&p, FIX_FORWARD, calls, &line), sites_layers(&p, FIX_FORWARD, calls, &layer);
  cr_assert(eq(str, line.s, "a \"b\"\\\n.yaml:12"));
  cr_assert(eq(str, layer.s, "layer.0"));
  line.n = 0;
  sites_lines(&p, FIX_SUM, calls, &line);
  cr_assert(eq(str, line.s, "bigram.yaml:2")); /* the kernel's own: its steps have no places */
  text_free(&line), text_free(&layer);
  fixture_free(f);
}

/* ---- what an engine's threads note */

typedef struct Run {
  Fixture *f;
  Program p;
  Engine *e;
  Profile *profile;
  Report err;
} Run;

static void run_open(Run *r, int threads, int trace_steps) {
  *r = (Run){.f = placed()};
  cr_assert(program_open(&r->p, r->f->blob, fix_kernels, &r->err), "%s", r->err.text);
  r->e = engine_new(&r->p, threads, &r->err);
  r->profile = profile_new(&r->p, threads, &r->err);
  cr_assert(r->e && r->profile, "%s", r->err.text);
  if (trace_steps) r->profile->trace = trace_new(&r->p, threads, trace_steps, 3, 4, &r->err);
}

static void run_close(Run *r) {
  engine_free(r->e), profile_free(r->profile), fixture_free(r->f);
}

static void one_step(Run *r, int64_t number) {
  profile_step(r->profile, number);
  engine_set_profile(r->e, r->profile);
  int64_t from = profile_from(r->profile);
  engine_run(r->e, program_list(&r->p, "micro"));
  profile_to(r->profile, PROFILE_MICRO, 1, from);
  engine_set_profile(r->e, NULL);
  profile_to(r->profile, PROFILE_STEP, number, from);
}

Test(profile, notes_every_thread_without_gaps) {
  for (int threads = 1; threads <= 3; threads++) {
    Run r;
    run_open(&r, threads, 0);
    engine_run(r.e, 0); /* not on yet */
    for (int i = 1; i <= 5; i++) one_step(&r, i);
    engine_run(r.e, 0); /* off again */
    for (int t = 0; t < threads; t++) {
      int64_t told = 0;
      for (int s = 0; s < 3; s++) {
        const StepTime *v = &r.profile->lane[t].step[s];
        cr_assert(eq(i64, v->calls, 4), "%d threads, thread %d, step %d", threads, t, s); /* the first is left out */
        cr_assert(v->busy >= 0 && v->wait >= 0);
        told += v->busy + v->wait;
      }
      cr_assert(gt(i64, told, 0));
      cr_assert(le(i64, told, r.profile->phase[PROFILE_MICRO].ns));
    }
    double seconds;
    cr_assert(eq(i64, profile_kernel(r.profile, FIX_SUM, &seconds), 4));
    cr_assert(seconds > 0 && seconds < 1e-9 * (double)r.profile->phase[PROFILE_MICRO].ns);
    cr_assert(r.profile->first == 2 && r.profile->last == 5);
    run_close(&r);
  }
}

Test(profile, of_one_step_is_of_that_one) {
  Run r;
  Text t = {0};
  run_open(&r, 2, 0);
  profile_table(r.profile, &t);
  cr_assert(eq(str, t.s, "profile: no step was finished\n"));
  one_step(&r, 9);
  t.n = 0;
  profile_table(r.profile, &t);
  cr_assert(ne(ptr, strstr(t.s, "profile of 1 steps of "), NULL), "%s", t.s);
  cr_assert(ne(ptr, strstr(t.s, " (9 to 9)"), NULL), "%s", t.s);
  text_free(&t);
  run_close(&r);
}

Test(profile, a_null_one_notes_nothing) {
  profile_step(NULL, 1);
  cr_assert(eq(i64, profile_from(NULL), 0));
  profile_to(NULL, PROFILE_STEP, 1, 0);
}

/* Kernels and other rows add up to the row of the step; columns are where the head says. */
Test(profile, rows_add_up) {
  Run r;
  Text t = {0};
  run_open(&r, 2, 0);
  for (int i = 1; i <= 30; i++) one_step(&r, i);
  r.profile->limit = (Roofline){.threads = 2, .flops = 1e12, .n = 1, .memory = {{1000, 1e12}}};
  profile_table(r.profile, &t);
  double sum = 0, step = 0;
  int rows = 0;
  char *at = strstr(t.s, "\nkernel ");
  cr_assert(ne(ptr, at, NULL), "%s", t.s);
  for (char *line = strchr(at + 1, '\n') + 1; strncmp(line, "between steps", 13); line = strchr(line, '\n') + 1) {
    double calls, ms = 0;
    if (sscanf(line, "step %lf", &step) == 1) continue;
    cr_assert(sscanf(line, "between kernels %lf", &ms) == 1 || sscanf(line, "data %lf", &ms) == 1 ||
                  sscanf(line, "rest of the step %lf", &ms) == 1 || sscanf(line, "%*s %lf %lf", &calls, &ms) == 2,
              "%s", line);
    sum += ms, rows++;
  }
  cr_assert(eq(int, rows, 6), "%s", t.s);
  cr_assert(epsilon_eq(dbl, sum, step, 0.03 * step + 0.005), "%g and %g\n%s", sum, step, t.s);
  cr_assert(ne(ptr, strstr(t.s, "\nforward               1  "), NULL), "%s", t.s);
  text_free(&t);
  run_close(&r);
}

/* ---- the trace */

static json_t *events_of(const char *path, json_t **root) {
  json_error_t why;
  *root = json_load_file(path, JSON_REJECT_DUPLICATES, &why);
  cr_assert(ne(ptr, *root, NULL), "%s: %d: %s", path, why.line, why.text);
  json_t *events = json_object_get(*root, "traceEvents");
  cr_assert(ne(int, json_is_array(events), 0));
  return events;
}

static const char *text_of(json_t *v, const char *key) {
  const char *s = json_string_value(json_object_get(v, key));
  return s ? s : "";
}

Test(trace, keeps_the_last_steps) {
  for (int steps = 2; steps <= 7; steps += 5) { /* fewer than there is room for, and more */
    Dir d = dir_new();
    Run r;
    run_open(&r, 2, 3);
    for (int i = 1; i <= steps; i++) one_step(&r, i);
    cr_assert(trace_write(r.profile->trace, in(&d, "t.json"), &r.err), "%s", r.err.text);
    json_t *root, *v, *events = events_of(in(&d, "t.json"), &root);
    int kept = steps < 3 ? steps : 3, calls[2] = {0}, outer = 0, first = steps - kept + 1;
    size_t i;
    json_array_foreach(events, i, v) {
      int pid = -1;
      if (strcmp(text_of(v, "ph"), "X")) continue;
      cr_assert(eq(int, json_unpack(v, "{s:i}", "pid", &pid), 0));
      cr_assert(eq(int, pid, 0));
      cr_assert(json_number_value(json_object_get(v, "ts")) >= 0 && json_number_value(json_object_get(v, "dur")) >= 0);
      int number, tid = (int)json_integer_value(json_object_get(v, "tid"));
      if (sscanf(text_of(v, "name"), "step %d", &number) == 1) cr_assert(eq(int, number, first + outer++));
      if (strcmp(text_of(v, "cat"), "kernel")) continue;
      json_t *args = json_object_get(v, "args");
      cr_assert(tid == 0 || tid == 1);
      cr_assert(json_number_value(json_object_get(args, "GFLOP/s")) > 0);
      cr_assert(json_number_value(json_object_get(args, "GB/s")) > 0);
      cr_assert(ne(int, json_is_number(json_object_get(args, "wait_us")), 0));
      if (!strcmp(text_of(v, "name"), "forward")) {
        cr_assert(eq(str, (char *)text_of(args, "line"), "a \"b\"\\?.yaml:12"));
        cr_assert(eq(str, (char *)text_of(args, "layer"), "layer.0"));
      }
      calls[tid]++;
    }
    cr_assert(eq(int, outer, kept));
    cr_assert(calls[0] == 3 * kept && calls[1] == 3 * kept, "%d and %d", calls[0], calls[1]);
    json_decref(root);
    cr_assert(ne(int, access(in(&d, ".tmp-t.json"), F_OK), 0));
    run_close(&r);
    dir_free(&d);
  }
}

Test(trace, room_is_kept_to) {
  Run r;
  Dir d = dir_new();
  run_open(&r, 1, 0);
  r.profile->trace = trace_new(&r.p, 1, 1, 2, 1, &r.err); /* room for two of three calls, one of two spans */
  one_step(&r, 1);
  cr_assert(trace_write(r.profile->trace, in(&d, "t.json"), &r.err));
  json_t *root, *v, *events = events_of(in(&d, "t.json"), &root);
  int kernels = 0, spans = 0;
  size_t i;
  json_array_foreach(events, i, v) {
    kernels += !strcmp(text_of(v, "cat"), "kernel");
    spans += !strcmp(text_of(v, "cat"), "run");
  }
  cr_assert(kernels == 2 && spans == 1);
  json_decref(root);
  run_close(&r);
  dir_free(&d);
}

Test(trace, too_many_are_refused) {
  Run r;
  run_open(&r, 1, 0);
  cr_assert(eq(ptr, trace_new(&r.p, 4, 10, TRACE_EVENTS / 20, 4, &r.err), NULL));
  cr_assert(ne(ptr, strstr(r.err.text, "--trace-steps 5 would fit"), NULL), "%s", r.err.text);
  cr_assert(eq(ptr, trace_new(&r.p, 4, 1, TRACE_EVENTS, 4, &r.err), NULL));
  cr_assert(ne(ptr, strstr(r.err.text, "; 0 would fit"), NULL), "%s", r.err.text);
  run_close(&r);
}

Test(trace, an_empty_one_is_valid) {
  Run r;
  Dir d = dir_new();
  run_open(&r, 2, 2);
  cr_assert(trace_write(r.profile->trace, in(&d, "t.json"), &r.err));
  json_t *root;
  cr_assert(gt(sz, json_array_size(events_of(in(&d, "t.json"), &root)), 0));
  json_decref(root);
  run_close(&r);
  dir_free(&d);
}

Test(trace, where_it_cannot_go) {
  Run r;
  Dir d = dir_new();
  run_open(&r, 1, 1);
  cr_assert(trace_possible(in(&d, "t.json"), &r.err));
  cr_assert(not(trace_possible(in(&d, "none/t.json"), &r.err)));
  cr_assert(not(trace_possible(in(&d, ""), &r.err)));
  cr_assert(not(trace_write(r.profile->trace, in(&d, "none/t.json"), &r.err)));
  cr_assert(eq(int, r.err.lines, 3), "%s", r.err.text);
  run_close(&r);
  dir_free(&d);
}
