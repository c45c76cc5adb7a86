/* What a tokenizer tells a template: its special tokens, by the names of their roles. */
#include "text/chat.h"

json_t *chat_variables(const Codec *c) {
  static const char *const roles[] = {"bos_token", "eos_token", "unk_token", "sep_token",
                                      "pad_token", "cls_token", "mask_token"};
  json_t *all = json_object();
  for (int i = 0; i < LEN(roles); i++) {
    size_t n;
    int64_t id = codec_role(c, roles[i]);
    const char *text = id < 0 ? NULL : codec_token(c, (uint32_t)id, &n);
    if (text) json_object_set_new(all, roles[i], json_stringn(text, n));
  }
  return all;
}
