/* planning.c - from a recipe to a plan, and the plan as a table. */
#include "cli/planning.h"

#include <inttypes.h>
#include <stddef.h>
#include <string.h>

#include "cli/messages.h"
#include "cli/table.h"

const cli_option cli_plan_options[CLI_N_PLAN_OPTIONS] = {
    {"device", 0, CLI_TEXT, offsetof(cli_plan_settings, device), "DEVICE", NULL, 0, 0,
     "where to compute: auto, cpu, cuda:N, several as cuda:0,1 or\n"
     "cuda:all (default: auto, the first GPU, else the CPU; 'lors\n"
     "devices' lists them)"},
    {"threads", 0, CLI_NUMBER, offsetof(cli_plan_settings, threads), "N", NULL, 1, CLI_THREADS_MAX,
     "threads that compute (default: one per processor)"},
    {"max-memory", 0, CLI_SIZE, offsetof(cli_plan_settings, max_memory), "SIZE", NULL, 0, 0,
     "resident memory of the whole program (without what a GPU's\n"
     "driver takes), and memory of each GPU: 1500M, 1.5G, 2GiB\n"
     "(default: 1.5G)"},
    {"dtype", 0, CLI_CHOICE, offsetof(cli_plan_settings, dtype), "TYPE", "f32|f16|bf16", 0, 0,
     "of the merged tensors: f32, f16 or bf16 (default: the\n"
     "recipe's, else the base model's)"},
    {"max-shard-size", 0, CLI_SIZE, offsetof(cli_plan_settings, max_shard_size), "SIZE", NULL, 0, 0,
     "split the output into files of at most this size\n"
     "(default: one file)"},
    {"seed", 0, CLI_NUMBER, offsetof(cli_plan_settings, seed), "N", NULL, 0, UINT64_MAX,
     "of methods that draw random numbers (default: the recipe's,\n"
     "else 0)"},
    {"exact", 0, CLI_FLAG, offsetof(cli_plan_settings, exact), NULL, NULL, 0, 0,
     "low-rank parts by the singular value decomposition in f64\n"
     "alone: slow and sure"},
    {"follow-symlinks", 0, CLI_FLAG, offsetof(cli_plan_settings, follow_symlinks), NULL, NULL, 0, 0,
     "allow links that leave a model's folder (links of the\n"
     "Hugging Face cache are always allowed)"},
};

int cli_plan_make(const char *recipe_path, const cli_plan_settings *settings, cli_planned *out)
{
    lors_plan_options options = LORS_PLAN_OPTIONS_INIT;
    lors_status status;
    memset(out, 0, sizeof *out);
    options.device = settings->device;
    options.n_threads = (int32_t)settings->threads.value;
    options.max_memory_bytes = settings->max_memory.value;
    options.max_shard_bytes = settings->max_shard_size.value;
    options.out_dtype = settings->dtype;
    options.seed = settings->seed.given ? &settings->seed.value : NULL;
    options.follow_symlinks = settings->follow_symlinks;
    options.exact = settings->exact;
    status = lors_recipe_read(recipe_path, &out->recipe);
    if (status == LORS_OK)
        status = lors_plan_create(out->recipe, &options, &out->plan);
    if (status != LORS_OK)
        return cli_fail(status);
    cli_plan_warn(out->plan, settings, 0);
    return 0;
}

void cli_plan_warn(const lors_plan *plan, const cli_plan_settings *settings, int32_t first)
{
    for (int32_t i = first; !settings->quiet && i < lors_plan_warning_count(plan); ++i)
        cli_warning("%s", lors_plan_warning(plan, i));
}

void cli_plan_release(cli_planned *planned)
{
    lors_plan_free(planned->plan);
    lors_recipe_free(planned->recipe);
    memset(planned, 0, sizeof *planned);
}

static const char *treatment_word(lors_treatment treatment)
{
    switch (treatment) {
    case LORS_TREAT_METHOD: return "merge";
    case LORS_TREAT_WEIGHTED: return "weighted";
    case LORS_TREAT_COPY: return "copy";
    }
    return "?";
}

