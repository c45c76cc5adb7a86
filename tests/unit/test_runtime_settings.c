/* Settings, the schedule, and the command line. */
#include "runtime/options.h"
#include "tests/unit/runtime_criterion.h"
#include "tests/unit/runtime_fixture.h"

static Fixture *f;
static Program p;
static Settings s;
static Report err;

static void setup(void) {
  f = fixture_new();
  cr_assert(program_open(&p, f->blob, fix_kernels, &err));
  cr_assert(settings_default(&s, &p, &err));
}
static void teardown(void) {
  report_free(&err);
  fixture_free(f);
}
TestSuite(settings, .init = setup, .fini = teardown);

Test(settings, program_over_table) {
  cr_assert(eq(dbl, s.lr, 0.05));    /* the program's */
  cr_assert(eq(dbl, s.beta2, 0.95)); /* the table's */
  cr_assert(eq(str, s.schedule, "cosine"));
  cr_assert(settings_check(&s, &p, &err));
  cr_assert(eq(i64, s.global_batch, FIX_BATCH));
}

Test(settings, numbers) {
  cr_assert(settings_assign(&s, "lr=5e-5", &err));
  cr_assert(eq(dbl, s.lr, 5e-5));
  cr_assert(settings_assign(&s, "steps=1e4", &err));
  cr_assert(eq(i64, s.steps, 10000));
  char text[64];
  for (int i = 0; i < setting_count; i++) { /* every value survives its text */
    Settings again = s;
    settings_text(&s, i, text);
    if (!setting_table[i].build) cr_assert(settings_set(&again, setting_table[i].key, text, &err), "%s", err.text);
    cr_assert(zero(int, memcmp(&again, &s, sizeof(s))), "%s = %s", setting_table[i].key, text);
  }
}

Test(settings, refusals) {
  static const char *const bad[][2] = {{"lr=fast", "not a number"},
                                       {"lr=", "not a number"},
                                       {"lr=nan", "not a number"},
                                       {"lr=0x10", "not a number"},
                                       {"lr=1e999", "not a number"},
                                       {"lr=-1", "not between"},
                                       {"adamw.beta1=2", "between"},
                                       {"steps=2.5", "whole number"},
                                       {"steps=1e30", "between"},
                                       {"checkpoint.keep=0", "between"},
                                       {"schedule.kind=sine", "none of cosine"},
                                       {"lr", "key=value"},
                                       {"=3", "key=value"},
                                       {"lrr=1", "did you mean 'lr'"},
                                       {"beta1=0.9", "did you mean 'adamw.beta1'"},
                                       {"schedule.warmpu=1", "did you mean 'schedule.warmup'"},
                                       {"nothing_like_it=1", "--help"},
                                       {"micro_batch=2", "ink build"},
                                       {"seq=64", "fixed when the program is built"}};
  for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
    Settings before = s;
    cr_assert(not(settings_assign(&s, bad[i][0], &err)), "%s was taken", bad[i][0]);
    cr_assert(ne(ptr, strstr(err.text, bad[i][1]), NULL), "%s: %s", bad[i][0], err.text);
    cr_assert(zero(int, memcmp(&before, &s, sizeof(s))));
    report_free(&err);
  }
  s.global_batch = 6;
  cr_assert(not(settings_check(&s, &p, &err)));
}

