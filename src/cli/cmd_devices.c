/* cmd_devices.c - `lors devices`: where a merge can be computed, and why not elsewhere. */
#include <stddef.h>
#include <stdint.h>

#include <lors/device.h>

#include "cli/commands.h"
#include "cli/json.h"
#include "cli/messages.h"
#include "cli/table.h"

typedef struct devices_settings {
    bool json;
} devices_settings;

static const cli_option options[] = {
    {"json", 0, CLI_FLAG, offsetof(devices_settings, json), NULL, NULL, 0, 0, "print JSON"},
};

static void fill_device(int64_t row, cli_cell *cells, void *user)
{
    const lors_device_info *device = lors_device_at((int32_t)row);
    char size[32];
    (void)user;
    cli_escape(device->name, cells[0]);
    cli_fill(cells[1], "%s", device->available ? "ready" : "missing");
    cli_fill(cells[2], "%s",
             device->memory_bytes ? cli_format_bytes(device->memory_bytes, size) : "-");
    cli_escape(device->available ? device->detail : device->reason, cells[3]);
}

static int show_json(void)
{
    json_t *root = json_array();
    bool failed = false;
    for (int32_t i = 0; i < lors_device_count(); ++i) {
        const lors_device_info *device = lors_device_at(i);
        json_t *item = json_object();
        cli_json_put(item, "name", cli_json_text(device->name), &failed);
        cli_json_put(item, "available", json_boolean(device->available), &failed);
        cli_json_put(item, "detail", cli_json_text(device->detail), &failed);
        cli_json_put(item, "reason", cli_json_text(device->available ? NULL : device->reason),
                     &failed);
        cli_json_put(item, "memory_bytes", cli_json_count(device->memory_bytes), &failed);
        cli_json_append(root, item, &failed);
    }
    return cli_json_print(root, failed);
}

static int run(int argc, char **argv)
{
    static const cli_column columns[] = {
        {"device", false}, {"state", false}, {"memory", true}, {"detail", false}};
    devices_settings settings = {0};
    cli_arguments arguments;
    int exit_code = cli_parse(&cli_devices, argc, argv, &settings, &arguments);
    if (exit_code >= 0)
        return exit_code;
    if (settings.json)
        return show_json();
    cli_table(columns, sizeof columns / sizeof columns[0], lors_device_count(), fill_device, NULL);
    return 0;
}

const cli_command cli_devices = {
    .name = "devices",
    .arguments = "[OPTIONS]",
    .summary = "where a merge can be computed, and why not elsewhere",
    .example = "lors devices",
    .about = "List the devices this program knows, and why one is missing.",
    .options = options,
    .n_options = sizeof options / sizeof options[0],
    .max_arguments = 0,
    .missing = "",
    .run = run,
};
