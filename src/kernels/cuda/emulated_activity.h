// Between the emulated driver and the emulated CUPTI: what ran, and who wants to know.
#pragma once
#include <dlfcn.h>

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <functional>
#include <set>
#include <string>
#include <utility>

namespace emulated {

// What ran: a kernel by its name, or bytes that were moved.
struct Activity {
    enum Kind { kernel, fill, copy_to_device, copy_to_host, copy_on_device } kind;
    const char* name = "";
    size_t bytes = 0;
    unsigned blocks = 1, threads = 1;
};
// Called after each activity, with its times.
using Observer = void (*)(const Activity&, uint64_t start_ns, uint64_t end_ns);
// A name that stays, for records outlive the modules of their kernels, and are read when the program's own objects are gone.
inline const char* kept(const std::string& name) {
    static auto& names = *new std::set<std::string>;
    return names.insert(name).first->c_str();
}
inline uint64_t now_ns() { return std::chrono::steady_clock::now().time_since_epoch() / std::chrono::nanoseconds(1); }

}  // namespace emulated

extern "C" __attribute__((visibility("default"))) emulated::Observer emulated_observer;

namespace emulated {

// Work that tells the observer, where there is one.
inline std::function<void()> observed(Activity activity, std::function<void()> work) {
    if (!emulated_observer) return work;
    return [activity, work = std::move(work)] {
        uint64_t start_ns = now_ns();
        work();
        emulated_observer(activity, start_ns, now_ns());
    };
}

// Loads the library that the user wants to have in the program, once, as the driver does.
inline void inject() {
    [[maybe_unused]] static const bool injected = [] {
        const char* path = getenv("CUDA_INJECTION64_PATH");
        void* library = path ? dlopen(path, RTLD_NOW) : nullptr;
        auto initialize = library ? reinterpret_cast<int (*)()>(dlsym(library, "InitializeInjection")) : nullptr;
        return initialize && initialize();
    }();
}

}  // namespace emulated
