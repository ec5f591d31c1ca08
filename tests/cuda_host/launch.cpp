/* launch.cpp - launches of kernels: limits, arguments, blocks in a random order. */
#include "block.h"
#include "memory.h"
#include "shared_memory.h"
#include "stream.h"

#include <numeric>

using namespace standin;

namespace
{

constexpr size_t shared_limit = size_t{48} << 10;

struct launch {
    std::string name;
    const void *kernel;
    dim3 grid, block;
    int device;
    std::function<void()> body;
    std::vector<standin_word> words;
};

bool is_configuration(dim3 grid, dim3 block)
{
    uint64_t threads = uint64_t{block.x} * block.y * block.z;
    bool some = threads && grid.x && grid.y && grid.z;
    return some && block.x <= block_limit && block.y <= block_limit && block.z <= 64 &&
           threads <= block_limit && grid.x <= 0x7fffffff && grid.y <= 65535 && grid.z <= 65535;
}

/* May a word that is no pointer, though it looks like one, be a small number beside padding? What is
 * in the padding of an argument's structure is left from older words, such as halves of pointers. */
bool is_padded_number(const standin_word &word)
{
    return !word.is_pointer && (word.value & 0xffffffffu) < 0x10000u;
}

/* A pointer must be one that the device can follow. Other words may be anything, but hardly the
 * address of freed memory or of another device's. */
cudaError_t check_words(const launch &what)
{
    for (const standin_word &word : what.words) {
        const void *address = reinterpret_cast<const void *>(word.value);
        const allocation *found = find_allocation(address);
        bool reachable =
            found && found->alive && (found->device == what.device || found->device == on_host);
        if (address && !reachable && (found || word.is_pointer) && !is_padded_number(word)) {
            complain("an argument, %p, is no address for device %d: %s", address, what.device,
                     describe(address).c_str());
            return cudaErrorIllegalAddress;
        }
    }
    return cudaSuccess;
}

uint3 block_index(uint64_t number, dim3 grid)
{
    return {static_cast<unsigned>(number % grid.x), static_cast<unsigned>(number / grid.x % grid.y),
            static_cast<unsigned>(number / grid.x / grid.y)};
}

/* A random order of `count` numbers without a table: multiples of a step that has no factor in
 * common with the count. */
class random_order
{
  public:
    explicit random_order(uint64_t count) : count_(count)
    {
        auto below = [count] { return static_cast<uint64_t>(random_below(0xffffffffu)) % count; };
        at_ = below();
        do {
            step_ = count > 1 ? below() : 1;
        } while (std::gcd(step_, count) != 1);
    }

    uint64_t next()
    {
        at_ = at_ >= count_ - step_ ? at_ - (count_ - step_) : at_ + step_;
        return at_;
    }

  private:
    uint64_t count_, at_, step_ = 1;
};

cudaError_t run(const launch &what)
{
    cudaError_t error = check_words(what);
    if (error != cudaSuccess) {
        return error;
    }
    uint64_t blocks = uint64_t{what.grid.x} * what.grid.y * what.grid.z;
    const shared_memory &shared = shared_memory_of(what.kernel);
    random_order order(blocks);
    begin_launch(what.grid, what.block);
    for (uint64_t done = 0; done < blocks && error == cudaSuccess; done++) {
        if (!spoil(shared)) {
            order_blocks();
        }
        error = run_block(block_index(order.next(), what.grid), what.body);
    }
    end_launch();
    return error;
}

} /* namespace */

cudaError_t standin_enqueue_kernel(const char *name, const void *kernel, dim3 grid, dim3 block,
                                   cudaStream_t stream, std::function<void()> body,
                                   std::vector<standin_word> words)
{
    api_call call(call_kind::plain);
    if (call.refused()) {
        return call.answer();
    }
    CUstream_st *found = find_stream(stream);
    if (!found || found->device != current_device()) {
        return call.answer(cudaErrorInvalidResourceHandle);
    }
    if (!is_configuration(grid, block)) {
        return call.answer(cudaErrorInvalidConfiguration);
    }
    if (shared_memory_of(kernel).own_bytes > shared_limit) {
        complain("%s has %zu bytes of shared memory, more than %zu", name,
                 shared_memory_of(kernel).own_bytes, shared_limit);
        return call.answer(cudaErrorLaunchOutOfResources);
    }
    auto what = std::make_shared<launch>(
        launch{name, kernel, grid, block, found->device, std::move(body), std::move(words)});
    enqueue(*found, name, [what] { return run(*what); });
    return call.answer();
}
