/* cmd_methods.c - `lors methods`: what can be merged how, with which parameters. */
#include <inttypes.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <lors/method.h>

#include "cli/commands.h"
#include "cli/json.h"
#include "cli/messages.h"
#include "cli/table.h"

typedef struct methods_settings {
    bool json;
} methods_settings;

static const cli_option options[] = {
    {"json", 0, CLI_FLAG, offsetof(methods_settings, json), NULL, NULL, 0, 0, "print JSON"},
};

static const char *method_name_at(size_t index, const void *user)
{
    const lors_method_info *method = lors_method_at((int32_t)index);
    (void)user;
    return method ? method->name : NULL;
}

/* "a number in (0, 1]", "true or false", ...: what may be written. */
static void describe_words(const lors_param_info *param, cli_cell out)
{
    char all[200] = "";
    size_t length = 0;
    for (int32_t i = 0; param->words[i] && length < sizeof all - 32; ++i) {
        int n = snprintf(all + length, sizeof all - length, "%s%s", i ? ", " : "", param->words[i]);
        length += n > 0 ? (size_t)n : 0;
    }
    cli_fill(out, "%s", all);
}

static void describe_range(const lors_param_info *param, cli_cell out)
{
    char low[32] = "-inf", high[32] = "inf";
    switch (param->kind) {
    case LORS_PARAM_BOOL: cli_fill(out, "true or false"); return;
    case LORS_PARAM_RANK: cli_fill(out, "7, \"1%%\" or {energy: 0.9}"); return;
    case LORS_PARAM_CHOICE: describe_words(param, out); return;
    case LORS_PARAM_NUMBER: break;
    }
    /* A limit that no sensible value comes near only guards the arithmetic. */
    bool has_low = param->minimum > -1e30;
    bool has_high = param->maximum < 1e30;
    if (!has_low && !has_high) {
        cli_fill(out, "any number");
        return;
    }
    if (has_low)
        snprintf(low, sizeof low, "%g", param->minimum);
    if (has_high)
        snprintf(high, sizeof high, "%g", param->maximum);
    if (!has_high)
        cli_fill(out, "%s %s", param->minimum_open ? ">" : ">=", low);
    else
        cli_fill(out, "%s to %s%s", low, high, param->minimum_open ? ", not the first" : "");
}

static void fill_param(int64_t row, cli_cell *cells, void *user)
{
    const lors_param_info *param = &((const lors_method_info *)user)->params[row];
    cli_fill(cells[0], "  %s", param->name);
    describe_range(param, cells[1]);
    cli_fill(cells[2], "%s", param->fallback ? param->fallback : "(required)");
    cli_fill(cells[3], "%s", param->per_model ? "yes" : "no");
    cli_fill(cells[4], "%s", param->summary);
}

static void show_formula(const char *text)
{
    for (;;) {
        int n_bytes = (int)strcspn(text, "\n");
        cli_out("  %.*s\n", n_bytes, text);
        text += n_bytes;
        if (!*text++)
            return;
    }
}

static void show_method(const lors_method_info *method)
{
    static const cli_column columns[] = {{"  parameter", false},
                                         {"value", false},
                                         {"default", false},
                                         {"per model", false},
                                         {"meaning", false}};
    cli_out("%s: %s\n\nFormula:\n", method->name, method->summary);
    show_formula(method->formula);
    if (method->max_models == 0)
        cli_out("\nModels: %" PRId32 " or more", method->min_models);
    else if (method->max_models == method->min_models)
        cli_out("\nModels: exactly %" PRId32, method->min_models);
    else
        cli_out("\nModels: %" PRId32 " to %" PRId32, method->min_models, method->max_models);
    cli_out(", base_model %s\nScope:  %s\nCost:   %s\nPaper:  %s\n",
            method->needs_base ? "required" : "optional", method->scope, method->cost,
            method->paper);
    if (method->n_params == 0) {
        cli_out("\nParameters: none\n");
        return;
    }
    cli_out("\nParameters:\n");
    cli_table(columns, sizeof columns / sizeof columns[0], method->n_params, fill_param,
              (void *)(uintptr_t)method);
}

