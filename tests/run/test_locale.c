/* test_locale.c - a host program has set a locale in which the decimal point is a comma: numbers
 * are read and written as everywhere, in recipes, sentences, plans, weights and reports.
 *
 * Few machines have such a locale installed: where there is none, one is written in glibc's format
 * (magic number, the offsets of six fields, the fields). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <locale.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/text.h"
#include "run_child.h"
#include "run_models.h"

#define MODELS "models: [{model: m, parameters: {weight: 0.75}}, {model: n}]\n"
#define BASE "base_model: b\n"

enum { N_FIELDS = 6, LC_NUMERIC_MAGIC = 0x20031114 };

static void write_comma_locale(void)
{
    static const struct {
        uint32_t magic, n_fields, offsets[N_FIELDS];
        char point[2], thousands, grouping;
        uint32_t wide_point, wide_thousands;
        char encoding[6];
    } numeric = {LC_NUMERIC_MAGIC, N_FIELDS, {32, 34, 35, 36, 40, 44}, ",", 0, 0, ',', 0, "UTF-8"};
    assert_int_equal(mkdir("locales", 0777) | mkdir("locales/comma.UTF-8", 0777), 0);
    rm_write_bytes("locales/comma.UTF-8/LC_NUMERIC", &numeric, 50);
    setenv("LOCPATH", "locales", 1);
}

static void set_comma(void)
{
    static const char *const names[] = {"de_DE.UTF-8", "fr_FR.UTF-8", "comma.UTF-8"};
    const char *set = NULL;
    for (size_t i = 0; i < sizeof names / sizeof *names && !set; i++) {
        set = setlocale(LC_NUMERIC, names[i]);
    }
    char text[8];
    snprintf(text, sizeof text, "%.1f", 0.5);
    if (strcmp(text, "0,5") != 0) {
#ifdef __GLIBC__
        fail_msg("no locale with a comma");
#endif
        skip();
    }
}

static int write_models(void **state)
{
    (void)state;
    rm_work_in("locale");
    rm_write_small_family();
    write_comma_locale();
    return 0;
}

static int set_usual(void **state)
{
    (void)state;
    setlocale(LC_NUMERIC, "C");
    return 0;
}

static void test_sentences(void **state)
{
    (void)state;
    static const char text[] = "merge_method: pcb\n" BASE MODELS "parameters: {clip: 0.75}\n";
    lors_recipe *recipe = NULL;
    char bytes[32];
    set_comma();
    assert_int_equal(lors_recipe_parse("r", text, strlen(text), NULL, &recipe), LORS_ERR_RECIPE);
    assert_non_null(strstr(lors_last_error(), "0.75 is out of range (allowed: 0 to 0.5)"));
    assert_string_equal(lors_format_bytes(1500000, bytes), "1.5 MB");
}

static char *plan_text(const char *text)
{
    lors_plan_options options = LORS_PLAN_OPTIONS_INIT;
    lors_recipe *recipe = NULL;
    lors_plan *plan = NULL;
    char *json = NULL;
    RM_OK(lors_recipe_parse("r", text, strlen(text), NULL, &recipe));
    RM_OK(lors_plan_create(recipe, &options, &plan));
    RM_OK(lors_plan_json(plan, &json));
    lors_plan_free(plan);
    lors_recipe_free(recipe);
    return json;
}

static void test_merges(void **state)
{
    (void)state;
    static const char *const recipes[] = {
        "merge_method: lors\n" BASE MODELS "parameters: {weight: 0.25, rank: 2, density: 0.125}\n",
        "merge_method: ties\n" BASE MODELS "parameters: {weight: 1.5e-1, density: 0.3}\n",
    };
    for (size_t i = 0; i < sizeof recipes / sizeof *recipes; i++) {
        setlocale(LC_NUMERIC, "C");
        rm_merge_ok(recipes[i], "meant", NULL);
        char *meant = plan_text(recipes[i]);
        set_comma();
        rm_merge_ok(recipes[i], "out", NULL);
        char *found = plan_text(recipes[i]);
        assert_string_equal(found, meant);
        assert_true(rm_same_folders("meant", "out"));
        assert_true(rc_same_outputs("meant", "out"));
        RM_OK(lors_verify("out", NULL, NULL));
        lors_text_free(found);
        lors_text_free(meant);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(test_sentences, set_usual),
        cmocka_unit_test_teardown(test_merges, set_usual),
    };
    return cmocka_run_group_tests(tests, write_models, NULL);
}
