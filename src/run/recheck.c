/* recheck.c - `--verify`: tensors of the output computed once more, on the CPU, and compared.
 *
 * A second run over part of the plan, with the reference backend in place of the device: every
 * operation but the low-rank part promises the same bits on every backend, and the low-rank part is
 * asked of the device once more, one matrix at a time, and judged against the singular value
 * decomposition. So its output must be the very bytes that were written.
 */
#include <string.h>

#include "backend/backend_reference.h"
#include "base/error.h"
#include "base/memory.h"
#include "base/rng.h"
#include "base/text.h"
#include "run/run_internal.h"

static void keep_one(void *user, int64_t index)
{
    ((lors_plan *)user)->jobs[index].skip = false;
}

/* Of the stages what the drawn ones need, and nothing else. */
static bool keep_needed(lors_plan *plan)
{
    bool *done = lors_new((size_t)plan->n_all_jobs + 1, sizeof *done);
    for (int64_t j = plan->n_jobs; done && j < plan->n_all_jobs; j++) {
        plan->jobs[j].skip = true;
    }
    for (int64_t j = 0; done && j < plan->n_jobs; j++) {
        if (!plan->jobs[j].skip) {
            lors_plan_walk(plan, j, done, keep_one, plan);
        }
    }
    lors_free(done);
    return done != NULL;
}

/* Leave out of the plan what is only copied, and all but `wanted` (-1: none) of the others, drawn
 * by the seed. Returns how many are left; -1: no memory. */
static int64_t draw_jobs(lors_plan *plan, int64_t wanted)
{
    int64_t candidates = 0, drawn = 0;
    for (int64_t j = 0; j < plan->n_jobs; j++) {
        candidates += plan->jobs[j].def != NULL;
    }
    wanted = wanted < 0 || wanted > candidates ? candidates : wanted;
    for (int64_t j = 0; j < plan->n_jobs; j++) {
        if (!plan->jobs[j].def) {
            plan->jobs[j].skip = true;
            continue;
        }
        /* Each is taken with the probability (still wanted) / (still to come). */
        lors_philox bits = lors_philox_at(plan->seed, (uint64_t)j, 0x76657269667921u);
        uint64_t place = ((uint64_t)bits.word[0] * (uint64_t)candidates) >> 32;
        plan->jobs[j].skip = place >= (uint64_t)(wanted - drawn);
        drawn += !plan->jobs[j].skip;
        candidates--;
    }
    return keep_needed(plan) ? drawn : -1;
}

lors_status lors_run_compare_output(lors_run_state *run, int64_t job, uint64_t offset,
                                    const unsigned char *bytes, uint64_t n_bytes,
                                    unsigned char *piece)
{
    const char *name = run->plan->jobs[job].name;
    int64_t at = lors_ckpt_find(run->written, name);
    char escaped[LORS_ESCAPED_MAX];
    if (at < 0) {
        return lors_fail(LORS_ERR_IO, "--verify: tensor '%s' is missing in the output",
                         lors_escape_text(name, escaped));
    }
    for (uint64_t done = 0; done < n_bytes;) {
        uint64_t left = n_bytes - done;
        size_t n = (size_t)(left < LORS_CHUNK_BYTES ? left : LORS_CHUNK_BYTES);
        LORS_TRY(
            lors_ckpt_read_at(run->written, &run->written->tensors[at], offset + done, piece, n));
        if (memcmp(piece, bytes + done, n) != 0) {
            return lors_fail(LORS_ERR_NUMERICS,
                             "--verify: tensor '%s' is not what the CPU makes of it, near its byte "
                             "%llu: the device, the disk or memory is failing, or a model was "
                             "changed meanwhile in a way that its times do not show",
                             lors_escape_text(name, escaped), (unsigned long long)(offset + done));
        }
        done += n;
    }
    return LORS_OK;
}

