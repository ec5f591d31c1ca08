/* machine.h - the emulated machine: devices, streams, events, faults, and the lock around it all.
 *
 * Private to the stand-in. Everything here needs the machine's lock, which an api_call holds.
 */
#ifndef LORS_STANDIN_MACHINE_H
#define LORS_STANDIN_MACHINE_H

#include <cuda_runtime.h>
#include <standin.h>

#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <vector>

namespace standin
{

/* A point in a stream that others wait for: one record of an event. */
struct moment {
    bool reached = false;
    double milliseconds = 0;
};

/* Something that a stream has yet to do. Runs when it is at the head and `after` is reached. */
struct operation {
    std::string name;
    std::function<cudaError_t()> body;
    std::shared_ptr<moment> after;
    std::shared_ptr<moment> marks; /* reached when this is done */
    uint64_t number = 0;           /* order of enqueueing, over all streams */
};

} /* namespace standin */

struct CUstream_st {
    int device = 0;
    bool blocking = false;  /* ordered against the null stream */
    bool destroyed = false; /* by the client; lives on until it is empty */
    bool running = false;
    std::deque<std::unique_ptr<standin::operation>> pending;
    void *context = nullptr; /* of the thread sanitizer; its clock is released after each one */
    char clock = 0;
};

struct CUevent_st {
    int device = 0;
    bool timed = false;
    std::shared_ptr<standin::moment> latest; /* none before the first record */
};

namespace standin
{

struct device {
    int index = 0;
    size_t limit = 0; /* bytes */
    size_t used = 0;
    cudaError_t lost = cudaSuccess; /* the sticky error */
    bool open = false;              /* its memory can be accessed, because an operation runs */
    CUstream_st null_stream;
};

struct machine {
    std::mutex lock;
    std::vector<std::unique_ptr<device>> devices;
    std::set<cudaStream_t> streams; /* without the null streams; destroyed ones that are busy too */
    std::set<cudaEvent_t> events;
    std::vector<void *> spare_contexts;
    size_t handles = 0;
    size_t complaints = 0;
    uint64_t enqueued = 0;
    uint64_t random = 1;
    unsigned char poison = 0xFB;
    unsigned eager_percent = 12; /* how often a call runs one operation early */
    bool protect = true;
    bool die = false; /* abort at the first complaint */
    long calls = 0, fail_at = 0, faults = 0;
    int fail_kind = STANDIN_FAULT_ALTERNATE;
    std::string running; /* name of the operation that runs, for messages */
};

machine &the_machine();

/* Uniform below `bound`, which is not 0. */
uint32_t random_below(uint32_t bound);

/* Tells the standard error of a misuse and counts it. */
void complain(const char *format, ...) __attribute__((format(printf, 1, 2)));

int current_device();
void set_current_device(int index);
cudaError_t last_error();
void set_last_error(cudaError_t error);

/* What the machine is said to lack: cudaSuccess, or the error of every call that needs it. */
cudaError_t driver_error();

/* Gives the device up: `error` sticks and what is pending on it never runs. */
void lose_device(device &lost, cudaError_t error);

enum class call_kind {
    plain,
    allocation,
    release, /* does its work even when it fails */
    wait     /* a fault that does not stick comes after the waiting */
};

/* One call of the API: holds the lock, counts, injects faults, lets operations run early. */
class api_call
{
  public:
    explicit api_call(call_kind kind, int device = current_device());
    ~api_call();
    api_call(const api_call &) = delete;
    api_call &operator=(const api_call &) = delete;

    /* The call must not do what it is for. */
    bool refused() const
    {
        return error_ != cudaSuccess;
    }

    /* The device does not answer any more. */
    bool lost() const;

    /* What the call returns when its own result is `error`; remembers it for the thread. */
    cudaError_t answer(cudaError_t error = cudaSuccess);

    device &target()
    {
        return *the_machine().devices[static_cast<size_t>(device_)];
    }

  private:
    void inject(call_kind kind);

    int device_;
    cudaError_t error_ = cudaSuccess;
};

/* An uncounted visit to the machine: only the lock. */
class visit
{
  public:
    visit();
    ~visit();
    visit(const visit &) = delete;
    visit &operator=(const visit &) = delete;
};

/* The host's clock takes in, or gives away, what a clock of the device knows. */
void host_acquire(const void *clock);
void host_release(const void *clock);

} /* namespace standin */

#endif
