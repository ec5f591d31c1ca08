/* lay_out.c - where every output byte goes, in which pieces the work is done, and in what
 * memory. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/text.h"
#include "base/threads.h"
#include "plan/plan_internal.h"

enum {
    LARGEST_UNIT = 1 << 22,         /* elements: 8 to 16 MB of each model at a time are enough */
    SMALLEST_SHARED_UNIT = 1 << 20, /* rather fewer workers than smaller units than this */
    PROGRAM_BYTES = 48 << 20,       /* code, libraries, heap of small things */
    WORKER_BYTES = 40 << 20         /* stack and the buffers that BLAS keeps per thread */
};

/* Output order: wide elements first, so that all are aligned; then by name. It depends on nothing
 * but the tensors, so that sharding of the inputs leaves the bytes alone. */
static int by_layout(const void *left, const void *right)
{
    const lors_job *a = left, *b = right;
    int bits_a = lors_dtype_bits(a->out_dtype), bits_b = lors_dtype_bits(b->out_dtype);
    return bits_a != bits_b ? (bits_a < bits_b) - (bits_a > bits_b) : strcmp(a->name, b->name);
}

/* Which shard each job goes to: greedy in order; a tensor above the limit gets one of its own. */
static int32_t assign_shards(lors_plan *plan, uint64_t max_bytes)
{
    int32_t shard = 0;
    uint64_t filled = 0;
    for (int64_t j = 0; j < plan->n_jobs; j++) {
        lors_job *job = &plan->jobs[j];
        if (max_bytes > 0 && filled > 0 && filled + job->out_bytes > max_bytes) {
            shard++;
            filled = 0;
        }
        job->shard = shard;
        filled += job->out_bytes;
    }
    return shard + 1;
}

static lors_status lay_out_shard(lors_plan *plan, int32_t index, lors_st_entry *entries)
{
    lors_shard *shard = &plan->shards[index];
    char name[64] = "model.safetensors";
    if (plan->n_shards > 1) {
        snprintf(name, sizeof name, "model-%05d-of-%05d.safetensors", index + 1, plan->n_shards);
    }
    shard->name = lors_arena_copy(plan->arena, name, strlen(name));
    int64_t n = 0;
    for (int64_t j = 0; j < plan->n_jobs; j++) {
        const lors_job *job = &plan->jobs[j];
        if (job->shard == index) {
            entries[n++] = (lors_st_entry){job->name,          job->out_dtype, job->source->n_dims,
                                           job->source->shape, job->out_bytes, 0};
        }
    }
    LORS_TRY(lors_st_layout(entries, n, 4096, &shard->header, &shard->n_bytes));
    n = 0;
    for (int64_t j = 0; j < plan->n_jobs; j++) {
        if (plan->jobs[j].shard == index) {
            plan->jobs[j].out_offset = entries[n++].offset;
        }
    }
    return shard->name ? LORS_OK : lors_fail_memory(sizeof name);
}

static lors_status lay_out_files(lors_plan *plan, uint64_t max_shard_bytes)
{
    if (plan->n_jobs > 0) {
        qsort(plan->jobs, (size_t)plan->n_jobs, sizeof *plan->jobs, by_layout);
    }
    plan->n_shards = assign_shards(plan, max_shard_bytes);
    if (plan->n_shards > 99999) {
        return lors_fail(LORS_ERR_LIMIT,
                         "%d shards are too many (at most 99999): raise "
                         "--max-shard-size",
                         plan->n_shards);
    }
    plan->shards = lors_new((size_t)plan->n_shards, sizeof *plan->shards);
    lors_st_entry *entries = lors_new((size_t)plan->n_jobs + 1, sizeof *entries);
    lors_status status = plan->shards && entries ? LORS_OK : lors_fail_memory(1 << 20);
    for (int32_t i = 0; i < plan->n_shards && status == LORS_OK; i++) {
        status = lay_out_shard(plan, i, entries);
        plan->write_bytes += plan->shards[i].n_bytes;
    }
    lors_free(entries);
    return status;
}

int64_t lors_plan_tile(const lors_plan *plan, uint64_t n)
{
    uint64_t tile = (uint64_t)plan->ops->tile_elements;
    return (int64_t)(tile == 0 || n < tile ? n : tile);
}

