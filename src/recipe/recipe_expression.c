/* recipe_expression.c - "A + 0.5 * (B - C)" over the names of models, reduced to a weight for each.
 *
 *   sum     = product { ("+" | "-") product }
 *   product = factor { ("*" | "/") factor }
 *   factor  = ["+" | "-"] ( number | name | "(" sum ")" )
 *
 * A value is a number plus a weight for each model. Of two factors one must be a number, and the
 * whole must be free of one: what remains is a weighted sum of models.
 */
#include <math.h>
#include <string.h>

#include "backend/backend_ops.h"
#include "base/error.h"
#include "base/text.h"
#include "recipe/recipe_parts.h"

enum { MOST_NESTED = 32, NUMBER_MAX = 64, MOST_BYTES = 4096 };

typedef struct value {
    double number;
    double *weights; /* [n_models] */
    bool has_model;
} value;

typedef struct parser {
    const lors_recipe *recipe;
    const lors_yaml *node;
    const char *at;
    int32_t n_nested;
    lors_arena *arena;
    bool *used; /* [n_models] */
} parser;

static lors_place place_at(const parser *p, const char *at)
{
    lors_place place = p->node->place;
    place.column += (int32_t)(at - p->node->text) + (p->node->plain ? 0 : 1);
    return place;
}

#define FAIL(p, at, ...) \
    lors_recipe_fail((p)->recipe->label, place_at((p), (at)), "expression", __VA_ARGS__)

static lors_status new_value(parser *p, value *out)
{
    size_t n_bytes = ((size_t)p->recipe->n_models + 1) * sizeof(double);
    *out = (value){0, lors_arena_alloc(p->arena, n_bytes), false};
    return out->weights ? LORS_OK : lors_fail_memory(n_bytes);
}

static void skip_space(parser *p)
{
    p->at += strspn(p->at, " ");
}

/* ---- arithmetic ---- */

static void scale(const parser *p, value *a, double by)
{
    a->number *= by;
    for (int32_t k = 0; k < p->recipe->n_models; k++) {
        a->weights[k] *= by;
    }
}

static void add(const parser *p, value *a, const value *b)
{
    a->number += b->number;
    a->has_model = a->has_model || b->has_model;
    for (int32_t k = 0; k < p->recipe->n_models; k++) {
        a->weights[k] += b->weights[k];
    }
}

static lors_status check_finite(const parser *p, const value *a, const char *at)
{
    bool good = fabs(a->number) <= 1e30;
    for (int32_t k = 0; k < p->recipe->n_models; k++) {
        good = good && fabs(a->weights[k]) <= 1e30;
    }
    return good ? LORS_OK : FAIL(p, at, "a number grows beyond 1e30 here");
}

static lors_status multiply(const parser *p, value *a, value *b, char sign, const char *at)
{
    if (sign == '/' && b->has_model) {
        return FAIL(p, at, "nothing can be divided by a model");
    }
    if (a->has_model && b->has_model) {
        return FAIL(p, at, "two models cannot be multiplied: one side must be a number");
    }
    if (sign == '/' && b->number == 0) {
        return FAIL(p, at, "division by 0");
    }
    if (sign == '/') {
        for (int32_t k = 0; k < p->recipe->n_models; k++) {
            a->weights[k] /= b->number;
        }
        a->number /= b->number;
        return check_finite(p, a, at);
    }
    double by = b->has_model ? a->number : b->number;
    if (b->has_model) {
        *a = *b;
    }
    scale(p, a, by);
    return check_finite(p, a, at);
}

/* ---- parsing ---- */

static lors_status parse_sum(parser *p, value *out);

static size_t number_length(const char *text)
{
    size_t n = strspn(text, "0123456789.");
    if (n > 0 && (text[n] == 'e' || text[n] == 'E')) {
        size_t sign = text[n + 1] == '+' || text[n + 1] == '-';
        size_t digits = strspn(text + n + 1 + sign, "0123456789");
        n += digits > 0 ? 1 + sign + digits : 0;
    }
    return n;
}

static lors_status parse_number(parser *p, size_t n_bytes, value *out)
{
    char text[NUMBER_MAX];
    if (n_bytes < sizeof text) {
        memcpy(text, p->at, n_bytes);
        text[n_bytes] = '\0';
    }
    if (n_bytes >= sizeof text || !lors_decimal_parse(text, &out->number)) {
        return FAIL(p, p->at, "this is not a decimal number");
    }
    p->at += n_bytes;
    return LORS_OK;
}

static lors_status parse_name(parser *p, size_t n_bytes, value *out)
{
    const char *names[LORS_MAX_MODELS + 1] = {NULL};
    char word[LORS_KEY_MAX], shown[LORS_ESCAPED_MAX], near[128];
    size_t n_names = 0;
    for (int32_t k = 0; k < p->recipe->n_models; k++) { /* at most LORS_MAX_MODELS */
        const char *name = p->recipe->models[k].name;
        if (name && strlen(name) == n_bytes && strncmp(name, p->at, n_bytes) == 0) {
            out->weights[k] = 1;
            out->has_model = p->used[k] = true;
            p->at += n_bytes;
            return LORS_OK;
        }
        names[n_names] = name;
        n_names += name != NULL;
    }
    n_bytes = n_bytes < sizeof word ? n_bytes : sizeof word - 1;
    memcpy(word, p->at, n_bytes);
    word[n_bytes] = '\0';
    return FAIL(p, p->at, "no model has the name '%s'%s (a name is given under 'models:', - {name: "
                "A, model: FOLDER})", lors_escape_text(word, shown),
                lors_recipe_suggest(word, names, near));
}

