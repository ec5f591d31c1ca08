/* cmd_compare.c - `lors compare`: how two checkpoints differ, tensor by tensor. */
#include <inttypes.h>
#include <math.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <lors/checkpoint.h>

#include "cli/commands.h"
#include "cli/json.h"
#include "cli/messages.h"
#include "cli/table.h"

typedef struct compare_settings {
    bool json, quiet, follow_symlinks;
} compare_settings;

static const cli_option options[] = {
    {"json", 0, CLI_FLAG, offsetof(compare_settings, json), NULL, NULL, 0, 0,
     "print one JSON object; null stands for NaN, and the text\n"
     "\"Infinity\" for infinity"},
    {"quiet", 'q', CLI_FLAG, offsetof(compare_settings, quiet), NULL, NULL, 0, 0,
     "print only errors: the exit code says whether they differ"},
    {"follow-symlinks", 0, CLI_FLAG, offsetof(compare_settings, follow_symlinks), NULL, NULL, 0, 0,
     "allow links that leave a folder (links of the Hugging Face\n"
     "cache are always allowed)"},
};

enum { EXIT_DIFFERENT = 1, N_DIFFERENCES = LORS_ONLY_B + 1 };

/* What is kept of a tensor that differs: a copy, as names are borrowed only for the call. */
typedef struct finding {
    char *name;
    char dtypes[2][16];
    lors_comparison numbers;
} finding;

typedef struct comparing {
    finding *findings;
    size_t n_findings, capacity;
    int64_t n_tensors, counts[N_DIFFERENCES];
    bool out_of_memory;
} comparing;

static bool keep(comparing *self, const lors_comparison *one)
{
    finding *kept;
    if (self->n_findings == self->capacity) {
        size_t capacity = self->capacity ? 2 * self->capacity : 64;
        finding *grown = realloc(self->findings, capacity * sizeof *grown);
        if (!grown)
            return false;
        self->findings = grown;
        self->capacity = capacity;
    }
    kept = &self->findings[self->n_findings];
    kept->numbers = *one;
    kept->name = strdup(one->name);
    snprintf(kept->dtypes[0], sizeof kept->dtypes[0], "%s", one->dtype_a ? one->dtype_a : "");
    snprintf(kept->dtypes[1], sizeof kept->dtypes[1], "%s", one->dtype_b ? one->dtype_b : "");
    self->n_findings += kept->name != NULL;
    return kept->name != NULL;
}

static bool note(const lors_comparison *one, void *user)
{
    comparing *self = user;
    ++self->n_tensors;
    ++self->counts[one->difference];
    if (one->difference != LORS_SAME_BYTES && !keep(self, one))
        self->out_of_memory = true;
    return self->out_of_memory;
}

static const char *words(lors_difference difference)
{
    static const char *const table[N_DIFFERENCES] = {
        [LORS_SAME_BYTES] = "same bytes",      [LORS_SAME_VALUES] = "same values",
        [LORS_DIFFERENT] = "different values", [LORS_OTHER_SHAPE] = "other shape",
        [LORS_ONLY_A] = "only in A",           [LORS_ONLY_B] = "only in B",
    };
    return table[difference];
}

static const char *json_word(lors_difference difference)
{
    static const char *const table[N_DIFFERENCES] = {
        [LORS_SAME_BYTES] = "same_bytes", [LORS_SAME_VALUES] = "same_values",
        [LORS_DIFFERENT] = "different",   [LORS_OTHER_SHAPE] = "other_shape",
        [LORS_ONLY_A] = "only_a",         [LORS_ONLY_B] = "only_b",
    };
    return table[difference];
}

/* printf may write a NaN with a sign that means nothing. */
static void fill_number(cli_cell cell, double value)
{
    if (isnan(value))
        cli_fill(cell, "NaN");
    else
        cli_fill(cell, "%.3g", value);
}

static void fill_finding(int64_t row, cli_cell *cells, void *user)
{
    const finding *one = &((const comparing *)user)->findings[row];
    const char *a = one->dtypes[0], *b = one->dtypes[1];
    bool both = a[0] && b[0] && strcmp(a, b) != 0;
    cli_escape(one->name, cells[0]);
    cli_fill(cells[1], "%s", words(one->numbers.difference));
    cli_fill(cells[2], "%s%s%s", a, both ? "/" : "", both || !a[0] ? b : "");
    if (one->numbers.difference != LORS_DIFFERENT)
        return;
    fill_number(cells[3], one->numbers.max_abs);
    fill_number(cells[4], one->numbers.relative);
    cli_fill(cells[5], "%" PRIu64, one->numbers.n_different);
    cli_fill(cells[6], "%" PRIu64, one->numbers.n_elements);
}

/* The largest of all; a NaN counts as larger than any number. */
static const finding *largest(const comparing *self)
{
    const finding *found = NULL;
    for (size_t i = 0; i < self->n_findings; ++i) {
        const finding *one = &self->findings[i];
        if (one->numbers.difference == LORS_DIFFERENT &&
            (!found || (isnan(one->numbers.max_abs) && !isnan(found->numbers.max_abs)) ||
             one->numbers.max_abs > found->numbers.max_abs))
            found = one;
    }
    return found;
}