static json_t *param_json(const lors_param_info *param, bool *failed)
{
    static const char *const kinds[] = {
        [LORS_PARAM_NUMBER] = "number",
        [LORS_PARAM_BOOL] = "bool",
        [LORS_PARAM_RANK] = "rank",
        [LORS_PARAM_CHOICE] = "choice"};
    json_t *item = json_object();
    cli_json_put(item, "name", cli_json_text(param->name), failed);
    cli_json_put(item, "kind", cli_json_text(kinds[param->kind]), failed);
    cli_json_put(item, "per_model", json_boolean(param->per_model), failed);
    cli_json_put(item, "required", json_boolean(param->required), failed);
    if (param->kind == LORS_PARAM_NUMBER) {
        cli_json_put(item, "minimum", cli_json_number(param->minimum), failed);
        cli_json_put(item, "minimum_open", json_boolean(param->minimum_open), failed);
        cli_json_put(item, "maximum", cli_json_number(param->maximum), failed);
    }
    if (param->kind == LORS_PARAM_CHOICE) {
        json_t *words = json_array();
        for (int32_t i = 0; param->words[i]; ++i)
            cli_json_append(words, cli_json_text(param->words[i]), failed);
        cli_json_put(item, "words", words, failed);
    }
    cli_json_put(item, "default", cli_json_text(param->fallback), failed);
    cli_json_put(item, "summary", cli_json_text(param->summary), failed);
    return item;
}

static json_t *method_json(const lors_method_info *method, bool *failed)
{
    json_t *item = json_object(), *params = json_array();
    for (int32_t i = 0; i < method->n_params; ++i)
        cli_json_append(params, param_json(&method->params[i], failed), failed);
    cli_json_put(item, "name", cli_json_text(method->name), failed);
    cli_json_put(item, "summary", cli_json_text(method->summary), failed);
    cli_json_put(item, "formula", cli_json_text(method->formula), failed);
    cli_json_put(item, "paper", cli_json_text(method->paper), failed);
    cli_json_put(item, "scope", cli_json_text(method->scope), failed);
    cli_json_put(item, "cost", cli_json_text(method->cost), failed);
    cli_json_put(item, "needs_base", json_boolean(method->needs_base), failed);
    cli_json_put(item, "min_models", json_integer(method->min_models), failed);
    cli_json_put(item, "max_models",
                 method->max_models ? json_integer(method->max_models) : json_null(), failed);
    cli_json_put(item, "parameters", params, failed);
    return item;
}

static int show_json(const lors_method_info *only)
{
    json_t *root = only ? NULL : json_array();
    bool failed = false;
    if (only)
        return cli_json_print(method_json(only, &failed), failed);
    for (int32_t i = 0; i < lors_method_count(); ++i)
        cli_json_append(root, method_json(lors_method_at(i), &failed), &failed);
    return cli_json_print(root, failed);
}

static void fill_method(int64_t row, cli_cell *cells, void *user)
{
    const lors_method_info *method = lors_method_at((int32_t)row);
    (void)user;
    cli_fill(cells[0], "%s", method->name);
    cli_fill(cells[1], "%s", method->summary);
}

static void show_list(void)
{
    static const cli_column columns[] = {{"method", false}, {"what it does", false}};
    cli_table(columns, sizeof columns / sizeof columns[0], lors_method_count(), fill_method, NULL);
    cli_out("\n'lors methods NAME' prints formula and parameters.\n");
}

static int fail_unknown(const char *name)
{
    char shown[CLI_ESCAPED_MAX];
    const char *nearest = cli_nearest(name, method_name_at, NULL);
    cli_escape(name, shown);
    if (nearest)
        cli_error("there is no method '%s'; did you mean '%s'?", shown, nearest);
    else
        cli_error("there is no method '%s'", shown);
    cli_note("'lors methods' lists them");
    return lors_status_exit_code(LORS_ERR_USAGE);
}

static int run(int argc, char **argv)
{
    methods_settings settings = {0};
    cli_arguments arguments;
    const lors_method_info *method = NULL;
    int exit_code = cli_parse(&cli_methods, argc, argv, &settings, &arguments);
    if (exit_code >= 0)
        return exit_code;
    if (arguments.count > 0) {
        method = lors_method_find(arguments.items[0]);
        if (!method)
            return fail_unknown(arguments.items[0]);
    }
    if (settings.json)
        return show_json(method);
    if (method)
        show_method(method);
    else
        show_list();
    return 0;
}

const cli_command cli_methods = {
    .name = "methods",
    .arguments = "[NAME] [OPTIONS]",
    .summary = "the merge methods; or formula and parameters of one",
    .example = "lors methods lors",
    .about = "List the merge methods, or print the formula, the paper and the parameters\n"
             "of one, with their ranges and defaults.",
    .options = options,
    .n_options = sizeof options / sizeof options[0],
    .max_arguments = 1,
    .missing = "",
    .run = run,
};
