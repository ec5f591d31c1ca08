/* lay_out.c - where every output byte goes, in which pieces the work is done, and in what
 * memory. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/file.h"
#include "base/text.h"
#include "base/threads.h"
#include "plan/plan_internal.h"

enum {
    LARGEST_UNIT = 1 << 22,         /* elements: 8 to 16 MB of each model at a time are enough */
    SMALLEST_SHARED_UNIT = 1 << 20, /* rather fewer workers than smaller units than this */
    PROGRAM_BYTES = 48 << 20,       /* code, libraries, heap of small things */
    WORKER_BYTES = 40 << 20,        /* stack and the buffers that BLAS keeps per thread */
    OF_SHARD = 1 << 10,             /* what plan and run keep of an output file, but its header */
    QUEUE_BYTES = 64 << 20,         /* what a device's libraries keep per queue */
    MOST_QUEUES = 4                 /* of a device: enough that copies hide behind computing */
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

/* `first`: the shard's first job; then the next shard's. */
static lors_status lay_out_shard(lors_plan *plan, int32_t index, int64_t *first,
                                 lors_st_entry *entries)
{
    lors_shard *shard = &plan->shards[index];
    char name[64] = "model.safetensors";
    if (plan->n_shards > 1) {
        snprintf(name, sizeof name, "model-%05d-of-%05d.safetensors", index + 1, plan->n_shards);
    }
    shard->name = lors_arena_copy(plan->arena, name, strlen(name));
    lors_job *jobs = &plan->jobs[*first];
    int64_t n = 0;
    for (; *first + n < plan->n_jobs && jobs[n].shard == index; n++) {
        entries[n] =
            (lors_st_entry){jobs[n].name,          jobs[n].out_dtype, jobs[n].source->n_dims,
                            jobs[n].source->shape, jobs[n].out_bytes, 0};
    }
    LORS_TRY(lors_st_layout(entries, n, 4096, &shard->header, &shard->n_bytes));
    for (int64_t i = 0; i < n; i++) {
        jobs[i].out_offset = entries[i].offset;
    }
    *first += n;
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
    int64_t first = 0;
    for (int32_t i = 0; i < plan->n_shards && status == LORS_OK; i++) {
        status = lay_out_shard(plan, i, &first, entries);
        plan->write_bytes += plan->shards[i].n_bytes;
    }
    lors_free(entries);
    return status;
}

static uint64_t element_bytes(const lors_ckpt_tensor *tensor)
{
    return (uint64_t)lors_dtype_bits(tensor->dtype) / 8;
}

/* Bytes of a slot for the largest step of a job: all models of a unit; of a matrix the base and a
 * batch of models. An operand may begin anywhere in its first page, and shares none. */
static uint64_t step_bytes(const lors_job *job)
{
    uint64_t pages = 2 * LORS_DIRECT_ALIGN * (uint64_t)(job->n_models + 1);
    uint64_t source = job->reads_source ? element_bytes(job->source) : 0, sum = source, largest = 0;
    if (!job->def) {
        return lors_plan_paged(job->unit_elements + pages);
    }
    for (int32_t k = 0; k < job->n_models; k++) {
        uint64_t bytes = element_bytes(job->inputs[k]);
        sum += bytes;
        largest = bytes > largest ? bytes : largest;
    }
    uint64_t batch = (uint64_t)job->n_batch;
    return lors_plan_paged(job->unit_elements * (job->by_matrix ? source + batch * largest : sum) +
                           pages);
}

static int32_t least(int32_t a, int32_t b)
{
    return a < b ? a : b;
}

static void cut_job(const lors_plan *plan, lors_job *job, uint64_t unit, int32_t n_batch)
{
    uint64_t step = lors_plan_step(job, LORS_UNIT_STEP);
    unit = unit < step ? step : unit / step * step;
    uint64_t total = job->def ? job->source->n_elements : job->out_bytes;
    unit = job->by_matrix ? total : job->def ? unit : LORS_COPY_BYTES;
    job->unit_elements = total < unit ? total : unit;
    job->n_ranges =
        total == 0 ? 0 : (int32_t)((total + job->unit_elements - 1) / job->unit_elements);
    bool one = job->n_ranges <= 1 || !job->def;
    lors_call call = lors_plan_call(plan, job);
    job->n_phases = one ? 1 : lors_method_surveys(job->def, &call) + 1;
    bool whole = job->def && job->def->apply_whole;
    job->n_batch = whole            ? job->n_models
                   : job->by_matrix ? least(n_batch, job->n_models)
                                    : 0;
}

static uint64_t largest(uint64_t a, uint64_t b)
{
    return a > b ? a : b;
}