lors_call lors_plan_call(const lors_plan *plan, const lors_job *job)
{
    return (lors_call){.ops = plan->ops,
                       .n_models = job->n_models,
                       .n_rows = job->n_rows,
                       .n_cols = job->n_cols,
                       .n_elements = job->source->n_elements,
                       .has_base = plan->base != NULL,
                       .cells = job->cells};
}

uint64_t lors_plan_state_bytes(const lors_plan *plan, const lors_job *job)
{
    lors_call call = lors_plan_call(plan, job);
    return job->def && job->def->state_bytes ? job->def->state_bytes(&call) : 0;
}

/* The largest rank that some model asks of this matrix. */
static lors_rank largest_rank(const lors_job *job)
{
    lors_rank rank = {0, 0};
    int32_t param = lors_method_param(&job->def->info, "rank");
    for (int32_t k = 0; param >= 0 && k < job->n_models; k++) {
        const lors_cell *cell = &job->cells[param * job->n_models + k];
        rank.energy = cell->energy > rank.energy ? cell->energy : rank.energy;
        rank.count = (int64_t)cell->number > rank.count ? (int64_t)cell->number : rank.count;
    }
    return rank;
}

/* Each block of work space begins at a multiple of 64 bytes. */
static uint64_t padded(uint64_t n_bytes)
{
    return (n_bytes + 63) & ~(uint64_t)63;
}

uint64_t lors_plan_compute_bytes(const lors_plan *plan, const lors_job *job)
{
    if (!job->def) {
        return 0;
    }
    uint64_t elements = job->by_matrix ? job->source->n_elements : job->unit_elements;
    uint64_t tile = (uint64_t)lors_plan_tile(plan, elements), n = (uint64_t)job->n_models;
    uint64_t masks = padded(n * tile) + padded(tile);
    if (!job->by_matrix) {
        return padded((1 + n) * tile * 4) + padded(tile * 8) + padded(tile * 4) + masks;
    }
    return 4 * padded(elements * 4) + padded(elements * 8) + masks +
           plan->ops->truncate_bytes(job->n_rows, job->n_cols, largest_rank(job));
}

static uint64_t element_bytes(const lors_ckpt_tensor *tensor)
{
    return (uint64_t)lors_dtype_bits(tensor->dtype) / 8;
}

/* Raw input bytes of the largest step of a job: all models of a unit; of a matrix the base and one
 * model. */
static uint64_t step_bytes(const lors_job *job)
{
    uint64_t source = job->reads_source ? element_bytes(job->source) : 0, sum = source, largest = 0;
    if (!job->def) {
        return job->unit_elements;
    }
    for (int32_t k = 0; k < job->n_models; k++) {
        uint64_t bytes = element_bytes(job->inputs[k]);
        sum += bytes;
        largest = bytes > largest ? bytes : largest;
    }
    return job->unit_elements * (job->by_matrix ? source + largest : sum) +
           64 * (uint64_t)(job->n_models + 1);
}

static void cut_job(lors_job *job, uint64_t unit)
{
    uint64_t total = job->def ? job->source->n_elements : job->out_bytes;
    unit = job->by_matrix ? total : job->def ? unit : LORS_COPY_BYTES;
    job->unit_elements = total < unit ? total : unit;
    job->n_ranges =
        total == 0 ? 0 : (int32_t)((total + job->unit_elements - 1) / job->unit_elements);
    bool one = job->n_ranges <= 1 || !job->def;
    job->n_phases = one ? 1 : job->def->n_surveys + 1;
}

static uint64_t largest(uint64_t a, uint64_t b)
{
    return a > b ? a : b;
}

/* Memory of the run with units of this many elements. */
static lors_memory_plan measure(lors_plan *plan, uint64_t unit, int32_t n_workers)
{
    lors_memory_plan m = {.fixed = PROGRAM_BYTES, .n_workers = n_workers};
    uint64_t state = 0;
    for (int64_t j = 0; j < plan->n_jobs; j++) {
        lors_job *job = &plan->jobs[j];
        cut_job(job, unit);
        m.slot = largest(m.slot, step_bytes(job));
        uint64_t out_element = job->def ? (uint64_t)lors_dtype_bits(job->out_dtype) / 8 : 1;
        m.out = largest(m.out, job->unit_elements * out_element);
        m.compute = largest(m.compute, lors_plan_compute_bytes(plan, job));
        state = largest(state, lors_plan_state_bytes(plan, job));
        m.fixed += 1024 + (uint64_t)(job->n_models + 1) *
                              (job->source->n_bytes / LORS_CHUNK_BYTES + 4) * 16;
    }
    m.states = 2 * state * (uint64_t)n_workers;
    m.peak =
        m.fixed + m.states + (uint64_t)n_workers * (2 * m.slot + m.out + m.compute + WORKER_BYTES);
    return m;
}

