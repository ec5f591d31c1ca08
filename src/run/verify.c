/* verify.c - is a merged folder still what lors.json says it is? */
#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <lors/run.h>

#include "base/error.h"
#include "base/file.h"
#include "base/hash.h"
#include "base/memory.h"
#include "base/text.h"
#include "io/json_file.h"
#include "io/json_memory.h"
#include "run/run_internal.h"

enum { PIECE = 1 << 20 };

lors_status lors_hash_range(lors_sha256 *state, int fd, const char *path, uint64_t begin,
                            uint64_t end, lors_run_state *run)
{
    size_t most = (size_t)(end - begin < PIECE ? end - begin : PIECE);
    unsigned char *piece = lors_alloc(most);
    lors_status status = piece ? LORS_OK : lors_fail_memory(most);
    for (uint64_t at = begin; at < end && status == LORS_OK; at += most) {
        size_t n = (size_t)(end - at < most ? end - at : most);
        status = lors_file_read_at(fd, path, at, piece, n);
        if (status == LORS_OK) {
            status = lors_sha256_update(state, piece, n);
        }
        if (status == LORS_OK && run) {
            status = lors_run_poll(run);
        }
    }
    lors_free(piece);
    return status;
}

static lors_status hash_open_file(int fd, const char *path, uint64_t n_bytes, lors_run_state *run,
                                  char out[LORS_SHA256_TEXT])
{
    lors_sha256 *state = NULL;
    lors_status status = lors_sha256_create(&state);
    if (status == LORS_OK) {
        status = lors_hash_range(state, fd, path, 0, n_bytes, run);
    }
    if (status == LORS_OK) {
        status = lors_sha256_finish(state, out);
    }
    lors_sha256_free(state);
    return status;
}

lors_status lors_hash_file(const char *folder, const char *name, lors_run_state *run,
                           char out[LORS_SHA256_TEXT], uint64_t *n_bytes)
{
    char *path = lors_path_join(folder, name);
    if (!path) {
        return lors_fail_memory(strlen(folder) + strlen(name));
    }
    int fd = -1;
    struct stat info;
    lors_status status = lors_file_open_read(path, &fd, &info);
    if (status == LORS_OK) {
        *n_bytes = (uint64_t)info.st_size;
        status = hash_open_file(fd, path, *n_bytes, run, out);
        lors_file_table()->close(fd);
    }
    lors_free(path);
    return status;
}

/* A file that is there but cannot be read may be whole: it is not called damaged. */
static lors_status fail_unread(lors_status status, const char *folder, const char *name)
{
    struct stat info;
    char *path = lors_path_join(folder, name);
    bool missing = path && (stat(path, &info) != 0 || !S_ISREG(info.st_mode));
    lors_free(path);
    return lors_fail_within(missing ? LORS_ERR_INPUT : status,
                            "a file of the merge cannot be read");
}

static lors_status fail_list(const char *folder)
{
    return lors_fail(LORS_ERR_INPUT, "%s/lors.json: `files` is damaged", folder);
}

/* One that has another size is not hashed: it may be of any size. */
static lors_status verify_size(const char *folder, const char *name, uint64_t meant)
{
    struct stat info;
    char escaped[LORS_ESCAPED_MAX];
    char *path = lors_path_join(folder, name);
    if (!path) {
        return lors_fail_memory(strlen(folder) + strlen(name) + 2);
    }
    bool other = stat(path, &info) == 0 && S_ISREG(info.st_mode) && (uint64_t)info.st_size != meant;
    lors_free(path);
    return !other ? LORS_OK
                  : lors_fail(LORS_ERR_INPUT,
                              "%s/%s: differs from what was written (%llu bytes; meant were %llu): "
                              "copy it again or merge again",
                              folder, lors_escape_text(name, escaped),
                              (unsigned long long)info.st_size, (unsigned long long)meant);
}

static lors_status forget(const char *folder, const char *name)
{
    char *path = lors_path_join(folder, name);
    lors_status status = path ? lors_file_forget(path) : lors_fail_memory(strlen(name));
    lors_free(path);
    return status;
}

