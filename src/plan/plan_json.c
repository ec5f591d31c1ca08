/* plan_json.c - a plan as JSON, for scripts. */
#include <jansson.h>
#include <string.h>

#include "base/error.h"
#include "base/memory.h"
#include "io/json_memory.h"
#include "io/json_text.h"
#include "plan/plan_internal.h"

static const char *treatment_text(lors_treatment treatment)
{
    return treatment == LORS_TREAT_METHOD     ? "method"
           : treatment == LORS_TREAT_WEIGHTED ? "weighted"
                                              : "copy";
}

/* A name from a file may hold anything that is UTF-8, also control characters: JSON escapes
 * them. */
static json_t *job_json(const lors_plan *plan, int64_t index)
{
    lors_job_info info;
    lors_plan_job(plan, index, &info);
    json_t *shape = json_array();
    for (int32_t d = 0; d < info.n_dims; d++) {
        json_array_append_new(shape, json_integer(info.shape[d]));
    }
    json_t *out = json_pack("{s:s, s:s, s:s, s:s, s:s, s:s, s:o, s:I, s:I, s:b}", "name", info.name,
                            "role", info.role, "treatment", treatment_text(info.treatment),
                            "reason", info.reason, "dtype", info.dtype, "device", info.device,
                            "shape", shape, "read_bytes", (json_int_t)info.read_bytes,
                            "write_bytes", (json_int_t)info.write_bytes, "tiled", info.tiled);
    if (out && *info.origin) {
        json_object_set_new(out, "from", lors_json_string(info.origin));
    }
    if (out && info.rank >= 0) {
        json_object_set_new(out, "rank", json_integer(info.rank));
    }
    return out;
}

static json_t *summary_json(const lors_plan *plan)
{
    lors_plan_summary s;
    lors_plan_summarize(plan, &s);
    return json_pack(
        "{s:s, s:s, s:i, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:i, s:i, s:i}",
        "method", s.method, "device", s.device, "models", s.n_models, "tensors",
        (json_int_t)s.n_tensors, "by_method", (json_int_t)s.n_method, "weighted",
        (json_int_t)s.n_weighted, "copied", (json_int_t)s.n_copied, "elements",
        (json_int_t)s.n_elements, "read_bytes", (json_int_t)s.read_bytes, "write_bytes",
        (json_int_t)s.write_bytes, "peak_bytes", (json_int_t)s.peak_bytes, "max_memory_bytes",
        (json_int_t)s.max_memory_bytes, "device_peak_bytes", (json_int_t)s.device_peak_bytes,
        "workers", s.n_workers, "shards", s.n_shards, "side_files", s.n_side_files);
}

static json_t *stages_json(const lors_plan *plan)
{
    json_t *out = json_array();
    for (int32_t i = 0; i < lors_plan_stage_count(plan); i++) {
        lors_stage_info info;
        lors_plan_stage(plan, i, &info);
        json_t *stage =
            json_pack("{s:s, s:i, s:I, s:I}", "method", info.method, "models", info.n_models,
                      "tensors", (json_int_t)info.n_tensors, "bytes", (json_int_t)info.n_bytes);
        json_object_set_new(stage, "name", lors_json_string(info.name));
        json_array_append_new(out, stage);
    }
    return out;
}

lors_status lors_plan_json(const lors_plan *plan, char **out)
{
    lors_json_begin();
    json_t *root = json_object(), *tensors = json_array(), *warnings = json_array();
    for (int64_t j = 0; j < plan->n_jobs; j++) {
        json_array_append_new(tensors, job_json(plan, j));
    }
    for (size_t i = 0; i < plan->warnings.count; i++) {
        json_array_append_new(warnings, lors_json_string(plan->warnings.items[i]));
    }
    json_object_set_new(root, "summary", summary_json(plan));
    json_object_set_new(root, "warnings", warnings);
    if (plan->n_stages > 0) {
        json_object_set_new(root, "stages", stages_json(plan));
    }
    json_object_set_new(root, "tensors", tensors);
    return lors_json_text(root, 2, out);
}

void lors_text_free(char *text)
{
    lors_free(text);
}
