/* backend_registry.c - the devices of this build, by name. */
#include "backend/backend_registry.h"

#include <cblas.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <lors/device.h>

#include "base/error.h"
#include "base/text.h"
#include "cpu/cpu_internal.h"

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

static char cpu_detail[512];
static const char no_cuda[] = "this build has no CUDA backend";
static lors_device_info devices[] = {{"cpu", cpu_detail, true, "", 0},
                                     {"cuda", "", false, no_cuda, 0}};
enum { N_DEVICES = sizeof devices / sizeof *devices };
static pthread_once_t cpu_once = PTHREAD_ONCE_INIT;

static void describe_cpu(void)
{
    char name[256];
    processor_name(name, sizeof name);
    snprintf(cpu_detail, sizeof cpu_detail, "%s, %s kernels, %s", name,
             lors_cpu_kernels_get()->name, openblas_get_config());
    long pages = sysconf(_SC_PHYS_PAGES), page_bytes = sysconf(_SC_PAGESIZE);
    devices[0].memory_bytes = pages > 0 ? (uint64_t)pages * (uint64_t)page_bytes : 0;
}

int32_t lors_device_count(void)
{
    return N_DEVICES;
}

const lors_device_info *lors_device_at(int32_t index)
{
    pthread_once(&cpu_once, describe_cpu);
    return index >= 0 && index < N_DEVICES ? &devices[index] : NULL;
}

lors_status lors_backend_find(const char *device, const lors_backend_ops **ops, int32_t *index)
{
    if (!device || strcmp(device, "auto") == 0 || strcmp(device, "cpu") == 0) {
        *ops = &lors_cpu_ops;
        *index = 0;
        return LORS_OK;
    }
    char escaped[LORS_ESCAPED_MAX];
    lors_escape_text(device, escaped);
    if (strncmp(device, "cuda", 4) == 0) {
        return lors_fail(LORS_ERR_DEVICE, "device '%s' is not available: %s; use --device cpu",
                         escaped, no_cuda);
    }
    return lors_fail(LORS_ERR_USAGE, "unknown device '%s' (known: auto, cpu); see `lors devices`",
                     escaped);
}
