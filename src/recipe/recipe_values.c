/* recipe_values.c - one YAML node to one typed value: strict numbers, ranges, gradients, cases. */
#include <errno.h>
#include <locale.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/text.h"
#include "recipe/recipe_parts.h"

#define FAIL(at, node, ...) lors_recipe_fail((at)->label, (node)->place, (at)->key, __VA_ARGS__)

/* ---- text ---- */

static const char *kind_text(const lors_yaml *node)
{
    return node->kind == LORS_YAML_LIST ? "a list" : "a map";
}

lors_status lors_read_text(const lors_value_context *at, const lors_yaml *node, const char **out)
{
    if (node->kind != LORS_YAML_SCALAR) {
        return FAIL(at, node, "%s stands where text is expected", kind_text(node));
    }
    if (lors_yaml_is_null(node) || !*node->text) {
        return FAIL(at, node, "the value is empty");
    }
    *out = node->text;
    return LORS_OK;
}

/* A scalar without quotes, which alone can be a number or a bool. `what`: "a number". */
static lors_status read_plain(const lors_value_context *at, const lors_yaml *node, const char *what,
                              const char **out)
{
    char shown[LORS_ESCAPED_MAX];
    if (node->kind != LORS_YAML_SCALAR) {
        return FAIL(at, node, "%s stands where %s is expected", kind_text(node), what);
    }
    if (lors_yaml_is_null(node)) {
        return FAIL(at, node, "the value is empty: write %s", what);
    }
    if (!node->plain) {
        return FAIL(at, node, "'%s' is text, not %s: remove the quotes",
                    lors_escape_text(node->text, shown), what);
    }
    *out = node->text;
    return LORS_OK;
}

/* ---- numbers ---- */

/* 1, -0.5, .5, 2., 1e-3: nothing else; no leading zero, which would be octal elsewhere. */
static bool is_decimal(const char *text)
{
    const char *p = text + (*text == '+' || *text == '-');
    size_t whole = strspn(p, "0123456789"), part = 0;
    if (whole > 1 && *p == '0') {
        return false;
    }
    p += whole;
    if (*p == '.') {
        part = strspn(p + 1, "0123456789");
        p += 1 + part;
    }
    if (whole + part == 0) {
        return false;
    }
    if (*p == 'e' || *p == 'E') {
        p += 1 + (p[1] == '+' || p[1] == '-');
        size_t digits = strspn(p, "0123456789");
        return digits > 0 && p[digits] == '\0';
    }
    return *p == '\0';
}

/* Why `text` is no number, in a few words that help; "" if nothing special can be said. */
static const char *number_hint(const char *text)
{
    const char *p = text + (*text == '+' || *text == '-');
    if (p[0] == '0' && (p[1] == 'x' || p[1] == 'X')) {
        return " (hexadecimal is not allowed)";
    }
    if (p[0] == '0' && (p[1] == 'o' || strspn(p, "0123456789") > 1)) {
        return " (octal and leading zeros are not allowed)";
    }
    if (strcasecmp(p, ".nan") == 0 || strcasecmp(p, ".inf") == 0 || strcasecmp(p, "nan") == 0
        || strcasecmp(p, "inf") == 0 || strcasecmp(p, "infinity") == 0) {
        return " (it must be finite)";
    }
    if (p[0] >= '0' && p[0] <= '9' && strchr(p, '_')) {
        return " (remove the underscores)";
    }
    if (p[0] >= '0' && p[0] <= '9' && strchr(p, ',')) {
        return " (write a decimal point, not a comma)";
    }
    if (p[0] >= '0' && p[0] <= '9' && strchr(p, '%')) {
        return " (write a share as a number: 0.2, not 20%)";
    }
    return "";
}

/* strtod follows the host program's locale, in which the point may be a comma. */
static double decimal_value(const char *text)
{
    locale_t c_locale = newlocale(LC_ALL_MASK, "C", (locale_t)0);
    if (c_locale == (locale_t)0) {
        return strtod(text, NULL);
    }
    double value = strtod_l(text, NULL, c_locale);
    freelocale(c_locale);
    return value;
}

