/* The model of the disk. What it holds to:
 *
 *   A file's bytes and size are on the disk once the file was synced, and not before. Until then each sector of 512 bytes may
 *   hold any age of itself since the last sync, or zeros where the file did not reach before; the size may be any of
 *   those the file had, or end at any sector between.
 *   A name in a folder is on the disk once the folder was synced; syncing the file does not help. Until then each change
 *   of a folder may have happened or not, in any order. A rename within a folder is one change, both names or none; so
 *   is a link with its text. Nothing else is atomic.
 *
 * That is weaker than any file system in use (ext4 and XFS keep names in order and sync a new file's name with it), so what
 * survives here survives there. Not modelled, and refused: renames from folder to folder, hard links to folders. */
#include "tests/crash/disk.h"
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { SECTOR = 512, HANDLES = 1 << 16 };

typedef struct Edit { /* of a file: bytes at a place, or (bytes NULL) a new size */
  size_t at, n;
  const unsigned char *bytes;
} Edit;

typedef struct Name {
  char *name;
  int inode; /* -1 in a change: the name goes */
} Name;

typedef struct Names {
  Name *v;
  int n, cap;
} Names;

typedef struct Change {
  Name part[2]; /* a rename has two, or one and a NULL name */
} Change;

typedef struct Inode {
  EntryKind kind;
  unsigned char *sure; /* file: bytes on the disk; link: its text */
  size_t nsure, size;  /* size as programs see it */
  Edit *edit;          /* since the last sync, in order */
  int nedit, edit_cap;
  Names now, stable; /* folder: as programs see it; on the disk */
  Change *change;    /* since the last sync, in order */
  int nchange, change_cap;
} Inode;

struct Disk {
  Inode *inode; /* 0: the top folder */
  int n, cap;
  struct {
    int inode;
    size_t at;
    bool append;
  } handle[HANDLES];
  long saved;
};

/* ---- names */

static int names_find(const Names *l, const char *name) {
  for (int i = 0; i < l->n; i++)
    if (!strcmp(l->v[i].name, name)) return i;
  return -1;
}

static void names_set(Names *l, const char *name, int inode) {
  int at = names_find(l, name);
  if (inode < 0) {
    if (at < 0) return; /* an adversary may undo a name that never came */
    free(l->v[at].name);
    l->v[at] = l->v[--l->n];
  } else if (at >= 0)
    l->v[at].inode = inode;
  else {
    if (l->n == l->cap) l->v = must_alloc(l->v, (size_t)(l->cap = l->cap ? 2 * l->cap : 8) * sizeof(Name));
    char *copy = strdup(name);
    if (!copy) give_up("out of memory");
    l->v[l->n++] = (Name){copy, inode};
  }
}

static void names_free(Names *l) {
  for (int i = 0; i < l->n; i++) free(l->v[i].name);
  free(l->v);
  *l = (Names){0};
}

static Names names_copy(const Names *l) {
  Names to = {0};
  for (int i = 0; i < l->n; i++) names_set(&to, l->v[i].name, l->v[i].inode);
  return to;
}

static void names_apply(Names *l, const Change *c) {
  if (c->part[1].name) /* a rename: of a name before this one, too, whose own change an adversary may have left out */
    for (int i = l->n - 1; i >= 0; i--)
      if (l->v[i].inode == c->part[1].inode) names_set(l, l->v[i].name, -1);
  for (int i = 0; i < 2; i++)
    if (c->part[i].name) names_set(l, c->part[i].name, c->part[i].inode);
}

/* ---- inodes */

static int inode_new(Disk *d, EntryKind kind) {
  if (d->n == d->cap) d->inode = must_alloc(d->inode, (size_t)(d->cap = d->cap ? 2 * d->cap : 64) * sizeof(Inode));
  d->inode[d->n] = (Inode){.kind = kind};
  return d->n++;
}

static void change_folder(Disk *d, int folder, const char *a, int to_a, const char *b, int to_b) {
  Inode *f = &d->inode[folder];
  if (f->nchange == f->change_cap)
    f->change = must_alloc(f->change, (size_t)(f->change_cap = f->change_cap ? 2 * f->change_cap : 8) * sizeof(Change));
  Change *c = &f->change[f->nchange++];
  *c = (Change){{{strdup(a), to_a}, {b ? strdup(b) : NULL, to_b}}};
  names_apply(&f->now, c);
}

