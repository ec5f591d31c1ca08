/* outputs.c - what stands beside the merged weights: side files of the base, the shards' index, the
 * recipe, the model card; and the re-reading of what was written. */
#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include <lors/lors.h>

#include "base/error.h"
#include "base/file.h"
#include "base/memory.h"
#include "base/text.h"
#include "io/json_stream.h"
#include "io/shard_index.h"
#include "run/run_internal.h"

static lors_status write_side_file(lors_run_state *run, const lors_side_file *file)
{
    const lors_plan *plan = run->plan;
    if (plan->config_text && strcmp(file->name, "config.json") == 0) {
        return lors_staging_write(run->staging, file->name, plan->config_text, plan->config_bytes);
    }
    return lors_staging_copy(run->staging, file->folder, file->name, &file->info);
}

/* model.safetensors.index.json, as transformers writes it. */
static lors_status write_index(lors_run_state *run)
{
    const lors_plan *plan = run->plan;
    uint64_t total = 0;
    lors_json_stream *to = NULL;
    LORS_TRY(lors_json_stream_create(run->staging, LORS_INDEX_NAME, 2, UINT64_MAX, &to));
    for (int64_t j = 0; j < plan->n_jobs; j++) {
        total += plan->jobs[j].out_bytes;
    }
    lors_json_stream_put(to, "metadata", json_pack("{s:I}", "total_size", (json_int_t)total));
    lors_json_stream_open(to, "weight_map", '{');
    for (int64_t j = 0; j < plan->n_jobs; j++) {
        const lors_job *job = &plan->jobs[j];
        lors_json_stream_put(to, job->name, json_string(plan->shards[job->shard].name));
    }
    lors_json_stream_shut(to);
    return lors_json_stream_end(to, NULL);
}

/* The last part of a model's path, as a card names it. */
static const char *card_name(const char *path)
{
    return lors_path_base(path);
}

static void card_front(const lors_plan *plan, lors_text *card)
{
    lors_text_printf(card, "---\n");
    if (plan->base && plan->base->n_files > 0) {
        char escaped[LORS_ESCAPED_MAX]; /* \xNN means the same in YAML's quotes */
        lors_escape_text(card_name(plan->recipe->base_written), escaped);
        lors_text_printf(card, "base_model:\n- \"%s\"\n", escaped);
    }
    lors_text_printf(card, "library_name: transformers\ntags:\n- merge\n- lors\n---\n\n");
}

static lors_status write_card(lors_run_state *run)
{
    const lors_plan *plan = run->plan;
    const lors_recipe *recipe = plan->recipe;
    lors_text card = {0};
    card_front(plan, &card);
    lors_text_printf(&card, "# A merge of %d models\n\nMade with lors %s, method `%s` (%s).\n\n",
                     plan->n_models, LORS_VERSION, recipe->method->name, recipe->method->paper);
    lors_text_printf(&card, "```\n%s\n```\n\n", recipe->method->formula);
    if (plan->base) {
        lors_text_printf(&card, "Base: `%s`\n\n", card_name(recipe->base_written));
    }
    lors_text_printf(&card, "Models:\n\n");
    for (int32_t k = 0; k < plan->n_models; k++) {
        lors_text_printf(&card, "- `%s`\n", card_name(recipe->models[k].written));
    }
    if (recipe->text) {
        lors_text_printf(&card, "\nRecipe:\n\n```yaml\n");
        lors_text_append(&card, recipe->text, recipe->text_bytes);
        bool ends = recipe->text[recipe->text_bytes - 1] == '\n'; /* no recipe is empty */
        lors_text_printf(&card, "%s```\n", ends ? "" : "\n");
    }
    lors_text_printf(&card,
                     "\n`lors.json` holds hashes of all inputs and outputs and what was done "
                     "to each tensor; `lors verify` checks them.\n");
    lors_status status =
        card.failed ? lors_fail_memory(card.capacity)
                    : lors_staging_write(run->staging, "README.md", card.bytes, card.length);
    lors_text_clear(&card);
    return status;
}

