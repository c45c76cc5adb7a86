/* /tokenize and /detokenize, as vLLM has them: what a text or messages are in tokens, and back. Answered by the reading thread. */
#include "serve/api.h"

#include <limits.h>

static bool tokenize(Job *j, json_t *body) {
  const json_t *prompt = json_object_get(body, "prompt");
  const Fields *f = &j->fields;
  Prompt one = {.job = j};
  const Prompt *p = &one;
  if (!api_model(j, body, false)) return false;
  if (json_object_get(body, "messages")) {
    if (!api_messages(j, body)) return false;
    p = j->prompts;
    j->nprompts = 0; /* nothing is to be run */
  } else if (!json_is_string(prompt)) {
    return api_refuse(j, 400, "prompt", "missing_required_parameter",
                      "'prompt' must be a string, or 'messages' be there");
  } else if (!api_prompt_text(j, &one, json_string_value(prompt), json_string_length(prompt),
                              CODEC_SPECIAL | (f->add_special_tokens ? CODEC_ADD : 0u))) {
    return false;
  }
  text_add(&j->answer, "{\"count\":%d,\"max_model_len\":%d,\"tokens\":[", p->n, j->api->served->model->limits.ctx);
  for (int i = 0; i < p->n; i++) text_add(&j->answer, i ? ",%d" : "%d", p->ids[i]);
  text_add(&j->answer, "],\"token_strs\":%s", f->return_token_strs ? "[" : "null");
  for (int i = 0; f->return_token_strs && i < p->n; i++) {
    size_t n;
    const char *s = api_token(j, p->ids[i], &n);
    if (i) text_add(&j->answer, ",");
    json_put(&j->answer, s, n);
  }
  text_add(&j->answer, f->return_token_strs ? "]}" : "}");
  return true;
}

static bool detokenize(Job *j, json_t *body) {
  const json_t *tokens = json_object_get(body, "tokens");
  Prompt p = {.job = j};
  Text text = {0};
  if (!api_model(j, body, false)) return false;
  if (!json_is_array(tokens))
    return api_refuse(j, 400, "tokens", "missing_required_parameter", "'tokens' must be an array of token ids");
  if (!api_prompt_ids(j, &p, tokens, "tokens")) return false;
  codec_decode(j->api->codec, (const uint32_t *)p.ids, (size_t)p.n, false, &text);
  text_add(&j->answer, "{\"prompt\":");
  json_put(&j->answer, text.s ? text.s : "", text.n);
  text_add(&j->answer, "}");
  text_free(&text);
  return true;
}

const ApiCall api_tokenize = {FOR_TOKENIZE, tokenize, NULL, NULL, NULL, NULL, NULL};
const ApiCall api_detokenize = {FOR_DETOKENIZE, detokenize, NULL, NULL, NULL, NULL, NULL};
