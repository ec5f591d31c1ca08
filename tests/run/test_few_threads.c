/* test_few_threads.c - the system gives no further thread, from the first or from a later one on: a
 * merge goes on with those it has, or ends in a sentence, and leaves nothing. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <dlfcn.h>
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>

#include "io/transfer.h"
#include "run_models.h"

#define TWO "models: [{model: m, parameters: {weight: 1}}, {model: n, parameters: {weight: 0.5}}]\n"
#define TIES "merge_method: ties\nbase_model: b\nparameters: {density: 0.3}\n" TWO

/* ---- Threads that are not to be had ---------------------------------------------------------- */

static int n_created, fails_at; /* 1-based; 0: none fails */
static bool fails_on;

int pthread_create(pthread_t *thread, const pthread_attr_t *attributes, void *(*work)(void *),
                   void *argument) __attribute__((visibility("default")));

int pthread_create(pthread_t *thread, const pthread_attr_t *attributes, void *(*work)(void *),
                   void *argument)
{
    static int (*real)(pthread_t *, const pthread_attr_t *, void *(*)(void *), void *);
    if (!real) {
        *(void **)&real = dlsym(RTLD_NEXT, "pthread_create");
    }
    n_created++;
    if (fails_at && (n_created == fails_at || (fails_on && n_created > fails_at))) {
        return EAGAIN;
    }
    return real(thread, attributes, work, argument);
}

static void fail_at(int n, bool on)
{
    n_created = 0;
    fails_at = n;
    fails_on = on;
}

/* ---- Tests ----------------------------------------------------------------------------------- */

static void test_transfers(void **state)
{
    (void)state;
    lors_transfer *transfer = NULL;
    fail_at(1, true);
    assert_int_equal(lors_transfer_create(4, &transfer), LORS_ERR_LIMIT);
    assert_null(transfer);
    assert_non_null(strstr(lors_last_error(), "cannot start a thread for reading and writing"));
    fail_at(2, true);
    assert_int_equal(lors_transfer_create(4, &transfer), LORS_OK); /* one is enough */
    fail_at(0, false);
    lors_transfer_free(transfer);
}

static int write_family(void **state)
{
    (void)state;
    rm_work_in("few-threads");
    rm_write_small_family();
    rm_merge_ok(TIES, "meant", NULL);
    return 0;
}

/* Fail the nth thread, and the later ones. Returns the status. */
static lors_status merge_without(int n, bool on)
{
    rm_options options = RM_OPTIONS_INIT;
    options.plan.n_threads = 3;
    int n_before = rm_count_entries(".");
    fail_at(n, on);
    lors_status status = rm_merge(TIES, "out", &options, NULL);
    fails_at = 0;
    if (status == LORS_OK) {
        assert_true(rm_same_folders("meant", "out"));
        rm_remove("out");
    } else {
        assert_int_equal(status, LORS_ERR_LIMIT);
        assert_non_null(strstr(lors_last_error(), "cannot start"));
    }
    assert_int_equal(rm_count_entries("."), n_before);
    return status;
}

static void test_merges(void **state)
{
    (void)state;
    int n_refused = 0, n_all = 1;
    rm_remove("out");
    assert_int_equal(merge_without(0, false), LORS_OK);
    n_all = n_created;
    assert_true(n_all >= 3); /* transfers, the journal, workers */
    for (int n = 1; n <= n_all; n++) {
        n_refused += merge_without(n, false) != LORS_OK;
        n_refused += merge_without(n, true) != LORS_OK;
    }
    assert_true(n_refused >= 4);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_transfers),
        cmocka_unit_test_setup(test_merges, write_family),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
