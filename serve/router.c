/* Lets requests in and hands them to their endpoint.
 *
 * All that headers can decide is decided before a body is read, in this order: Host, Origin, path, method, key, readiness. Host is
 * checked where only this machine's programs should get in (a page in a browser reaches loopback under a name of its own,
 * DNS rebinding); an Origin that is neither the server's own nor allowed is refused, since a page may send what it cannot read. */
#include "serve/router.h"
#include "runtime/fs.h"
#include "runtime/machine.h"
#include "serve/page.h"

#include <string.h>
#include <strings.h>

enum { KEY = 1, MODEL = 2, PREFIX = 4, KEYS_LIMIT = 1 << 20 };

typedef void Answer(Router *r, Http *h);

typedef struct Route {
  const char *method, *path;
  unsigned flags; /* KEY: asks for one; MODEL: needs it open; PREFIX: and what lies below */
  const ApiCall *call;
  Answer *answer; /* one of the two */
} Route;

/* ---- answers */

static void answer(Router *r, Http *h, int status, const char *type, const void *body, size_t n) {
  metrics_code(&r->api->metrics, status);
  http_answer(h, status, type, body, n);
}

static void refuse(Router *r, Http *h, int status, const char *param, const char *code, const char *text) {
  Text body = {0};
  api_error_text(&body, status, param, code, text);
  if (status == 503) http_add(h, "Retry-After", "1");
  answer(r, h, status, JSON_TYPE, body.s, body.n);
  text_free(&body);
}

static void answer_text(Router *r, Http *h, int status, const char *type, Text *body) {
  http_add(h, "Cache-Control", "no-store");
  answer(r, h, status, type, body->s, body->n);
  text_free(body);
}

static void put_state(Router *r, Http *h, bool ok) {
  Text body = {0};
  text_add(&body, "{\"status\":\"%s\"}", r->api->draining ? "stopping" : r->api->served ? "ok" : "loading");
  answer_text(r, h, ok ? 200 : 503, JSON_TYPE, &body);
}

static void health(Router *r, Http *h) {
  put_state(r, h, r->api->served != NULL);
}
static void ready(Router *r, Http *h) {
  put_state(r, h, r->api->served && !r->api->draining);
}

static void version(Router *r, Http *h) {
  Text body = {0};
  text_add(&body, "{\"version\":\"" INK_VERSION "\"}");
  answer_text(r, h, 200, JSON_TYPE, &body);
}

static void metrics(Router *r, Http *h) {
  Text body = {0};
  metrics_page(&r->api->metrics, r->api->served, r->api->reading, http_open(r->http), &body);
  answer_text(r, h, 200, "text/plain; version=0.0.4; charset=utf-8", &body);
}

static void models(Router *r, Http *h) {
  Text body = {0};
  api_models(r->api->served, &body);
  answer_text(r, h, 200, JSON_TYPE, &body);
}

static void model(Router *r, Http *h) {
  Text body = {0};
  const char *name = http_path(h) + strlen("/v1/models/");
  if (api_model_named(r->api->served, name, &body)) {
    answer_text(r, h, 200, JSON_TYPE, &body);
    return;
  }
  text_add(&body, "the model '%.200s' does not exist", name);
  refuse(r, h, 404, "model", "model_not_found", body.s);
  text_free(&body);
}

static void page(Router *r, Http *h) {
  const Page *p = page_find(http_path(h));
  http_add(h, "Cache-Control", "no-cache");
  http_add(
      h, "Content-Security-Policy",
      "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; base-uri 'none'; "
      "form-action 'none'; frame-ancestors 'none'");
  http_add(h, "Referrer-Policy", "no-referrer");
  answer(r, h, 200, p->type, p->bytes, (size_t)(p->end - p->bytes));
}

static const Route routes[] = {
    {"POST", "/v1/chat/completions", KEY | MODEL, &api_chat, NULL},
    {"POST", "/v1/completions", KEY | MODEL, &api_completions, NULL},
    {"POST", "/v1/embeddings", KEY | MODEL, &api_embeddings, NULL},
    {"POST", "/tokenize", KEY | MODEL, &api_tokenize, NULL},
    {"POST", "/detokenize", KEY | MODEL, &api_detokenize, NULL},
    {"GET", "/v1/models", KEY | MODEL, NULL, models},
    {"GET", "/v1/models/", KEY | MODEL | PREFIX, NULL, model},
    {"GET", "/metrics", KEY, NULL, metrics},
    {"GET", "/health", 0, NULL, health},
    {"GET", "/ready", 0, NULL, ready},
    {"GET", "/version", 0, NULL, version},
    {"GET", "/", 0, NULL, page},
    {"GET", "/page.js", 0, NULL, page},
    {"GET", "/page.css", 0, NULL, page},
};

static const Route *find(const char *path) {
  for (int i = 0; i < LEN(routes); i++) {
    const Route *r = &routes[i];
    if (r->flags & PREFIX ? !strncmp(path, r->path, strlen(r->path)) : !strcmp(path, r->path)) return r;
  }
  return NULL;
}

/* ---- who is let in */

static bool lists(const char *list, const char *word, size_t n) {
  for (size_t k; list && *list; list += k) {
    list += strspn(list, " ,");
    k = strcspn(list, " ,");
    if (k == n && !strncasecmp(list, word, n)) return true;
  }
  return false;
}

static bool host_is_ours(const Router *r, const char *host) {
  const ServerOptions *o = r->api->o;
  size_t n = *host == '[' ? strcspn(host, "]") + 1 : strcspn(host, ":");
  if (*host == '[' && !strchr(host, ']')) return false;
  const char *rest = host + n;
  if (*rest && (*rest != ':' || rest[1 + strspn(rest + 1, "0123456789")])) return false;
  bool numbers = strspn(host, "0123456789.") == n;
  return (n == 9 && !strncasecmp(host, "localhost", 9)) || (n == 5 && !strncmp(host, "[::1]", 5)) ||
         (numbers && !strncmp(host, "127.", 4)) || lists(o->host, host, n) || lists(o->allowed_hosts, host, n);
}

