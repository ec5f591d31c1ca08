/* block.cpp - runs the threads of one block: fibers, barriers, warps. */
#include "block.h"

#include "fiber.h"
#include "sanitizer.h"

#include <utility>

/* What kernels see as threadIdx and so on. */
uint3 threadIdx, blockIdx;
dim3 blockDim, gridDim;
bool standin_fenced;

namespace standin
{

namespace
{

constexpr unsigned warp_size = 32;
constexpr unsigned meetings_kept = 8; /* of which a thread may still be waking */
constexpr unsigned fiber_sets = 3;

/* For the thread sanitizer: addresses that stand for what is known at a point. New ones for every
 * launch and block, as one that was used before would carry what it learned then. */
struct launch_clocks {
    char launch = 0, end = 0, fence = 0;
};

struct block_clocks {
    char barrier[2] = {};
    char thread[block_limit] = {};
    char meeting[block_limit][meetings_kept] = {};
};

enum class status { fresh, ready, at_barrier, at_meeting, done };

struct cuda_thread {
    status now = status::fresh;
    fiber *on = nullptr;
    uint3 index = {0, 0, 0};
    /* What it waits with, and what it gets. */
    int kind = 0, line = 0, source = 0;
    unsigned mask = 0;
    uint64_t value = 0, result = 0;
    unsigned meetings = 0;          /* that it completed */
    const char *wakes_to = nullptr; /* a clock */
};

/* Lanes, as bits. */
struct warp_state {
    unsigned existing = 0, at_meeting = 0, done = 0;
};

struct block_state {
    unsigned count = 0; /* threads */
    unsigned started = 0, arrived = 0, finished = 0;
    bool failed = false;
    const std::function<void()> *body = nullptr;
    unsigned order[block_limit] = {}; /* in which they start */
    std::vector<unsigned> ready;
    cuda_thread threads[block_limit];
    warp_state warps[block_limit / warp_size];
    fiber root;
    fiber *current = nullptr;
    std::unique_ptr<launch_clocks> launch;
    std::unique_ptr<block_clocks> clocks;
    unsigned barriers = 0;
    /* Fibers that run nothing. The thread sanitizer's are fixed to the number of the thread, and
     * blocks take turns with a few sets: what one block knows must not reach the next. */
    std::vector<fiber *> idle;
    fiber *fixed[fiber_sets][block_limit] = {};
    unsigned turn = 0;
};

/* Made by the first launch, never destroyed. */
block_state *only_block;

block_state &the_block()
{
    return *only_block;
}

void fail(const char *what, const cuda_thread &one)
{
    block_state &b = the_block();
    if (!b.failed) {
        complain("%s: thread (%u, %u, %u) of block (%u, %u, %u), line %d", what, one.index.x,
                 one.index.y, one.index.z, blockIdx.x, blockIdx.y, blockIdx.z, one.line);
    }
    b.failed = true;
}

void fiber_main();

fiber *take_fiber(unsigned thread)
{
    block_state &b = the_block();
    if (sanitizer::threads) {
        fiber *&fixed = b.fixed[b.turn][thread];
        if (!fixed) {
            std::string name = "CUDA thread " + std::to_string(thread);
            fixed = new_fiber(fiber_main, name.c_str());
        }
        return fixed;
    }
    if (b.idle.empty()) {
        return new_fiber(fiber_main, "CUDA thread");
    }
    fiber *taken = b.idle.back();
    b.idle.pop_back();
    return taken;
}

/* A random one of the threads that can go on; the root when there is none. */
fiber *choose()
{
    block_state &b = the_block();
    uint32_t ready = static_cast<uint32_t>(b.ready.size()), fresh = b.count - b.started;
    if (b.failed || ready + fresh == 0) {
        return &b.root;
    }
    uint32_t pick = random_below(ready + fresh);
    if (pick < ready) {
        unsigned thread = b.ready[pick];
        b.ready[pick] = b.ready.back();
        b.ready.pop_back();
        return b.threads[thread].on;
    }
    unsigned thread = b.order[b.started];
    fiber *taken = take_fiber(thread);
    if (!taken) {
        fail("no memory for a stack", b.threads[thread]);
        return &b.root;
    }
    b.started++;
    taken->thread = thread;
    b.threads[thread].on = taken;
    return taken;
}

void go_to(fiber *next)
{
    block_state &b = the_block();
    fiber *self = b.current;
    if (next != self) {
        b.current = next;
        switch_fiber(*self, *next);
    }
}

void run_thread(unsigned number)
{
    block_state &b = the_block();
    cuda_thread &self = b.threads[number];
    threadIdx = self.index;
    self.now = status::ready;
    sanitizer::acquire(&b.launch->launch);
    {
        sanitizer::client_scope scope;
        (*b.body)();
    }
    sanitizer::release(&b.launch->end);
    self.now = status::done;
    b.warps[number / warp_size].done |= 1u << number % warp_size;
    b.finished++;
}

/* What every fiber does for ever: one thread after the other, the next one without a switch where
 * the choice falls on a fresh one. */
void fiber_main()
{
    block_state &b = the_block();
    for (;;) {
        fiber *self = b.current;
        run_thread(self->thread);
        if (!sanitizer::threads) {
            b.idle.push_back(self);
        }
        go_to(choose());
    }
}

void wake(cuda_thread &one, const char *clock)
{
    one.now = status::ready;
    one.wakes_to = clock;
    the_block().ready.push_back(static_cast<unsigned>(&one - the_block().threads));
}

/* Lets others run until this thread is woken. */
void wait_to_be_woken(cuda_thread &self)
{
    go_to(choose());
    threadIdx = self.index;
    if (self.wakes_to) {
        sanitizer::acquire(self.wakes_to);
    }
}

int barrier_result(int kind, unsigned count)
{
    switch (kind) {
    case STANDIN_OR: return count > 0;
    case STANDIN_AND: return count == the_block().count;
    case STANDIN_COUNT: return static_cast<int>(count);
    default: return 0;
    }
}

/* Of the barrier that is next; there are two, for the threads that still wake from the last. */
const char *barrier_clock()
{
    block_state &b = the_block();
    return b.clocks ? &b.clocks->barrier[b.barriers % 2] : nullptr;
}

/* All threads of the block are at the barrier. */
void complete_barrier(const cuda_thread &last)
{
    block_state &b = the_block();
    unsigned count = 0;
    for (unsigned i = 0; i < b.count; i++) {
        count += b.threads[i].value != 0;
        if (b.threads[i].line != last.line || b.threads[i].kind != last.kind) {
            fail("threads of one block wait at different barriers", b.threads[i]);
            return;
        }
    }
    const char *clock = barrier_clock();
    for (unsigned i = 0; i < b.count; i++) {
        b.threads[i].result = static_cast<uint64_t>(barrier_result(last.kind, count));
        wake(b.threads[i], clock);
    }
    b.barriers++;
    b.arrived = 0;
}

/* The lanes of the thread's warp: the first one, and how many the block has of it. */
std::pair<cuda_thread *, unsigned> warp_of(const cuda_thread &self)
{
    block_state &b = the_block();
    unsigned first = static_cast<unsigned>(&self - b.threads) / warp_size * warp_size;
    unsigned lanes = b.count - first < warp_size ? b.count - first : warp_size;
    return {b.threads + first, lanes};
}

bool is_in(unsigned mask, unsigned lane)
{
    return (mask >> lane) & 1;
}

warp_state &state_of_warp(const cuda_thread &self)
{
    block_state &b = the_block();
    return b.warps[static_cast<unsigned>(&self - b.threads) / warp_size];
}

/* Whether all lanes that the mask names have come. Those that cannot come any more are an error;
 * those that wait for something else may meet others first. */
bool is_complete(const cuda_thread &self)
{
    const warp_state &state = state_of_warp(self);
    unsigned named = self.mask & state.existing;
    if (named & state.done) {
        fail("a warp waits for a lane that has exited", self);
    }
    if ((named & ~state.at_meeting) || the_block().failed) {
        return false;
    }
    auto [warp, lanes] = warp_of(self);
    for (unsigned lane = 0; lane < lanes; lane++) {
        const cuda_thread &other = warp[lane];
        if (is_in(named, lane) &&
            (other.mask != self.mask || other.kind != self.kind || other.line != self.line)) {
            return false;
        }
    }
    return true;
}

const char *clock_of(const cuda_thread &one)
{
    block_state &b = the_block();
    return b.clocks ? &b.clocks->thread[&one - b.threads] : nullptr;
}

/* A new one for every meeting that the thread completes, in turn. */
const char *meeting_clock(cuda_thread &last)
{
    block_state &b = the_block();
    unsigned number = last.meetings++ % meetings_kept;
    return b.clocks ? &b.clocks->meeting[&last - b.threads][number] : nullptr;
}

/* What a shuffle gives that asks for a lane that takes no part: anything. */
uint64_t anything()
{
    return the_machine().poison * uint64_t{0x0101010101010101};
}

void complete_meeting(cuda_thread &last)
{
    auto [warp, lanes] = warp_of(last);
    const char *clock = nullptr;
    unsigned mask = last.mask;
    if (last.kind == STANDIN_SYNC) { /* shuffles and ballots order no memory */
        for (unsigned lane = 0; lane < lanes; lane++) {
            if (is_in(mask, lane)) {
                sanitizer::acquire(clock_of(warp[lane]));
            }
        }
        clock = meeting_clock(last);
        sanitizer::release(clock);
    }
    state_of_warp(last).at_meeting &= ~mask;
    uint64_t ballot = 0;
    for (unsigned lane = 0; lane < lanes; lane++) {
        ballot |= uint64_t{is_in(mask, lane) && warp[lane].value != 0} << lane;
    }
    for (unsigned lane = 0; lane < lanes; lane++) {
        cuda_thread &one = warp[lane];
        if (!is_in(mask, lane)) {
            continue;
        }
        unsigned source = static_cast<unsigned>(one.source);
        bool takes_part = source < lanes && is_in(mask, source);
        one.result = last.kind == STANDIN_BALLOT ? ballot
                     : takes_part                ? warp[source].value
                                                 : anything();
        wake(one, clock);
    }
}

cuda_thread &this_thread()
{
    return the_block().threads[the_block().current->thread];
}

/* Which threads cannot get on, and why. */
void diagnose()
{
    block_state &b = the_block();
    for (unsigned i = 0; i < b.count && !b.failed; i++) {
        const cuda_thread &one = b.threads[i];
        if (one.now == status::at_barrier) {
            fail(b.finished ? "a thread waits at a barrier, and others have exited"
                            : "a thread waits at a barrier, and others never come",
                 one);
        } else if (one.now == status::at_meeting) {
            fail("a warp waits for lanes that never come", one);
        }
    }
}

/* Fibers that stopped midway are of no use any more. */
void drop_unfinished()
{
    block_state &b = the_block();
    for (unsigned i = 0; i < b.count; i++) {
        cuda_thread &one = b.threads[i];
        if (!one.on || one.now == status::done || one.now == status::fresh) {
            continue;
        }
        delete_fiber(one.on);
        if (sanitizer::threads) {
            b.fixed[b.turn][i] = nullptr;
        }
    }
}

void reset_block(const std::function<void()> &body)
{
    block_state &b = the_block();
    b.body = &body;
    b.started = b.arrived = b.finished = b.barriers = 0;
    b.failed = false;
    b.ready.clear();
    for (unsigned first = 0; first < b.count; first += warp_size) {
        unsigned lanes = b.count - first < warp_size ? b.count - first : warp_size;
        b.warps[first / warp_size] = {0xffffffffu >> (warp_size - lanes), 0, 0};
    }
    for (unsigned i = 0; i < b.count; i++) {
        b.threads[i].now = status::fresh;
        b.threads[i].on = nullptr;
        std::swap(b.order[i], b.order[i + random_below(b.count - i)]);
    }
}

/* A context begins with what its creator knows: that must not be another CUDA thread. */
void prepare_contexts()
{
    block_state &b = the_block();
    if (sanitizer::threads) {
        b.clocks = std::make_unique<block_clocks>();
        b.turn = (b.turn + 1) % fiber_sets;
        for (unsigned i = 0; i < b.count; i++) {
            take_fiber(i);
        }
    }
}

} /* namespace */

void begin_launch(dim3 grid, dim3 block)
{
    if (!only_block) {
        only_block = new block_state;
    }
    block_state &b = the_block();
    gridDim = grid;
    blockDim = block;
    b.count = block.x * block.y * block.z;
    for (unsigned i = 0; i < b.count; i++) {
        b.order[i] = i;
        b.threads[i].index = {i % block.x, i / block.x % block.y, i / (block.x * block.y)};
    }
    standin_fenced = false;
    become_fiber(b.root);
    b.launch = std::make_unique<launch_clocks>();
}

cudaError_t run_block(uint3 index, const std::function<void()> &body)
{
    block_state &b = the_block();
    blockIdx = index;
    reset_block(body);
    prepare_contexts();
    sanitizer::release(&b.launch->launch);
    b.current = &b.root;
    go_to(choose());
    if (b.finished < b.count) {
        diagnose();
        drop_unfinished();
        return cudaErrorLaunchFailure;
    }
    return cudaSuccess;
}

void order_blocks()
{
    sanitizer::acquire(&the_block().launch->end);
}

void end_launch()
{
    order_blocks();
}

} /* namespace standin */

