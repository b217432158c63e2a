// Records when each kernel, copy and fill of a program ran on the GPU. The driver loads this library if CUDA_INJECTION64_PATH names it, and
// calls InitializeInjection. The library depends on CUPTI but not on this program. scripts/cuda-activity.sh builds it, and
// scripts/gpu_kernels.py reads the file that it writes.
//
// RLVR_ACTIVITY names the file. Its rows have fields separated by tabs. Times are in nanoseconds on CUPTI's clock:
//   clock   TIME UNIX_TIME                                                     the same moment on the system's clock
//   name    ID NAME                                                            comes before the first row with this ID
//   kernel  ID START END STREAM GRAPH BLOCKS THREADS REGISTERS SHARED_BYTES    GRAPH is 0 outside CUDA graphs
//   copy    ID START END STREAM GRAPH BYTES
//   fill    ID START END STREAM GRAPH BYTES
//   lost    COUNT                number of records that CUPTI dropped plus rows above the limit
// Rows are written once a second and at the end, so that a killed program loses only a few.
#include <cupti.h>
#include <cxxabi.h>
#include <dlfcn.h>

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <mutex>
#include <string>

namespace {

constexpr size_t buffer_bytes = 1 << 20;
constexpr size_t max_rows = 200'000;

// CUPTI's functions, looked up at run time. The program also runs without CUPTI.
struct Cupti {
    decltype(&cuptiActivityRegisterCallbacks) register_callbacks;
    decltype(&cuptiActivityEnable) enable;
    decltype(&cuptiActivityFlushPeriod) flush_period;
    decltype(&cuptiActivityFlushAll) flush_all;
    decltype(&cuptiActivityGetNextRecord) next_record;
    decltype(&cuptiActivityGetNumDroppedRecords) dropped_records;
    decltype(&cuptiGetTimestamp) timestamp;
    decltype(&cuptiGetResultString) words;
} cupti;

std::mutex writing;
FILE* file = nullptr;
std::map<std::string, int> ids;
size_t rows = 0, lost = 0;

bool check(CUptiResult result, const char* call) {
    if (result == CUPTI_SUCCESS) return true;
    const char* words = "unknown error";
    cupti.words(result, &words);
    fprintf(stderr, "kernel times are not recorded: %s failed with %s\n", call, words);
    return false;
}

// Returns whether another row may be written. Counts it as lost if not.
bool admit_row() {
    if (rows++ < max_rows) return true;
    lost++;
    return false;
}
int id_of(const char* name) {
    auto [known, is_new] = ids.try_emplace(name ? name : "unnamed", static_cast<int>(ids.size()));
    if (is_new) {
        char* readable = abi::__cxa_demangle(known->first.c_str(), nullptr, nullptr, nullptr);
        fprintf(file, "name\t%d\t%s\n", known->second, readable ? readable : known->first.c_str());
        free(readable);
    }
    return known->second;
}
const char* name_of_copy(uint8_t kind) {
    switch (kind) {
        case CUPTI_ACTIVITY_MEMCPY_KIND_HTOD:
            return "copy to the device";
        case CUPTI_ACTIVITY_MEMCPY_KIND_DTOH:
            return "copy to the host";
        case CUPTI_ACTIVITY_MEMCPY_KIND_DTOD:
            return "copy on the device";
        default:
            return "copy of another kind";
    }
}

template <class Transfer>
void write_transfer(const char* kind, const char* name, const Transfer& transfer) {
    int id = id_of(name);
    fprintf(file, "%s\t%d\t%llu\t%llu\t%u\t%u\t%llu\n", kind, id, static_cast<unsigned long long>(transfer.start),
            static_cast<unsigned long long>(transfer.end), transfer.streamId, transfer.graphId, static_cast<unsigned long long>(transfer.bytes));
}
void write_kernel(const CUpti_ActivityKernel10& kernel) {
    int id = id_of(kernel.name);
    long long blocks = 1LL * kernel.gridX * kernel.gridY * kernel.gridZ;
    int threads = kernel.blockX * kernel.blockY * kernel.blockZ;
    fprintf(file, "kernel\t%d\t%llu\t%llu\t%u\t%u\t%lld\t%d\t%u\t%d\n", id, static_cast<unsigned long long>(kernel.start),
            static_cast<unsigned long long>(kernel.end), kernel.streamId, kernel.graphId, blocks, threads, unsigned(kernel.registersPerThread),
            kernel.staticSharedMemory + kernel.dynamicSharedMemory);
}
void write(const CUpti_Activity* record) {
    switch (record->kind) {
        case CUPTI_ACTIVITY_KIND_CONCURRENT_KERNEL:
            if (admit_row()) write_kernel(*reinterpret_cast<const CUpti_ActivityKernel10*>(record));
            break;
        case CUPTI_ACTIVITY_KIND_MEMCPY:
            if (auto* copy = reinterpret_cast<const CUpti_ActivityMemcpy6*>(record); admit_row()) write_transfer("copy", name_of_copy(copy->copyKind), *copy);
            break;
        case CUPTI_ACTIVITY_KIND_MEMSET:
            if (admit_row()) write_transfer("fill", "fill", *reinterpret_cast<const CUpti_ActivityMemset4*>(record));
            break;
        default:
            break;
    }
}

void CUPTIAPI request_buffer(uint8_t** buffer, size_t* bytes, size_t* most_records) {
    *buffer = static_cast<uint8_t*>(aligned_alloc(ACTIVITY_RECORD_ALIGNMENT, buffer_bytes));
    *bytes = *buffer ? buffer_bytes : 0;
    *most_records = 0;  // no limit
}
void CUPTIAPI complete_buffer(CUcontext context, uint32_t stream, uint8_t* buffer, size_t, size_t used_bytes) {
    std::lock_guard<std::mutex> lock(writing);
    if (file) {
        CUpti_Activity* record = nullptr;
        while (cupti.next_record(buffer, used_bytes, &record) == CUPTI_SUCCESS) write(record);
        size_t dropped = 0;
        if (cupti.dropped_records(context, stream, &dropped) == CUPTI_SUCCESS) lost += dropped;
        fflush(file);
    }
    free(buffer);
}

void finish() {
    cupti.flush_all(CUPTI_ACTIVITY_FLAG_FLUSH_FORCED);
    std::lock_guard<std::mutex> lock(writing);
    if (lost) fprintf(file, "lost\t%zu\n", lost);
    fclose(file);
    file = nullptr;
}

bool load() {
    void* library = dlopen("libcupti.so.13", RTLD_NOW | RTLD_LOCAL);
    if (!library) {
        fprintf(stderr, "kernel times are not recorded: cannot load libcupti.so.13 (%s): add its folder to LD_LIBRARY_PATH\n", dlerror());
        return false;
    }
    const char* missing = nullptr;
    auto find = [&](auto& function, const char* name) {
        function = reinterpret_cast<std::decay_t<decltype(function)>>(dlsym(library, name));
        if (!function) missing = name;
    };
    find(cupti.register_callbacks, "cuptiActivityRegisterCallbacks");
    find(cupti.enable, "cuptiActivityEnable");
    find(cupti.flush_period, "cuptiActivityFlushPeriod");
    find(cupti.flush_all, "cuptiActivityFlushAll");
    find(cupti.next_record, "cuptiActivityGetNextRecord");
    find(cupti.dropped_records, "cuptiActivityGetNumDroppedRecords");
    find(cupti.timestamp, "cuptiGetTimestamp");
    find(cupti.words, "cuptiGetResultString");
    if (missing) fprintf(stderr, "kernel times are not recorded: libcupti.so.13 has no %s\n", missing);
    return !missing;
}

bool start() {
    bool is_ready = check(cupti.register_callbacks(request_buffer, complete_buffer), "cuptiActivityRegisterCallbacks");
    for (auto kind : {CUPTI_ACTIVITY_KIND_CONCURRENT_KERNEL, CUPTI_ACTIVITY_KIND_MEMCPY, CUPTI_ACTIVITY_KIND_MEMSET})
        is_ready = is_ready && check(cupti.enable(kind), "cuptiActivityEnable");
    uint64_t now = 0;
    is_ready = is_ready && check(cupti.flush_period(1000), "cuptiActivityFlushPeriod") &&
               check(cupti.timestamp(&now), "cuptiGetTimestamp");
    auto unix_now = std::chrono::system_clock::now().time_since_epoch() / std::chrono::nanoseconds(1);
    std::lock_guard<std::mutex> lock(writing);
    if (is_ready) fprintf(file, "clock\t%llu\t%llu\n", static_cast<unsigned long long>(now), static_cast<unsigned long long>(unix_now));
    return is_ready;
}

}  // namespace

// The driver calls this once, in cuInit. Returns 1, as CUPTI's examples do. A failure is reported on stderr, and the program continues.
extern "C" __attribute__((visibility("default"))) int InitializeInjection() {
    const char* path = getenv("RLVR_ACTIVITY");
    if (!path || !load()) return 1;
    file = fopen(path, "w");
    if (!file) {
        fprintf(stderr, "kernel times are not recorded: cannot write %s\n", path);
        return 1;
    }
    if (start()) {
        atexit(finish);
    } else {
        std::lock_guard<std::mutex> lock(writing);
        fclose(file);
        file = nullptr;
    }
    return 1;
}