bool lors_decimal_parse(const char *text, double *out)
{
    if (!is_decimal(text)) {
        return false;
    }
    *out = decimal_value(text);
    return isfinite(*out);
}

/* `text` is `shown_text` or the front of it; is it a finite decimal number? */
static lors_status read_decimal(const lors_value_context *at, const lors_yaml *node,
                                const char *text, double *out)
{
    char shown[LORS_ESCAPED_MAX];
    lors_escape_text(text, shown);
    if (!is_decimal(text)) {
        return FAIL(at, node, "'%s' is not a decimal number%s", shown, number_hint(text));
    }
    *out = decimal_value(text);
    if (!isfinite(*out)) {
        return FAIL(at, node, "%s is too large for a number", shown);
    }
    size_t mantissa = strcspn(text, "eE");
    if (*out == 0 && strcspn(text, "123456789") < mantissa) {
        return FAIL(at, node, "%s is too small for a number (write 0)", shown);
    }
    return LORS_OK;
}

/* %g with a point whatever the locale. */
static const char *number_text(double value, char out[32])
{
    snprintf(out, 32, "%g", value);
    for (char *p = out; *p; p++) {
        *p = *p == ',' ? '.' : *p;
    }
    return out;
}

/* "0 to 1", "above 0, up to 1". */
static const char *range_text(const lors_param_info *param, char out[96])
{
    char low[32], high[32];
    number_text(param->minimum, low);
    number_text(param->maximum, high);
    snprintf(out, 96, param->minimum_open ? "above %s, up to %s" : "%s to %s", low, high);
    return out;
}

static lors_status read_number(const lors_value_context *at, const lors_param_info *param,
                               const lors_yaml *node, double *out)
{
    const char *text = "";
    char range[96], shown[LORS_ESCAPED_MAX];
    LORS_TRY(read_plain(at, node, "a number", &text));
    LORS_TRY(read_decimal(at, node, text, out));
    bool low = param->minimum_open ? *out <= param->minimum : *out < param->minimum;
    if (low || *out > param->maximum) {
        return FAIL(at, node, "%s is out of range (allowed: %s)", lors_escape_text(text, shown),
                    range_text(param, range));
    }
    return LORS_OK;
}

lors_status lors_read_bool(const lors_value_context *at, const lors_yaml *node, bool *out)
{
    const char *text = "";
    char shown[LORS_ESCAPED_MAX];
    LORS_TRY(read_plain(at, node, "true or false", &text));
    /* mergekit writes its own configuration with 1.0 in place of true */
    static const char *const words[] = {"false", "true", "0", "1", "0.0", "1.0"};
    for (size_t i = 0; i < sizeof words / sizeof words[0]; i++) {
        if (strcmp(text, words[i]) == 0) {
            *out = i % 2 == 1;
            return LORS_OK;
        }
    }
    static const char *const yes[] = {"yes", "on", "y", "True", "TRUE"};
    static const char *const no[] = {"no", "off", "n", "False", "FALSE"};
    for (size_t i = 0; i < sizeof yes / sizeof yes[0]; i++) {
        bool is_yes = strcasecmp(text, yes[i]) == 0;
        if (is_yes || strcasecmp(text, no[i]) == 0) {
            return FAIL(at, node, "'%s' is not true or false: write %s", text,
                        is_yes ? "true" : "false");
        }
    }
    return FAIL(at, node, "'%s' is not true or false", lors_escape_text(text, shown));
}

lors_status lors_read_count(const lors_value_context *at, const lors_yaml *node, int32_t most,
                            int32_t *out)
{
    const char *text = "";
    char shown[LORS_ESCAPED_MAX];
    LORS_TRY(read_plain(at, node, "a whole number", &text));
    size_t n_digits = strspn(text, "0123456789");
    long value = n_digits > 0 && n_digits < 10 ? strtol(text, NULL, 10) : -1;
    if (text[n_digits] || value < 0 || value > most || (text[0] == '0' && n_digits > 1)) {
        return FAIL(at, node, "'%s' is not a whole number from 0 to %d",
                    lors_escape_text(text, shown), most);
    }
    *out = (int32_t)value;
    return LORS_OK;
}

