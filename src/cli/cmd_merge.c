/* cmd_merge.c - `lors merge`: carry out a recipe. */
#include <inttypes.h>
#include <stddef.h>
#include <string.h>

#include <lors/method.h>
#include <lors/run.h>

#include "cli/commands.h"
#include "cli/messages.h"
#include "cli/planning.h"
#include "cli/progress.h"
#include "cli/signals.h"

typedef struct merge_settings {
    cli_plan_settings plan; /* first: the shared options fill it */
    const char *out_path, *nonfinite, *io;
    bool force, resume, dry_run, verify, verify_all;
} merge_settings;

static const cli_option options[] = {
    {"output", 'o', CLI_TEXT, offsetof(merge_settings, out_path), "OUT", NULL, 0, 0,
     "the folder to write; it appears only when it is complete"},
    {"force", 'f', CLI_FLAG, offsetof(merge_settings, force), NULL, NULL, 0, 0,
     "replace OUT if it exists, once the new one is complete"},
    {"resume", 0, CLI_FLAG, offsetof(merge_settings, resume), NULL, NULL, 0, 0,
     "go on from the tensors that an interrupted merge into OUT has\n"
     "finished; from the beginning where version, recipe, options,\n"
     "device or models are not the same any more"},
    {"dry-run", 'n', CLI_FLAG, offsetof(merge_settings, dry_run), NULL, NULL, 0, 0,
     "only show the plan, like 'lors plan'"},
    {"verify", 0, CLI_FLAG, offsetof(merge_settings, verify), NULL, NULL, 0, 0,
     "read everything back before OUT appears, and compute 32\n"
     "tensors, drawn by the seed, once more on the CPU to compare"},
    {"verify-all", 0, CLI_FLAG, offsetof(merge_settings, verify_all), NULL, NULL, 0, 0,
     "the same with all tensors"},
    {"nonfinite", 0, CLI_CHOICE, offsetof(merge_settings, nonfinite), "WHAT",
     "refuse|propagate|zero", 0, 0,
     "about NaN and infinity in the models: refuse to merge,\n"
     "propagate them, or write zero in their place (default: refuse)"},
    {"io", 0, CLI_CHOICE, offsetof(merge_settings, io), "WAY", "auto|direct|buffered", 0, 0,
     "how models are read: buffered through the system's page\n"
     "cache, direct past it, auto past it the files that are not\n"
     "in it already (default: auto)"},
    {"json", 0, CLI_FLAG, offsetof(merge_settings, plan.json), NULL, NULL, 0, 0,
     "print the report (the text of OUT/lors.json) instead of a\n"
     "summary; with --dry-run, the plan"},
    {"quiet", 'q', CLI_FLAG, offsetof(merge_settings, plan.quiet), NULL, NULL, 0, 0,
     "print only errors (and what --json asks for)"},
};

static lors_nonfinite nonfinite_from(const char *word)
{
    if (word && strcmp(word, "propagate") == 0)
        return LORS_NONFINITE_PROPAGATE;
    if (word && strcmp(word, "zero") == 0)
        return LORS_NONFINITE_ZERO;
    return LORS_NONFINITE_REFUSE;
}

static lors_io io_from(const char *word)
{
    if (word && strcmp(word, "direct") == 0)
        return LORS_IO_DIRECT;
    if (word && strcmp(word, "buffered") == 0)
        return LORS_IO_BUFFERED;
    return LORS_IO_AUTO;
}

/* Lines that matter only to low-rank methods, or only when something happened. */
static void show_findings(const lors_report_summary *sum)
{
    if (sum->n_low_rank > 0)
        cli_out("  least energy kept        %.1f %%\n", 100.0 * sum->least_energy);
    cli_out("  update lost to rounding  %.2f %%\n", 100.0 * sum->rounding_loss);
    cli_out("  zero task vectors        %" PRId64 "\n", sum->n_zero_task_vectors);
    if (sum->n_rechecked > 0)
        cli_out("  computed twice           %" PRId64 " tensor%s, the same bytes\n",
                sum->n_rechecked, sum->n_rechecked == 1 ? "" : "s");
    if (sum->n_rechecked > 0 && sum->n_low_rank > 0)
        cli_out("  low rank, of its bound   %.2g at most\n", sum->worst_ratio);
    if (sum->n_input_nonfinite > 0)
        cli_out("  not finite in models     %" PRIu64 "\n", sum->n_input_nonfinite);
    if (sum->n_overflow > 0)
        cli_out("  overflow in the output   %" PRIu64 "\n", sum->n_overflow);
    if (sum->n_nan > 0)
        cli_out("  NaN in the output        %" PRIu64 "\n", sum->n_nan);
}