static void edit_file(Disk *d, int file, Edit e) {
  Inode *f = &d->inode[file];
  if (f->nedit == f->edit_cap)
    f->edit = must_alloc(f->edit, (size_t)(f->edit_cap = f->edit_cap ? 2 * f->edit_cap : 8) * sizeof(Edit));
  f->edit[f->nedit++] = e;
  if (!e.bytes)
    f->size = e.at;
  else if (e.at + e.n > f->size)
    f->size = e.at + e.n;
}

/* bytes (of `size` in room for `room`) after one edit; what it uncovers is zero. */
static size_t edit_apply(unsigned char *bytes, size_t size, const Edit *e) {
  if (!e->bytes) {
    if (e->at < size) memset(bytes + e->at, 0, size - e->at);
    return e->at;
  }
  memcpy(bytes + e->at, e->bytes, e->n);
  return e->at + e->n > size ? e->at + e->n : size;
}

static size_t largest(const Inode *f) {
  size_t room = f->nsure;
  for (int i = 0; i < f->nedit; i++) {
    size_t end = f->edit[i].at + f->edit[i].n;
    if (end > room) room = end;
  }
  return room;
}

static void sync_inode(Disk *d, int at) {
  Inode *f = &d->inode[at];
  if (f->kind == ENTRY_FILE) {
    size_t room = largest(f), size = f->nsure;
    f->sure = must_alloc(f->sure, room);
    memset(f->sure + f->nsure, 0, room - f->nsure);
    for (int i = 0; i < f->nedit; i++) size = edit_apply(f->sure, size, &f->edit[i]);
    f->nsure = size;
    f->nedit = 0;
    return;
  }
  for (int i = 0; i < f->nchange; i++) {
    names_apply(&f->stable, &f->change[i]);
    free(f->change[i].part[0].name), free(f->change[i].part[1].name);
  }
  f->nchange = 0;
}

/* ---- paths */

/* The folder that a path's last name lies in, and that name. */
static int parent_of(const Disk *d, const char *path, const char **name) {
  int at = 0;
  for (const char *p = path;;) {
    size_t n = strcspn(p, "/");
    *name = p;
    if (!p[n]) return at;
    char part[256];
    snprintf(part, sizeof(part), "%.*s", (int)n, p);
    int i = names_find(&d->inode[at].now, part);
    if (i < 0) give_up("%s: no folder '%s'", path, part);
    at = d->inode[at].now.v[i].inode;
    if (d->inode[at].kind != ENTRY_DIR) give_up("%s: '%s' is no folder", path, part);
    p += n + 1;
  }
}

static int lookup(const Disk *d, int folder, const char *name) {
  int i = names_find(&d->inode[folder].now, name);
  return i < 0 ? -1 : d->inode[folder].now.v[i].inode;
}

/* ---- operations */

static void apply_open(Disk *d, const TraceOp *o) {
  const char *name;
  int inode = 0;
  if (strcmp(o->a, ".")) {
    int folder = parent_of(d, o->a, &name);
    inode = lookup(d, folder, name);
    if (inode < 0 && !(o->number & O_CREAT)) give_up("open %s: not there", o->a);
    if (inode < 0) {
      inode = inode_new(d, ENTRY_FILE);
      change_folder(d, folder, name, inode, NULL, -1);
    } else if (d->inode[inode].kind == ENTRY_LINK)
      give_up("open %s: through a link", o->a);
    else if (o->number & O_TRUNC && d->inode[inode].size)
      edit_file(d, inode, (Edit){0});
  }
  if (o->handle >= HANDLES) give_up("more than %d files are opened", HANDLES);
  d->handle[o->handle].inode = inode;
  d->handle[o->handle].at = 0; /* the number may be that of a file of a program that was killed */
  d->handle[o->handle].append = o->number & O_APPEND;
}

static void apply_rename(Disk *d, const TraceOp *o) {
  const char *from, *to;
  int folder = parent_of(d, o->a, &from);
  if (parent_of(d, o->b, &to) != folder) give_up("rename %s %s: not within one folder", o->a, o->b);
  int inode = lookup(d, folder, from), over = lookup(d, folder, to);
  if (inode < 0) give_up("rename %s: not there", o->a);
  if (over >= 0 && d->inode[over].kind == ENTRY_DIR && d->inode[over].now.n) give_up("rename over %s: not empty", o->b);
  change_folder(d, folder, from, -1, to, inode);
}

