/* stream.cpp - queues of operations and who runs next; streams and events of the API. */
#include "stream.h"

#include "memory.h"
#include "sanitizer.h"

#include <time.h>

namespace standin
{

namespace
{

double milliseconds_now()
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return static_cast<double>(now.tv_sec) * 1e3 + static_cast<double>(now.tv_nsec) * 1e-6;
}

device &device_of(const CUstream_st &stream)
{
    return *the_machine().devices[static_cast<size_t>(stream.device)];
}

/* Legacy order: the null stream and the blocking streams of a device wait for what is older. */
bool waits_for(const CUstream_st &stream, const CUstream_st &other)
{
    return !other.pending.empty() && other.pending.front()->number < stream.pending.front()->number;
}

bool is_held_by_legacy_order(const CUstream_st &stream)
{
    const CUstream_st &null_stream = device_of(stream).null_stream;
    if (stream.blocking) {
        return waits_for(stream, null_stream);
    }
    if (&stream != &null_stream) {
        return false;
    }
    for (const CUstream_st *other : the_machine().streams) {
        if (other->device == stream.device && other->blocking && waits_for(stream, *other)) {
            return true;
        }
    }
    return false;
}

bool can_run(const CUstream_st &stream)
{
    if (stream.running || stream.pending.empty()) {
        return false;
    }
    const operation &head = *stream.pending.front();
    return (!head.after || head.after->reached) && !is_held_by_legacy_order(stream);
}

/* The streams whose heads can run now. */
std::vector<CUstream_st *> runnable()
{
    std::vector<CUstream_st *> found;
    for (auto &each : the_machine().devices) {
        if (can_run(each->null_stream)) {
            found.push_back(&each->null_stream);
        }
    }
    for (CUstream_st *stream : the_machine().streams) {
        if (can_run(*stream)) {
            found.push_back(stream);
        }
    }
    return found;
}

void delete_stream(CUstream_st *stream)
{
    the_machine().streams.erase(stream);
    the_machine().spare_contexts.push_back(stream->context);
    delete stream;
}

/* What the null stream and the blocking ones know of each other, for the thread sanitizer. */
void acquire_legacy_clocks(const CUstream_st &stream)
{
    const CUstream_st &null_stream = device_of(stream).null_stream;
    if (stream.blocking) {
        sanitizer::acquire(&null_stream.clock);
    }
    if (&stream == &null_stream) {
        for (const CUstream_st *other : the_machine().streams) {
            if (other->device == stream.device && other->blocking) {
                sanitizer::acquire(&other->clock);
            }
        }
    }
}

void reach(moment &mark)
{
    mark.reached = true;
    mark.milliseconds = milliseconds_now();
    sanitizer::release(&mark);
}

/* Runs the operation as the stream, which is a context of its own to the thread sanitizer. */
cudaError_t run_in_context(CUstream_st &stream, operation &what)
{
    void *host = sanitizer::current_context();
    cudaError_t error = cudaSuccess;
    sanitizer::enter_context(stream.context);
    {
        sanitizer::runtime_scope scope;
        sanitizer::acquire(&what);
        if (what.after) {
            sanitizer::acquire(what.after.get());
        }
        acquire_legacy_clocks(stream);
        if (what.body) {
            error = what.body();
        }
        if (what.marks) {
            reach(*what.marks);
        }
        sanitizer::release(&stream.clock);
    }
    sanitizer::enter_context(host);
    return error;
}

void run_head(CUstream_st &stream)
{
    machine &m = the_machine();
    std::unique_ptr<operation> head = std::move(stream.pending.front());
    stream.pending.pop_front();
    device &owner = device_of(stream);
    open_memory(owner);
    m.running = head->name;
    stream.running = true;
    cudaError_t error = run_in_context(stream, *head);
    m.running.clear();
    if (error != cudaSuccess) {
        lose_device(owner, error);
    }
    stream.running = false;
    if (stream.destroyed && stream.pending.empty()) {
        delete_stream(&stream);
    }
}

} /* namespace */

CUstream_st *find_stream(cudaStream_t handle)
{
    machine &m = the_machine();
    if (!handle || handle == cudaStreamLegacy) {
        return &m.devices[static_cast<size_t>(current_device())]->null_stream;
    }
    if (m.streams.count(handle) && !handle->destroyed) {
        return handle;
    }
    complain("stream %p does not exist", static_cast<void *>(handle));
    return nullptr;
}