static void show_table(comparing *self)
{
    static const cli_column columns[] = {
        {"tensor", false},  {"difference", false}, {"dtype", false}, {"max abs", true},
        {"relative", true}, {"changed", true},     {"of", true},
    };
    const finding *most = largest(self);
    char shown[CLI_ESCAPED_MAX];
    cli_cell amount;
    if (self->n_findings == 0) {
        cli_out("%" PRId64 " tensors, all with the same bytes\n", self->n_tensors);
        return;
    }
    cli_table(columns, sizeof columns / sizeof columns[0], (int64_t)self->n_findings, fill_finding,
              self);
    cli_out("\n%zu of %" PRId64 " tensors differ:", self->n_findings, self->n_tensors);
    for (int i = LORS_SAME_VALUES, shows = 0; i < N_DIFFERENCES; ++i) {
        if (self->counts[i] > 0)
            cli_out("%s%" PRId64 " %s", shows++ ? ", " : " ", self->counts[i],
                    words((lors_difference)i));
    }
    cli_out("\n");
    if (most) {
        fill_number(amount, most->numbers.max_abs);
        cli_out("largest difference %s in %s\n", amount, cli_escape(most->name, shown));
    }
}

/* JSON has no infinity; as null it would look like NaN. */
static json_t *number_json(double value)
{
    return isinf(value) ? json_string("Infinity") : cli_json_number(value);
}

static json_t *finding_json(const finding *one, bool *failed)
{
    const char *a = one->dtypes[0], *b = one->dtypes[1];
    json_t *tensor = json_object();
    cli_json_put(tensor, "name", cli_json_text(one->name), failed);
    cli_json_put(tensor, "difference", cli_json_text(json_word(one->numbers.difference)), failed);
    cli_json_put(tensor, "dtype_a", cli_json_text(a[0] ? a : NULL), failed);
    cli_json_put(tensor, "dtype_b", cli_json_text(b[0] ? b : NULL), failed);
    if (one->numbers.difference == LORS_DIFFERENT) {
        cli_json_put(tensor, "max_abs", number_json(one->numbers.max_abs), failed);
        cli_json_put(tensor, "relative", number_json(one->numbers.relative), failed);
        cli_json_put(tensor, "n_different", cli_json_count(one->numbers.n_different), failed);
        cli_json_put(tensor, "n_elements", cli_json_count(one->numbers.n_elements), failed);
    }
    return tensor;
}

static int show_json(const comparing *self, const cli_arguments *arguments)
{
    json_t *root = json_object(), *counts = json_object(), *tensors = json_array();
    bool failed = false;
    for (int i = 0; i < N_DIFFERENCES; ++i)
        cli_json_put(counts, json_word((lors_difference)i), json_integer(self->counts[i]), &failed);
    for (size_t i = 0; i < self->n_findings; ++i)
        cli_json_append(tensors, finding_json(&self->findings[i], &failed), &failed);
    cli_json_put(root, "a", cli_json_text(arguments->items[0]), &failed);
    cli_json_put(root, "b", cli_json_text(arguments->items[1]), &failed);
    cli_json_put(root, "same", json_boolean(self->n_findings == 0), &failed);
    cli_json_put(root, "n_tensors", json_integer(self->n_tensors), &failed);
    cli_json_put(root, "counts", counts, &failed);
    cli_json_put(root, "different", tensors, &failed);
    return cli_json_print(root, failed);
}

static int show(comparing *self, const compare_settings *settings, const cli_arguments *arguments)
{
    int exit_code = 0;
    if (settings->json)
        exit_code = show_json(self, arguments);
    else if (!settings->quiet)
        show_table(self);
    if (exit_code == 0 && self->n_findings > 0)
        exit_code = EXIT_DIFFERENT;
    return exit_code;
}

static int run(int argc, char **argv)
{
    compare_settings settings = {0};
    comparing self = {0};
    cli_arguments arguments;
    lors_checkpoint *models[2] = {NULL, NULL};
    lors_status status = LORS_OK;
    int exit_code = cli_parse(&cli_compare, argc, argv, &settings, &arguments);
    if (exit_code >= 0)
        return exit_code;
    for (int i = 0; i < 2 && status == LORS_OK; ++i)
        status = lors_checkpoint_open(arguments.items[i], settings.follow_symlinks, &models[i]);
    if (status == LORS_OK)
        status = lors_compare(models[0], models[1], note, &self, NULL);
    if (self.out_of_memory) {
        cli_error("out of memory after %" PRId64 " tensors", self.n_tensors);
        exit_code = lors_status_exit_code(LORS_ERR_LIMIT);
    } else {
        exit_code = status == LORS_OK ? show(&self, &settings, &arguments) : cli_fail(status);
    }
    for (size_t i = 0; i < self.n_findings; ++i)
        free(self.findings[i].name);
    free(self.findings);
    lors_checkpoint_close(models[0]);
    lors_checkpoint_close(models[1]);
    return exit_code;
}

const cli_command cli_compare = {
    .name = "compare",
    .arguments = "A B [OPTIONS]",
    .summary = "how two checkpoints differ, tensor by tensor; exit 1 if they do",
    .example = "lors compare models/whisper-small merged",
    .about = "Compare all tensors of two files or folders by name, and list those that differ:\n"
             "  max abs   largest |a - b|\n"
             "  relative  norm(a - b) / norm(a)\n"
             "  changed   number of elements that differ\n"
             "Exit code: 0 all bytes are the same, 1 some differ, more than 1 an error.",
    .options = options,
    .n_options = sizeof options / sizeof options[0],
    .min_arguments = 2,
    .max_arguments = 2,
    .missing = "name two files or folders: lors compare A B",
    .run = run,
};
