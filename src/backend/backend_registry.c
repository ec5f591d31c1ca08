/* backend_registry.c - the devices of this machine, by name: the CPU, and those of the CUDA library
 * if it is there. The only host file that knows of it: it is a shared object of its own, loaded
 * when a device is first asked for. */
#include "backend/backend_registry.h"

#include <cblas.h>
#include <dlfcn.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <lors/device.h>

#include "base/error.h"
#include "base/memory.h"
#include "base/text.h"
#include "cpu/cpu_internal.h"

#define LIBRARY "liblors_cuda.so"

enum { MAX_DEVICES = LORS_CHOICE_MAX + 1 };

static char cpu_detail[512], reason[512];
static const lors_backend_library *cuda; /* NULL: not there */
static lors_device_info devices[MAX_DEVICES];
static int32_t n_devices;
static pthread_once_t once = PTHREAD_ONCE_INIT;

/* --- the processor ---------------------------------------------------------------------------- */

/* What "model name" says in /proc/cpuinfo, else the machine's architecture is enough. */
static void processor_name(char *out, size_t n_bytes)
{
    FILE *file = fopen("/proc/cpuinfo", "re"); /* lint-allow(raw-file): not a file of ours */
    char line[256];
    snprintf(out, n_bytes, "unknown processor");
    while (file && fgets(line, sizeof line, file)) {
        char *colon = strchr(line, ':');
        if (colon && strncmp(line, "model name", 10) == 0) {
            colon[strcspn(colon, "\n")] = '\0';
            snprintf(out, n_bytes, "%s", colon + 2);
            break;
        }
    }
    if (file) {
        fclose(file);
    }
}

static void describe_cpu(void)
{
    char name[256];
    processor_name(name, sizeof name);
    snprintf(cpu_detail, sizeof cpu_detail, "%s, %s kernels, %s", name,
             lors_cpu_kernels_get()->name, openblas_get_config());
    uint64_t n_free, bytes;
    lors_system_memory(&n_free, &bytes);
    devices[n_devices++] = (lors_device_info){"cpu", cpu_detail, true, "", bytes};
}

/* --- the library ------------------------------------------------------------------------------ */

/* A path beside the file that holds this code (the program or liblors.so). */
static bool path_beside(const char *relative, char *out, size_t n_bytes)
{
    Dl_info self;
    if (!dladdr(cpu_detail, &self)) {
        return false;
    }
    const char *slash = strrchr(self.dli_fname, '/');
    int folder = slash ? (int)(slash - self.dli_fname) : 1;
    int n = snprintf(out, n_bytes, "%.*s/%s", folder, slash ? self.dli_fname : ".", relative);
    return (size_t)n < n_bytes && access(out, F_OK) == 0;
}

static bool has_driver(void)
{
    void *driver = dlopen("libcuda.so.1", RTLD_LAZY | RTLD_LOCAL);
    if (driver) {
        dlclose(driver);
    }
    return driver != NULL;
}

/* LORS_CUDA_LIBRARY names it ("" for none); else it lies beside the program or the library, in the
 * lib folder next to the program's, or where the loader looks. */
static void *load_library(void)
{
    char path[4096];
    const char *wish = getenv("LORS_CUDA_LIBRARY");
    const char *name = wish                                                            ? wish
                       : path_beside(LIBRARY, path, sizeof path)                       ? path
                       : path_beside("../lib/" LIBRARY, path, sizeof path)             ? path
                       : path_beside("../" LORS_LIBDIR "/" LIBRARY, path, sizeof path) ? path
                                                                                       : LIBRARY;
    if (!name[0]) {
        snprintf(reason, sizeof reason, "LORS_CUDA_LIBRARY is empty");
        return NULL;
    }
    if (name == path && !has_driver()) { /* else cuBLAS would be loaded to find that out */
        snprintf(reason, sizeof reason, "the NVIDIA driver is missing (libcuda.so.1)");
        return NULL;
    }
    void *library = dlopen(name, RTLD_NOW | RTLD_LOCAL);
    if (!library && name != path && !wish) {
        snprintf(reason, sizeof reason, "this build has no CUDA backend (" LIBRARY ")");
    } else if (!library) {
        snprintf(reason, sizeof reason, "the CUDA backend cannot be loaded: %s", dlerror());
    }
    return library;
}

static void load_cuda(void)
{
    static const lors_backend_host host = {LORS_BACKEND_ABI, lors_fail};
    void *library = load_library();
    if (!library) {
        return;
    }
    lors_backend_entry entry = NULL;
    void *symbol = dlsym(library, LORS_BACKEND_ENTRY);
    memcpy(&entry, &symbol, sizeof entry); /* ISO C has no cast from object to function */
    const lors_backend_library *found = entry ? entry(&host) : NULL;
    if (!found || found->abi != LORS_BACKEND_ABI || found->ops->abi != LORS_BACKEND_ABI) {
        snprintf(reason, sizeof reason, LIBRARY " belongs to another version of lors");
        dlclose(library);
        return;
    }
    cuda = found;
    snprintf(reason, sizeof reason, "%s", found->reason ? found->reason : "");
}