void enqueue(CUstream_st &stream, const std::string &name, std::function<cudaError_t()> body,
             std::shared_ptr<moment> after, std::shared_ptr<moment> marks)
{
    auto added = std::make_unique<operation>();
    added->name = name;
    added->body = std::move(body);
    added->after = std::move(after);
    added->marks = std::move(marks);
    added->number = the_machine().enqueued++;
    host_release(added.get());
    stream.pending.push_back(std::move(added));
}

bool run_one()
{
    std::vector<CUstream_st *> ready = runnable();
    if (ready.empty()) {
        return false;
    }
    run_head(*ready[random_below(static_cast<uint32_t>(ready.size()))]);
    return true;
}

void run_until_empty(CUstream_st &stream)
{
    while (!stream.pending.empty() && run_one()) {
    }
    host_acquire(&stream.clock);
}

void run_until_empty(device &whole)
{
    /* Streams that the client destroyed are gone once they are empty: look anew each time. */
    auto busy = [&whole] {
        if (!whole.null_stream.pending.empty()) {
            return true;
        }
        for (const CUstream_st *stream : the_machine().streams) {
            if (stream->device == whole.index && !stream->pending.empty()) {
                return true;
            }
        }
        return false;
    };
    while (busy() && run_one()) {
    }
    host_acquire(&whole.null_stream.clock);
    for (const CUstream_st *stream : the_machine().streams) {
        if (stream->device == whole.index) {
            host_acquire(&stream->clock);
        }
    }
}

void run_until(const moment &awaited)
{
    while (!awaited.reached && run_one()) {
    }
    host_acquire(&awaited);
}

void drop_pending(device &lost)
{
    std::vector<CUstream_st *> streams = {&lost.null_stream};
    for (CUstream_st *stream : the_machine().streams) {
        if (stream->device == lost.index) {
            streams.push_back(stream);
        }
    }
    for (CUstream_st *stream : streams) {
        for (auto &each : stream->pending) {
            if (each->marks) {
                each->marks->reached = true; /* other devices must not wait for ever */
            }
        }
        stream->pending.clear();
        if (stream->destroyed && !stream->running) {
            delete_stream(stream);
        }
    }
}

size_t pending_operations()
{
    size_t count = 0;
    for (auto &each : the_machine().devices) {
        count += each->null_stream.pending.size();
    }
    for (const CUstream_st *stream : the_machine().streams) {
        count += stream->pending.size();
    }
    return count;
}

} /* namespace standin */

using namespace standin;

namespace
{

void *new_stream_context()
{
    std::vector<void *> &spare = the_machine().spare_contexts;
    if (spare.empty()) {
        return sanitizer::new_context("stream");
    }
    void *context = spare.back();
    spare.pop_back();
    return context;
}

CUevent_st *find_event(cudaEvent_t handle)
{
    if (the_machine().events.count(handle)) {
        return handle;
    }
    complain("event %p does not exist", static_cast<void *>(handle));
    return nullptr;
}

/* Polling must get on, but not at once. */
void run_a_few()
{
    for (uint32_t left = random_below(4); left > 0 && run_one(); left--) {
    }
}

} /* namespace */

cudaError_t cudaStreamCreate(cudaStream_t *stream)
{
    return cudaStreamCreateWithFlags(stream, cudaStreamDefault);
}

cudaError_t cudaStreamCreateWithFlags(cudaStream_t *stream, unsigned flags)
{
    api_call call(call_kind::plain);
    if (call.refused()) {
        return call.answer();
    }
    if (!stream || flags > cudaStreamNonBlocking) {
        return call.answer(cudaErrorInvalidValue);
    }
    CUstream_st *made = new CUstream_st;
    made->device = current_device();
    made->blocking = flags == cudaStreamDefault;
    made->context = new_stream_context();
    the_machine().streams.insert(made);
    *stream = made;
    return call.answer();
}

cudaError_t cudaStreamDestroy(cudaStream_t stream)
{
    api_call call(call_kind::release);
    CUstream_st *found = stream ? find_stream(stream) : nullptr;
    if (!found || found == &call.target().null_stream) {
        return call.answer(cudaErrorInvalidResourceHandle);
    }
    if (found->pending.empty()) {
        delete_stream(found);
    } else {
        found->destroyed = true;
    }
    return call.answer();
}

cudaError_t cudaStreamSynchronize(cudaStream_t stream)
{
    api_call call(call_kind::wait);
    if (call.lost()) {
        return call.answer();
    }
    CUstream_st *found = find_stream(stream);
    if (!found) {
        return call.answer(cudaErrorInvalidResourceHandle);
    }
    run_until_empty(*found);
    return call.answer(device_of(*found).lost);
}

