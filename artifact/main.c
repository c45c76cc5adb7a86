/* The entry point of every artifact: finds the command, answers --help, --version and --licenses, and hands over. */
#include "artifact/card.h"
#include "artifact/command.h"
#include "runtime/options.h"
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <unistd.h>

const CommandInfo *const command_table[] = {&command_generate, &command_chat,  &command_serve,  &command_batch,
                                            &command_eval,     &command_bench, &command_weights};
const int command_count = LEN(command_table);

static const CommandInfo *find(const char *name) {
  for (int i = 0; i < command_count; i++)
    if (!strcmp(command_table[i]->name, name)) return command_table[i];
  return NULL;
}

static void help(const char *self, const char *model) {
  printf("The model '%s' in a file, built by ink %s.\n\nusage: %s COMMAND [options]\n\n", model, INK_VERSION, self);
  for (int i = 0; i < command_count; i++) printf("  %-9s %s\n", command_table[i]->name, command_table[i]->summary);
  printf("\n%s COMMAND --help lists the options; --version tells what this is, --licenses what is in it\n", self);
}

static int unknown(const char *self, const char *name) {
  const char *names[16];
  for (int i = 0; i < command_count; i++) names[i] = command_table[i]->name;
  const char *near = report_suggest(name, names, command_count);
  fprintf(stderr, "error: no command '%s'%s%s%s; %s --help lists them\n", name, near ? "; did you mean '" : "",
          near ? near : "", near ? "'?" : "", self);
  return STATUS_USAGE;
}

/* The file of this program: as the kernel has it, and where there is no /proc as it was started. */
static const char *own_path(void) {
  static char path[PATH_MAX];
  if (realpath("/proc/self/exe", path)) return path;
  const char *name = (const char *)getauxval(AT_EXECFN);
  return name ? name : "";
}

static int version(const Program *p, const char *path) {
  Report err = {0};
  Artifact *a = artifact_open(path, &err);
  json_t *card = a ? card_read(a, &err) : NULL;
  Text t = {0};
  printf("%s for %s, built by ink %s (program format %d, artifact format %d, spec %016llx)\n",
         program_string(p, p->h->model), program_string(p, p->h->target), INK_VERSION, PROGRAM_VERSION,
         ARTIFACT_VERSION, (unsigned long long)p->h->spec_hash);
  if (card) card_print(card, &t);
  if (t.s) fputs(t.s, stdout);
  text_free(&t);
  json_decref(card);
  artifact_close(a);
  return err.lines ? fail(&err, STATUS_FAILED) : STATUS_DONE;
}

static int run_command(Call *c) {
  for (int i = 0; i < c->argc; i++)
    if (!strcmp(c->argv[i], "--help") || !strcmp(c->argv[i], "-h")) {
      Text t = {0};
      command_help(c->self, c->info, &t);
      fputs(t.s, stdout);
      text_free(&t);
      return STATUS_DONE;
    }
  return c->info->run(c);
}

int main(int argc, char **argv) {
  Program p;
  Report err = {0};
  const char *self = argc ? argv[0] : "ARTIFACT", *word = argc > 1 ? argv[1] : NULL;
  if (!program_open(&p, ink_program, ink_kernels, &err)) return fail(&err, STATUS_FAILED);
  const char *model = program_string(&p, p.h->model);
  if (!word) {
    help(self, model);
    return STATUS_USAGE;
  }
  if (!strcmp(word, "--help") || !strcmp(word, "-h") || !strcmp(word, "help")) {
    help(self, model);
    return STATUS_DONE;
  }
  if (!strcmp(word, "--version")) return version(&p, own_path());
  if (!strcmp(word, "--licenses")) {
    fputs(licenses_text, stdout);
    fputs(artifact_licenses, stdout);
    return STATUS_DONE;
  }
  Call c = {.self = self,
            .path = own_path(),
            .blob = ink_program,
            .kernels = ink_kernels,
            .info = find(word),
            .argc = argc - 2,
            .argv = argv + 2};
  return c.info ? run_command(&c) : unknown(self, word);
}