lors_status lors_read_seed(const lors_value_context *at, const lors_yaml *node, uint64_t *out)
{
    const char *text = "";
    char shown[LORS_ESCAPED_MAX];
    LORS_TRY(read_plain(at, node, "a whole number", &text));
    size_t n_digits = strspn(text, "0123456789");
    errno = 0;
    unsigned long long value = strtoull(text, NULL, 10);
    if (n_digits == 0 || text[n_digits] || (text[0] == '0' && n_digits > 1) || errno == ERANGE) {
        return FAIL(at, node, "'%s' is not a whole number from 0 to 18446744073709551615",
                    lors_escape_text(text, shown));
    }
    *out = value;
    return LORS_OK;
}

/* ---- words ---- */

lors_status lors_read_dtype(const lors_value_context *at, const lors_yaml *node, lors_dtype *out)
{
    const char *text = "";
    char shown[LORS_ESCAPED_MAX];
    LORS_TRY(lors_read_text(at, node, &text));
    if (!lors_dtype_parse_word(text, out)) {
        return FAIL(at, node, "unknown type '%s' (allowed: float32, float16, bfloat16)",
                    lors_escape_text(text, shown));
    }
    return LORS_OK;
}

lors_status lors_read_outside(const lors_value_context *at, const lors_yaml *node,
                              lors_outside *out)
{
    static const char *const words[] = {"weighted", "base", NULL};
    const char *text = "";
    char shown[LORS_ESCAPED_MAX], near[128];
    LORS_TRY(lors_read_text(at, node, &text));
    if (strcmp(text, "weighted") == 0) {
        *out = LORS_OUTSIDE_WEIGHTED;
    } else if (strcmp(text, "base") == 0) {
        *out = LORS_OUTSIDE_BASE;
    } else {
        return FAIL(at, node, "unknown word '%s'%s (allowed: weighted, base)",
                    lors_escape_text(text, shown), lors_recipe_suggest(text, words, near));
    }
    return LORS_OK;
}

lors_status lors_read_compat(const lors_value_context *at, const lors_yaml *node, bool *out)
{
    static const char *const words[] = {"mergekit", "none", NULL};
    const char *text = "";
    char shown[LORS_ESCAPED_MAX], near[128];
    LORS_TRY(lors_read_text(at, node, &text));
    *out = strcmp(text, "mergekit") == 0;
    if (!*out && strcmp(text, "none") != 0) {
        return FAIL(at, node, "unknown word '%s'%s (allowed: mergekit, none)",
                    lors_escape_text(text, shown), lors_recipe_suggest(text, words, near));
    }
    return LORS_OK;
}

lors_status lors_read_selector(const lors_value_context *at, const lors_yaml *node,
                               bool allow_substring, lors_selector **out)
{
    char joined[640];
    const char *text = "";
    if (node->kind == LORS_YAML_MAP && node->n_items == 1) {
        const lors_yaml_item *item = node->first;
        bool known = strcmp(item->key, "layers") == 0 || strcmp(item->key, "regex") == 0;
        if (known && item->value->kind == LORS_YAML_SCALAR && strlen(item->value->text) < 600) {
            snprintf(joined, sizeof joined, "%s: %s", item->key, item->value->text);
            return lors_recipe_fail_within(lors_selector_parse(joined, allow_substring, out),
                                           at->label, node->place, at->key);
        }
    }
    LORS_TRY(lors_read_text(at, node, &text));
    return lors_recipe_fail_within(lors_selector_parse(text, allow_substring, out), at->label,
                                   node->place, at->key);
}

/* ---- ranks ---- */

static lors_status read_rank_energy(const lors_value_context *at, const lors_yaml *node,
                                    lors_value *out)
{
    static const lors_param_info energy = {.minimum = 0, .maximum = 1, .minimum_open = true};
    const lors_yaml *value = lors_yaml_get(node, "energy");
    char key[LORS_KEY_MAX + 8];
    if (!value || node->n_items != 1) {
        return FAIL(at, node, "a rank is a count such as 7, a share such as \"1%%\", or {energy: "
                    "0.9}");
    }
    snprintf(key, sizeof key, "%s.energy", at->key);
    lors_value_context inner = {at->label, key};
    out->kind = LORS_VALUE_ENERGY;
    return read_number(&inner, &energy, value, &out->number);
}

