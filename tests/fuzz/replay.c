/* main() for a fuzz target without a fuzzer: every file given, and every file of every folder given, once.
 *
 * So that seeds and what was found once are tests wherever the project builds. A file of an IR test is given as it is. */
#include "tests/fuzz/fuzz.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

static int files;

static void replay(const char *path) {
  FILE *f = fopen(path, "rb");
  struct stat st;
  MUST(f && !fstat(fileno(f), &st), "%s: cannot read", path);
  uint8_t *bytes = malloc((size_t)st.st_size + 1); /* of the very size: a read behind it is seen */
  MUST(bytes && fread(bytes, 1, (size_t)st.st_size, f) == (size_t)st.st_size, "%s: cannot read", path);
  fclose(f);
  printf("%s\n", path);
  fflush(stdout); /* the last one printed is the one that crashed */
  LLVMFuzzerTestOneInput(bytes, (size_t)st.st_size);
  free(bytes);
  files++;
}

int main(int argc, char **argv) {
  LLVMFuzzerTestOneInput((const uint8_t *)"", 0);
  for (int i = 1; i < argc; i++) {
    struct stat st;
    MUST(!stat(argv[i], &st), "%s: not there", argv[i]);
    if (!S_ISDIR(st.st_mode)) {
      replay(argv[i]);
      continue;
    }
    struct dirent **entry;
    int n = scandir(argv[i], &entry, NULL, alphasort);
    for (int k = 0; k < n; k++) {
      char path[4096];
      snprintf(path, sizeof path, "%s/%s", argv[i], entry[k]->d_name);
      if (entry[k]->d_name[0] != '.') replay(path);
      free(entry[k]);
    }
    if (n >= 0) free(entry);
  }
  MUST(files, "no file to replay");
  printf("%d files\n", files);
  return 0;
}
