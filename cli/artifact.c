/* ink build --for infer: pipeline, link, then the artifact's sections (artifact/assemble.h). */
#include "cli/artifact.h"
#include "artifact/assemble.h"
#include "runtime/machine.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

const char *artifact_weights(Arena *a, const char *path) {
  const char *latest = arena_printf(a, "%s/checkpoints/latest", path);
  return fs_is_dir(latest) ? latest : path;
}

/* The options given, but for those that say where things lie or what is printed: the card has them. */
static const char **flags_of(const Args *a, int *n) {
  static const char *const left_out[] = {"-o",        "--weights", "--tokenizer", "--quiet",      "--time",
                                         "--tune-db", "--cc",      "--train",     "--dump-after", "--for"};
  const char **flags = NEW_ARRAY(a->arena, const char *, a->ngiven + 1);
  *n = 0;
  for (int i = 0; i < a->ngiven; i++) {
    const Option *o = a->given[i].option;
    bool out = false;
    for (int k = 0; k < LEN(left_out); k++) out = out || !strcmp(o->name, left_out[k]);
    if (!out) flags[(*n)++] = o->arg ? arena_printf(a->arena, "%s %s", o->name, a->given[i].value) : o->name;
  }
  return flags;
}

static void print_report(Compile *c, const char *path, const PackReport *w, double seconds, bool times) {
  Text t = {0};
  struct stat st = {0};
  compile_report(c, sysconf(_SC_NPROCESSORS_ONLN), times, &t);
  text_add(&t, "weights: %s in %s, packed in %.2f s (%.2f GB/s)\n", cli_bytes(c->arena, (int64_t)w->bytes_read),
           w->dtype, w->seconds, w->seconds > 0 ? 1e-9 * (double)w->bytes_read / w->seconds : 0);
  if (w->rounded)
    text_add(&t, "weights: %" PRId64 " elements were rounded to %s\n", w->rounded, dtype_name[c->serve.dtype]);
  if (w->dropped)
    text_add(&t, "weights: %" PRId64 " elements are left out: the model has no use for them\n", w->dropped);
  stat(path, &st);
  text_add(&t, "%s: %s, built in %.2f s\n", path, cli_bytes(c->arena, st.st_size), seconds);
  fwrite(t.s, 1, t.n, stdout);
  text_free(&t);
}

static bool assemble_it(Compile *c, const Args *a, const char *path, const char *program, const char *from,
                        PackReport *weights) {
  Report err = {0};
  AssembleSpec s = {.path = path,
                    .program = program,
                    .blob = (const unsigned char *)c->blob.s,
                    .weights = artifact_weights(c->arena, from),
                    .tokenizer = args_get(a, "--tokenizer"),
                    .dtype = dtype_name[c->serve.dtype],
                    .threads = machine_cores()};
  s.flags = flags_of(a, &s.nflags);
  if (s.tokenizer) s.tokenizer = artifact_weights(c->arena, s.tokenizer);
  bool ok = assemble(&s, weights, &err);
  char *rest = err.text;
  for (char *line; !ok && (line = strsep(&rest, "\n"));)
    if (*line) diag_error(c->diags, (Span){0}, "%s", line);
  report_free(&err);
  return ok;
}

bool artifact_build(Compile *c, const Args *a, const char *path, const char *cc, bool quiet, bool times) {
  double start = machine_seconds(), since;
  PackReport weights;
  /* What can be told before the work of minutes is. */
  Compile early = *c;
  if (!compile_run(&early, STAGE_SOURCE)) return false;
  const char *given = args_get(a, "--weights"), *from = given ? given : compile_weights(&early);
  const char *needed[] = {from, args_get(a, "--tokenizer")};
  if (!from)
    return diag_error(c->diags, (Span){0}, "--for infer needs --weights FILE|DIR: an artifact carries its weights");
  for (int i = 0; i < LEN(needed); i++)
    if (needed[i] && access(needed[i], R_OK))
      return diag_error(c->diags, (Span){0}, "cannot read %s: %s", needed[i], strerror(errno));
  if (!target_resolve(c->arena, c->diags, c->target_name, &c->target)) return false;
  const char *library = place_inkserve(c->arena, c->diags, &c->target);
  if (!library || !compile_run(c, STAGE_OBJECT)) return false;
  if (!cc) cc = getenv("CC");
  const char *program = arena_printf(c->arena, "%s.program.%d", path, (int)getpid());
  since = machine_seconds();
  bool ok = link_program(c->arena, c->diags, &c->object, &c->target, cc && *cc ? cc : NULL, library, program);
  compile_phase(c, "link", &since);
  ok = ok && assemble_it(c, a, path, program, from, &weights);
  compile_phase(c, "assemble", &since);
  unlink(program);
  if (ok && !quiet) print_report(c, path, &weights, since - start, times);
  return ok;
}
