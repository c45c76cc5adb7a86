/* One answer on the terminal or in a text: what generate and chat share. */
#ifndef ARTIFACT_SPEAK_H
#define ARTIFACT_SPEAK_H
#include "artifact/open.h"
#include <stdio.h>

/* How answers are chosen, as options; NAN and -1: the model's own default. */
typedef struct SampleOptions {
  double temperature, top_p, min_p, repetition;
  int top_k, seed;
  TextList stop;
} SampleOptions;
#define SAMPLE_DEFAULTS                                                                                                \
  { .temperature = NAN, .top_p = NAN, .min_p = NAN, .repetition = NAN, .top_k = -1, .seed = -1 }

#define SAMPLE_OPTIONS(T)                                                                                              \
  {"--temperature",                                                                                                    \
   "T",                                                                                                                \
   OPT_NUM,                                                                                                            \
   offsetof(T, sample.temperature),                                                                                    \
   0,                                                                                                                  \
   100,                                                                                                                \
   "0: the likeliest token always; default: the model's own, else 1"},                                                 \
      {"--top-k", "K", OPT_INT, offsetof(T, sample.top_k), 0, 1 << 30, "among the K likeliest tokens; 0: all"},        \
      {"--top-p", "P", OPT_NUM, offsetof(T, sample.top_p), 0, 1, "among the likeliest that make P together"},          \
      {"--min-p", "M", OPT_NUM, offsetof(T, sample.min_p), 0, 1, "among those with M times the likeliest's share"},    \
      {"--repetition-penalty",                                                                                         \
       "R",                                                                                                            \
       OPT_NUM,                                                                                                        \
       offsetof(T, sample.repetition),                                                                                 \
       0.01,                                                                                                           \
       100,                                                                                                            \
       "against tokens that were there; 1: none"},                                                                     \
      {"--seed",                                                                                                       \
       "S",                                                                                                            \
       OPT_INT,                                                                                                        \
       offsetof(T, sample.seed),                                                                                       \
       0,                                                                                                              \
       0x7fffffff,                                                                                                     \
       "the same text every time; default: another each time"},                                                        \
  {                                                                                                                    \
    "--stop", "TEXT", OPT_LIST, offsetof(T, sample.stop), 0, 0, "the answer ends before this text"                     \
  }

SampleParams sample_params(const SampleOptions *o, const SampleParams *defaults);

typedef struct Speech {
  FILE *out;          /* gets the text as it comes; NULL: nobody. A terminal gets what is printable */
  Text text;          /* all of it; text_free */
  const char *finish; /* "stop", "length", "cancelled", "error" */
  int generated, cached;
} Speech;

/* Runs the request to its end, on this thread; Ctrl-C ends it as "cancelled". r->sink and ctx are set here. */
bool speak(Opened *o, CompleteRequest *r, Speech *s, Report *err);
#endif
