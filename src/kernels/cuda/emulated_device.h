// Included by emulated_driver.cpp. Owns the state of the devices: contexts, streams, memory, and the queue of work that has not run yet.
#pragma once
#include <algorithm>
#include <deque>
#include <functional>
#include <initializer_list>
#include <map>
#include <mutex>
#include <set>

using Address = unsigned long long;

namespace {

std::recursive_mutex everything;

struct Fault {
    static constexpr int invalid = 1, out_of_memory = 2, no_device = 101, no_context = 201, not_found = 500, not_ready = 600, not_recorded = 900, invalidated = 901;
};

uint64_t setting(const char* name, uint64_t usual) {
    const char* value = getenv(name);
    return value ? strtoull(value, nullptr, 10) : usual;
}
// Ends the program. For errors that a GPU would not report, but that may corrupt memory that has since been reused.
[[noreturn]] void fail(const char* what) {
    fprintf(stderr, "emulated GPU: %s\n", what);
    abort();
}

// One context per device, and the current context of each thread.
struct Context {
    int references = 0;
    uint64_t used = 0, peak = 0;
};
Context contexts[8];
thread_local Context* current = nullptr;

// All GPUs are alike, so only the number of those that CUDA_VISIBLE_DEVICES lists matters.
uint64_t devices() {
    const char* visible = getenv("CUDA_VISIBLE_DEVICES");
    const uint64_t all = std::min<uint64_t>(setting("EMULATED_GPUS", 1), 8);
    if (!visible) return all;
    uint64_t listed = 0;
    // CUDA ends the list at the first number that is not that of a GPU.
    for (const char* number = visible; *number; number++) {
        char* end;
        if (strtoull(number, &end, 10) >= all || end == number) break;
        listed++;
        number = end;
        if (!*number) break;
    }
    return listed;
}

#include "emulated_graph.h"
std::set<Stream*> streams;

// Returns the error of a lost GPU, or 0. After EMULATED_GPU_LOST_AFTER launches the GPU is lost, and every call fails, as with a real
// driver.
int lost() {
    static const uint64_t after = setting("EMULATED_GPU_LOST_AFTER", UINT64_MAX), code = setting("EMULATED_GPU_LOST_CODE", 719);
    return counts.launches < after ? 0 : int(code);
}

// Returns an error if the thread may not make a call now, in `stream` if given. The current context must be alive and must be the stream's.
int enter(Stream* stream = nullptr) {
    here = stream;
    if (int fault = lost()) return fault;
    if (!current || !current->references) return Fault::no_context;
    if (stream && !streams.count(stream)) fail("a stream is used after it was destroyed");
    return stream && stream->context != current ? Fault::no_context : 0;
}

// Work that was started but has not run yet, in the order of starting.
std::deque<std::function<void()>> queue;
uint64_t started = 0, done = 0;
// Host memory of started transfers, by the transfer's number in the queue.
std::map<uint64_t, std::pair<Address, size_t>> transfers;

void start(std::function<void()> work) {
    if (is_recorded(work)) return;
    queue.push_back(std::move(work));
    started++;
}
// Runs the queued work up to this number.
void finish(uint64_t number) {
    while (done < number) {
        auto work = std::move(queue.front());
        queue.pop_front();
        done++;
        work();
        transfers.erase(done);
    }
}

// An allocation: its size and its context.
struct Memory {
    size_t bytes;
    Context* context;
};
std::map<Address, Memory> allocated, pinned;
uint64_t total() { return setting("EMULATED_GPU_MIB", 4096) << 20; }
// Returns the memory that other processes use, in bytes.
uint64_t others() { return setting("EMULATED_GPU_OTHERS_MIB", 0) << 20; }

int allocate(Address* to, size_t bytes) {
    counts.allocations++;
    if (others() + current->used + bytes > total()) return Fault::out_of_memory;
    size_t room = (bytes + 511) / 256 * 256;
    void* memory = aligned_alloc(256, room);
    memset(memory, 0xff, room);
    *to = reinterpret_cast<Address>(memory);
    allocated[*to] = {bytes, current};
    current->used += bytes, current->peak = std::max(current->peak, current->used);
    return 0;
}
int release(Address address) {
    auto found = allocated.find(address);
    if (found == allocated.end()) return Fault::invalid;
    size_t bytes = found->second.bytes;
    found->second.context->used -= bytes;
    allocated.erase(found);
    start([=] {
        memset(reinterpret_cast<void*>(address), 0xff, bytes);
        free(reinterpret_cast<void*>(address));
    });
    return 0;
}
// Returns the allocation that contains an address; null if there is none.
const Memory* memory_of(const std::map<Address, Memory>& all, const void* at) {
    auto after = all.upper_bound(reinterpret_cast<Address>(at));
    if (after == all.begin()) return nullptr;
    auto found = std::prev(after);
    return reinterpret_cast<Address>(at) < found->first + std::max<size_t>(found->second.bytes, 1) ? &found->second : nullptr;
}
// A library's handle must be destroyed in the context in which it was created.
void end_handle() {
    if (!current || !current->references) fail("a library's handle is destroyed without a context");
}
// Returns whether all these addresses are on the device of the thread's context.
bool are_here(std::initializer_list<const void*> addresses) {
    for (const void* at : addresses) {
        const Memory* memory = memory_of(allocated, at);
        if (!memory || memory->context != current) return false;
    }
    return true;
}

}  // namespace