/* Is every low-rank part within its bounds? *worst: the nearest it came. */
static lors_status check_bounds(const lors_run_state *again, double *worst)
{
    const lors_plan *plan = again->plan;
    for (int64_t j = 0; j < plan->n_all_jobs; j++) {
        for (int32_t k = 0; k < plan->jobs[j].n_models && again->jobs[j].results; k++) {
            double ratio = again->jobs[j].results[k].certificate.bound_ratio;
            *worst = ratio > *worst ? ratio : *worst;
            if (!(ratio <= 1)) {
                char name[LORS_ESCAPED_MAX];
                return lors_fail(LORS_ERR_NUMERICS,
                                 "--verify: tensor '%s', model %d: the low-rank part is %.3g times "
                                 "as far from the best as is allowed; --exact will do better",
                                 lors_escape_text(plan->jobs[j].name, name), k + 1, ratio);
            }
        }
    }
    return LORS_OK;
}

/* The run over the plan that is made for it. */
static lors_status run_again(lors_run_state *run, lors_plan *plan)
{
    lors_run_options options = *run->options;
    lors_run_state again = {.plan = plan, .options = &options, .start = run->start};
    again.lock = (pthread_mutex_t)PTHREAD_MUTEX_INITIALIZER;
    again.changed = (pthread_cond_t)PTHREAD_COND_INITIALIZER;
    run->n_rechecked = draw_jobs(plan, run->options->verify_tensors);
    again.jobs = lors_new((size_t)plan->n_all_jobs + 1, sizeof *again.jobs);
    lors_status status =
        again.jobs && run->n_rechecked >= 0 ? LORS_OK : lors_fail_memory((size_t)plan->n_all_jobs);
    if (status == LORS_OK) {
        status = lors_run_count_needs(&again);
    }
    if (status == LORS_OK) {
        status = lors_transfer_create(LORS_TRANSFER_THREADS, &again.transfer);
    }
    if (status == LORS_OK) {
        status = lors_checkpoint_open(lors_staging_path(run->staging), false, &again.written);
    }
    if (status == LORS_OK) {
        status = lors_workers_open(&again);
    }
    if (status == LORS_OK) {
        status = lors_workers_run(&again);
    }
    if (status == LORS_OK) {
        status = check_bounds(&again, &run->worst_ratio);
    }
    lors_workers_close(&again);
    lors_transfer_free(again.transfer);
    lors_checkpoint_close(again.written);
    for (int64_t j = 0; again.jobs && j < plan->n_all_jobs; j++) {
        lors_run_job_clear(&again, j);
    }
    lors_free(again.jobs);
    lors_free(again.sentence);
    return status;
}

/* *again: NULL where there is to be no second run. */
static lors_status plan_again(const lors_run_state *run, lors_plan **again)
{
    lors_backend *reference = NULL;
    const lors_plan *plan = run->plan;
    *again = NULL;
    if (!run->options->verify || run->options->verify_tensors == 0) {
        return LORS_OK;
    }
    LORS_TRY(lors_reference_open(plan->ops, plan->devices[0].backend, &reference));
    lors_status status = lors_plan_again(plan, lors_reference_ops(), reference, again);
    return status == LORS_OK ? status : lors_fail_within(status, "--verify");
}

/* The plan of the second run is made before the first, so that memory that it cannot have is known
 * before hours of work; and once more when it is its turn, since it takes memory, too. */
lors_status lors_run_plan_recheck(const lors_run_state *run)
{
    lors_plan *again = NULL;
    lors_status status = plan_again(run, &again);
    lors_plan_free(again);
    return status;
}

lors_status lors_run_recheck(lors_run_state *run)
{
    lors_plan *again = NULL;
    lors_workers_close(run); /* their memory is needed now */
    lors_status status = plan_again(run, &again);
    if (again) {
        lors_plan_choose_io(again, run->options->io);
        status = run_again(run, again);
    }
    lors_plan_free(again);
    return status;
}