/* The totals of the host and of the device that has the most workers. */
static void add_up(const lors_plan *plan, lors_memory_plan *m)
{
    uint64_t n = (uint64_t)m->n_workers;
    uint64_t busiest = (n + (uint64_t)plan->n_devices - 1) / (uint64_t)plan->n_devices;
    uint64_t staged = 2 * m->slot + m->out + m->results + m->survey;
    uint64_t own = m->numbers * sizeof(double) + WORKER_BYTES;
    if (plan->ops->unified) {
        m->peak = m->fixed + m->stages + m->states + n * (staged + m->compute + own);
        return;
    }
    m->peak = m->fixed + m->stages + n * (staged + own);
    m->device_peak =
        m->states + busiest * (m->slot + m->out + m->results + m->compute + QUEUE_BYTES);
}

/* Tensors of stages that are there at a time: of the tensors of the output that are in the hands of
 * workers, two units each, and of the one whose units are being handed out. */
static uint64_t held_bytes(const lors_plan *plan, int32_t n_workers)
{
    uint64_t sum = plan->held_longer;
    for (int64_t i = 0; plan->held && i < plan->n_jobs && i < 2 * (int64_t)n_workers + 1; i++) {
        sum += plan->held[i];
    }
    return sum;
}

/* Of one tensor, from headers to report, about: its entries in the headers of models and output
 * (while those are read, three times as much), the job, and what the run keeps of it. */
static uint64_t remembered_bytes(const lors_job *job)
{
    enum { MAP_ENTRY = 64, OF_JOB = 900, OF_MODEL = 300, NAMES_OF_JOB = 4 };
    uint64_t name = strlen(job->name), n_headers = 2 + (uint64_t)job->n_inputs;
    uint64_t header = 3 * (sizeof *job->source + MAP_ENTRY) + name;
    uint64_t digests = (uint64_t)(job->n_models + 1) * (job->source->n_bytes / LORS_CHUNK_BYTES);
    return OF_JOB + NAMES_OF_JOB * name + n_headers * header + OF_MODEL * (uint64_t)job->n_models +
           16 * digests;
}

/* Cut all jobs into units of this many elements and batches of this many matrices. Returns what
 * that needs but for what depends on the number of workers. */
static lors_memory_plan cut_jobs(lors_plan *plan, uint64_t unit, int32_t n_batch)
{
    lors_memory_plan m = {.fixed = PROGRAM_BYTES + plan->beside, .n_batch = n_batch};
    for (int64_t j = 0; j < plan->n_all_jobs; j++) {
        lors_job *job = &plan->jobs[j];
        lors_results results;
        cut_job(plan, job, unit, n_batch);
        lors_call call = lors_plan_call(plan, job);
        m.slot = largest(m.slot, step_bytes(job));
        uint64_t out_element = job->def ? (uint64_t)lors_dtype_bits(job->out_dtype) / 8 : 1;
        m.out = largest(m.out, job->unit_elements * out_element);
        m.compute = largest(m.compute, lors_plan_carve(plan, job, LORS_NO_VIEW, &call));
        m.results = largest(m.results, lors_plan_carve_results(job, LORS_NO_VIEW, &results));
        m.survey = largest(m.survey, lors_plan_settle_bytes(plan, job));
        if (job->n_ranges > 1) {
            m.state = largest(m.state, lors_plan_state_bytes(plan, job));
        }
        uint64_t n_constants = lors_method_constants(job->def, &call);
        m.constants = largest(m.constants, n_constants * sizeof(double));
        if (job->def && job->def->n_numbers) {
            m.numbers = largest(m.numbers, (uint64_t)job->def->n_numbers(&call));
        }
        m.fixed += remembered_bytes(job);
    }
    for (int32_t i = 0; i < plan->n_shards; i++) {
        m.fixed += plan->shards[i].header.capacity + OF_SHARD;
    }
    return m;
}

static lors_memory_plan for_workers(const lors_plan *plan, lors_memory_plan m, int32_t n_workers)
{
    m.n_workers = n_workers;
    m.states = 2 * m.state * (uint64_t)n_workers;
    m.fixed += 2 * m.constants * (uint64_t)n_workers;
    m.stages = held_bytes(plan, n_workers);
    add_up(plan, &m);
    return m;
}

/* Does it fit into the limit, and into what the devices have free? */
static bool fits(const lors_plan *plan, const lors_memory_plan *m)
{
    for (int32_t d = 0; d < plan->n_devices && !plan->ops->unified; d++) {
        if (m->device_peak > plan->devices[d].free_bytes) {
            return false;
        }
    }
    return m->peak <= plan->max_memory && m->device_peak <= plan->max_memory;
}