cudaError_t cudaStreamQuery(cudaStream_t stream)
{
    api_call call(call_kind::plain);
    if (call.refused()) {
        return call.answer();
    }
    CUstream_st *found = find_stream(stream);
    if (!found) {
        return call.answer(cudaErrorInvalidResourceHandle);
    }
    run_a_few();
    if (!found->pending.empty()) {
        return call.answer(cudaErrorNotReady);
    }
    host_acquire(&found->clock);
    return call.answer();
}

cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned flags)
{
    api_call call(call_kind::plain);
    if (call.refused()) {
        return call.answer();
    }
    CUstream_st *found = find_stream(stream);
    CUevent_st *awaited = find_event(event);
    if (!found || !awaited || flags != 0) {
        return call.answer(found && awaited ? cudaErrorInvalidValue
                                            : cudaErrorInvalidResourceHandle);
    }
    if (awaited->latest) {
        enqueue(*found, "event wait", nullptr, awaited->latest);
    }
    return call.answer();
}

cudaError_t cudaEventCreate(cudaEvent_t *event)
{
    return cudaEventCreateWithFlags(event, cudaEventDefault);
}

cudaError_t cudaEventCreateWithFlags(cudaEvent_t *event, unsigned flags)
{
    api_call call(call_kind::plain);
    if (call.refused()) {
        return call.answer();
    }
    if (!event || (flags & ~(cudaEventBlockingSync | cudaEventDisableTiming))) {
        return call.answer(cudaErrorInvalidValue);
    }
    CUevent_st *made = new CUevent_st;
    made->device = current_device();
    made->timed = !(flags & cudaEventDisableTiming);
    the_machine().events.insert(made);
    *event = made;
    return call.answer();
}

cudaError_t cudaEventDestroy(cudaEvent_t event)
{
    api_call call(call_kind::release);
    CUevent_st *found = find_event(event);
    if (!found) {
        return call.answer(cudaErrorInvalidResourceHandle);
    }
    the_machine().events.erase(found);
    delete found;
    return call.answer();
}

cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream)
{
    api_call call(call_kind::plain);
    if (call.refused()) {
        return call.answer();
    }
    CUstream_st *found = find_stream(stream);
    CUevent_st *recorded = find_event(event);
    if (!found || !recorded || recorded->device != found->device) {
        return call.answer(cudaErrorInvalidResourceHandle);
    }
    auto mark = std::make_shared<moment>();
    recorded->latest = mark;
    enqueue(*found, "event record", nullptr, nullptr, mark);
    return call.answer();
}

cudaError_t cudaEventSynchronize(cudaEvent_t event)
{
    api_call call(call_kind::wait);
    if (call.lost()) {
        return call.answer();
    }
    CUevent_st *found = find_event(event);
    if (!found) {
        return call.answer(cudaErrorInvalidResourceHandle);
    }
    if (found->latest) {
        run_until(*found->latest);
    }
    return call.answer(the_machine().devices[static_cast<size_t>(found->device)]->lost);
}

cudaError_t cudaEventQuery(cudaEvent_t event)
{
    api_call call(call_kind::plain);
    if (call.refused()) {
        return call.answer();
    }
    CUevent_st *found = find_event(event);
    if (!found) {
        return call.answer(cudaErrorInvalidResourceHandle);
    }
    run_a_few();
    if (found->latest && !found->latest->reached) {
        return call.answer(cudaErrorNotReady);
    }
    if (found->latest) {
        host_acquire(found->latest.get());
    }
    return call.answer();
}

cudaError_t cudaEventElapsedTime(float *milliseconds, cudaEvent_t start, cudaEvent_t end)
{
    api_call call(call_kind::plain);
    if (call.refused()) {
        return call.answer();
    }
    CUevent_st *from = find_event(start), *to = find_event(end);
    if (!milliseconds) {
        return call.answer(cudaErrorInvalidValue);
    }
    if (!from || !to || !from->timed || !to->timed || !from->latest || !to->latest) {
        return call.answer(cudaErrorInvalidResourceHandle);
    }
    if (!from->latest->reached || !to->latest->reached) {
        return call.answer(cudaErrorNotReady);
    }
    *milliseconds = static_cast<float>(to->latest->milliseconds - from->latest->milliseconds);
    return call.answer();
}