static void apply_new(Disk *d, const TraceOp *o, const char *path) {
  const char *name;
  int folder = parent_of(d, path, &name), inode;
  if (lookup(d, folder, name) >= 0) give_up("%s is there already", path);
  if (o->kind == TR_LINK) {
    const char *old;
    int from = parent_of(d, o->a, &old);
    inode = lookup(d, from, old);
    if (inode < 0 || d->inode[inode].kind == ENTRY_DIR) give_up("link %s: no file", o->a);
  } else {
    inode = inode_new(d, o->kind == TR_MKDIR ? ENTRY_DIR : ENTRY_LINK);
    if (o->kind == TR_SYMLINK) {
      Inode *f = &d->inode[inode];
      f->nsure = f->size = strlen(o->a);
      f->sure = (unsigned char *)strdup(o->a);
    }
  }
  change_folder(d, folder, name, inode, NULL, -1);
}

static void apply_remove(Disk *d, const TraceOp *o) {
  const char *name;
  int folder = parent_of(d, o->a, &name), inode = lookup(d, folder, name);
  bool is_dir = inode >= 0 && d->inode[inode].kind == ENTRY_DIR;
  if (inode < 0 || is_dir != (o->kind == TR_RMDIR) || (is_dir && d->inode[inode].now.n))
    give_up("%s cannot be removed", o->a);
  change_folder(d, folder, name, -1, NULL, -1);
}

/* Was this the sync that makes checkpoints last? */
static void note_saved(Disk *d, int folder) {
  for (int i = 0; i < d->n; i++) {
    int at = d->inode[i].kind == ENTRY_DIR ? lookup(d, i, "checkpoints") : -1;
    if (at != folder) continue;
    const Names *l = &d->inode[folder].now;
    for (int k = 0; k < l->n; k++) {
      char *end;
      long step = strncmp(l->v[k].name, "step-", 5) ? -1 : strtol(l->v[k].name + 5, &end, 10);
      if (step > d->saved && !*end) d->saved = step;
    }
  }
}

void disk_apply(Disk *d, const TraceOp *o) {
  int file = o->kind <= TR_CLOSE && o->kind != TR_OPEN ? d->handle[o->handle].inode : -1;
  size_t *at = &d->handle[o->handle].at;
  switch (o->kind) {
  case TR_OPEN: apply_open(d, o); break;
  case TR_WRITE: {
    bool placed = o->number >= 0;
    size_t to = d->handle[o->handle].append ? d->inode[file].size : placed ? (size_t)o->number : *at;
    edit_file(d, file, (Edit){to, o->n, o->bytes});
    if (!placed) *at = to + o->n;
    break;
  }
  case TR_SEEK: *at = (size_t)o->number; break;
  case TR_TRUNCATE: edit_file(d, file, (Edit){(size_t)o->number, 0, NULL}); break;
  case TR_FSYNC:
    sync_inode(d, file);
    note_saved(d, file);
    break;
  case TR_CLOSE: break;
  case TR_MKDIR: apply_new(d, o, o->a); break;
  case TR_LINK:
  case TR_SYMLINK: apply_new(d, o, o->b); break;
  case TR_RMDIR:
  case TR_UNLINK: apply_remove(d, o); break;
  case TR_RENAME: apply_rename(d, o); break;
  }
}

bool disk_is_folder(const Disk *d, int handle) {
  return d->inode[d->handle[handle].inode].kind == ENTRY_DIR;
}

long disk_saved(const Disk *d) {
  return d->saved;
}

/* ---- what a crash leaves */

static uint64_t draw(uint64_t *seed) { /* splitmix64 */
  uint64_t z = *seed += 0x9e3779b97f4a7c15u;
  z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
  z = (z ^ z >> 27) * 0x94d049bb133111ebu;
  return z ^ z >> 31;
}

static size_t below(uint64_t *seed, size_t n) { /* in 0..n-1 */
  return (size_t)(draw(seed) % n);
}

/* The first `whole` edits happened, and of the sectors that the edits change each is of a random age between `whole` and
 * `ages`. The size may be one of those ages, or end with some sector between. */