static lors_status refuse_memory(lors_plan *plan, const lors_memory_plan *least_of)
{
    char needed[32], limit[32], name[LORS_ESCAPED_MAX];
    const lors_job *worst = NULL;
    uint64_t worst_bytes = 0;
    for (int64_t j = 0; j < plan->n_all_jobs; j++) {
        const lors_job *job = &plan->jobs[j];
        lors_call call = lors_plan_call(plan, job);
        uint64_t bytes = 2 * step_bytes(job) + lors_plan_carve(plan, job, LORS_NO_VIEW, &call);
        if (!worst || bytes > worst_bytes) {
            worst = job;
            worst_bytes = bytes;
        }
    }
    lors_escape_text(worst ? worst->name : "", name);
    const char *hint = worst && worst->by_matrix ? ", or leave this tensor out of `scope`" : "";
    if (least_of->peak > plan->max_memory || least_of->device_peak > plan->max_memory) {
        return lors_fail(LORS_ERR_LIMIT,
                         "%s of memory are needed, the most for tensor '%s', but the limit is %s: "
                         "raise --max-memory%s",
                         lors_format_bytes(largest(least_of->peak, least_of->device_peak), needed),
                         name, lors_format_bytes(plan->max_memory, limit), hint);
    }
    uint64_t free_bytes = UINT64_MAX;
    for (int32_t d = 0; d < plan->n_devices; d++) {
        free_bytes =
            plan->devices[d].free_bytes < free_bytes ? plan->devices[d].free_bytes : free_bytes;
    }
    return lors_fail(LORS_ERR_DEVICE,
                     "%s of memory are needed on each of the devices %s, the most for tensor '%s', "
                     "but one has only %s free: end what else uses it, take another --device%s",
                     lors_format_bytes(least_of->device_peak, needed), plan->device, name,
                     lors_format_bytes(free_bytes, limit), hint);
}

/* Does `m` ask as much, host and device together, as the way that failed? Each next one asks less,
 * so that they come to an end. */
static bool was_tried(const lors_plan *plan, const lors_memory_plan *m)
{
    const lors_memory_plan *failed = &plan->memory;
    return failed->peak > 0 && m->peak + m->device_peak >= failed->peak + failed->device_peak;
}

/* A way to cut all jobs, and what it needs. */
typedef struct cut {
    uint64_t unit;
    bool keeps_values;
    lors_memory_plan memory; /* as cut_jobs says */
} cut;

enum { N_CUTS = 10 };
_Static_assert(LARGEST_UNIT >> (N_CUTS / 2 - 1) == LORS_UNIT_STEP, "each half the one before");

/* The best first: rather without kept values than smaller units. */
static void measure_cuts(lors_plan *plan, int32_t n_batch, cut cuts[N_CUTS])
{
    for (int i = 0; i < N_CUTS; i++) {
        cuts[i].unit = (uint64_t)LARGEST_UNIT >> (i / 2);
        cuts[i].keeps_values = plan->keeps_values = i % 2 == 0;
        cuts[i].memory = cut_jobs(plan, cuts[i].unit, n_batch);
    }
}

/* The best with which so many workers fit. */
static bool try_cuts(lors_plan *plan, const cut cuts[N_CUTS], int32_t n_workers)
{
    bool shared = n_workers > plan->n_devices;
    uint64_t smallest = shared ? SMALLEST_SHARED_UNIT : LORS_UNIT_STEP;
    for (int i = 0; i < N_CUTS && cuts[i].unit >= smallest; i++) {
        lors_memory_plan m = for_workers(plan, cuts[i].memory, n_workers);
        if (fits(plan, &m) && !was_tried(plan, &m)) {
            plan->memory = m;
            plan->unit = cuts[i].unit;
            plan->keeps_values = cuts[i].keeps_values;
            cut_jobs(plan, plan->unit, m.n_batch);
            return true;
        }
    }
    return false;
}

/* From `most` workers down to `fewest`. */
static bool find_workers(lors_plan *plan, int32_t n_batch, int32_t most, int32_t fewest)
{
    cut cuts[N_CUTS];
    bool found = false;
    measure_cuts(plan, n_batch, cuts);
    for (int32_t n = most; n >= fewest && !found; n--) {
        found = try_cuts(plan, cuts, n);
    }
    return found;
}

/* The most workers, and for them the largest units, that fit. Where a backend takes batches, first
 * the largest of those that at least two workers of a device can have: one computes while the other
 * copies. None of the three changes any result. */
static bool find_memory(lors_plan *plan)
{
    int32_t devices = plan->n_devices, batch = plan->ops->batch;
    bool found = batch == 1 && find_workers(plan, 1, plan->n_threads, devices);
    for (int32_t b = batch; b >= 1 && batch > 1 && !found; b--) {
        found = find_workers(plan, b, plan->n_threads, 2 * devices);
    }
    for (int32_t b = batch; b >= 1 && batch > 1 && !found; b--) {
        found = find_workers(plan, b, devices, devices);
    }
    return found;
}

