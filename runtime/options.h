/* The command line of a training binary. */
#ifndef RT_OPTIONS_H
#define RT_OPTIONS_H
#include "runtime/loader.h"
#include "runtime/settings.h"

typedef struct Options {
  const char *data, *val, *run, *init, *grads, *logits, *trace;
  int threads; /* 0: as many as cores */
  int sample;
  int trace_steps; /* 0: not said */
  TokenFormat format;
  LoaderOrder order;
  bool resume, eval_only, profile, check_nan, help, version, licenses;
  const char *set[64]; /* assignments in order, --steps and --seed among them */
  int nset;
  char own[4][64]; /* texts of assignments that --steps and --seed made */
} Options;

bool options_parse(Options *o, int argc, char **argv, Report *err);
/* Appends usage, options and settings with their defaults to `out`. */
void options_help(const Program *p, const char *name, Report *out);
extern const char licenses_text[];
#endif
