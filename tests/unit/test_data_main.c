/* The command `ink data`: what it refuses and how, its help, its exit statuses. Its output goes to a file that is read
 * back. */
#include "data/data.h"

#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static char said[1 << 16];

/* Runs `ink data ...`; both streams end in `said`. Words are split at spaces. */
static int run(const char *words) {
  char line[1024], *argv[32] = {(char *)"data"}, name[] = "/tmp/ink-test-XXXXXX";
  int argc = 1, fd = mkstemp(name), old[2] = {dup(1), dup(2)};
  snprintf(line, sizeof line, "%s", words);
  for (char *w = strtok(line, " "); w; w = strtok(NULL, " ")) argv[argc++] = w;
  fflush(NULL);
  dup2(fd, 1), dup2(fd, 2);
  int status = data_main(argc, argv);
  fflush(NULL);
  dup2(old[0], 1), dup2(old[1], 2);
  ssize_t n = pread(fd, said, sizeof said - 1, 0);
  said[n > 0 ? n : 0] = 0;
  close(fd), close(old[0]), close(old[1]);
  unlink(name);
  return status;
}

Test(data_main, command_lines_that_are_wrong) {
  static const char *const cases[][2] = {
      {"", "usage: ink data prepare"},
      {"prepair", "did you mean 'prepare'?"},
      {"prepare", "no INPUT"},
      {"prepare a.txt", "no --out"},
      {"prepare a.txt --uot x", "did you mean '--out'?"},
      {"prepare a.txt --tokeniser=char --out x", "did you mean '--tokenizer'?"},
      {"prepare a.txt --banana --out x", "unknown option '--banana'"},
      {"prepare a.txt --out", "a value is missing after --out"},
      {"prepare a.txt --out x --out y", "--out is given twice"},
      {"prepare a.txt --out x --force=1", "--force takes no value"},
      {"prepare a.txt --out x --tokenizer chars", "did you mean 'char'?"},
      {"prepare a.txt --out x --tokenizer gpt2", "gpt2:DIR"},
      {"prepare a.txt --out x --tokenizer hf:", "hf:DIR"},
      {"prepare a.txt --out x --tokenizer train:bpe:256", "takes 257 to"},
      {"prepare a.txt --out x --tokenizer train:bpe:many", "takes 257 to"},
      {"prepare a.txt --out x --val 1", "--val takes a share"},
      {"prepare a.txt --out x --val nan", "--val takes a share"},
      {"prepare a.txt --out x --val 0.1x", "--val takes a share"},
      {"prepare a.txt --out x --format nanogtp", "did you mean 'nanogpt'?"},
      {"prepare a.txt --out x --shard-tokens 0", "--shard-tokens takes 1"},
      {"prepare a.txt --out x --shard-tokens 3G", "--shard-tokens takes 1"},
      {"prepare a.txt --out x --shard-tokens -5", "--shard-tokens takes 1"},
      {"prepare a.txt --out x --shard-tokens 99999999999999999999", "--shard-tokens takes 1"},
      {"prepare a.txt --out x --shard-tokens 10 --format nanogpt", "has no shards"},
      {"prepare a.txt --out x --seed one", "--seed takes a whole number"},
  };
  for (int i = 0; i < LEN(cases); i++) {
    cr_assert(eq(int, run(cases[i][0]), 2), "%s", cases[i][0]);
    cr_assert(ne(ptr, (void *)strstr(said, cases[i][1]), NULL), "%s: %s", cases[i][0], said);
  }
}

Test(data_main, help_names_every_option) {
  static const char *const names[] = {"--out",          "--tokenizer", "--val",   "--format",
                                      "--shard-tokens", "--seed",      "--force", "--help"};
  cr_assert(eq(int, run("prepare --help"), 0));
  for (int i = 0; i < LEN(names); i++) cr_assert(ne(ptr, (void *)strstr(said, names[i]), NULL), "%s", names[i]);
  cr_assert(eq(int, run("--help"), 0));
  cr_assert(ne(ptr, (void *)strstr(said, "prepare"), NULL));
}

Test(data_main, work_that_fails_and_work_that_is_done) {
  char words[512], dir[] = "/tmp/ink-test-XXXXXX";
  cr_assert(ne(ptr, mkdtemp(dir), NULL));
  snprintf(words, sizeof words, "prepare %s/a.txt --out %s/out", dir, dir);
  cr_assert(eq(int, run(words), 1));
  cr_assert(ne(ptr, (void *)strstr(said, "error: "), NULL));
  char path[256];
  snprintf(path, sizeof path, "%s/a.txt", dir);
  FILE *f = fopen(path, "w");
  fputs("some text, enough for two parts", f);
  fclose(f);
  strcat(words, " --tokenizer=bytes --val=0.25");
  cr_assert(eq(int, run(words), 0), "%s", said);
  cr_assert(ne(ptr, (void *)strstr(said, "256 token ids"), NULL));
  cr_assert(ne(ptr, (void *)strstr(said, "23 tokens"), NULL), "%s", said);
  static const char *const made[] = {"out/meta.json",
                                     "out/tokenizer.json",
                                     "out/tokenizer_config.json",
                                     "out/train_000000.bin",
                                     "out/val_000000.bin",
                                     "out",
                                     "a.txt",
                                     "."};
  for (int i = 0; i < LEN(made); i++) {
    snprintf(path, sizeof path, "%s/%s", dir, made[i]);
    if (strcmp(made[i], ".")) cr_assert(eq(int, remove(path), 0), "%s", path);
  }
  cr_assert(eq(int, rmdir(dir), 0)); /* and nothing else */
}
