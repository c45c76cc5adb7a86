/* Token ids to text, by the vocabulary of a Hugging Face tokenizer.json. */
#ifndef RT_DETOKENIZE_H
#define RT_DETOKENIZE_H
#include "runtime/fs.h"
#include <stdio.h>

typedef struct Detokenizer Detokenizer;
Detokenizer *detokenizer_open(const char *path, Report *err);
void detokenizer_close(Detokenizer *d);
/* Writes the text of one id: its bytes where the tokenizer works on bytes; "" for an id it does not know. */
void detokenizer_write(const Detokenizer *d, int32_t id, FILE *out);
int32_t detokenizer_find(const Detokenizer *d,
                         const char *token); /* the id of a token as written in the vocabulary, or -1 */
#endif
