/* fuzz.h - what all fuzz targets share: the entry point, checks that abort, files, mutations.
 *
 * A target is one file target_x.c with LLVMFuzzerTestOneInput. It works in the current folder, is
 * linked with replay.c (every compiler) or with libFuzzer (clang), and aborts on any breach. */
#ifndef LORS_TESTS_FUZZ_H
#define LORS_TESTS_FUZZ_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <lors/status.h>

/* The entry point that libFuzzer calls; replay.c does the same. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* May be defined by a target: what is known of a seed by its name. Aborts if it does not hold. */
void fuzz_check_seed(const char *name, const uint8_t *data, size_t size) __attribute__((weak));

/* End the program unless `good`, with a sentence as printf takes it. */
#define FUZZ_NEED(good, ...) ((good) ? (void)0 : fuzz_die(__FILE__, __LINE__, #good, __VA_ARGS__))
void fuzz_die(const char *file, int line, const char *what, const char *format, ...)
    __attribute__((noreturn, format(printf, 4, 5)));

/* The call ended in a status that its header names: `allowed` is a sum of FUZZ_STATUS(...), LORS_OK
 * is always allowed. Of a failure the sentence must be one printable line. */
#define FUZZ_STATUS(name) (1u << LORS_ERR_##name)
void fuzz_check_status(lors_status status, unsigned allowed);

/* A number that depends on all bytes: what a target draws its second run from. */
uint64_t fuzz_hash(const void *bytes, size_t n_bytes);

/* Let the n-th allocation of the next run fail, n drawn from those of the last run; off again. */
void fuzz_fail_one_allocation(uint64_t hash);
void fuzz_allocations_work(void);

/* --- fuzz_files.c: files below the current folder ------------------------------------------- */

/* Sync nothing from now on: no test of this kind looks at what a power cut leaves. */
void fuzz_files_init(void);
void fuzz_write(const char *path, const void *bytes, size_t n_bytes);
/* These bytes, then zeros that take no room. False: no file can be so large. */
bool fuzz_write_sparse(const char *path, const void *bytes, size_t n_bytes, uint64_t file_bytes);
void fuzz_mkdir(const char *path);  /* there already is fine */
void fuzz_remove(const char *path); /* a whole tree; nothing there is fine */
bool fuzz_exists(const char *path);
/* A whole file, NUL-terminated: free(). NULL if there is none. */
char *fuzz_read(const char *path, size_t *n_bytes);

/* --- fuzz_mutate.c --------------------------------------------------------------------------- */

/* Change `data` in place as a hand would: numbers to their limits, words of the formats put in,
 * members of JSON and YAML removed, doubled and moved, and bytes. Returns the new size, at most
 * max_size. The same seed makes the same change. */
size_t fuzz_mutate(uint8_t *data, size_t size, size_t max_size, uint64_t seed);

#endif
