// Included by emulated_device.h, inside its namespace. Stands in for CUDA graphs: while a stream records, work started in it is stored, not
// run.
#pragma once

// The recorded work.
struct Graph {
    std::vector<std::function<void()>> operations;
};
struct Stream {
    Context* context;
    // The recording in progress, if any.
    struct Recording {
        Graph graph;
        bool is_invalidated = false;
    };
    std::unique_ptr<Recording> recording;
};
// The stream of the current call; null for the default stream or for calls without one.
Stream* here = nullptr;
// The stream that records for this thread. Meanwhile the thread must not wait for the device.
thread_local Stream* own = nullptr;

// Counts of started work and of allocations, outside of recordings.
struct Counts {
    uint64_t launches = 0, products = 0, allocations = 0, graphs = 0;

    // Writes the counts to the file that EMULATED_GPU_COUNTS names when the program ends.
    ~Counts() {
        const char* path = getenv("EMULATED_GPU_COUNTS");
        FILE* file = path ? fopen(path, "w") : nullptr;
        if (!file) return;
        fprintf(file, "launches\t%llu\nproducts\t%llu\nallocations\t%llu\ngraphs\t%llu\n", (unsigned long long)launches, (unsigned long long)products,
                (unsigned long long)allocations, (unsigned long long)graphs);
        fclose(file);
    }
} counts;

bool is_recording() { return here && here->recording; }
// If the call's stream records, stores the work instead of starting it and returns true.
bool is_recorded(const std::function<void()>& work) {
    if (!is_recording()) return false;
    here->recording->graph.operations.push_back(work);
    return true;
}
// Returns an error, and invalidates the recording, if a call cannot be recorded in its stream, or if a recording thread must not make a
// call without a stream. A real driver supports allocations, which then belong to the graph; this program must not request any.
int not_while_recording(Stream* stream) {
    if (!stream || !stream->recording) return 0;
    stream->recording->is_invalidated = true;
    return Fault::not_recorded;
}
int not_while_recording() { return not_while_recording(own); }

int begin(Stream* stream, int mode) {
    // Supports only streams other than the default one that record for their own thread (mode 1).
    if (!stream || stream->recording || mode != 1) return Fault::invalid;
    stream->recording = std::make_unique<Stream::Recording>();
    return own = stream, 0;
}
int end(Stream* stream, Graph** graph) {
    *graph = nullptr;
    if (!stream || !stream->recording || own != stream) return Fault::invalid;
    auto recording = std::move(stream->recording);
    own = nullptr;
    if (recording->is_invalidated) return Fault::invalidated;
    return *graph = new Graph(std::move(recording->graph)), 0;
}
