/* recipe_paths.c - the models of a recipe: references to folders, resolved, none of them twice. */
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/error.h"
#include "base/text.h"
#include "recipe/recipe_parts.h"

/* Remove "." components, doubled and final slashes. ".." stays: behind a link it is not the parent
 * that the text suggests. */
static void clean_path(char *path)
{
    char *to = path;
    const char *from = path;
    if (*from == '/') {
        *to++ = *from++;
    }
    while (*from) {
        size_t n_bytes = strcspn(from, "/");
        if (n_bytes > 0 && !(n_bytes == 1 && *from == '.')) {
            if (to > path && to[-1] != '/') {
                *to++ = '/';
            }
            memmove(to, from, n_bytes);
            to += n_bytes;
        }
        from += n_bytes;
        from += *from == '/';
    }
    if (to == path) {
        *to++ = '.';
    }
    *to = '\0';
}

static bool begins_with(const char *text, const char *front)
{
    return strncmp(text, front, strlen(front)) == 0;
}

/* mergekit reads "name@revision" and "model+adapter" as references. A path that is plainly a path
 * may hold both characters. */
static lors_status refuse_reference(const char *label, lors_place place, const char *key,
                                    const char *written)
{
    char shown[LORS_ESCAPED_MAX];
    bool is_path = begins_with(written, "/") || begins_with(written, "./")
                   || begins_with(written, "../") || begins_with(written, "~/");
    size_t mark = strcspn(written, "@+");
    if (is_path || !written[mark]) {
        return LORS_OK;
    }
    lors_escape_text(written, shown);
    if (written[mark] == '@') {
        return lors_recipe_fail(label, place, key, "'%s': revisions ('@') are not supported: "
                                "download that revision and give its folder (a folder with '@' in "
                                "its name: write ./ in front)", shown);
    }
    return lors_recipe_fail(label, place, key, "'%s': adapters ('+') are not supported: merge the "
                            "adapter into its model first and give that folder (a folder with '+' "
                            "in its name: write ./ in front)", shown);
}

lors_status lors_recipe_resolve(const char *label, lors_place place, const char *key,
                                const char *folder, const char *written, char **out)
{
    LORS_TRY(refuse_reference(label, place, key, written));
    const char *front = folder ? folder : ".";
    const char *rest = written;
    if (begins_with(written, "~/")) {
        front = getenv("HOME");
        rest = written + 2 + strspn(written + 2, "/");
        if (!front || !*front) {
            return lors_recipe_fail(label, place, key, "'~/' needs the variable HOME, which is not "
                                    "set: write the whole path");
        }
    }
    bool whole = *written == '/' || !*rest;
    *out = whole ? lors_copy_text(*rest ? rest : front) : lors_path_join(front, rest);
    if (!*out) {
        return lors_fail_memory(strlen(front) + strlen(rest) + 2);
    }
    clean_path(*out);
    return LORS_OK;
}

static lors_identity identity_of(const char *path)
{
    struct stat info;
    bool known = stat(path, &info) == 0;
    return (lors_identity){known, known ? (uint64_t)info.st_dev : 0,
                           known ? (uint64_t)info.st_ino : 0, 0};
}

bool lors_recipe_same_place(const char *path_a, const lors_identity *a, const char *path_b,
                            const lors_identity *b)
{
    if (a->stage > 0 || b->stage > 0) {
        return a->stage == b->stage;
    }
    return strcmp(path_a, path_b) == 0
           || (a->known && b->known && a->device == b->device && a->inode == b->inode);
}

/* The document that is called so: *stage is its place + 1, 0 if there is none. */
static lors_status find_document(const lors_recipe *recipe, const char *key, const char *written,
                                 lors_place place, int32_t *stage)
{
    *stage = 0;
    for (int32_t i = 0; i < recipe->n_documents; i++) {
        const char *name = recipe->documents[i]->name;
        if (!name || strcmp(name, written) != 0) {
            continue;
        }
        if (i >= recipe->document) {
            char shown[LORS_ESCAPED_MAX];
            return lors_recipe_fail(recipe->label, place, key, "'%s' is %s: only earlier documents "
                                    "can be used (a folder of that name: write ./ in front)",
                                    lors_escape_text(written, shown),
                                    i == recipe->document ? "this document itself"
                                                          : "a later document");
        }
        recipe->documents[i]->is_used = true;
        *stage = i + 1;
    }
    return LORS_OK;
}

