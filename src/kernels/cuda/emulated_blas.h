// Included by emulated_driver.cpp. Stands in for cuBLAS and cuBLASLt: queues products, which plain loops compute.
#pragma once

namespace {

// A column-major matrix, as cuBLAS expects it.
struct Matrix {
    const void* at;
    int type;
    long long row_stride, column_stride;

    static Matrix of(const void* at, int type, bool transposed, long long leading) {
        return transposed ? Matrix{at, type, leading, 1} : Matrix{at, type, 1, leading};
    }
    float operator()(long long row, long long column) const {
        long long i = row * row_stride + column * column_stride;
        return type == 0 ? static_cast<const float*>(at)[i] : wide(static_cast<const __nv_bfloat16*>(at)[i]);
    }
    void set(long long row, long long column, float value) const {
        long long i = row * row_stride + column * column_stride;
        if (type == 0)
            static_cast<float*>(const_cast<void*>(at))[i] = value;
        else
            static_cast<__nv_bfloat16*>(const_cast<void*>(at))[i] = __float2bfloat16(value);
    }
};
// An algorithm in the form that the program stores. `parts` is the number of partial sums, which a GPU computes in parallel and stores in
// the workspace.
struct Algorithm {
    uint64_t id, tile, stages, parts, scheme, alignment, unused[2];
};
// The algorithms' ids. 11 adds two partial sums in f32, in order. 12 adds them in the order of arrival, which differs from call to call. 21
// supports only numbers of rows and terms that are multiples of 8. 22 must write the result over the addend. 23 supports everything.
constexpr uint64_t split = 11, in_place = 12, eights = 21, to_itself = 22, any = 23;

size_t workspace_of(const Algorithm& algorithm, uint64_t m, uint64_t n) { return algorithm.parts > 1 ? algorithm.parts * m * n * sizeof(float) : 0; }

// Advances the clock of events by 1 ms for the algorithm that EMULATED_GPU_CLOCK names, and by 2 ms for others. Without it, time stands
// still.
void advance_clock(const Algorithm& algorithm) {
    const char* fastest = getenv("EMULATED_GPU_CLOCK");
    if (fastest && *fastest) milliseconds += algorithm.id == strtoull(fastest, nullptr, 10) ? 1 : 2;
}

int multiply(Matrix a, Matrix b, Matrix c, Matrix d, const void* bias, long long m, long long n, long long k, float alpha, float beta,
             const Algorithm& algorithm, float* workspace) {
    for (int type : {a.type, b.type, c.type, d.type})
        if (type != 0 && type != 14) return 15;  // not supported
    static int arrivals = 0;
    bool reversed = algorithm.id == in_place && arrivals++ % 2;
    advance_clock(algorithm);
    if (!is_recording()) counts.products++;
    start(observed({Activity::kernel, "emulated_product"}, [=] {
        std::vector<float> left(k), right(k * n);
        Matrix added{bias, d.type, 1, 0};
        for (long long j = 0; j < n; j++)
            for (long long l = 0; l < k; l++) right[j * k + l] = b(l, j);
        for (long long i = 0; i < m; i++) {
            for (long long l = 0; l < k; l++) left[l] = a(i, l);
            for (long long j = 0; j < n; j++) {
                auto part = [&](long long from, long long to) {
                    float sum = 0;
                    for (long long l = from; l < to; l++) sum += left[l] * right[j * k + l];
                    return sum;
                };
                float sum;
                if (algorithm.parts > 1) {
                    float* parts = workspace + 2 * (j * m + i);
                    parts[reversed] = part(0, k / 2), parts[!reversed] = part(k / 2, k);
                    sum = parts[0] + parts[1];
                    // The partial sum is rounded to the result's dtype.
                    if (algorithm.id == in_place && reversed) sum = wide(__float2bfloat16(sum));
                } else {
                    sum = part(0, k);
                }
                sum *= alpha;
                if (beta != 0) sum += beta * c(i, j);
                if (bias) sum += added(i, 0);
                d.set(i, j, sum);
            }
        }
    }));
    return 0;
}

struct Layout {
    int type;
    uint64_t rows, columns;
    int64_t leading;
};
struct Description {
    int transposed[2] = {0, 0};
    int epilogue = 1;
    const void* bias = nullptr;
};
struct Preference {
    uint64_t workspace = 0;
    unsigned schemes = 7, alignment[4] = {256, 256, 256, 256};
};
struct Found {
    Algorithm algorithm;
    size_t workspace;
    int state;
    float waves;
    int reserved[4];
};

// A product's sizes. `is_valid` is true if the layouts match.
struct Sizes {
    uint64_t m, n, k;
    bool is_valid;

