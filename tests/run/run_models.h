/* run_models.h - tiny models for the tests of whole merges: made, written, merged, read back. */
#ifndef LORS_TESTS_RUN_MODELS_H
#define LORS_TESTS_RUN_MODELS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <lors/lors.h>

#include "base/dtype.h"

enum { RM_MAX_TENSORS = 120 };

typedef struct rm_tensor {
    char name[96];
    lors_dtype dtype;
    int32_t n_dims;
    int64_t shape[4];
    uint64_t n, n_bytes;
    unsigned char *bytes;
} rm_tensor;

typedef struct rm_model {
    int n;
    rm_tensor tensors[RM_MAX_TENSORS];
} rm_model;

/* Begin with an empty folder of this name in the working directory, and go into it. */
void rm_work_in(const char *name);

/* Any failure of these helpers ends the test program: a test that cannot be set up is no test. */
rm_model *rm_new(void);
rm_model *rm_clone(const rm_model *model);
void rm_free(rm_model *model);
rm_tensor *rm_add(rm_model *model, const char *name, lors_dtype dtype, int32_t n_dims, int64_t a,
                  int64_t b, int64_t c);
rm_tensor *rm_get(rm_model *model, const char *name);
void rm_drop(rm_model *model, const char *name);
double rm_value(const rm_tensor *tensor, uint64_t at);
void rm_set(rm_tensor *tensor, uint64_t at, double value);
void rm_fill(rm_tensor *tensor, double scale, uint64_t seed);

/* A Whisper of two layers a stack and sides of 8, and an I64 and a BOOL tensor beside it. */
rm_model *rm_whisper(lors_dtype dtype, uint64_t seed);
/* Normal noise of this scale on all floating-point tensors but the sinusoid. */
void rm_tune(rm_model *model, uint64_t seed, double scale);
/* The base in the first of n folders, and in folder k it tuned with seed k. */
void rm_write_tuned(const rm_model *base, const char *const *folders, int n, double scale);
/* A base in folder b, two models tuned from it in m and n, in F32. */
void rm_write_small_family(void);
/* Noise that is the same for all tunes of one base where the result is to be in other types:
 * multiples of 2^-8, so that f16 and bf16 hold base and model exactly. */
void rm_make_coarse(rm_model *model);
void rm_cast(rm_model *model, lors_dtype dtype);

/* A folder with weights in so many files, config.json and side files; an older one is removed. */
void rm_write(const rm_model *model, const char *folder, int n_shards);
rm_model *rm_read(const char *folder);
/* The same tensors, types, shapes and bytes? The first difference is printed. */
bool rm_same(const rm_model *a, const rm_model *b);
/* The same, of folders. */
bool rm_same_folders(const char *a, const char *b);

void rm_write_bytes(const char *path, const void *bytes, size_t n_bytes);
char *rm_read_bytes(const char *path, size_t *n_bytes); /* NUL-terminated; free() */
bool rm_same_files(const char *a, const char *b);
bool rm_exists(const char *path);
/* The path of an open file, cut to n_bytes with the NUL. Returns out. */
char *rm_path_of(int fd, char *out, size_t n_bytes);
int rm_count_entries(const char *folder); /* hidden ones included */
void rm_remove(const char *path);         /* a whole tree; nothing there is fine */

typedef struct rm_options {
    lors_plan_options plan;
    lors_run_options run;
    bool keep_out; /* do not remove an older OUT first */
} rm_options;

#define RM_OPTIONS_INIT {LORS_PLAN_OPTIONS_INIT, LORS_RUN_OPTIONS_INIT, false}

/* Merge a recipe given as text, its models relative to the current folder. The report's summary is
 * left in *summary where that is not NULL. */
lors_status rm_merge(const char *recipe, const char *out, const rm_options *options,
                     lors_report_summary *summary);
/* The same, and it must succeed. */
void rm_merge_ok(const char *recipe, const char *out, const rm_options *options);
/* It must fail with this status and a sentence that holds `text`; no OUT and nothing beside it that
 * was not there before. */
void rm_merge_fails(const char *recipe, const char *out, const rm_options *options,
                    lors_status status, const char *text);

#define RM_OK(call) rm_check_ok((call), #call, __FILE__, __LINE__)
void rm_check_ok(lors_status status, const char *what, const char *file, int line);

#endif