static lors_status check_side_file(const lors_side_file *file, bool *changed)
{
    char *path = lors_path_join(file->folder, file->name);
    if (!path) {
        return lors_fail_memory(strlen(file->folder) + strlen(file->name) + 2);
    }
    lors_status status = lors_ckpt_check_path(path, &file->info, changed);
    lors_free(path);
    return status;
}

lors_status lors_run_check_side_files(const lors_plan *plan, bool *changed)
{
    for (int32_t i = 0; i < plan->n_side_files; i++) {
        LORS_TRY(check_side_file(&plan->side_files[i], changed));
    }
    return LORS_OK;
}

lors_status lors_run_write_side_files(lors_run_state *run)
{
    const lors_plan *plan = run->plan;
    for (int32_t i = 0; i < plan->n_side_files; i++) {
        LORS_TRY(write_side_file(run, &plan->side_files[i]));
        LORS_TRY(lors_run_poll(run));
    }
    if (plan->n_shards > 1) {
        LORS_TRY(write_index(run));
    }
    if (plan->recipe->text) {
        LORS_TRY(lors_staging_write(run->staging, "lors_recipe.yaml", plan->recipe->text,
                                    plan->recipe->text_bytes));
    }
    return write_card(run);
}

/* Re-read one tensor of the output and compare its hash with that of what was computed. */
static lors_status check_tensor(lors_run_state *run, lors_checkpoint *written, int64_t index,
                                unsigned char *piece)
{
    const lors_job *job = &run->plan->jobs[index];
    int64_t at = lors_ckpt_find(written, job->name);
    char name[LORS_ESCAPED_MAX];
    lors_escape_text(job->name, name);
    if (at < 0) {
        return lors_fail(LORS_ERR_IO, "--verify: tensor '%s' is missing in the output", name);
    }
    const lors_ckpt_tensor *tensor = &written->tensors[at];
    for (uint64_t offset = 0, chunk = 0; offset < tensor->n_bytes; chunk++) {
        uint64_t left = tensor->n_bytes - offset;
        size_t n = (size_t)(left < LORS_CHUNK_BYTES ? left : LORS_CHUNK_BYTES);
        LORS_TRY(lors_ckpt_read_at(written, tensor, offset, piece, n));
        lors_xxh hash = lors_xxh_of(piece, n);
        const lors_xxh *meant = &run->jobs[index].digests[job->n_models + 1][chunk];
        if (memcmp(&hash, meant, sizeof hash) != 0) {
            lors_staging_condemn(run->staging);
            return lors_fail(LORS_ERR_IO,
                             "--verify: tensor '%s' was read back differently from what was "
                             "written, near byte %llu: the disk or memory is failing",
                             name, (unsigned long long)(tensor->offset + offset));
        }
        offset += n;
        LORS_TRY(lors_run_poll(run));
    }
    return LORS_OK;
}

/* So that it is the disk that is read. */
static lors_status forget_written(const lors_checkpoint *written)
{
    for (int32_t i = 0; i < written->n_files; i++) {
        LORS_TRY(lors_file_forget(written->files[i].path));
    }
    return LORS_OK;
}

lors_status lors_run_check_weights(lors_run_state *run)
{
    lors_checkpoint *written = NULL;
    LORS_TRY(lors_checkpoint_open(lors_staging_path(run->staging), false, &written));
    unsigned char *piece = lors_alloc(LORS_CHUNK_BYTES);
    lors_status status = piece ? forget_written(written) : lors_fail_memory(LORS_CHUNK_BYTES);
    for (int64_t j = 0; j < run->plan->n_jobs && status == LORS_OK; j++) {
        status = check_tensor(run, written, j, piece);
    }
    lors_free(piece);
    lors_checkpoint_close(written);
    return status;
}