    static Sizes of(const Description* description, const Layout* a, const Layout* b, const Layout* c, const Layout* d) {
        auto rows = [](const Layout* layout, bool transposed) { return transposed ? layout->columns : layout->rows; };
        auto columns = [](const Layout* layout, bool transposed) { return transposed ? layout->rows : layout->columns; };
        bool a_transposed = description->transposed[0], b_transposed = description->transposed[1];
        uint64_t m = rows(a, a_transposed), k = columns(a, a_transposed), n = columns(b, b_transposed);
        bool is_valid = rows(b, b_transposed) == k && d->rows == m && d->columns == n && c->rows == m && c->columns == n && c->type == d->type;
        return {m, n, k, is_valid && a->type == b->type && (d->type == 0 || a->type == d->type)};
    }
};
// Returns whether an algorithm supports these sizes. Rows of the program's matrices are columns here.
bool supports(const Algorithm& algorithm, const Sizes& sizes) {
    switch (algorithm.id) {
        case eights: return sizes.n % 8 == 0 && sizes.k % 8 == 0;
        case split: case in_place: case to_itself: case any: return true;
        default: return false;
    }
}
bool is_aligned(const void* address, uint64_t bytes) { return reinterpret_cast<Address>(address) % bytes == 0; }
// Returns whether the allocation has at least `bytes` bytes from this address on.
bool has_room(const void* address, size_t bytes) {
    auto after = allocated.upper_bound(reinterpret_cast<Address>(address));
    if (after == allocated.begin()) return false;
    auto found = std::prev(after);
    return reinterpret_cast<Address>(address) + bytes <= found->first + found->second.bytes;
}

}  // namespace