static lors_status refuse_memory(lors_plan *plan, const lors_memory_plan *least)
{
    char needed[32], limit[32], name[LORS_ESCAPED_MAX];
    const lors_job *worst = NULL;
    uint64_t worst_bytes = 0;
    for (int64_t j = 0; j < plan->n_jobs; j++) {
        const lors_job *job = &plan->jobs[j];
        uint64_t bytes = 2 * step_bytes(job) + lors_plan_compute_bytes(plan, job);
        if (!worst || bytes > worst_bytes) {
            worst = job;
            worst_bytes = bytes;
        }
    }
    return lors_fail(
        LORS_ERR_LIMIT,
        "%s of memory are needed, the most for tensor '%s', but the limit is %s: raise "
        "--max-memory%s",
        lors_format_bytes(least->peak, needed), lors_escape_text(worst ? worst->name : "", name),
        lors_format_bytes(plan->max_memory, limit),
        worst && worst->by_matrix ? ", or leave this tensor out of `scope`" : "");
}

/* The most workers, and for them the largest units, that fit. Neither changes any result. */
static lors_status plan_memory(lors_plan *plan, int32_t n_threads)
{
    for (int32_t n = n_threads; n >= 1; n--) {
        uint64_t least = n > 1 ? SMALLEST_SHARED_UNIT : LORS_UNIT_STEP;
        for (uint64_t unit = LARGEST_UNIT; unit >= least; unit /= 2) {
            plan->memory = measure(plan, unit, n);
            if (plan->memory.peak <= plan->max_memory) {
                return LORS_OK;
            }
        }
    }
    return refuse_memory(plan, &plan->memory);
}

static lors_status make_units(lors_plan *plan)
{
    for (int64_t j = 0; j < plan->n_jobs; j++) {
        plan->n_units += (int64_t)plan->jobs[j].n_phases * plan->jobs[j].n_ranges;
    }
    plan->units = lors_new((size_t)plan->n_units + 1, sizeof *plan->units);
    if (!plan->units) {
        return lors_fail_memory((size_t)plan->n_units * sizeof *plan->units);
    }
    int64_t at = 0;
    for (int64_t j = 0; j < plan->n_jobs; j++) {
        lors_job *job = &plan->jobs[j];
        uint64_t total = job->def ? job->source->n_elements : job->out_bytes;
        job->first_unit = at;
        for (int32_t phase = 0; phase < job->n_phases; phase++) {
            for (int32_t i = 0; i < job->n_ranges; i++) {
                uint64_t first = (uint64_t)i * job->unit_elements;
                uint64_t left = total - first;
                plan->units[at++] = (lors_unit){
                    j, phase, first, left < job->unit_elements ? left : job->unit_elements};
            }
        }
    }
    return LORS_OK;
}

static void count_bytes(lors_plan *plan)
{
    for (int64_t j = 0; j < plan->n_jobs; j++) {
        const lors_job *job = &plan->jobs[j];
        uint64_t bytes = job->reads_source ? job->source->n_bytes : 0;
        for (int32_t k = 0; k < job->n_models; k++) {
            bytes += job->inputs[k]->n_bytes;
        }
        plan->read_bytes += bytes * (uint64_t)job->n_phases;
        plan->n_elements += job->source->n_elements;
    }
}

lors_status lors_plan_lay_out(lors_plan *plan, uint64_t max_shard_bytes, int32_t n_threads)
{
    LORS_TRY(lay_out_files(plan, max_shard_bytes));
    LORS_TRY(plan_memory(plan, n_threads));
    LORS_TRY(make_units(plan));
    count_bytes(plan);
    return LORS_OK;
}
