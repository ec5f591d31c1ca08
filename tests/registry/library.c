/* library.c - a backend library without a device: what it says of itself is in the environment.
 *
 * REGISTRY_LIBRARY: null, abi, table, none, silent, or a number of devices. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "backend/backend_ops.h"

enum { MOST = 40 };

__attribute__((visibility("default"))) const lors_backend_library *lors_backend_library_get(
    const lors_backend_host *host);

const lors_backend_library *lors_backend_library_get(const lors_backend_host *host)
{
    static lors_backend_ops ops = {.abi = LORS_BACKEND_ABI, .name = "fake"};
    static lors_backend_device devices[MOST];
    static lors_backend_library library = {LORS_BACKEND_ABI, &ops, 0, devices, "none is there"};
    const char *what = getenv("REGISTRY_LIBRARY");
    if (!what || !host || host->abi != LORS_BACKEND_ABI || strcmp(what, "null") == 0) {
        return NULL;
    }
    library.abi += strcmp(what, "abi") == 0;
    ops.abi += strcmp(what, "table") == 0;
    library.reason = strcmp(what, "silent") == 0 ? NULL : library.reason;
    library.n_devices = (int32_t)strtol(what, NULL, 10);
    for (int32_t i = 0; i < library.n_devices && i < MOST; i++) {
        snprintf(devices[i].name, sizeof devices[i].name, "cuda:%d", i);
        snprintf(devices[i].detail, sizeof devices[i].detail, "fake %d", i);
        devices[i].memory_bytes = 1 << 20;
    }
    return &library;
}
