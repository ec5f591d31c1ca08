/* run_merge.c - one merge through the public interface, for the tests of whole merges. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "run_models.h"

void rm_check_ok(lors_status status, const char *what, const char *file, int line)
{
    if (status != LORS_OK) {
        fprintf(stderr, "%s:%d: %s: %s: %s\n", file, line, what, lors_status_name(status),
                lors_last_error());
        fail();
    }
}

lors_status rm_merge(const char *text, const char *out, const rm_options *options,
                     lors_report_summary *summary)
{
    static const rm_options defaults = RM_OPTIONS_INIT;
    lors_recipe *recipe = NULL;
    lors_plan *plan = NULL;
    lors_report *report = NULL;
    options = options ? options : &defaults;
    if (!options->keep_out) {
        rm_remove(out);
    }
    lors_status status = lors_recipe_parse("recipe", text, strlen(text), NULL, &recipe);
    if (status == LORS_OK) {
        status = lors_plan_create(recipe, &options->plan, &plan);
    }
    if (status == LORS_OK) {
        status = lors_run(plan, out, &options->run, &report);
    }
    if (status == LORS_OK && summary) {
        lors_report_summarize(report, summary);
    }
    lors_report_free(report);
    lors_plan_free(plan);
    lors_recipe_free(recipe);
    return status;
}

void rm_merge_ok(const char *text, const char *out, const rm_options *options)
{
    lors_status status = rm_merge(text, out, options, NULL);
    if (status != LORS_OK) {
        fprintf(stderr, "%s\n", text);
    }
    RM_OK(status);
}

void rm_merge_fails(const char *text, const char *out, const rm_options *options,
                    lors_status status, const char *sentence)
{
    if (!options || !options->keep_out) {
        rm_remove(out);
    }
    int before = rm_count_entries(".");
    bool existed = rm_exists(out);
    lors_status found = rm_merge(text, out, options, NULL);
    if (found != status || !strstr(lors_last_error(), sentence)) {
        fprintf(stderr, "expected %s and '%s', found %s: %s\n", lors_status_name(status), sentence,
                lors_status_name(found), lors_last_error());
        fail();
    }
    assert_int_equal(rm_exists(out), existed);
    assert_int_equal(rm_count_entries("."), before);
}
