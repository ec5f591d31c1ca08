/* test_odd_libraries.c - answers that libfyaml, jansson and the system may give by what their
 * documentation says, but that no input draws from those of today: marks that are missing or lie
 * outside the text, messages of another form, a lock file of which nothing can be asked.
 *
 * The program's own functions of those names come before the libraries'. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <dlfcn.h>
#include <errno.h>
#include <jansson.h>
#include <libfyaml.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <lors/recipe.h>

#include "base/file.h"
#include "base/memory.h"
#include "io/json_file.h"
#include "io/staging.h"
#include "io_files.h"

/* What is done to each answer; set back by `usual`. */
static struct {
    bool no_start, no_end, swapped;
    size_t beyond; /* added to where a text ends */
    void (*error)(struct fy_diag_error *error);
    const char *json;
    int n_fstat_fails, no_name; /* of sysconf */
    const char *unknown; /* the entry that lstat, once it has been asked so often, fails for */
    int n_asked;
} odd;

static int usual(void **state)
{
    (void)state;
    memset(&odd, 0, sizeof odd);
    return 0;
}

static void *next_one(const char *name)
{
    void *found = dlsym(RTLD_NEXT, name);
    assert_non_null(found);
    return found;
}

/* ---- libfyaml -------------------------------------------------------------------------------- */

typedef const struct fy_mark *(*mark_of)(struct fy_token *token);

static const struct fy_mark *real_mark(const char *name, struct fy_token *token)
{
    void *found = next_one(name);
    mark_of function;
    memcpy(&function, &found, sizeof function);
    return function(token);
}

const struct fy_mark *fy_token_start_mark(struct fy_token *fyt)
{
    const char *name = odd.swapped ? "fy_token_end_mark" : "fy_token_start_mark";
    return odd.no_start ? NULL : real_mark(name, fyt);
}

const struct fy_mark *fy_token_end_mark(struct fy_token *fyt)
{
    static struct fy_mark moved;
    const struct fy_mark *mark =
        real_mark(odd.swapped ? "fy_token_start_mark" : "fy_token_end_mark", fyt);
    if (!mark || odd.no_end) {
        return NULL;
    }
    moved = *mark;
    moved.input_pos += odd.beyond;
    return &moved;
}

struct fy_diag_error *fy_diag_errors_iterate(struct fy_diag *diag, void **prevp)
{
    static struct fy_diag_error changed;
    struct fy_diag_error *(*function)(struct fy_diag *, void **);
    void *found = next_one("fy_diag_errors_iterate");
    memcpy(&function, &found, sizeof function);
    struct fy_diag_error *error = function(diag, prevp);
    if (!error || !odd.error) {
        return error;
    }
    changed = *error;
    odd.error(&changed);
    return &changed;
}

/* `model` NULL, or the path of the first model, if the recipe is good. */
static lors_status parse(const char *text, const char *model)
{
    lors_recipe *recipe = NULL;
    lors_status status = lors_recipe_parse("r.yaml", text, strlen(text), "/f", &recipe);
    if (status == LORS_OK && model) {
        assert_string_equal(lors_recipe_model_path(recipe, 0), model);
    }
    lors_recipe_free(recipe);
    return status;
}

static void refused(lors_status status, lors_status meant, const char *sentence)
{
    if (status != meant || !strstr(lors_last_error(), sentence)) {
        print_error("status %d: %s\n", (int)status, status ? lors_last_error() : "");
    }
    assert_int_equal(status, meant);
    assert_non_null(strstr(lors_last_error(), sentence));
}

#define QUOTED \
    "merge_method: linear\nmodels: [{model: 'it''s'}, {model: 'b'}]\n" \
    "parameters: {weight: 1}\n"

/* Doubled quotes are then libfyaml's to read. */
static void test_marks(void **state)
{
    (void)state;
    for (int way = 0; way < 5; way++) {
        usual(NULL);
        odd.no_start = way == 1;
        odd.no_end = way == 2;
        odd.beyond = way == 3 ? 1000 : 0;
        odd.swapped = way == 4;
        lors_status status = parse(QUOTED, "/f/it's");
        if (status) {
            print_error("way %d: %s\n", way, lors_last_error());
        }
        assert_int_equal(status, LORS_OK);
    }
    usual(NULL);
    odd.no_start = true;
    refused(parse("merge_method: !x linear\n", NULL), LORS_ERR_RECIPE, "r.yaml: tags");
}

static void is_notice(struct fy_diag_error *error)
{
    error->type = FYET_NOTICE;
}

static void is_silent(struct fy_diag_error *error)
{
    error->msg = NULL;
}

static void is_nowhere(struct fy_diag_error *error)
{
    error->line = error->column = -1;
}

static void test_messages(void **state)
{
    static const char broken[] = "merge_method: [linear\n";
    (void)state;
    refused(parse(broken, NULL), LORS_ERR_RECIPE, "not valid YAML: ");
    odd.error = is_nowhere;
    refused(parse(broken, NULL), LORS_ERR_RECIPE, "not valid YAML: ");
    assert_null(strstr(lors_last_error(), "-1"));
    odd.error = is_notice; /* there is no error, as when libfyaml has no memory for one */
    refused(parse(broken, NULL), LORS_ERR_LIMIT, "memory");
    odd.error = is_silent;
    refused(parse(broken, NULL), LORS_ERR_LIMIT, "memory");
}

