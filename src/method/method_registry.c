/* method_registry.c - the table of all methods: a new one is a file and a line here. */
#include <string.h>

#include "method/method_table.h"

static const lors_method_def *const methods[] = {
    &lors_method_lors,
    &lors_method_chain,
    &lors_method_linear,
    &lors_method_task_arithmetic,
    &lors_method_ties,
    &lors_method_dare_linear,
    &lors_method_dare_ties,
    &lors_method_della,
    &lors_method_della_linear,
    &lors_method_breadcrumbs,
    &lors_method_breadcrumbs_ties,
    &lors_method_sce,
    &lors_method_slerp,
    &lors_method_nuslerp,
    &lors_method_multislerp,
    &lors_method_karcher,
    &lors_method_model_stock,
    &lors_method_metagpt,
    &lors_method_geometric_median,
    &lors_method_nearswap,
    &lors_method_arcee_fusion,
    &lors_method_ram,
    &lors_method_ramplus_tl,
    &lors_method_magmax,
    &lors_method_consensus,
    &lors_method_emr,
    &lors_method_pcb,
    &lors_method_tsv_m,
    &lors_method_iso_c,
    &lors_method_iso_cts,
    &lors_method_star,
    &lors_method_wudi,
    &lors_method_knots,
    &lors_method_svc,
    &lors_method_passthrough,
};

enum { N_METHODS = sizeof methods / sizeof *methods };

int32_t lors_method_count(void)
{
    return N_METHODS;
}

const lors_method_info *lors_method_at(int32_t index)
{
    return index >= 0 && index < N_METHODS ? &methods[index]->info : NULL;
}

const lors_method_def *lors_method_def_find(const char *name)
{
    for (int32_t i = 0; i < N_METHODS; i++) {
        if (strcmp(methods[i]->info.name, name) == 0) {
            return methods[i];
        }
    }
    return NULL;
}

const lors_method_info *lors_method_find(const char *name)
{
    const lors_method_def *def = lors_method_def_find(name);
    return def ? &def->info : NULL;
}

int32_t lors_method_param(const lors_method_info *method, const char *name)
{
    for (int32_t i = 0; i < method->n_params; i++) {
        if (strcmp(method->params[i].name, name) == 0) {
            return i;
        }
    }
    return -1;
}