uint64_t lors_plan_kept_bytes(const lors_plan *plan)
{
    return plan->memory.fixed - PROGRAM_BYTES;
}

bool lors_plan_shrink(lors_plan *plan)
{
    lors_memory_plan before = plan->memory;
    bool kept = plan->keeps_values;
    if (!find_memory(plan)) {
        plan->memory = before;
        plan->keeps_values = kept;
        cut_jobs(plan, plan->unit, before.n_batch); /* as they were */
        return false;
    }
    lors_free(plan->units);
    plan->units = NULL;
    return lors_plan_make_units(plan) == LORS_OK;
}

/* Jobs to devices: each, in order, to the one with the fewest bytes so far. */
static void assign_devices(lors_plan *plan)
{
    uint64_t load[LORS_MAX_DEVICES] = {0};
    for (int64_t j = 0; j < plan->n_all_jobs; j++) {
        int32_t device = 0;
        for (int32_t d = 1; d < plan->n_devices; d++) {
            device = load[d] < load[device] ? d : device;
        }
        plan->jobs[j].device = device;
        load[device] += plan->jobs[j].source->n_bytes * (uint64_t)(plan->jobs[j].n_models + 1);
    }
}

static lors_status plan_memory(lors_plan *plan, int32_t n_threads)
{
    int32_t most = plan->ops->unified ? n_threads : MOST_QUEUES * plan->n_devices;
    plan->n_threads = n_threads < most ? n_threads : most;
    plan->n_threads = plan->n_threads < plan->n_devices ? plan->n_devices : plan->n_threads;
    if (find_memory(plan)) {
        return LORS_OK;
    }
    lors_memory_plan smallest =
        for_workers(plan, cut_jobs(plan, LORS_UNIT_STEP, 1), plan->n_devices);
    return refuse_memory(plan, &smallest);
}

/* The units of a job, behind those that are there. */
static void add_units(void *user, int64_t index)
{
    lors_plan *plan = user;
    const lors_job *job = &plan->jobs[index];
    uint64_t total = job->def ? job->source->n_elements : job->out_bytes;
    for (int32_t phase = 0; phase < job->n_phases; phase++) {
        for (int32_t i = 0; i < job->n_ranges; i++) {
            uint64_t first = (uint64_t)i * job->unit_elements;
            uint64_t left = total - first;
            plan->units[plan->n_units++] = (lors_unit){
                index, phase, first, left < job->unit_elements ? left : job->unit_elements};
        }
    }
}

/* In the order of the output's bytes; what a tensor needs of the stages right before it. */
lors_status lors_plan_make_units(lors_plan *plan)
{
    size_t n_units = 1;
    for (int64_t j = 0; j < plan->n_all_jobs; j++) {
        n_units += (size_t)plan->jobs[j].n_phases * (size_t)plan->jobs[j].n_ranges;
    }
    plan->n_units = 0;
    plan->units = lors_new(n_units, sizeof *plan->units);
    bool *done = lors_new((size_t)plan->n_all_jobs + 1, sizeof *done);
    if (!plan->units || !done) {
        lors_free(done);
        return lors_fail_memory(n_units * sizeof *plan->units);
    }
    for (int64_t j = 0; j < plan->n_jobs; j++) {
        lors_plan_walk(plan, j, done, add_units, plan);
    }
    lors_free(done);
    return LORS_OK;
}

/* What is read from files. */
static void count_bytes(lors_plan *plan)
{
    for (int64_t j = 0; j < plan->n_all_jobs; j++) {
        const lors_job *job = &plan->jobs[j];
        for (int32_t k = job->reads_source ? -1 : 0; k < job->n_models; k++) {
            const lors_ckpt_tensor *tensor = k < 0 ? job->source : job->inputs[k];
            bool reads = lors_job_producer(job, k) < 0;
            plan->read_bytes += reads ? tensor->n_bytes * (uint64_t)job->n_phases : 0;
        }
        plan->n_elements += job->stage == 0 ? job->source->n_elements : 0;
    }
}

lors_status lors_plan_lay_out(lors_plan *plan, uint64_t max_shard_bytes, int32_t n_threads)
{
    LORS_TRY(lay_out_files(plan, max_shard_bytes));
    LORS_TRY(lors_plan_measure_stages(plan));
    assign_devices(plan);
    LORS_TRY(plan_memory(plan, n_threads));
    LORS_TRY(lors_plan_make_units(plan));
    count_bytes(plan);
    return LORS_OK;
}
