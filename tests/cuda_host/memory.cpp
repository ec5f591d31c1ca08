/* memory.cpp - device and pinned host memory: poison, guard pages, quarantine, limits. */
#include "memory.h"

#include "sanitizer.h"
#include "stream.h"

#include <algorithm>
#include <cstring>
#include <map>
#include <sys/mman.h>
#include <unistd.h>

namespace standin
{

namespace
{

constexpr size_t alignment = 256; /* on devices; pinned memory begins at a page */
constexpr size_t closed_pages = 16; /* of device memory; all of a large one would take too long */
constexpr size_t quarantine_bytes = size_t{512} << 20;
constexpr size_t quarantine_count = 1024;

/* All of them, by the address where they end: living ones and those in quarantine. */
std::map<uintptr_t, allocation> &allocations()
{
    static auto *const all = new std::map<uintptr_t, allocation>;
    return *all;
}

/* The living ones of all devices. */
std::set<const allocation *> on_devices;

/* The dead ones, oldest first, by their keys. */
std::deque<uintptr_t> quarantine;
size_t quarantined_bytes = 0;

size_t page_size()
{
    static const size_t size = static_cast<size_t>(sysconf(_SC_PAGESIZE));
    return size;
}

size_t round_up(size_t size, size_t to)
{
    return (size + to - 1) / to * to;
}

uintptr_t as_number(const void *address)
{
    return reinterpret_cast<uintptr_t>(address);
}

/* The bytes of the pages, without the guards. */
char *pages_begin(const allocation &of)
{
    return of.map + page_size();
}

char *pages_end(const allocation &of)
{
    return of.map + of.map_size - page_size();
}

/* Lays `of.size` bytes out so that they end near the guard page. */
bool map_pages(allocation &of)
{
    size_t padded = round_up(std::max<size_t>(of.size, 1),
                             of.device == on_host ? page_size() : alignment);
    of.map_size = round_up(padded, page_size()) + 2 * page_size();
    void *map =
        mmap(nullptr, of.map_size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (map == MAP_FAILED) {
        return false;
    }
    of.map = static_cast<char *>(map);
    of.base = pages_end(of) - padded;
    if (mprotect(pages_begin(of), of.map_size - 2 * page_size(), PROT_READ | PROT_WRITE)) {
        munmap(map, of.map_size);
        return false;
    }
    std::memset(pages_begin(of), the_machine().poison, of.map_size - 2 * page_size());
    sanitizer::poison(of.map, static_cast<size_t>(of.base - of.map));
    sanitizer::poison(of.base + of.size, padded - of.size + page_size());
    return true;
}

void protect(const allocation &of, int protection)
{
    mprotect(pages_begin(of), of.map_size - 2 * page_size(), protection);
}

/* Closes the beginning to the host, which hardly looks at the end first; or opens it. */
void close_to_host(const allocation &of, bool closed)
{
    size_t size = std::min(of.map_size - 2 * page_size(), closed_pages * page_size());
    mprotect(pages_begin(of), size, closed ? PROT_NONE : PROT_READ | PROT_WRITE);
}

/* Whether nobody wrote into the slack before and after the allocation. */
bool is_slack_whole(const allocation &of)
{
    sanitizer::unpoison(pages_begin(of), of.map_size - 2 * page_size());
    auto is_touched = [](char byte) {
        unsigned char value = static_cast<unsigned char>(byte);
        return value != 0xFB && value != 0xFF; /* the seed may have changed in between */
    };
    return std::none_of(pages_begin(of), of.base, is_touched) &&
           std::none_of(of.base + of.size, pages_end(of), is_touched);
}

void unmap_oldest()
{
    auto oldest = allocations().find(quarantine.front());
    quarantine.pop_front();
    quarantined_bytes -= oldest->second.map_size;
    sanitizer::unpoison(oldest->second.map, oldest->second.map_size);
    munmap(oldest->second.map, oldest->second.map_size);
    allocations().erase(oldest);
}

/* Dead memory cannot be accessed, and its addresses are not given out again for a while. */
void put_into_quarantine(uintptr_t key, allocation &dead)
{
    dead.alive = false;
    madvise(pages_begin(dead), dead.map_size - 2 * page_size(), MADV_DONTNEED);
    protect(dead, PROT_NONE);
    sanitizer::poison(dead.map, dead.map_size);
    quarantine.push_back(key);
    quarantined_bytes += dead.map_size;
    while (quarantined_bytes > quarantine_bytes || quarantine.size() > quarantine_count) {
        unmap_oldest();
    }
}

device *device_at(int index)
{
    return index == on_host ? nullptr : the_machine().devices[static_cast<size_t>(index)].get();
}

} /* namespace */

void *allocate(size_t size, int device)
{
    standin::device *owner = device_at(device);
    if (owner && (size > owner->limit || owner->used > owner->limit - size)) {
        return nullptr;
    }
    allocation made;
    made.size = size;
    made.device = device;
    if (size > SIZE_MAX / 2 || !map_pages(made)) {
        return nullptr;
    }
    allocations()[as_number(made.map) + made.map_size] = made;
    if (owner) {
        owner->used += size;
        on_devices.insert(&allocations()[as_number(made.map) + made.map_size]);
        if (the_machine().protect && !owner->open) {
            close_to_host(made, true);
        }
    }
    return made.base;
}

const allocation *find_allocation(const void *address)
{
    auto after = allocations().upper_bound(as_number(address));
    if (after == allocations().end() || as_number(address) < as_number(after->second.map)) {
        return nullptr;
    }
    return &after->second;
}

bool release_memory(void *base, int device)
{
    auto found = allocations().upper_bound(as_number(base));
    if (found == allocations().end() || found->second.base != base || !found->second.alive ||
        (found->second.device == on_host) != (device == on_host)) {
        complain("free of %p, which is %s", base, describe(base).c_str());
        return false;
    }
    allocation &freed = found->second;
    standin::device *owner = device_at(freed.device);
    protect(freed, PROT_READ | PROT_WRITE);
    if (!is_slack_whole(freed)) {
        complain("bytes outside of %p, %zu bytes, were written", base, freed.size);
    }
    if (owner) {
        owner->used -= freed.size;
        on_devices.erase(&freed);
    }
    put_into_quarantine(found->first, freed);
    return true;
}

bool is_device_range(const void *address, size_t size, int device)
{
    const allocation *found = find_allocation(address);
    if (!found || !found->alive || found->device != device) {
        return false;
    }
    uintptr_t begin = as_number(found->base), at = as_number(address);
    return at >= begin && at - begin <= found->size && size <= found->size - (at - begin);
}

cudaError_t check_device_range(const void *address, size_t size, int device, const char *what)
{
    if (is_device_range(address, size, device)) {
        return cudaSuccess;
    }
    complain("%s: %zu bytes at %p do not fit into memory of device %d: %s", what, size, address,
             device, describe(address).c_str());
    return cudaErrorIllegalAddress;
}

std::string describe(const void *address)
{
    const allocation *found = find_allocation(address);
    if (!found) {
        return "memory of the host";
    }
    std::string text = found->alive ? "inside of" : "inside of freed";
    text += " " + std::to_string(found->size) + " bytes of ";
    text +=
        found->device == on_host ? "pinned host memory" : "device " + std::to_string(found->device);
    long long offset =
        static_cast<long long>(as_number(address)) - static_cast<long long>(as_number(found->base));
    return text + ", at offset " + std::to_string(offset);
}

void open_memory(device &owner)
{
    if (owner.open) {
        return;
    }
    close_memory(); /* of other devices: no operation may touch it */
    owner.open = true;
    for (const allocation *each : on_devices) {
        if (the_machine().protect && each->device == owner.index) {
            close_to_host(*each, false);
        }
    }
}

void close_memory()
{
    for (auto &owner : the_machine().devices) {
        if (!owner->open) {
            continue;
        }
        owner->open = false;
        for (const allocation *each : on_devices) {
            if (the_machine().protect && each->device == owner->index) {
                close_to_host(*each, true);
            }
        }
    }
}

void count_allocations(struct standin_counts &counts)
{
    for (const auto &each : allocations()) {
        const allocation &one = each.second;
        bool host = one.device == on_host;
        counts.device_allocations += one.alive && !host;
        counts.device_bytes += one.alive && !host ? one.size : 0;
        counts.host_allocations += one.alive && host;
        counts.host_bytes += one.alive && host ? one.size : 0;
    }
}

} /* namespace standin */

using namespace standin;

cudaError_t cudaMalloc(void **pointer, size_t size)
{
    api_call call(call_kind::allocation);
    if (call.refused()) {
        return call.answer();
    }
    if (!pointer) {
        return call.answer(cudaErrorInvalidValue);
    }
    *pointer = size ? allocate(size, current_device()) : nullptr;
    return call.answer(*pointer || !size ? cudaSuccess : cudaErrorMemoryAllocation);
}

cudaError_t cudaHostAlloc(void **pointer, size_t size, unsigned flags)
{
    api_call call(call_kind::allocation);
    if (call.refused()) {
        return call.answer();
    }
    if (!pointer || flags > 7) {
        return call.answer(cudaErrorInvalidValue);
    }
    *pointer = size ? allocate(size, on_host) : nullptr;
    return call.answer(*pointer || !size ? cudaSuccess : cudaErrorMemoryAllocation);
}

cudaError_t cudaMallocHost(void **pointer, size_t size)
{
    return cudaHostAlloc(pointer, size, cudaHostAllocDefault);
}

namespace
{

/* Freeing waits for all that the device has to do. */
cudaError_t free_memory(void *pointer, bool is_host)
{
    const allocation *found = nullptr;
    {
        visit here;
        found = find_allocation(pointer);
    }
    int owner = !is_host && found && found->device != on_host ? found->device : current_device();
    api_call call(call_kind::release, owner);
    if (!pointer) {
        return call.answer();
    }
    if (!call.lost()) {
        run_until_empty(call.target());
    }
    return call.answer(release_memory(pointer, is_host ? on_host : owner) ? cudaSuccess
                                                                          : cudaErrorInvalidValue);
}

} /* namespace */

cudaError_t cudaFree(void *pointer)
{
    return free_memory(pointer, false);
}

cudaError_t cudaFreeHost(void *pointer)
{
    return free_memory(pointer, true);
}

cudaError_t cudaMemGetInfo(size_t *available, size_t *total)
{
    api_call call(call_kind::plain);
    if (call.refused()) {
        return call.answer();
    }
    if (!available || !total) {
        return call.answer(cudaErrorInvalidValue);
    }
    *available = call.target().limit - call.target().used;
    *total = call.target().limit;
    return call.answer();
}