/* A share may be in quotes: unlike a number it is text to YAML anyway. */
static lors_status read_rank(const lors_value_context *at, const lors_param_info *param,
                             const lors_yaml *node, lors_value *out)
{
    static const char forms[] = "a count such as 7, a share such as \"1%\", or {energy: 0.9}";
    char shown[LORS_ESCAPED_MAX], share[32];
    if (node->kind == LORS_YAML_MAP) {
        return read_rank_energy(at, node, out);
    }
    size_t n_bytes = strlen(node->text); /* no list comes here: read_gradient */
    if (n_bytes > 1 && n_bytes < sizeof share && node->text[n_bytes - 1] == '%') {
        memcpy(share, node->text, n_bytes - 1);
        share[n_bytes - 1] = '\0';
        out->kind = LORS_VALUE_SHARE;
        LORS_TRY(read_decimal(at, node, share, &out->number));
        if (out->number < 0 || out->number > 100) {
            return FAIL(at, node, "%s%% is out of range (allowed: 0%% to 100%%)", share);
        }
        out->number /= 100;
        return LORS_OK;
    }
    const char *text = "";
    LORS_TRY(read_plain(at, node, forms, &text));
    lors_escape_text(text, shown);
    out->kind = LORS_VALUE_NUMBER;
    LORS_TRY(read_decimal(at, node, text, &out->number));
    if (out->number != floor(out->number) || out->number < 0) {
        return FAIL(at, node, "%s is not a rank: write %s", shown, forms);
    }
    double most = param->maximum;
    if (out->number > most) {
        char limit[32];
        return FAIL(at, node, "%s is out of range (allowed: 0 to %s)", shown,
                    number_text(most, limit));
    }
    return LORS_OK;
}

/* The index of one of the parameter's words. */
static lors_status read_choice(const lors_value_context *at, const lors_param_info *param,
                               const lors_yaml *node, double *out)
{
    const char *text = "";
    char shown[LORS_ESCAPED_MAX], near[128], all[256];
    LORS_TRY(lors_read_text(at, node, &text));
    for (int32_t i = 0; param->words[i]; i++) {
        if (strcmp(text, param->words[i]) == 0) {
            *out = i;
            return LORS_OK;
        }
    }
    return FAIL(at, node, "unknown word '%s'%s (allowed: %s)", lors_escape_text(text, shown),
                lors_recipe_suggest(text, param->words, near),
                lors_recipe_join(param->words, all, sizeof all));
}

/* ---- settings ---- */

static lors_status read_scalar(const lors_value_context *at, const lors_param_info *param,
                               const lors_yaml *node, lors_value *out)
{
    bool truth = false;
    *out = (lors_value){LORS_VALUE_NUMBER, 0};
    if (param->kind == LORS_PARAM_BOOL) {
        LORS_TRY(lors_read_bool(at, node, &truth));
        out->number = truth;
        return LORS_OK;
    }
    if (param->kind == LORS_PARAM_RANK) {
        return read_rank(at, param, node, out);
    }
    if (param->kind == LORS_PARAM_CHOICE) {
        return read_choice(at, param, node, &out->number);
    }
    if (node->kind == LORS_YAML_MAP) {
        return FAIL(at, node, "a map stands where a number is expected (filters are a list: "
                    "[{filter: attention, value: 0.5}, {value: 1}])");
    }
    return read_number(at, param, node, &out->number);
}