/* Of a page: "": no page; NULL: none of those that may. Else the origin that is to be told that it may. */
static const char *origin_allowed(const Router *r, const Http *h) {
  const char *origin = http_header(h, "origin"), *host = http_header(h, "host"), *cors = r->api->o->cors;
  if (!origin) return "";
  if (lists(cors, "*", 1)) return "*";
  if (lists(cors, origin, strlen(origin))) return origin;
  size_t scheme = !strncmp(origin, "http://", 7) ? 7 : !strncmp(origin, "https://", 8) ? 8 : 0;
  return scheme && host && !strcasecmp(origin + scheme, host) ? "" : NULL;
}

/* As long for a wrong key as for the right one, whichever it is. */
static bool same_key(const char *given, const char *key) {
  size_t n = strlen(given), k = strlen(key);
  volatile unsigned differ = n != k;
  for (size_t i = 0; i < n; i++) differ |= (unsigned char)given[i] ^ (unsigned char)key[k ? i % k : 0];
  return !differ;
}

static bool has_key(const Router *r, const Http *h) {
  const char *given = http_header(h, "authorization");
  bool ok = !r->nkeys;
  if (!given || strncasecmp(given, "Bearer ", 7)) return ok;
  given += 7 + strspn(given + 7, " ");
  for (int i = 0; i < r->nkeys; i++) ok |= same_key(given, r->key[i]);
  return ok;
}

static void answer_preflight(Router *r, Http *h) {
  const char *wanted = http_header(h, "access-control-request-headers");
  http_add(h, "Access-Control-Allow-Methods", "GET, POST");
  http_add(h, "Access-Control-Allow-Headers", wanted ? wanted : "authorization, content-type");
  http_add(h, "Access-Control-Max-Age", "600");
  answer(r, h, 204, NULL, NULL, 0);
}

static void on_head(void *ctx, Http *h) {
  Router *r = ctx;
  const char *host = http_header(h, "host"), *method = http_method(h), *origin = origin_allowed(r, h);
  const Route *route = find(http_path(h));
  Text text = {0};
  if (host && (r->loopback || r->api->o->allowed_hosts) && !host_is_ours(r, host)) {
    refuse(r, h, 403, NULL, "host_not_allowed", "the Host header names another server (--allowed-hosts adds names)");
    return;
  }
  if (!origin) {
    refuse(r, h, 403, NULL, "origin_not_allowed", "pages of this origin may not call the server (--cors allows them)");
    return;
  }
  if (*origin) {
    http_add(h, "Access-Control-Allow-Origin", origin);
    http_add(h, "Vary", "Origin");
  }
  if (!route) {
    text_add(&text, "unknown path: %.60s %.300s", method, http_path(h));
    refuse(r, h, 404, NULL, "unknown_url", text.s);
  } else if (*origin && !strcmp(method, "OPTIONS")) {
    answer_preflight(r, h);
  } else if (strcmp(method, route->method) && (strcmp(method, "HEAD") || strcmp(route->method, "GET"))) {
    text_add(&text, "%s wants %s", route->path, route->method);
    http_add(h, "Allow", strcmp(route->method, "GET") ? route->method : "GET, HEAD");
    refuse(r, h, 405, NULL, "method_not_allowed", text.s);
  } else if (route->flags & KEY && !has_key(r, h)) {
    http_add(h, "WWW-Authenticate", "Bearer");
    refuse(r, h, 401, NULL, "invalid_api_key",
           http_header(h, "authorization") ? "the key is wrong" : "a key is needed: Authorization: Bearer KEY");
  } else if (route->flags & MODEL && (!r->api->served || r->api->draining)) {
    refuse(r, h, 503, NULL, NULL, r->api->draining ? "the server is stopping" : "the model is being loaded");
  }
  text_free(&text);
}

static void on_request(void *ctx, Http *h) {
  Router *r = ctx;
  const Route *route = find(http_path(h));
  if (route->flags & MODEL && r->api->draining)
    refuse(r, h, 503, NULL, NULL, "the server is stopping");
  else if (route->call)
    job_new(r->api, route->call, h, machine_seconds());
  else
    route->answer(r, h);
}

static void on_gone(void *ctx, Http *h) {
  Job *j = *http_user(h);
  if (j) job_gone(j);
}

static void on_refusal(void *ctx, int status, const char *why, Text *body) {
  Router *r = ctx;
  metrics_code(&r->api->metrics, status);
  api_error_text(body, status, NULL, NULL, why);
}

HttpCalls router_calls(Router *r) {
  return (HttpCalls){on_head, on_request, on_gone, on_refusal, r};
}

/* ---- keys */

bool router_keys(Router *r, Report *err) {
  const char *path = r->api->o->api_key_file;
  size_t n;
  if (!path) return true;
  r->keys = fs_read(path, KEYS_LIMIT, &n, err);
  if (!r->keys) return false;
  r->key = calloc(n + 1, sizeof *r->key);
  if (!r->key) abort();
  for (char *s = r->keys, *next; s; s = next) {
    next = strchr(s, '\n');
    if (next) *next++ = 0;
    s += strspn(s, " \t\r");
    s[strcspn(s, " \t\r")] = 0;
    if (*s && *s != '#') r->key[r->nkeys++] = s;
  }
  return r->nkeys ? true : report_add(err, "%s: no key in it (one a line)", path);
}

void router_free(Router *r) {
  free(r->key);
  free(r->keys);
}
