/* target_recipe.c - the text of a recipe, and values as calls give them.
 *
 * The input is the recipe. It is also given, whole, as the value of a parameter by lors_recipe_set:
 * the two ways into the YAML reader. What is read twice must come out alike. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <lors/method.h>
#include <lors/recipe.h>

#include "base/memory.h"
#include "fuzz.h"
#include "recipe/recipe_internal.h"

static lors_status parse(const uint8_t *data, size_t size, lors_recipe **out)
{
    lors_status status = lors_recipe_parse("recipe", (const char *)data, size, "folder", out);
    FUZZ_NEED((status == LORS_OK) == (*out != NULL), "a recipe");
    return status;
}

/* Indexes point at models, and sources of a slice are as many as the method takes. */
static void check_slice(const lors_recipe *recipe, const lors_recipe_slice *slice)
{
    const lors_method_info *method = recipe->method;
    int32_t n = 0;
    for (int32_t i = 0; i < slice->n_sources; i++) {
        const lors_recipe_source *source = &slice->sources[i];
        FUZZ_NEED(source->model >= 0 && source->model < recipe->n_models, "source %d", (int)i);
        FUZZ_NEED(source->layers.end < 0 || source->layers.first < source->layers.end, "a range");
        FUZZ_NEED(!source->subtracted || i > 0, "the first source is subtracted");
        n += !source->subtracted;
    }
    bool only_base = recipe->sliced && n == 0 && slice->base != LORS_NO_MODEL;
    FUZZ_NEED(n >= method->min_models || only_base, "%d sources", (int)n);
    FUZZ_NEED(method->max_models == 0 || n <= method->max_models, "%d sources", (int)n);
    FUZZ_NEED(slice->base < recipe->n_models, "base %d", (int)slice->base);
    FUZZ_NEED(!method->needs_base || slice->base != LORS_NO_MODEL, "no base");
}

static void check_parsed(const lors_recipe *recipe)
{
    int32_t n = lors_recipe_model_count(recipe);
    const lors_method_info *method = lors_method_find(lors_recipe_method(recipe));
    FUZZ_NEED(method, "method '%s'", lors_recipe_method(recipe));
    FUZZ_NEED(recipe->n_modules > 0, "no modules");
    for (int32_t m = 0; m < recipe->n_modules; m++) {
        FUZZ_NEED(recipe->modules[m].n_slices > 0, "module %d is empty", (int)m);
        for (int32_t i = 0; i < recipe->modules[m].n_slices; i++) {
            check_slice(recipe, &recipe->modules[m].slices[i]);
        }
    }
    for (int32_t i = 0; i < n; i++) {
        FUZZ_NEED(*lors_recipe_model_path(recipe, i), "model %d has no path", (int)i);
        for (int32_t j = 0; j < i; j++) {
            FUZZ_NEED(strcmp(lors_recipe_model_path(recipe, i), lors_recipe_model_path(recipe, j)),
                      "models %d and %d are one", (int)i, (int)j);
        }
    }
}

/* The sentence begins with the place, "recipe:LINE:COLUMN: ". */
static void check_place(void)
{
    unsigned line = 0, column = 0;
    int n = 0;
    const char *sentence = lors_last_error();
    FUZZ_NEED(sscanf(sentence, "recipe:%u:%u: %n", &line, &column, &n) == 2 && n > 0, "no place");
    FUZZ_NEED(line > 0 && column > 0, "line %u, column %u", line, column);
}

static void give_as_value(const uint8_t *data, size_t size, uint64_t hash)
{
    static const char *const keys[] = {"weight", "rank", "scope", "seed", "dtype", "outside"};
    lors_recipe *recipe = NULL;
    char *text = malloc(size + 1);
    FUZZ_NEED(text && lors_recipe_create("lors", &recipe) == LORS_OK, "no recipe");
    memcpy(text, data, size);
    text[size] = '\0';
    const char *key = keys[hash % (sizeof keys / sizeof *keys)];
    fuzz_check_status(lors_recipe_add_model(recipe, text), FUZZ_STATUS(RECIPE));
    fuzz_check_status(lors_recipe_set(recipe, key, text), FUZZ_STATUS(RECIPE) | FUZZ_STATUS(LIMIT));
    fuzz_check_status(lors_recipe_set_for(recipe, 0, key, text),
                      FUZZ_STATUS(RECIPE) | FUZZ_STATUS(LIMIT));
    lors_recipe_free(recipe);
    free(text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    lors_recipe *recipe = NULL;
    uint64_t hash = fuzz_hash(data, size);
    fuzz_allocations_work();
    lors_status good = parse(data, size, &recipe);
    fuzz_check_status(good, FUZZ_STATUS(RECIPE) | FUZZ_STATUS(LIMIT));
    if (good == LORS_OK) {
        check_parsed(recipe);
    } else if (good == LORS_ERR_RECIPE) {
        check_place();
    }
    lors_recipe_free(recipe);

    fuzz_fail_one_allocation(hash);
    lors_status status = parse(data, size, &recipe);
    fuzz_allocations_work();
    FUZZ_NEED(status == good || status == LORS_ERR_LIMIT, "%s", lors_status_name(status));
    lors_recipe_free(recipe);
    give_as_value(data, size, hash);
    return 0;
}