static lors_status read_gradient(const lors_value_context *at, const lors_param_info *param,
                                 const lors_yaml *list, lors_setting_case *out)
{
    if (param->kind != LORS_PARAM_NUMBER) {
        return FAIL(at, list, "a list of values over the layers is only for numbers: use filters "
                    "(- filter: \"layers: 0-3\")");
    }
    if (list->n_items < 2) {
        return FAIL(at, list, "a list of values over the layers needs at least two (write a single "
                    "one without brackets)");
    }
    out->values = lors_new((size_t)list->n_items, sizeof *out->values);
    if (!out->values) {
        return lors_fail_memory((size_t)list->n_items * sizeof *out->values);
    }
    for (const lors_yaml_item *item = list->first; item; item = item->next) {
        lors_value *value = &out->values[out->n_values++];
        value->kind = LORS_VALUE_NUMBER;
        if (item->value->kind == LORS_YAML_MAP) {
            return FAIL(at, item->value, "a list holds either numbers or {filter, value} entries, "
                        "not both");
        }
        LORS_TRY(read_number(at, param, item->value, &value->number));
    }
    return LORS_OK;
}

/* A scalar or a gradient. */
static lors_status read_values(const lors_value_context *at, const lors_param_info *param,
                               const lors_yaml *node, lors_setting_case *out)
{
    if (node->kind == LORS_YAML_LIST) {
        return read_gradient(at, param, node, out);
    }
    out->values = lors_new(1, sizeof *out->values);
    if (!out->values) {
        return lors_fail_memory(sizeof *out->values);
    }
    out->n_values = 1;
    return read_scalar(at, param, node, &out->values[0]);
}

static lors_status read_case(const lors_value_context *at, const lors_param_info *param,
                             const lors_yaml *node, lors_setting_case *out)
{
    static const char *const keys[] = {"filter", "value", NULL};
    char shown[LORS_ESCAPED_MAX], near[128];
    if (node->kind != LORS_YAML_MAP) {
        return FAIL(at, node, "a list holds either numbers or {filter, value} entries, not both");
    }
    for (const lors_yaml_item *item = node->first; item; item = item->next) {
        if (strcmp(item->key, "filter") != 0 && strcmp(item->key, "value") != 0) {
            return lors_recipe_fail(at->label, item->place, at->key,
                                    "unknown key '%s'%s (allowed: filter, value)",
                                    lors_escape_text(item->key, shown),
                                    lors_recipe_suggest(item->key, keys, near));
        }
    }
    const lors_yaml *filter = lors_yaml_get(node, "filter"), *value = lors_yaml_get(node, "value");
    if (!value) {
        return FAIL(at, node, "an entry of the list has no 'value'");
    }
    bool all = filter && filter->kind == LORS_YAML_SCALAR && strcmp(filter->text, "*") == 0;
    if (filter && !all) {
        out->filter_place = filter->place;
        LORS_TRY(lors_read_selector(at, filter, true, &out->filter));
    }
    return read_values(at, param, value, out);
}

static lors_status read_cases(const lors_value_context *at, const lors_param_info *param,
                              const lors_yaml *node, lors_setting *out)
{
    bool cases = node->kind == LORS_YAML_LIST && node->first
                 && node->first->value->kind == LORS_YAML_MAP;
    if (node->kind == LORS_YAML_LIST && !node->first) {
        return FAIL(at, node, "the list is empty");
    }
    size_t n = cases ? (size_t)node->n_items : 1;
    out->cases = lors_new(n, sizeof *out->cases);
    if (!out->cases) {
        return lors_fail_memory(n * sizeof *out->cases);
    }
    if (!cases) {
        out->n_cases = 1;
        return read_values(at, param, node, &out->cases[0]);
    }
    for (const lors_yaml_item *item = node->first; item; item = item->next) {
        if (out->n_cases > 0 && !out->cases[out->n_cases - 1].filter) {
            return FAIL(at, item->value, "this entry is never used: the one before it has no "
                        "filter and takes every tensor");
        }
        LORS_TRY(read_case(at, param, item->value, &out->cases[out->n_cases++]));
    }
    return LORS_OK;
}

lors_status lors_read_setting(const lors_value_context *at, const lors_param_info *param,
                              const lors_yaml *node, lors_setting *out)
{
    *out = (lors_setting){.place = node->place};
    lors_status status = read_cases(at, param, node, out);
    if (status != LORS_OK) {
        lors_setting_clear(out);
    }
    return status;
}
