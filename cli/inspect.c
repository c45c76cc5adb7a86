/* ink inspect: the card of an artifact, which is read and not run. */
#include "artifact/card.h"
#include "cli/cli.h"

#include <stdio.h>
#include <string.h>

static bool print(const Artifact *a, const Args *args, Report *err) {
  const char *name = args_get(args, "--section");
  const ArtifactSection *s = args_get(args, "--json") ? artifact_section(a, CARD_SECTION) : NULL;
  json_t *card = card_read(a, err);
  if (!card) return false;
  if (name && !(s = artifact_section(a, name))) {
    json_decref(card);
    return report_add(err, "%s has no section '%s'", a->path, name);
  }
  Text t = {0}, clean = {0};
  if (s) {
    fwrite(artifact_bytes(a, s), 1, s->bytes, stdout);
    if (!name) putchar('\n');
  } else {
    card_print(card, &t);
    text_write_clean(&clean, t.s, t.n);
    fwrite(clean.s, 1, clean.n, stdout);
  }
  text_free(&t);
  text_free(&clean);
  json_decref(card);
  return true;
}

static int run(Args *args) {
  Report err = {0};
  if (!args->noperands) {
    cli_error("inspect: which artifact? usage: ink inspect %s", args->command->usage);
    return EXIT_USAGE;
  }
  Artifact *a = artifact_open(args->operand[0], &err);
  bool ok =
      a && artifact_check(a, args_get(args, "--no-check") ? "weights.safetensors" : NULL, &err) && print(a, args, &err);
  char *rest = err.text;
  for (char *line; (line = strsep(&rest, "\n"));)
    if (*line) cli_error("inspect: %s", line);
  report_free(&err);
  artifact_close(a);
  return ok ? EXIT_OK : EXIT_FAILED;
}

static const Option options[] = {
    {"--json", NULL, false, "the card as it is: JSON"},
    {"--section", "NAME", false, "the bytes of a section, as they are"},
    {"--no-check", NULL, false, "do not check the weights' hash"},
};

const Command cmd_inspect = {
    .name = "inspect",
    .usage = "ARTIFACT",
    .summary = "what an artifact is, without running it",
    .doc = "Reads the file of ink build --for infer, checks the hashes of its sections and prints its card: model, "
           "target, dtypes,\n"
           "context, how it was built, sections, licences. Nothing in it is run.",
    .options = options,
    .noptions = LEN(options),
    .operands = 1,
    .run = run,
};
