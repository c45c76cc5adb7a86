/* config.json and generation_config.json of a model, from its `hf:` section, and what a text of that section says. */
#ifndef INK_FRONTEND_CONFIG_H
#define INK_FRONTEND_CONFIG_H
#include "frontend/names.h"

/* A text that begins with "=":   '=' EXPR ('as bool' | 'or null' | 'of' '[' word, ... ']')? ('when' EXPR)?
 * The first expression's value is written; where it is a name alone, a config.json that is read gives that name its value. */
typedef struct ConfigValue {
  enum { CONFIG_NUMBER, CONFIG_BOOL, CONFIG_OR_NULL, CONFIG_WORD } kind; /* OR_NULL: null for 0 */
  Slice expr, when; /* when.len 0: always; else the key is there where this is not 0 */
  const Number *name;
  const char **word; /* WORD: those that stand for 0, 1, ... */
  int nwords;
} ConfigValue;
bool config_value(Names *nm, YNode *text, ConfigValue *out);
static inline bool config_is_value(const YNode *n) {
  return n->kind == Y_SCALAR && n->text[0] == '=';
}
bool config_is_number(const char *text);                      /* by JSON's grammar */
void config_write_number(double v, Text *out);                /* the shortest text that reads back as the same double */
const char *config_unknown_name(Names *nm, const char *name); /* a hint, or NULL */

/* hf may be NULL; then both results are NULL. False after errors. */
bool config_make(Names *nm, const YNode *hf, const char **config, const char **generation);

/* What else the section says of checkpoints. */
typedef struct ConfigTensors {
  const char *skip;   /* patterns of names, a line each */
  const char *prefix; /* of the model's names; "": none */
  bool bare;          /* the checkpoint's names are without the prefix */
} ConfigTensors;
bool config_tensors(Names *nm, const YNode *hf, ConfigTensors *out);
#endif
