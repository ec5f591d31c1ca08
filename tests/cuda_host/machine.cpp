/* machine.cpp - settings, random numbers, faults, complaints, and the lock. */
#include "machine.h"

#include "crash.h"
#include "memory.h"
#include "sanitizer.h"
#include "stream.h"

#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <cstring>

namespace standin
{

namespace
{

thread_local int thread_device = 0;
thread_local cudaError_t thread_error = cudaSuccess;

/* The number in a variable of the environment. */
unsigned long long setting(const char *name, unsigned long long otherwise)
{
    const char *text = std::getenv(name);
    return text && *text ? std::strtoull(text, nullptr, 0) : otherwise;
}

void start_random(machine &m, unsigned long long seed)
{
    m.random = (seed + 1) * 0x9E3779B97F4A7C15u | 1;
    m.poison = seed % 2 ? 0xFB : 0xFF;
}

void report_at_exit()
{
    struct standin_counts counts;
    size_t alive = standin_report(&counts);
    std::fprintf(stderr,
                 "standin: at exit %zu alive: %zu device (%zu bytes) and %zu host allocations, "
                 "%zu streams, %zu events, %zu handles; %zu operations never ran, %zu complaints\n",
                 alive, counts.device_allocations, counts.device_bytes, counts.host_allocations,
                 counts.streams, counts.events, counts.handles, counts.pending, counts.complaints);
}

/* Never destroyed: threads may still be in it while the program exits. */
machine *start_machine()
{
    machine *m = new machine;
    size_t count = setting("LORS_STANDIN_DEVICES", 1);
    for (size_t i = 0; i < (count ? count : 1); i++) {
        auto each = std::make_unique<device>();
        each->index = static_cast<int>(i);
        each->limit = setting("LORS_STANDIN_MEMORY", 2ull << 30);
        each->null_stream.device = each->index;
        each->null_stream.context = sanitizer::new_context("null stream");
        m->devices.push_back(std::move(each));
    }
    start_random(*m, setting("LORS_STANDIN_SEED", 1));
    m->eager_percent = static_cast<unsigned>(setting("LORS_STANDIN_EAGER", m->eager_percent));
    m->protect = setting("LORS_STANDIN_PROTECT", 1) != 0;
    m->die = setting("LORS_STANDIN_ABORT", 0) != 0;
    m->fail_at = static_cast<long>(setting("LORS_STANDIN_FAIL_AT", 0));
    m->fail_kind = static_cast<int>(setting("LORS_STANDIN_FAIL_KIND", STANDIN_FAULT_ALTERNATE));
    explain_crashes();
    if (setting("LORS_STANDIN_REPORT", 0)) {
        std::atexit(report_at_exit);
    }
    return m;
}

void revive_devices()
{
    for (auto &each : the_machine().devices) {
        each->lost = cudaSuccess;
    }
}

void enter()
{
    machine &m = the_machine();
    sanitizer::no_order_begin();
    m.lock.lock();
    sanitizer::ignore_begin();
}

void leave()
{
    close_memory();
    sanitizer::ignore_end();
    the_machine().lock.unlock();
    sanitizer::no_order_end();
}

} /* namespace */

machine &the_machine()
{
    static machine *const only = start_machine();
    return *only;
}

uint32_t random_below(uint32_t bound)
{
    uint64_t &state = the_machine().random;
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return static_cast<uint32_t>(((state >> 32) * bound) >> 32);
}

void complain(const char *format, ...)
{
    machine &m = the_machine();
    m.complaints++;
    std::fputs("standin: ", stderr);
    va_list arguments;
    va_start(arguments, format);
    std::vfprintf(stderr, format, arguments);
    va_end(arguments);
    if (!m.running.empty()) {
        std::fprintf(stderr, " (in %s)", m.running.c_str());
    }
    std::fputc('\n', stderr);
    if (m.die) {
        std::abort();
    }
}

int current_device()
{
    return thread_device;
}

void set_current_device(int index)
{
    thread_device = index;
}

cudaError_t last_error()
{
    return thread_error;
}

void set_last_error(cudaError_t error)
{
    thread_error = error;
}

cudaError_t driver_error()
{
    const char *driver = std::getenv("LORS_STANDIN_DRIVER");
    if (!driver) {
        return cudaSuccess;
    }
    return !std::strcmp(driver, "none")       ? cudaErrorInsufficientDriver
           : !std::strcmp(driver, "nodevice") ? cudaErrorNoDevice
                                              : cudaSuccess;
}

void lose_device(device &lost, cudaError_t error)
{
    if (lost.lost == cudaSuccess) {
        lost.lost = error;
        drop_pending(lost);
    }
}

void host_acquire(const void *clock)
{
    sanitizer::no_order_end();
    sanitizer::acquire(clock);
    sanitizer::no_order_begin();
}

void host_release(const void *clock)
{
    sanitizer::no_order_end();
    sanitizer::release(clock);
    sanitizer::no_order_begin();
}

api_call::api_call(call_kind kind, int device) : device_(device)
{
    enter();
    machine &m = the_machine();
    m.calls++;
    if (m.calls == m.fail_at) {
        inject(kind);
    }
    if (error_ == cudaSuccess && random_below(100) < m.eager_percent) {
        run_one();
    }
    if (target().lost != cudaSuccess) {
        error_ = target().lost;
    } else if (error_ == cudaSuccess) {
        error_ = driver_error();
    }
}

void api_call::inject(call_kind kind)
{
    machine &m = the_machine();
    m.faults++;
    bool sticky = m.fail_kind == STANDIN_FAULT_STICKY ||
                  (m.fail_kind == STANDIN_FAULT_ALTERNATE && m.calls % 2 == 0);
    if (kind == call_kind::allocation) {
        error_ = cudaErrorMemoryAllocation;
    } else if (sticky) {
        lose_device(target(), cudaErrorLaunchFailure);
    } else {
        error_ = cudaErrorUnknown;
    }
}

bool api_call::lost() const
{
    return the_machine().devices[static_cast<size_t>(device_)]->lost != cudaSuccess;
}

cudaError_t api_call::answer(cudaError_t error)
{
    cudaError_t result = lost() ? target().lost : refused() ? error_ : error;
    if (result != cudaSuccess && result != cudaErrorNotReady) {
        set_last_error(result);
    }
    return result;
}

api_call::~api_call()
{
    leave();
}

visit::visit()
{
    enter();
}

visit::~visit()
{
    leave();
}

} /* namespace standin */

using namespace standin;

void standin_fail_at(long n)
{
    visit here;
    the_machine().fail_at = n;
    the_machine().calls = 0;
    revive_devices();
}

void standin_fail_kind(int fault)
{
    visit here;
    the_machine().fail_kind = fault;
}

long standin_calls(void)
{
    visit here;
    return the_machine().calls;
}

long standin_faults(void)
{
    visit here;
    return the_machine().faults;
}

void standin_revive(void)
{
    visit here;
    revive_devices();
}

void standin_seed(unsigned long seed)
{
    visit here;
    start_random(the_machine(), seed);
}

size_t standin_report(struct standin_counts *counts)
{
    visit here;
    machine &m = the_machine();
    struct standin_counts found = {};
    count_allocations(found);
    for (CUstream_st *stream : m.streams) {
        found.streams += !stream->destroyed;
    }
    found.events = m.events.size();
    found.handles = m.handles;
    found.pending = pending_operations();
    found.complaints = m.complaints;
    if (counts) {
        *counts = found;
    }
    return found.device_allocations + found.host_allocations + found.streams + found.events +
           found.handles;
}

size_t standin_complaints(void)
{
    visit here;
    return the_machine().complaints;
}
