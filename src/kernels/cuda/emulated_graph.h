// The part of emulated_device.h, which includes it, that stands in for CUDA graphs: while a stream records, what is started in it is kept and not
// run. Included within its namespace.
#pragma once

// What was recorded.
struct Graph {
    std::vector<std::function<void()>> operations;
};
struct Stream {
    Context* context;
    // What it records, while it does.
    struct Recording {
        Graph graph;
        bool is_spoiled = false;
    };
    std::unique_ptr<Recording> recording;
};
// The stream that the call at hand is for; none where it is for none or for the default one.
Stream* here = nullptr;
// The stream that records for this thread, which must not wait for the device meanwhile.
thread_local Stream* own = nullptr;

// What was started, and what memory was asked for, outside of recordings.
struct Counts {
    uint64_t launches = 0, products = 0, allocations = 0, graphs = 0;

    // Written to the file that EMULATED_GPU_COUNTS names when the program ends.
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
// Keeps work instead of starting it, where the stream of the call records.
bool is_recorded(const std::function<void()>& work) {
    if (!is_recording()) return false;
    here->recording->graph.operations.push_back(work);
    return true;
}
// Refuses what cannot be recorded in a stream or, without one, what a thread must not do while one records for it; the recording is lost then. A
// driver would give memory that belongs to the recording: this program must not ask for any.
int not_while_recording(Stream* stream) {
    if (!stream || !stream->recording) return 0;
    stream->recording->is_spoiled = true;
    return Fault::not_recorded;
}
int not_while_recording() { return not_while_recording(own); }

int begin(Stream* stream, int mode) {
    // Only streams of one's own record, and only for their thread (mode 1) here.
    if (!stream || stream->recording || mode != 1) return Fault::invalid;
    stream->recording = std::make_unique<Stream::Recording>();
    return own = stream, 0;
}
int end(Stream* stream, Graph** graph) {
    *graph = nullptr;
    if (!stream || !stream->recording || own != stream) return Fault::invalid;
    auto recording = std::move(stream->recording);
    own = nullptr;
    if (recording->is_spoiled) return Fault::spoiled;
    return *graph = new Graph(std::move(recording->graph)), 0;
}