static void describe_cuda(void)
{
    load_cuda();
    for (int32_t i = 0; cuda && i < cuda->n_devices && n_devices < MAX_DEVICES; i++) {
        const lors_backend_device *device = &cuda->devices[i];
        devices[n_devices++] =
            (lors_device_info){device->name, device->detail, true, "", device->memory_bytes};
    }
    if (n_devices == 1) {
        devices[n_devices++] = (lors_device_info){"cuda", "", false, reason, 0};
    }
}

static void find_devices(void)
{
    describe_cpu();
    describe_cuda();
}

int32_t lors_device_count(void)
{
    pthread_once(&once, find_devices);
    return n_devices;
}

const lors_device_info *lors_device_at(int32_t index)
{
    pthread_once(&once, find_devices);
    return index >= 0 && index < n_devices ? &devices[index] : NULL;
}

/* --- by name ---------------------------------------------------------------------------------- */

static lors_status choose_cpu(lors_backend_choice *out)
{
    *out = (lors_backend_choice){.ops = &lors_cpu_ops, .n_devices = 1};
    snprintf(out->name[0], sizeof out->name[0], "cpu");
    snprintf(out->label, sizeof out->label, "cpu");
    return LORS_OK;
}

static lors_status choose_gpu(int32_t index, lors_backend_choice *out)
{
    for (int32_t i = 0; i < out->n_devices; i++) {
        if (out->index[i] == index) {
            return lors_fail(LORS_ERR_USAGE, "device cuda:%d is named twice", index);
        }
    }
    if (index >= cuda->n_devices || out->n_devices == LORS_CHOICE_MAX) {
        return lors_fail(LORS_ERR_DEVICE,
                         "there is no device cuda:%d, only %d of them; see `lors devices`", index,
                         cuda->n_devices);
    }
    out->index[out->n_devices] = index;
    snprintf(out->name[out->n_devices], sizeof out->name[0], "cuda:%d", index);
    size_t used = strlen(out->label);
    snprintf(out->label + used, sizeof out->label - used, out->n_devices ? ",%d" : "cuda:%d",
             index);
    out->n_devices++;
    return LORS_OK;
}

/* "0", "0,1", "all". */
static lors_status choose_list(const char *list, lors_backend_choice *out)
{
    out->ops = cuda->ops;
    if (strcmp(list, "all") == 0) {
        int32_t most = cuda->n_devices < LORS_CHOICE_MAX ? cuda->n_devices : LORS_CHOICE_MAX;
        for (int32_t i = 0; i < most; i++) {
            choose_gpu(i, out); /* none is missing, or named twice */
        }
        return LORS_OK;
    }
    for (;;) {
        size_t digits = strspn(list, "0123456789");
        if (digits == 0 || digits > 4 || (list[digits] && list[digits] != ',')) {
            return lors_fail(LORS_ERR_USAGE, "write cuda, cuda:0, cuda:0,1 or cuda:all");
        }
        LORS_TRY(choose_gpu((int32_t)strtol(list, NULL, 10), out));
        if (!list[digits]) {
            return LORS_OK;
        }
        list += digits + 1;
    }
}

lors_status lors_backend_find(const char *device, lors_backend_choice *out)
{
    *out = (lors_backend_choice){0};
    if (device && strcmp(device, "cpu") == 0) {
        return choose_cpu(out);
    }
    pthread_once(&once, find_devices);
    bool missing = !cuda || cuda->n_devices == 0;
    if (!device || strcmp(device, "auto") == 0) {
        return missing ? choose_cpu(out) : choose_list("0", out);
    }
    char escaped[LORS_ESCAPED_MAX];
    lors_escape_text(device, escaped);
    if (strcmp(device, "cuda") != 0 && strncmp(device, "cuda:", 5) != 0) {
        return lors_fail(LORS_ERR_USAGE,
                         "unknown device '%s' (known: auto, cpu, cuda, cuda:N, cuda:N,M, "
                         "cuda:all); see `lors devices`",
                         escaped);
    }
    if (missing) {
        return lors_fail(LORS_ERR_DEVICE, "device '%s' is not available: %s; use --device cpu",
                         escaped, reason);
    }
    lors_status status = choose_list(device[4] ? device + 5 : "0", out);
    return status == LORS_ERR_USAGE ? lors_fail_within(status, escaped) : status;
}