static void show_summary(const lors_plan *plan, const lors_report *report, const char *out_path)
{
    char read[32], written[32], rate[32], peak[32], shown[CLI_ESCAPED_MAX];
    lors_plan_summary planned;
    lors_report_summary sum;
    double moved;
    lors_plan_summarize(plan, &planned);
    lors_report_summarize(report, &sum);
    moved = (double)sum.read_bytes + (double)sum.written_bytes;
    cli_out("merged %" PRId32 " model%s by %s into %s\n", planned.n_models,
            planned.n_models == 1 ? "" : "s", planned.method, cli_escape(out_path, shown));
    cli_out("  tensors                  %" PRId64 ": %" PRId64 " merged, %" PRId64
            " weighted, %" PRId64 " copied\n",
            sum.n_tensors, sum.n_method, sum.n_weighted, sum.n_copied);
    cli_out("  time                     %.2f s, %s (%s read, %s written)\n", sum.seconds,
            cli_format_rate(moved / sum.seconds, rate),
            cli_format_bytes(sum.read_bytes, read), cli_format_bytes(sum.written_bytes, written));
    cli_out("  threads together         read %.2f s, compute %.2f s, write %.2f s; at the end hash "
            "and commit %.2f s\n",
            sum.read_seconds, sum.compute_seconds, sum.write_seconds, sum.finish_seconds);
    if (sum.n_resumed > 0)
        cli_out("  finished before          %" PRId64 " tensors, not in time and bytes\n",
                sum.n_resumed);
    cli_out("  peak memory              %s\n", cli_format_bytes(sum.peak_bytes, peak));
    show_findings(&sum);
}

static int show_json(const lors_report *report)
{
    char *text = NULL;
    lors_status status = lors_report_json(report, &text);
    if (status != LORS_OK)
        return cli_fail(status);
    cli_out("%s", text);
    lors_text_free(text);
    return 0;
}

static void show_note(const char *sentence, void *user)
{
    (void)user;
    cli_note("%s", sentence);
}

static int carry_out(const merge_settings *settings, lors_plan *plan)
{
    lors_run_options run_options = LORS_RUN_OPTIONS_INIT;
    cli_progress progress = {.quiet = settings->plan.quiet};
    lors_report *report = NULL;
    lors_status status;
    int32_t n_warned = lors_plan_warning_count(plan);
    int exit_code = 0;
    run_options.force = settings->force;
    run_options.resume = settings->resume;
    run_options.note = settings->plan.quiet ? NULL : show_note;
    run_options.verify = settings->verify || settings->verify_all;
    run_options.verify_tensors = settings->verify_all ? -1 : run_options.verify_tensors;
    run_options.nonfinite = nonfinite_from(settings->nonfinite);
    run_options.io = io_from(settings->io);
    run_options.progress = cli_progress_show;
    run_options.user = &progress;
    cli_signals_defer();
    status = lors_run(plan, settings->out_path, &run_options, &report);
    cli_progress_end();
    cli_plan_warn(plan, &settings->plan, n_warned);
    if (status != LORS_OK)
        exit_code = cli_fail(status);
    else if (settings->plan.json)
        exit_code = show_json(report);
    else if (!settings->plan.quiet)
        show_summary(plan, report, settings->out_path);
    lors_report_free(report);
    return exit_code;
}

static int run(int argc, char **argv)
{
    merge_settings settings = {0};
    cli_arguments arguments;
    cli_planned planned;
    int exit_code = cli_parse(&cli_merge, argc, argv, &settings, &arguments);
    if (exit_code >= 0)
        return exit_code;
    if (!settings.out_path && !settings.dry_run)
        return cli_fail_usage("merge", "merge: name the folder to write: lors merge RECIPE -o OUT");
    exit_code = cli_plan_make(arguments.items[0], &settings.plan, &planned);
    if (exit_code == 0 && settings.dry_run)
        exit_code = cli_plan_show(planned.plan, &settings.plan);
    else if (exit_code == 0)
        exit_code = carry_out(&settings, planned.plan);
    cli_plan_release(&planned);
    return exit_code;
}

const cli_command cli_merge = {
    .name = "merge",
    .arguments = "RECIPE -o OUT [OPTIONS]",
    .summary = "merge fine-tuned models of one base model into one model",
    .example = "lors merge recipe.yaml -o merged\n"
               "lors merge recipe.yaml -o merged --dtype f16 --max-memory 1G --verify",
    .about = "Merge the models of a recipe (YAML) into the folder OUT, which then loads\n"
             "like the base model's. On an error nothing is left behind; an interrupt, or a disk,\n"
             "memory or device that fails, after some seconds leaves the finished tensors beside\n"
             "OUT for --resume.",
    .options = options,
    .n_options = sizeof options / sizeof options[0],
    .shared = cli_plan_options,
    .n_shared = CLI_N_PLAN_OPTIONS,
    .min_arguments = 1,
    .max_arguments = 1,
    .missing = "name the recipe: lors merge RECIPE -o OUT",
    .run = run,
};