DRIVER cublasCreate_v2(void** handle) { return *handle = &some, 0; }
DRIVER cublasDestroy_v2(void*) { return end_handle(), 0; }
DRIVER cublasSetMathMode(void*, int) { return 0; }
DRIVER cublasSetStream_v2(void*, void*) { return 0; }
DRIVER cublasLtGetVersion() { return 130000; }
DRIVER cublasLtCreate(void** handle) { return *handle = &some, 0; }
DRIVER cublasLtDestroy(void*) { return end_handle(), 0; }
DRIVER cublasLtMatrixLayoutCreate(Layout** layout, int type, uint64_t rows, uint64_t columns, int64_t leading) {
    return *layout = new Layout{type, rows, columns, leading}, leading >= int64_t(rows) ? 0 : 7;
}
DRIVER cublasLtMatrixLayoutDestroy(Layout* layout) { return delete layout, 0; }
DRIVER cublasLtMatmulDescCreate(Description** description, int compute, int scale) {
    // Only f32 sums with f32 scale factors are supported.
    return *description = new Description, compute == 68 && scale == 0 ? 0 : 15;
}
DRIVER cublasLtMatmulDescDestroy(Description* description) { return delete description, 0; }
DRIVER cublasLtMatmulDescSetAttribute(Description* description, int attribute, const void* value, size_t bytes) {
    if (bytes != (attribute == 8 ? 8 : 4)) return 7;
    switch (attribute) {
        case 3: case 4: return memcpy(&description->transposed[attribute - 3], value, bytes), 0;
        case 7: return memcpy(&description->epilogue, value, bytes), description->epilogue == 1 || description->epilogue == 4 ? 0 : 15;
        case 8: return memcpy(&description->bias, value, bytes), 0;
        default: return 7;
    }
}
DRIVER cublasLtMatmulPreferenceCreate(Preference** preference) { return *preference = new Preference, 0; }
DRIVER cublasLtMatmulPreferenceDestroy(Preference* preference) { return delete preference, 0; }
DRIVER cublasLtMatmulPreferenceSetAttribute(Preference* preference, int attribute, const void* value, size_t bytes) {
    // The workspace limit has 8 bytes, every other attribute that the program sets has 4.
    if (bytes != (attribute == 1 ? 8 : 4)) return 7;
    switch (attribute) {
        case 1: return memcpy(&preference->workspace, value, bytes), 0;
        case 3: return memcpy(&preference->schemes, value, bytes), 0;
        case 5: case 6: case 7: case 8: return memcpy(&preference->alignment[attribute - 5], value, bytes), 0;
        default: return 7;
    }
}
DRIVER cublasLtMatmulAlgoGetHeuristic(void*, Description* description, Layout* a, Layout* b, Layout* c, Layout* d, Preference* preference, int max_results,
                                      Found* found, int* count) {
    *count = 0;
    Sizes sizes = Sizes::of(description, a, b, c, d);
    if (!sizes.is_valid || max_results < 1) return 7;
    // With a bias, cuBLASLt's heuristic needs its address.
    if (description->epilogue == 4 && !description->bias) return 7;
    // No algorithm supports a matrix whose alignment is less than an element.
    const Layout* layouts[] = {a, b, c, d};
    for (int i = 0; i < 4; i++)
        if (preference->alignment[i] < (layouts[i]->type == 0 ? 4 : 2)) return 15;
    uint64_t alignment = *std::min_element(preference->alignment, preference->alignment + 4);
    auto add = [&](Algorithm algorithm, int state) {
        algorithm.alignment = std::min<uint64_t>(alignment, 16);
        size_t workspace = workspace_of(algorithm, sizes.m, sizes.n);
        if (*count < max_results && supports(algorithm, sizes) && workspace <= preference->workspace) found[(*count)++] = {algorithm, workspace, state, 1, {}};
    };
    if ((preference->schemes & 2) && sizes.k >= 32) add({split, 20, 3, 2, 2}, 0);
    if ((preference->schemes & 1) && sizes.k >= 32) add({in_place, 20, 3, 2, 1}, 0);
    add({eights, 23, 4, 1, 0}, 0);
    add({any, 20, 4, 1, 0}, 15);  // its state is an error, so the program must not use it
    add({to_itself, 18, 4, 1, 0}, 0);
    add({any, 20, 5, 1, 0}, 0);
    return *count ? 0 : 15;
}
DRIVER cublasLtMatmulAlgoCheck(void*, Description* description, Layout* a, Layout* b, Layout* c, Layout* d, const Algorithm* algorithm, Found* result) {
    Sizes sizes = Sizes::of(description, a, b, c, d);
    if (!sizes.is_valid) return 7;
    if (!supports(*algorithm, sizes)) return 15;
    *result = {*algorithm, workspace_of(*algorithm, sizes.m, sizes.n), 0, 1, {}};
    return 0;
}
DRIVER cublasLtMatmulAlgoConfigGetAttribute(const Algorithm* algorithm, int attribute, int* value, size_t bytes, size_t* written) {
    if (bytes != 4) return 7;
    *written = 4;
    switch (attribute) {
        case 0: return *value = algorithm->id, 0;
        case 1: return *value = algorithm->tile, 0;
        case 2: return *value = algorithm->parts, 0;
        case 3: return *value = algorithm->scheme, 0;
        case 6: return *value = algorithm->stages, 0;
        default: return 7;
    }
}
DRIVER cublasLtMatmulAlgoCapGetAttribute(const Algorithm* algorithm, int attribute, int* value, size_t bytes, size_t* written) {
    if (attribute != 4 || bytes != 4) return 7;
    return *written = 4, *value = algorithm->id != to_itself, 0;
}
DRIVER cublasLtMatmul(void*, Description* description, const float* alpha, const void* a, Layout* a_layout, const void* b, Layout* b_layout,
                      const float* beta, const void* c, Layout* c_layout, void* d, Layout* d_layout, const Algorithm* algorithm, void* workspace,
                      size_t workspace_bytes, Stream* stream) {
    ONE_AT_A_TIME;
    if (enter(stream) || !are_here({a, b, c, d})) return 13;  // CUBLAS_STATUS_EXECUTION_FAILED
    Sizes sizes = Sizes::of(description, a_layout, b_layout, c_layout, d_layout);
    if (!sizes.is_valid || !algorithm) return 7;
    bool adds_elsewhere = *beta != 0 && c != d;
    if (!supports(*algorithm, sizes) || (algorithm->id == to_itself && adds_elsewhere)) return 15;
    for (const void* address : {a, b, c, static_cast<const void*>(d)})
        if (!is_aligned(address, algorithm->alignment)) return 7;
    size_t needed = workspace_of(*algorithm, sizes.m, sizes.n);
    if (workspace_bytes < needed || (needed && (!is_aligned(workspace, 256) || !has_room(workspace, workspace_bytes)))) return 7;
    const void* bias = description->epilogue == 4 ? description->bias : nullptr;
    if (description->epilogue == 4 && !bias) return 7;
    bool a_transposed = description->transposed[0], b_transposed = description->transposed[1];
    auto left = Matrix::of(a, a_layout->type, a_transposed, a_layout->leading), right = Matrix::of(b, b_layout->type, b_transposed, b_layout->leading);
    auto added = Matrix::of(c, c_layout->type, false, c_layout->leading), result = Matrix::of(d, d_layout->type, false, d_layout->leading);
    return multiply(left, right, added, result, bias, sizes.m, sizes.n, sizes.k, *alpha, *beta, *algorithm, static_cast<float*>(workspace));
}
