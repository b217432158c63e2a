// Stands in for libcupti.so.13 on the emulated GPU. Uses CUPTI's headers and buffer protocol, but implements only the functions that
// activity.cpp calls.
#include "emulated_activity.h"

#include <cupti.h>

#include <cstring>

#define CUPTI extern "C" __attribute__((visibility("default"))) CUptiResult

namespace {

CUpti_BuffersCallbackRequestFunc request = nullptr;
CUpti_BuffersCallbackCompleteFunc complete = nullptr;
uint8_t* buffer = nullptr;
size_t buffer_bytes = 0, used_bytes = 0;
uint64_t period_ns = 0, buffer_since_ns = 0;
bool is_enabled[CUPTI_ACTIVITY_KIND_COUNT] = {};

void flush() {
    if (!buffer) return;
    uint8_t* full = buffer;
    buffer = nullptr;
    complete(nullptr, 0, full, buffer_bytes, used_bytes);
}

template <class Record>
void add_record(const Record& record) {
    if (!is_enabled[record.kind]) return;
    uint64_t now = emulated::now_ns();
    if (buffer && (used_bytes + sizeof record > buffer_bytes || (period_ns && now - buffer_since_ns > period_ns))) flush();
    if (!buffer) {
        size_t max_records = 0;
        request(&buffer, &buffer_bytes, &max_records);
        used_bytes = 0, buffer_since_ns = now;
    }
    memcpy(buffer + used_bytes, &record, sizeof record);
    used_bytes += sizeof record;
}

void observe(const emulated::Activity& activity, uint64_t start_ns, uint64_t end_ns) {
    auto transfer = [&](auto record, CUpti_ActivityKind kind) {
        record.kind = kind, record.start = start_ns, record.end = end_ns, record.bytes = activity.bytes, record.streamId = 7;
        return record;
    };
    auto add_copy = [&](uint8_t kind) {
        auto record = transfer(CUpti_ActivityMemcpy6{}, CUPTI_ACTIVITY_KIND_MEMCPY);
        record.copyKind = kind;
        add_record(record);
    };
    using Kind = emulated::Activity;
    switch (activity.kind) {
        case Kind::kernel: {
            CUpti_ActivityKernel10 record = {};
            record.kind = CUPTI_ACTIVITY_KIND_CONCURRENT_KERNEL, record.start = start_ns, record.end = end_ns, record.streamId = 7;
            record.name = activity.name, record.gridX = activity.blocks, record.gridY = record.gridZ = 1;
            record.blockX = activity.threads, record.blockY = record.blockZ = 1;
            return add_record(record);
        }
        case Kind::fill:
            return add_record(transfer(CUpti_ActivityMemset4{}, CUPTI_ACTIVITY_KIND_MEMSET));
        case Kind::copy_to_device:
            return add_copy(CUPTI_ACTIVITY_MEMCPY_KIND_HTOD);
        case Kind::copy_to_host:
            return add_copy(CUPTI_ACTIVITY_MEMCPY_KIND_DTOH);
        case Kind::copy_on_device:
            return add_copy(CUPTI_ACTIVITY_MEMCPY_KIND_DTOD);
    }
}

}  // namespace

CUPTI cuptiActivityRegisterCallbacks(CUpti_BuffersCallbackRequestFunc requested, CUpti_BuffersCallbackCompleteFunc completed) {
    request = requested, complete = completed;
    return CUPTI_SUCCESS;
}
CUPTI cuptiActivityEnable(CUpti_ActivityKind kind) {
    if (!request) return CUPTI_ERROR_INVALID_OPERATION;
    is_enabled[kind] = true;
    emulated_observer = observe;
    return CUPTI_SUCCESS;
}
CUPTI cuptiActivityFlushPeriod(uint32_t milliseconds) {
    period_ns = milliseconds * uint64_t(1'000'000);
    return CUPTI_SUCCESS;
}
CUPTI cuptiActivityFlushAll(uint32_t) { return flush(), CUPTI_SUCCESS; }
CUPTI cuptiActivityGetNextRecord(uint8_t* from, size_t valid_bytes, CUpti_Activity** record) {
    size_t at = 0;
    if (*record) {
        auto kind = (*record)->kind;
        size_t bytes = kind == CUPTI_ACTIVITY_KIND_MEMCPY   ? sizeof(CUpti_ActivityMemcpy6)
                       : kind == CUPTI_ACTIVITY_KIND_MEMSET ? sizeof(CUpti_ActivityMemset4)
                                                            : sizeof(CUpti_ActivityKernel10);
        at = reinterpret_cast<uint8_t*>(*record) - from + bytes;
    }
    if (at >= valid_bytes) return CUPTI_ERROR_MAX_LIMIT_REACHED;
    *record = reinterpret_cast<CUpti_Activity*>(from + at);
    return CUPTI_SUCCESS;
}
CUPTI cuptiActivityGetNumDroppedRecords(CUcontext, uint32_t, size_t* dropped) { return *dropped = 0, CUPTI_SUCCESS; }
CUPTI cuptiGetTimestamp(uint64_t* now) { return *now = emulated::now_ns(), CUPTI_SUCCESS; }
CUPTI cuptiGetResultString(CUptiResult, const char** words) { return *words = "an error of the emulated CUPTI", CUPTI_SUCCESS; }