/* What is meant by `written`: new memory in *path. */
static lors_status locate(const lors_recipe *recipe, lors_place place, const char *key,
                          const char *written, char **path, lors_identity *identity)
{
    int32_t stage = 0;
    LORS_TRY(find_document(recipe, key, written, place, &stage));
    if (stage == 0) {
        LORS_TRY(lors_recipe_resolve(recipe->label, place, key, recipe->folder, written, path));
        *identity = identity_of(*path);
        return LORS_OK;
    }
    *path = lors_copy_text(written);
    *identity = (lors_identity){.known = true, .stage = stage};
    return *path ? LORS_OK : lors_fail_memory(strlen(written) + 1);
}

/* Both texts or none: `path` resolved and `copy` as written. */
static lors_status resolve_both(const lors_recipe *recipe, lors_place place, const char *key,
                                const char *written, char **path, char **copy,
                                lors_identity *identity)
{
    LORS_TRY(locate(recipe, place, key, written, path, identity));
    *copy = lors_copy_text(written);
    if (!*copy) {
        lors_free(*path);
        *path = NULL;
        return lors_fail_memory(strlen(written) + 1);
    }
    return LORS_OK;
}

lors_status lors_recipe_set_base_at(lors_recipe *recipe, const char *written, lors_place place)
{
    char *path, *copy;
    lors_identity identity;
    LORS_TRY(resolve_both(recipe, place, "base_model", written, &path, &copy, &identity));
    lors_free(recipe->base_path);
    lors_free(recipe->base_written);
    recipe->base_path = path;
    recipe->base_written = copy;
    recipe->base_place = place;
    recipe->base_identity = identity;
    return LORS_OK;
}

bool lors_recipe_is_base(const lors_recipe *recipe, int32_t model)
{
    return recipe->base_path
           && lors_recipe_same_place(recipe->base_path, &recipe->base_identity,
                                     recipe->models[model].path, &recipe->models[model].identity);
}

static int32_t find_model(const lors_recipe *recipe, const char *path,
                          const lors_identity *identity)
{
    for (int32_t i = 0; i < recipe->n_models; i++) {
        const lors_recipe_model *other = &recipe->models[i];
        if (lors_recipe_same_place(other->path, &other->identity, path, identity)) {
            return i;
        }
    }
    return LORS_NO_MODEL;
}

lors_status lors_recipe_find_model(const lors_recipe *recipe, const char *key, const char *written,
                                   lors_place place, int32_t *index)
{
    char *path;
    lors_identity identity;
    LORS_TRY(locate(recipe, place, key, written, &path, &identity));
    *index = find_model(recipe, path, &identity);
    if (*index == LORS_NO_MODEL && recipe->base_path
        && lors_recipe_same_place(recipe->base_path, &recipe->base_identity, path, &identity)) {
        *index = LORS_THE_BASE;
    }
    lors_free(path);
    return LORS_OK;
}

/* Takes path and copy over, also on failure. */
static lors_status push_model(lors_recipe *recipe, char *path, char *copy, lors_place place,
                              const lors_identity *identity)
{
    size_t n_bytes = ((size_t)recipe->n_models + 1) * sizeof *recipe->models;
    lors_recipe_model *models = lors_resize(recipe->models, n_bytes);
    if (!models) {
        lors_free(path);
        lors_free(copy);
        return lors_fail_memory(n_bytes);
    }
    recipe->models = models;
    recipe->models[recipe->n_models++] = (lors_recipe_model){
        .path = path, .written = copy, .place = place, .identity = *identity};
    return LORS_OK;
}

lors_status lors_recipe_use_model(lors_recipe *recipe, const char *key, const char *written,
                                  lors_place place, int32_t *index)
{
    char *path, *copy;
    lors_identity identity;
    LORS_TRY(resolve_both(recipe, place, key, written, &path, &copy, &identity));
    *index = find_model(recipe, path, &identity);
    if (*index >= 0) {
        lors_free(path);
        lors_free(copy);
        return LORS_OK;
    }
    *index = recipe->n_models;
    return push_model(recipe, path, copy, place, &identity);
}

lors_status lors_recipe_add_model_at(lors_recipe *recipe, const char *key, const char *written,
                                     lors_place place)
{
    char shown[LORS_ESCAPED_MAX];
    int32_t index = 0;
    lors_recipe_slice *slice = recipe->modules->slices;
    lors_recipe_source *source;
    LORS_TRY(lors_recipe_use_model(recipe, key, written, place, &index));
    for (int32_t i = 0; i < slice->n_sources; i++) {
        if (slice->sources[i].model == index && !slice->sources[i].subtracted) {
            return lors_recipe_fail(recipe->label, place, key,
                                    "'%s' is listed twice: list it once, with the sum of its "
                                    "weights", lors_escape_text(written, shown));
        }
    }
    return lors_recipe_add_source(slice, index, place, &source);
}
