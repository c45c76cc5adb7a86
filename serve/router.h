/* What comes first with every request: is it let in, and whose is it. */
#ifndef SERVE_ROUTER_H
#define SERVE_ROUTER_H
#include "serve/api.h"

typedef struct Router {
  Api *api;
  HttpServer *http;
  bool loopback; /* listens there alone */
  char **key;    /* none: everybody is let in */
  int nkeys;
  char *keys; /* the file, which they point into */
} Router;

bool router_keys(Router *r, Report *err); /* reads the file of keys, if the options name one */
void router_free(Router *r);
HttpCalls router_calls(Router *r);
#endif
