/* ink: finds the subcommand, answers help and version, and hands over. */
#include "cli/cli.h"
#include "data/data.h"

#include <stdio.h>
#include <string.h>

const Command *const commands[] = {&cmd_data, &cmd_import, &cmd_build, &cmd_train, &cmd_serve,  &cmd_inspect,
                                   &cmd_tune, &cmd_dump,   &cmd_diff,  &cmd_opt,   &cmd_bisect, &cmd_machine};
const int command_count = LEN(commands);

static const Command *command_find(const char *name) {
  for (int i = 0; i < command_count; i++)
    if (!strcmp(commands[i]->name, name)) return commands[i];
  return NULL;
}

static int help(const char *topic) {
  const Command *c = topic ? command_find(topic) : NULL;
  if (c && c->run) {
    help_command(c);
    return EXIT_OK;
  }
  if (c) return data_main(2, (char *[]){(char *)"data", (char *)"--help", NULL});
  if (topic && strcmp(topic, "help")) {
    const char *names[LEN(commands)];
    for (int i = 0; i < command_count; i++) names[i] = commands[i]->name;
    const char *near = near_miss(topic, names, command_count);
    cli_error("no command '%s'%s%s%s; see ink help", topic, near ? "; did you mean '" : "", near ? near : "",
              near ? "'?" : "");
    return EXIT_USAGE;
  }
  printf("ink turns the description of a model into a native program that trains it.\n\nusage: ink COMMAND ...\n\n");
  for (int i = 0; i < command_count; i++) printf("  %-8s %s\n", commands[i]->name, commands[i]->summary);
  printf("  %-8s %s\n", "help", "what a command takes: ink help build");
  printf("\nevery command answers --help; ink --version\n");
  return EXIT_OK;
}

int main(int argc, char **argv) {
  const char *name = argc > 1 ? argv[1] : NULL;
  if (!name) {
    help(NULL);
    return EXIT_USAGE;
  }
  if (!strcmp(name, "--version")) {
    printf("ink %s\n", INK_VERSION);
    return EXIT_OK;
  }
  if (!strcmp(name, "--help") || !strcmp(name, "-h")) return help(NULL);
  if (!strcmp(name, "help")) return help(argc > 2 ? argv[2] : NULL);
  const Command *c = command_find(name);
  if (!c) return help(name);
  if (!c->run) return data_main(argc - 1, argv + 1);
  for (int i = 2; i < argc; i++)
    if (!strcmp(argv[i], "--help") || !strcmp(argv[i], "-h")) return help(name);
  Arena *arena = arena_new();
  Args a;
  int status = args_parse(arena, c, argc - 2, argv + 2, &a) ? c->run(&a) : EXIT_USAGE;
  arena_free(arena);
  return status;
}

/* `ink data` has subcommands and help of its own, in data/. */
const Command cmd_data = {.name = "data", .summary = "text files to token shards for training: ink data prepare"};