Test(settings, schedule) {
  s.lr = 1, s.floor = 0.1, s.warmup = 4, s.steps = 104;
  for (int i = 0; i < 4; i++) cr_assert(ieee_ulp_eq(dbl, settings_lr(&s, i), (i + 1) / 5.0, 2));
  cr_assert(ieee_ulp_eq(dbl, settings_lr(&s, 4), 1, 2));
  cr_assert(epsilon_eq(dbl, settings_lr(&s, 54), 0.55, 1e-12));
  cr_assert(epsilon_eq(dbl, settings_lr(&s, 29), 0.1 + 0.45 * (1 + sqrt(0.5)), 1e-12));
  cr_assert(eq(dbl, settings_lr(&s, 104), 0.1));
  cr_assert(eq(dbl, settings_lr(&s, 9999), 0.1));
  strcpy(s.schedule, "linear");
  cr_assert(epsilon_eq(dbl, settings_lr(&s, 54), 0.55, 1e-12));
  cr_assert(epsilon_eq(dbl, settings_lr(&s, 29), 0.775, 1e-12));
  strcpy(s.schedule, "constant");
  cr_assert(eq(dbl, settings_lr(&s, 4), 1));
  cr_assert(eq(dbl, settings_lr(&s, 5000), 1));
  s.warmup = 0;
  cr_assert(eq(dbl, settings_lr(&s, 0), 1));
  s.warmup = 200, s.steps = 100; /* a warm-up longer than the run is no division by nothing */
  strcpy(s.schedule, "cosine");
  cr_assert(lt(dbl, settings_lr(&s, 99), 1));
  cr_assert(eq(dbl, settings_lr(&s, 200), 0.1));
}

/* ---- options */

static bool parse(Options *o, const char *line) {
  static char text[512];
  static char *argv[64];
  int argc = 1;
  argv[0] = "program";
  strcpy(text, line);
  for (char *save, *w = strtok_r(text, " ", &save); w; w = strtok_r(NULL, " ", &save)) argv[argc++] = w;
  return options_parse(o, argc, argv, &err);
}

Test(settings, options) {
  Options o;
  cr_assert(parse(&o, "--data d --run r --set lr=1 clip=2 --steps 5 --seed=9 --resume --threads 3 --format nanogpt"),
            "%s", err.text);
  cr_assert(eq(str, (char *)o.data, "d"));
  cr_assert(eq(int, o.threads, 3));
  cr_assert(o.resume);
  cr_assert(eq(int, o.format, FORMAT_NANOGPT));
  cr_assert(eq(int, o.nset, 4));
  cr_assert(eq(str, (char *)o.set[1], "clip=2"));
  cr_assert(eq(str, (char *)o.set[2], "steps=5"));
  cr_assert(eq(str, (char *)o.set[3], "seed=9"));
}

Test(settings, option_errors) {
  static const char *const bad[][2] = {{"--dat x", "did you mean '--data'"},
                                       {"--resme", "did you mean '--resume'"},
                                       {"--zzzzzz", "--help"},
                                       {"stray", "stands alone"},
                                       {"--data", "--data wants"},
                                       {"--data --run r", "--data wants"},
                                       {"--threads x", "whole number"},
                                       {"--threads 0", "whole number"},
                                       {"--threads 2x", "whole number"},
                                       {"--format gguf", "neither"},
                                       {"--resume=1", "takes no value"},
                                       {"--order random", "neither"}};
  for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
    Options o;
    cr_assert(not(parse(&o, bad[i][0])), "%s was taken", bad[i][0]);
    cr_assert(ne(ptr, strstr(err.text, bad[i][1]), NULL), "%s: %s", bad[i][0], err.text);
    report_free(&err);
  }
  Options o;
  cr_assert(not(parse(&o, "--bad1 --bad2 --threads no")));
  cr_assert(eq(int, err.lines, 3)); /* all of them in one run */
}

Test(settings, help_names_everything) {
  Report help = {0};
  options_help(&p, "prog", &help);
  for (int i = 0; i < setting_count; i++)
    cr_assert(ne(ptr, strstr(help.text, setting_table[i].key), NULL), "%s", setting_table[i].key);
  static const char *const options[] = {
      "--data",      "--val",     "--run",    "--steps",       "--init",  "--seed",    "--threads",
      "--set",       "--resume",  "--sample", "--format",      "--grads", "--logits",  "--order",
      "--eval-only", "--profile", "--trace",  "--trace-steps", "--help",  "--version", "--licenses"};
  for (size_t i = 0; i < sizeof(options) / sizeof(options[0]); i++)
    cr_assert(ne(ptr, strstr(help.text, options[i]), NULL), "%s", options[i]);
  cr_assert(ne(ptr, strstr(help.text, "0.05"), NULL)); /* the program's default, not the table's */
  report_free(&help);
}
