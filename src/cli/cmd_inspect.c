/* cmd_inspect.c - `lors inspect`: the tensors of a checkpoint. */
#include <inttypes.h>
#include <stddef.h>

#include <lors/checkpoint.h>

#include "cli/commands.h"
#include "cli/json.h"
#include "cli/messages.h"
#include "cli/table.h"

typedef struct inspect_settings {
    bool json, follow_symlinks;
} inspect_settings;

static const cli_option options[] = {
    {"json", 0, CLI_FLAG, offsetof(inspect_settings, json), NULL, NULL, 0, 0,
     "print one JSON object, one line for every tensor"},
    {"follow-symlinks", 0, CLI_FLAG, offsetof(inspect_settings, follow_symlinks), NULL, NULL, 0, 0,
     "allow links that leave the folder (links of the Hugging\n"
     "Face cache are always allowed)"},
};

typedef struct totals {
    uint64_t n_elements, n_bytes;
} totals;

static totals count_totals(const lors_checkpoint *checkpoint)
{
    totals sum = {0, 0};
    for (int64_t i = 0; i < lors_checkpoint_count(checkpoint); ++i) {
        lors_tensor_info info;
        lors_checkpoint_tensor(checkpoint, i, &info);
        sum.n_elements += info.n_elements;
        sum.n_bytes += info.n_bytes;
    }
    return sum;
}

static void fill_tensor(int64_t row, cli_cell *cells, void *user)
{
    const lors_checkpoint *checkpoint = user;
    lors_tensor_info info;
    lors_checkpoint_tensor(checkpoint, row, &info);
    cli_escape(info.name, cells[0]);
    cli_fill(cells[1], "%s", info.role);
    cli_fill(cells[2], "%s", info.dtype);
    cli_format_shape(info.shape, info.n_dims, cells[3]);
    cli_fill(cells[4], "%" PRIu64, info.n_bytes);
    cli_escape(info.file, cells[5]);
}

static void show_table(lors_checkpoint *checkpoint)
{
    static const cli_column columns[] = {
        {"tensor", false}, {"role", false}, {"dtype", false},
        {"shape", false},  {"bytes", true}, {"file", false},
    };
    int32_t n_files = lors_checkpoint_file_count(checkpoint);
    int64_t n_tensors = lors_checkpoint_count(checkpoint);
    totals sum = count_totals(checkpoint);
    char size[32];
    cli_table(columns, sizeof columns / sizeof columns[0], n_tensors, fill_tensor, checkpoint);
    cli_out("\n%" PRId64 " tensor%s, %" PRIu64 " element%s, %s in %" PRId32 " file%s\n", n_tensors,
            n_tensors == 1 ? "" : "s", sum.n_elements, sum.n_elements == 1 ? "" : "s",
            cli_format_bytes(sum.n_bytes, size), n_files, n_files == 1 ? "" : "s");
}

static json_t *tensor_json(const lors_tensor_info *info, bool *failed)
{
    json_t *tensor = json_object();
    cli_json_put(tensor, "name", cli_json_text(info->name), failed);
    cli_json_put(tensor, "role", cli_json_text(info->role), failed);
    cli_json_put(tensor, "dtype", cli_json_text(info->dtype), failed);
    cli_json_put(tensor, "shape", cli_json_shape(info->shape, info->n_dims), failed);
    cli_json_put(tensor, "elements", cli_json_count(info->n_elements), failed);
    cli_json_put(tensor, "bytes", cli_json_count(info->n_bytes), failed);
    cli_json_put(tensor, "file", cli_json_text(info->file), failed);
    cli_json_put(tensor, "offset", cli_json_count(info->offset), failed);
    return tensor;
}

/* Line by line: a checkpoint may have millions of tensors, and its JSON tree would not fit. */
static int show_json(const char *path, const lors_checkpoint *checkpoint)
{
    int64_t n_tensors = lors_checkpoint_count(checkpoint);
    totals sum = count_totals(checkpoint);
    int exit_code;
    cli_out("{\n  \"path\": ");
    exit_code = cli_json_print_line(cli_json_text(path), false);
    cli_out(",\n  \"files\": %" PRId32 ",\n  \"elements\": %" PRIu64 ",\n  \"bytes\": %" PRIu64
            ",\n  \"tensors\": [",
            lors_checkpoint_file_count(checkpoint), sum.n_elements, sum.n_bytes);
    for (int64_t i = 0; i < n_tensors && exit_code == 0; ++i) {
        lors_tensor_info info;
        bool failed = false;
        json_t *tensor;
        lors_checkpoint_tensor(checkpoint, i, &info);
        tensor = tensor_json(&info, &failed);
        cli_out(i == 0 ? "\n    " : ",\n    ");
        exit_code = cli_json_print_line(tensor, failed);
    }
    cli_out("\n  ]\n}\n");
    return exit_code;
}

static int run(int argc, char **argv)
{
    inspect_settings settings = {0};
    cli_arguments arguments;
    lors_checkpoint *checkpoint = NULL;
    lors_status status;
    int exit_code = cli_parse(&cli_inspect, argc, argv, &settings, &arguments);
    if (exit_code >= 0)
        return exit_code;
    status = lors_checkpoint_open(arguments.items[0], settings.follow_symlinks, &checkpoint);
    if (status != LORS_OK)
        return cli_fail(status);
    for (int32_t i = 0; i < lors_checkpoint_warning_count(checkpoint); ++i)
        cli_warning("%s", lors_checkpoint_warning(checkpoint, i));
    exit_code = 0;
    if (settings.json)
        exit_code = show_json(arguments.items[0], checkpoint);
    else
        show_table(checkpoint);
    lors_checkpoint_close(checkpoint);
    return exit_code;
}

const cli_command cli_inspect = {
    .name = "inspect",
    .arguments = "PATH [OPTIONS]",
    .summary = "tensors, types, shapes and sizes of a checkpoint",
    .example = "lors inspect models/whisper-small",
    .about = "List the tensors of a .safetensors file, or of a model folder with one or\n"
             "several of them. Reads headers only.",
    .options = options,
    .n_options = sizeof options / sizeof options[0],
    .min_arguments = 1,
    .max_arguments = 1,
    .missing = "name a file or folder: lors inspect PATH",
    .run = run,
};