static lors_status parse_group(parser *p, value *out)
{
    const char *open = p->at++;
    if (++p->n_nested > MOST_NESTED) {
        return FAIL(p, open, "more than %d parentheses inside each other", MOST_NESTED);
    }
    LORS_TRY(parse_sum(p, out));
    p->n_nested--;
    if (*p->at != ')') {
        return FAIL(p, open, "this '(' is never closed");
    }
    p->at++;
    return LORS_OK;
}

static lors_status parse_factor(parser *p, value *out)
{
    double sign = 1;
    skip_space(p);
    for (; *p->at == '-' || *p->at == '+'; skip_space(p)) {
        sign = *p->at++ == '-' ? -sign : sign;
    }
    size_t n_number = number_length(p->at);
    size_t n_name = strspn(p->at, LORS_NAME_LETTERS);
    LORS_TRY(new_value(p, out));
    if (n_number > 0) {
        LORS_TRY(parse_number(p, n_number, out));
    } else if (n_name > 0) {
        LORS_TRY(parse_name(p, n_name, out));
    } else if (*p->at == '(') {
        LORS_TRY(parse_group(p, out));
    } else {
        return FAIL(p, p->at, *p->at ? "a number, a model's name or '(' is expected here"
                                     : "the expression ends where a number or a name is expected");
    }
    scale(p, out, sign);
    skip_space(p);
    return LORS_OK;
}

static lors_status parse_product(parser *p, value *out)
{
    LORS_TRY(parse_factor(p, out));
    while (*p->at == '*' || *p->at == '/') {
        const char *at = p->at++;
        value right;
        LORS_TRY(parse_factor(p, &right));
        LORS_TRY(multiply(p, out, &right, *at, at));
    }
    return LORS_OK;
}

static lors_status parse_sum(parser *p, value *out)
{
    LORS_TRY(parse_product(p, out));
    while (*p->at == '+' || *p->at == '-') {
        const char *at = p->at++;
        value right;
        LORS_TRY(parse_product(p, &right));
        scale(p, &right, *at == '-' ? -1 : 1);
        add(p, out, &right);
        LORS_TRY(check_finite(p, out, at));
    }
    return LORS_OK;
}

/* ---- to weights ---- */

static int32_t param_of(const lors_method_info *method, const char *name)
{
    int32_t i = 0;
    while (strcmp(method->params[i].name, name) != 0) {
        i++;
    }
    return i;
}

static lors_status put_number(lors_recipe *recipe, lors_settings *settings, const char *name,
                              double number, lors_place place)
{
    lors_setting setting = {.param = param_of(recipe->method, name), .place = place, .n_cases = 1};
    setting.cases = lors_new(1, sizeof *setting.cases);
    lors_value *values = lors_new(1, sizeof *values);
    if (!setting.cases || !values) {
        lors_free(setting.cases);
        lors_free(values);
        return lors_fail_memory(sizeof *values);
    }
    values[0] = (lors_value){LORS_VALUE_NUMBER, number};
    setting.cases[0].values = values;
    setting.cases[0].n_values = 1;
    return lors_recipe_put_setting(settings, &setting);
}

static lors_status put_weights(lors_recipe *recipe, const parser *p, const value *whole)
{
    lors_recipe_slice *slice = recipe->modules->slices;
    double sum = 0;
    for (int32_t k = 0; k < recipe->n_models; k++) {
        if (!p->used[k]) {
            return lors_recipe_fail(recipe->label, recipe->models[k].place, "models",
                                    "the expression does not use this model: remove it%s",
                                    recipe->models[k].name ? "" : ", or give it a name");
        }
        sum += whole->weights[k];
        LORS_TRY(put_number(recipe, &slice->sources[k].settings, "weight", whole->weights[k],
                            p->node->place));
    }
    LORS_TRY(put_number(recipe, &recipe->settings, "normalize", 0, p->node->place));
    return fabs(sum - 1) <= 1e-6
               ? LORS_OK
               : lors_recipe_note(recipe, p->node->place, "expression",
                                  "the weights of the models do not sum to 1: the result has "
                                  "another scale than they have");
}

static lors_status read_whole(lors_recipe *recipe, parser *p)
{
    value whole;
    LORS_TRY(parse_sum(p, &whole));
    if (*p->at) {
        return FAIL(p, p->at, *p->at == ')' ? "this ')' closes nothing"
                                            : "an operator (+ - * /) is expected here");
    }
    if (whole.number != 0) {
        return FAIL(p, p->node->text, "a number cannot be added to models");
    }
    return put_weights(recipe, p, &whole);
}

lors_status lors_recipe_read_expression(lors_recipe *recipe, const lors_yaml *node)
{
    parser p = {.recipe = recipe, .node = node};
    lors_value_context at = {recipe->label, "expression"};
    LORS_TRY(lors_read_text(&at, node, &p.at));
    if (strlen(p.at) > MOST_BYTES || recipe->n_models > LORS_MAX_MODELS) {
        return FAIL(&p, p.node->text, "at most %d bytes and %d models are allowed", MOST_BYTES,
                    LORS_MAX_MODELS);
    }
    lors_status status = LORS_OK;
    p.used = lors_new((size_t)recipe->n_models + 1, sizeof *p.used);
    p.arena = lors_arena_create();
    status = p.used && p.arena ? read_whole(recipe, &p) : lors_fail_memory(sizeof(void *));
    lors_arena_free(p.arena);
    lors_free(p.used);
    return status;
}
