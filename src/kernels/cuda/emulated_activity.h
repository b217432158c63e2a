// The interface between the emulated driver and the emulated CUPTI: activities, and a callback that observes them.
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

// An activity: a kernel with its name, or a copy or fill with its bytes.
struct Activity {
    enum Kind { kernel, fill, copy_to_device, copy_to_host, copy_on_device } kind;
    const char* name = "";
    size_t bytes = 0;
    unsigned blocks = 1, threads = 1;
};
// Called after each activity, with its start and end.
using Observer = void (*)(const Activity&, uint64_t start_ns, uint64_t end_ns);
// Stores a name permanently, because records outlive their kernels' modules and are read after the program's static objects are destroyed.
inline const char* interned(const std::string& name) {
    static auto& names = *new std::set<std::string>;
    return names.insert(name).first->c_str();
}
inline uint64_t now_ns() { return std::chrono::steady_clock::now().time_since_epoch() / std::chrono::nanoseconds(1); }

}  // namespace emulated

extern "C" __attribute__((visibility("default"))) emulated::Observer emulated_observer;

namespace emulated {

// Wraps work in a function that notifies the observer, if any.
inline std::function<void()> observed(Activity activity, std::function<void()> work) {
    if (!emulated_observer) return work;
    return [activity, work = std::move(work)] {
        uint64_t start_ns = now_ns();
        work();
        emulated_observer(activity, start_ns, now_ns());
    };
}

// Loads the injection library once, as the driver does.
inline void inject() {
    [[maybe_unused]] static const bool injected = [] {
        const char* path = getenv("CUDA_INJECTION64_PATH");
        void* library = path ? dlopen(path, RTLD_NOW) : nullptr;
        auto initialize = library ? reinterpret_cast<int (*)()>(dlsym(library, "InitializeInjection")) : nullptr;
        return initialize && initialize();
    }();
}

}  // namespace emulated
