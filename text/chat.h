/* A conversation as the prompt text that a model was trained on, by its own Jinja chat_template.
 *
 * A named subset of Jinja2 is interpreted, the one that docs/chat-templates.md lists; what lies outside is refused by name and
 * line when the template is opened. A template is a program from strangers: steps, nesting and output are bounded, and
 * nothing in it reaches beyond the values it is given. */
#ifndef TEXT_CHAT_H
#define TEXT_CHAT_H
#include "ink/base.h"
#include "text/codec.h"

#include <jansson.h>

typedef struct ChatTemplate ChatTemplate;

ChatTemplate *chat_open(const char *source, size_t n, Diags *err); /* NULL after errors, which carry line and column */
void chat_free(ChatTemplate *t);

/* Appends the text. messages: a JSON array of {"role", "content", ...}; tools: a JSON array or NULL; variables: a JSON object of
 * further names (bos_token, eos_token, ... and what a request's chat_template_kwargs says), or NULL. generation: the prompt ends
 * where the assistant goes on. What the template itself refuses (raise_exception) is an error with its words. */
bool chat_render(const ChatTemplate *t, const json_t *messages, const json_t *tools, const json_t *variables,
                 bool generation, Text *out, Diags *err);

/* bos_token and the like of a codec, as the variables a template expects. The caller's, to add to and to json_decref. */
json_t *chat_variables(const Codec *c);
#endif