static void fill_job(int64_t row, cli_cell *cells, void *user)
{
    const lors_plan *plan = user;
    lors_job_info job;
    lors_plan_job(plan, row, &job);
    cli_escape(job.name, cells[0]);
    cli_escape(job.role, cells[1]);
    cli_fill(cells[2], "%s", treatment_word(job.treatment));
    cli_fill(cells[3], "%s", job.dtype);
    cli_format_shape(job.shape, job.n_dims, cells[4]);
    if (job.rank >= 0)
        cli_fill(cells[5], "%" PRId64, job.rank);
    else
        cli_fill(cells[5], "-");
    cli_fill(cells[6], "%s%s%s%s%s", job.reason, job.reason[0] && job.tiled ? "; " : "",
             job.tiled ? "in pieces" : "",
             job.origin[0] && (job.reason[0] || job.tiled) ? "; " : "", job.origin);
}

/* What is made on the way and never written. */
static void show_stages(const lors_plan *plan)
{
    char size[32], shown[CLI_ESCAPED_MAX];
    for (int32_t i = 0; i < lors_plan_stage_count(plan); ++i) {
        lors_stage_info stage;
        lors_plan_stage(plan, i, &stage);
        cli_out("%s%s is %s of %" PRId32 " model%s: %" PRId64 " tensors, %s, one after another\n",
                i == 0 ? "\nstages   " : "         ", cli_escape(stage.name, shown), stage.method,
                stage.n_models, stage.n_models == 1 ? "" : "s", stage.n_tensors,
                cli_format_bytes(stage.n_bytes, size));
    }
}

static void show_summary(const lors_plan *plan)
{
    char read[32], written[32], peak[32], limit[32], there[32];
    lors_plan_summary sum;
    lors_plan_summarize(plan, &sum);
    cli_format_bytes(sum.read_bytes, read);
    cli_format_bytes(sum.write_bytes, written);
    cli_format_bytes(sum.peak_bytes, peak);
    cli_format_bytes(sum.max_memory_bytes, limit);
    show_stages(plan);
    cli_out("%smethod   %s of %" PRId32 " model%s on %s, %" PRId32 " thread%s\n",
            lors_plan_stage_count(plan) > 0 ? "" : "\n", sum.method, sum.n_models,
            sum.n_models == 1 ? "" : "s", sum.device, sum.n_workers, sum.n_workers == 1 ? "" : "s");
    cli_out("tensors  %" PRId64 ": %" PRId64 " merged, %" PRId64 " weighted, %" PRId64
            " copied; %" PRIu64 " elements\n",
            sum.n_tensors, sum.n_method, sum.n_weighted, sum.n_copied, sum.n_elements);
    cli_out("reads    %s\nwrites   %s in %" PRId32 " file%s, and %" PRId32 " beside the weights\n",
            read, written, sum.n_shards, sum.n_shards == 1 ? "" : "s", sum.n_side_files);
    cli_out("memory   %s at most, of %s allowed\n", peak, limit);
    if (sum.device_peak_bytes > 0)
        cli_out("device   %s at most on each\n", cli_format_bytes(sum.device_peak_bytes, there));
}

static int show_json(const lors_plan *plan)
{
    char *text = NULL;
    lors_status status = lors_plan_json(plan, &text);
    if (status != LORS_OK)
        return cli_fail(status);
    cli_out("%s", text);
    lors_text_free(text);
    return 0;
}

int cli_plan_show(const lors_plan *plan, const cli_plan_settings *settings)
{
    static const cli_column columns[] = {
        {"tensor", false}, {"role", false}, {"treatment", false}, {"dtype", false},
        {"shape", false},  {"rank", true},  {"note", false},
    };
    if (settings->json)
        return show_json(plan);
    if (settings->quiet)
        return 0;
    /* The row function takes what it is given as it is: nothing is written through the pointer. */
    cli_table(columns, sizeof columns / sizeof columns[0], lors_plan_job_count(plan), fill_job,
              (void *)(uintptr_t)plan);
    show_summary(plan);
    return 0;
}
