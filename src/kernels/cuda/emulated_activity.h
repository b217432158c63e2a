// Between the emulated driver and the emulated CUPTI: who wants to know what has run.
#pragma once
#include <chrono>
#include <cstddef>
#include <cstdint>

namespace emulated {

// What ran: a kernel by its name, or bytes that were moved.
struct Activity {
    enum Kind { none, kernel, fill, copy_to_device, copy_to_host, copy_on_device } kind = none;
    const char* name = "";
    size_t bytes = 0;
    unsigned blocks = 1, threads = 1;
};
// Called after each activity, with its times.
using Observer = void (*)(const Activity&, uint64_t start_ns, uint64_t end_ns);
inline uint64_t now_ns() { return std::chrono::steady_clock::now().time_since_epoch() / std::chrono::nanoseconds(1); }

}  // namespace emulated

extern "C" emulated::Observer emulated_observer;
