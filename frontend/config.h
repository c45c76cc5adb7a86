/* config.json and generation_config.json of a model, from its `hf:` section. */
#ifndef INK_FRONTEND_CONFIG_H
#define INK_FRONTEND_CONFIG_H
#include "frontend/names.h"

/* hf may be NULL; then both results are NULL. False after errors. */
bool config_make(Names *nm, const YNode *hf, const char **config, const char **generation);
#endif