/* ---- jansson --------------------------------------------------------------------------------- */

json_t *json_load_callback(json_load_callback_t callback, void *data, size_t flags,
                           json_error_t *error)
{
    json_t *(*function)(json_load_callback_t, void *, size_t, json_error_t *);
    void *found = next_one("json_load_callback");
    memcpy(&function, &found, sizeof function);
    json_t *root = function(callback, data, flags, error);
    if (!root && odd.json) {
        snprintf(error->text, sizeof error->text, "%s", odd.json);
    }
    return root;
}

static void test_json_messages(void **state)
{
    static const char *const ways[][2] = {
        {NULL, "near 'x'"},
        {"wrong near 'cut", "c.json:1:1: wrong near 'cut'"},
        {"wrong near '", "c.json:1:1: wrong near ''"},
        {"wrong", "c.json:1:1: wrong"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof ways / sizeof *ways; i++) {
        json_t *root = NULL;
        odd.json = ways[i][0];
        refused(lors_json_parse("c.json", "x", 1, &root), LORS_ERR_INPUT, ways[i][1]);
        assert_null(root);
    }
}

/* ---- The system ------------------------------------------------------------------------------ */

int fstat(int fd, struct stat *info)
{
    if (odd.n_fstat_fails > 0) {
        odd.n_fstat_fails--;
        errno = EIO;
        return -1;
    }
    int (*function)(int, struct stat *);
    void *found = next_one(sizeof(long) == 8 ? "fstat" : "fstat64");
    memcpy(&function, &found, sizeof function);
    return function(fd, info);
}

int lstat(const char *path, struct stat *info)
{
    const char *name = strrchr(path, '/');
    if (odd.unknown && name && strcmp(name + 1, odd.unknown) == 0 && odd.n_asked-- == 0) {
        odd.unknown = NULL;
        errno = EIO;
        return -1;
    }
    int (*function)(const char *, struct stat *);
    void *found = next_one(sizeof(long) == 8 ? "lstat" : "lstat64");
    memcpy(&function, &found, sizeof function);
    return function(path, info);
}

/* A lock of which nobody knows what it guards is taken again; one that stays so ends the run. */
static void test_lock(void **state)
{
    lors_staging *staging = NULL;
    (void)state;
    io_folder_create();
    odd.n_fstat_fails = 1;
    assert_int_equal(lors_staging_open(io_path("out"), false, &staging), LORS_OK);
    lors_staging_close(staging);
    assert_int_equal(odd.n_fstat_fails, 0);
    odd.n_fstat_fails = 1 << 20;
    refused(lors_staging_open(io_path("out"), false, &staging), LORS_ERR_IO, "keeps vanishing");
    odd.n_fstat_fails = 0;
    io_folder_remove();
}

/* Whether there is an output, and what an earlier run left, is not known then: nothing is touched,
 * be it there or not. */
static void test_what_is_there(void **state)
{
    static const char *const folders[] = {"out", ".out.lors-old", ".out.lors-staging"};
    lors_staging *staging = NULL;
    (void)state;
    for (size_t n_there = 0; n_there <= 2; n_there++) {
        for (size_t i = 0; i < 4; i++) {
            io_folder_create();
            for (size_t k = 0; k < n_there; k++) {
                io_mkdir(io_path("%s", folders[k]));
                io_write_text(io_path("%s/config.json", folders[k]), "{}");
            }
            odd.unknown = folders[i % 3];
            odd.n_asked = i == 3; /* OUT once more, when it is to be replaced */
            refused(lors_staging_open(io_path("out"), true, &staging), LORS_ERR_IO,
                    "cannot be examined");
            assert_null(odd.unknown);
            for (size_t k = 0; k < n_there; k++) {
                bool removed = i == 3 && k == 1; /* the older one, of use to nobody */
                assert_int_equal(io_exists(io_path("%s/config.json", folders[k])), !removed);
            }
            io_folder_remove();
        }
    }
}

long sysconf(int name)
{
    void *found = next_one("sysconf");
    long (*function)(int);
    memcpy(&function, &found, sizeof function);
    return odd.no_name && odd.no_name == name ? -1 : function(name);
}

/* Some containers do not tell. */
static void test_system_memory(void **state)
{
    uint64_t n_free, n_total;
    (void)state;
    lors_system_memory(&n_free, &n_total);
    assert_true(n_total > n_free && n_free > 0);
    odd.no_name = _SC_PHYS_PAGES;
    lors_system_memory(&n_free, &n_total);
    assert_true(n_total == 0 && n_free > 0);
    odd.no_name = _SC_PAGESIZE;
    lors_system_memory(&n_free, &n_total);
    assert_true(n_total == 0 && n_free == 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_marks, usual),
        cmocka_unit_test_setup(test_messages, usual),
        cmocka_unit_test_setup(test_json_messages, usual),
        cmocka_unit_test_setup(test_lock, usual),
        cmocka_unit_test_setup(test_what_is_there, usual),
        cmocka_unit_test_setup(test_system_memory, usual),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