using namespace standin;

int standin_barrier(int kind, int predicate, int line)
{
    sanitizer::runtime_scope scope;
    block_state &b = the_block();
    cuda_thread &self = this_thread();
    self.now = status::at_barrier;
    self.kind = kind;
    self.line = line;
    self.value = predicate != 0;
    sanitizer::release(barrier_clock());
    if (++b.arrived == b.count) {
        complete_barrier(self);
    }
    wait_to_be_woken(self);
    return static_cast<int>(self.result);
}

uint64_t standin_warp(int kind, unsigned mask, uint64_t value, int source, int line)
{
    sanitizer::runtime_scope scope;
    cuda_thread &self = this_thread();
    self.now = status::at_meeting;
    state_of_warp(self).at_meeting |= 1u << self.on->thread % warp_size;
    self.kind = kind;
    self.line = line;
    self.mask = mask;
    self.value = value;
    self.source = source;
    if (!is_in(mask, self.on->thread % warp_size)) {
        fail("the mask leaves the calling lane out", self);
    }
    if (kind == STANDIN_SYNC) {
        sanitizer::release(clock_of(self));
    }
    if (is_complete(self)) {
        complete_meeting(self);
    }
    wait_to_be_woken(self);
    return self.result;
}

int standin_lane(void)
{
    sanitizer::runtime_scope scope;
    return static_cast<int>(the_block().current->thread % warp_size);
}

/* Fences order against fences and against the atomics that come after them. */
void standin_fence(void)
{
    sanitizer::runtime_scope scope;
    standin_fenced = true;
    sanitizer::release(&the_block().launch->fence);
    sanitizer::acquire(&the_block().launch->fence);
}

void standin_observe_fence(void)
{
    sanitizer::runtime_scope scope;
    sanitizer::acquire(&the_block().launch->fence);
}