static unsigned char *mix(const Inode *f, int whole, int ages, uint64_t *seed, size_t *n) {
  size_t room = largest(f), sectors = room / SECTOR + 1, size = f->nsure, low, high;
  unsigned char *bytes = must_alloc(NULL, room), *out = must_alloc(NULL, room);
  int *age = must_alloc(NULL, sectors * sizeof(int));
  for (size_t s = 0; s < sectors; s++) age[s] = whole + (int)below(seed, (size_t)(ages - whole) + 1);
  int sized = whole + (int)below(seed, (size_t)(ages - whole) + 1);
  memset(bytes, 0, room);
  memset(out, 0, room);
  if (f->nsure) memcpy(bytes, f->sure, f->nsure);
  low = high = *n = size;
  for (int k = 0; k <= ages; k++) {
    if (k) size = edit_apply(bytes, size, &f->edit[k - 1]);
    if (k == whole) low = high = size;
    if (size < low) low = size;
    if (size > high) high = size;
    if (k == sized) *n = size;
    for (size_t s = 0; s < sectors; s++)
      if (age[s] == k && s * SECTOR < room)
        memcpy(out + s * SECTOR, bytes + s * SECTOR, room - s * SECTOR < SECTOR ? room - s * SECTOR : SECTOR);
  }
  if (high - low >= SECTOR && draw(seed) % 2) {
    *n = low + below(seed, high - low);
    *n = *n / SECTOR * SECTOR < low ? low : *n / SECTOR * SECTOR;
  }
  free(bytes), free(age);
  return out;
}

static unsigned char *file_after(const Inode *f, CrashKind kind, uint64_t *seed, size_t *n) {
  int all = f->nedit;
  switch (kind) {
  case CRASH_ALL:
  case CRASH_BYTES: return mix(f, all, all, seed, n);
  case CRASH_NONE:
  case CRASH_NAMES: return mix(f, 0, 0, seed, n);
  case CRASH_ORDERED: {
    int first = (int)below(seed, (size_t)all + 1);
    return mix(f, first, first < all ? first + 1 : all, seed, n);
  }
  case CRASH_ANY: break;
  }
  return mix(f, 0, all, seed, n);
}

static Names names_after(const Inode *f, CrashKind kind, uint64_t *seed) {
  Names l = names_copy(&f->stable);
  size_t all = (size_t)f->nchange, first = kind == CRASH_ALL || kind == CRASH_NAMES ? all : 0;
  if (kind == CRASH_ORDERED) first = below(seed, all + 1);
  for (size_t i = 0; i < all; i++)
    if (kind == CRASH_ANY ? draw(seed) % 2 : i < first) names_apply(&l, &f->change[i]);
  return l;
}

static void crash_folder(const Disk *d, int at, const char *path, CrashKind kind, uint64_t *seed, State *s) {
  Names l = names_after(&d->inode[at], kind, seed);
  for (int i = 0; i < l.n; i++) {
    char below_it[4096];
    snprintf(below_it, sizeof(below_it), "%s%s%s", path, *path ? "/" : "", l.v[i].name);
    const Inode *f = &d->inode[l.v[i].inode];
    size_t n = f->nsure;
    unsigned char *bytes = NULL;
    if (f->kind == ENTRY_FILE) bytes = file_after(f, kind, seed, &n);
    if (f->kind == ENTRY_LINK) bytes = memcpy(must_alloc(NULL, n), f->sure, n);
    state_add(s, below_it, f->kind, bytes, f->kind == ENTRY_DIR ? 0 : n);
    if (f->kind == ENTRY_DIR) crash_folder(d, l.v[i].inode, below_it, kind, seed, s);
  }
  names_free(&l);
}

State disk_crash(const Disk *d, CrashKind kind, uint64_t seed) {
  State s = {0};
  crash_folder(d, 0, "", kind, &seed, &s);
  state_sort(&s);
  return s;
}

/* ---- */

Disk *disk_new(const State *base) {
  Disk *d = must_alloc(NULL, sizeof(Disk));
  memset(d, 0, sizeof(Disk));
  d->saved = -1;
  inode_new(d, ENTRY_DIR);
  for (int i = 0; i < base->n; i++) {
    const Entry *e = &base->entry[i];
    const char *name;
    int folder = parent_of(d, e->path, &name), at = inode_new(d, e->kind);
    Inode *f = &d->inode[at];
    if (e->kind != ENTRY_DIR) {
      f->sure = memcpy(must_alloc(NULL, e->n), e->bytes, e->n);
      f->nsure = f->size = e->n;
    }
    names_set(&d->inode[folder].now, name, at);
    names_set(&d->inode[folder].stable, name, at);
  }
  return d;
}

void disk_free(Disk *d) {
  for (int i = 0; i < d->n; i++) {
    Inode *f = &d->inode[i];
    for (int k = 0; k < f->nchange; k++) free(f->change[k].part[0].name), free(f->change[k].part[1].name);
    names_free(&f->now), names_free(&f->stable);
    free(f->sure), free(f->edit), free(f->change);
  }
  free(d->inode);
  free(d);
}