/* One entry of `files`: a bare name, its size, its hash. `names` gets the name, which is new. */
static lors_status verify_file(const char *folder, json_t *entry, json_t *names, uint64_t *n_bytes)
{
    const char *name = NULL, *sha256 = NULL;
    json_int_t size = -1;
    char hash[LORS_SHA256_TEXT], escaped[LORS_ESCAPED_MAX], meant[LORS_ESCAPED_MAX];
    lors_json_begin();
    int failed =
        json_unpack(entry, "{s:s, s:I, s:s}", "name", &name, "bytes", &size, "sha256", &sha256);
    bool twice = !failed && json_object_get(names, name);
    if (!failed) {
        json_object_set_new(names, name, json_true());
    }
    LORS_TRY(lors_json_end());
    if (failed || twice || !*name || strchr(name, '/') || strcmp(name, "..") == 0) {
        return fail_list(folder);
    }
    LORS_TRY(verify_size(folder, name, (uint64_t)size));
    lors_status status = forget(folder, name);
    if (status == LORS_OK) {
        status = lors_hash_file(folder, name, NULL, hash, n_bytes);
    }
    if (status != LORS_OK) {
        return fail_unread(status, folder, name);
    }
    if (*n_bytes != (uint64_t)size || strcmp(hash, sha256) != 0) {
        return lors_fail(LORS_ERR_INPUT,
                         "%s/%s: differs from what was written (%llu bytes, sha256 %s; meant were "
                         "%lld bytes, sha256 %s): copy it again or merge again",
                         folder, lors_escape_text(name, escaped), (unsigned long long)*n_bytes,
                         hash, (long long)size, lors_escape_text(sha256, meant));
    }
    return LORS_OK;
}

typedef struct listed {
    const char *folder;
    const json_t *names; /* of the files, as keys */
} listed;

/* A file beside the others can change how a folder loads: an unknown one is an error. */
static lors_status verify_listed(const char *name, bool is_folder, void *user)
{
    const listed *in = user;
    char escaped[LORS_ESCAPED_MAX];
    (void)is_folder;
    return json_object_get(in->names, name) || strcmp(name, "lors.json") == 0
               ? LORS_OK
               : lors_fail(LORS_ERR_INPUT,
                           "%s/%s: not written by the merge: remove it, since it may change how "
                           "the model loads",
                           in->folder, lors_escape_text(name, escaped));
}

static lors_status verify_files(const char *folder, json_t *files, json_t *names, int64_t *n_files,
                                uint64_t *n_bytes)
{
    size_t index;
    json_t *entry;
    json_array_foreach(files, index, entry)
    {
        uint64_t one = 0;
        LORS_TRY(verify_file(folder, entry, names, &one));
        *n_bytes += one;
        ++*n_files;
    }
    return lors_file_list(folder, verify_listed, &(listed){folder, names});
}

static lors_status verify_report(const char *folder, json_t *root, int64_t *n_files,
                                 uint64_t *n_bytes)
{
    json_t *files = json_object_get(root, "files");
    if (!json_is_array(files) || json_array_size(files) == 0) {
        return lors_fail(LORS_ERR_INPUT, "%s/lors.json: no list of files: not made by lors merge",
                         folder);
    }
    lors_json_begin();
    json_t *names = json_object();
    lors_status status = lors_json_end();
    if (status == LORS_OK) {
        status = verify_files(folder, files, names, n_files, n_bytes);
    }
    json_decref(names);
    return status;
}

/* Does lors.json end with the right hash of itself? */
static lors_status verify_seal(const char *path, const char *text, size_t length)
{
    char hash[LORS_SHA256_TEXT], end[sizeof LORS_SEAL_FORMAT + LORS_SHA256_TEXT];
    size_t end_length = sizeof LORS_SEAL_FORMAT - sizeof "%s" + LORS_SHA256_TEXT - 1;
    bool good = length > end_length;
    if (good) {
        LORS_TRY(lors_sha256_of(text, length - end_length, hash));
        snprintf(end, sizeof end, LORS_SEAL_FORMAT, hash);
        good = memcmp(text + length - end_length, end, end_length) == 0;
    }
    return good ? LORS_OK
                : lors_fail(LORS_ERR_INPUT,
                            "%s: differs from what was written: its hash of itself is wrong or "
                            "missing: copy it again or merge again",
                            path);
}

lors_status lors_verify(const char *path, int64_t *n_files, uint64_t *n_bytes)
{
    int64_t files = 0;
    uint64_t bytes = 0;
    char *report_path = lors_path_join(path, "lors.json"), *text = NULL;
    size_t length = 0;
    if (!report_path) {
        return lors_fail_memory(strlen(path));
    }
    lors_status status = lors_file_read_all(report_path, LORS_REPORT_MAX_BYTES, &text, &length);
    if (status != LORS_OK) {
        status = lors_fail_within(status, "only folders that `lors merge` wrote can be verified");
    } else {
        status = verify_seal(report_path, text, length);
    }
    if (status == LORS_OK) {
        json_t *root = NULL;
        status = lors_json_parse(report_path, text, length, &root);
        if (status == LORS_OK) {
            status = verify_report(path, root, &files, &bytes);
        }
        json_decref(root);
    }
    lors_free(text);
    lors_free(report_path);
    if (n_files) {
        *n_files = files;
    }
    if (n_bytes) {
        *n_bytes = bytes;
    }
    return status;
}
