// Attention of one new token per sequence over the paged key/value cache, for decoding. attention.cuh explains the arithmetic.
//
// The cache of a layer consists of two arrays, keys and values, each [blocks, kv, 16, d]. Each sequence has a row of block numbers in
// `tables [n, table_stride]`. Entries past its last block are not read.
//
// Decoding is limited by memory bandwidth. A block of threads therefore processes one sequence and key/value head, and reads keys and
// values once for all query heads that share them, which are the rows of the products. The four warps split a tile without changing a bit:
// each scores one chunk of 16 keys, they exchange maxima and weights, and each multiplies all weights by a quarter of the columns of the
// values. Copies run two tiles ahead (three for d = 64).
#pragma once
#include "attention.cuh"
#include "rows.cuh"

namespace attention {

constexpr int PAGE = 16;  // positions in a block of the cache

template <int D>
__device__ __forceinline__ void cached(bf16* out, const bf16* qkv, const bf16* keys, const bf16* values, const int* tables, const int* counts,
                                       int table_stride, int q_heads, int kv_heads, float scale) {
    constexpr int STAGES = D == 128 ? 3 : 4, COLUMNS = D / WARPS, PIECES = D / 8, STEP = THREADS / PIECES, PAGES = TILE / PAGE;
    DYNAMIC_SHARED(bf16, tiles);                                                      // [STAGES, keys and values, 64, D]
    uint4* all_weights = reinterpret_cast<uint4*>(tiles + STAGES * 2 * TILE * D);     // [chunk, lane]
    float* all_maxima = reinterpret_cast<float*>(all_weights + CHUNKS * WARP_SIZE);   // [chunk, row]
    float* all_sums = all_maxima + CHUNKS * 16;                                       // [chunk, row]
    int head = blockIdx.x, sequence = blockIdx.y, group = q_heads / kv_heads, count = counts[sequence];
    int warp = threadIdx.x / WARP_SIZE, lane = threadIdx.x % WARP_SIZE;
    bf16* to = out + (size_t(sequence) * q_heads + head * group) * D;
    if (count <= 0) {
        for (int i = threadIdx.x; i < group * D; i += THREADS) to[i] = from_float<bf16>(0);
        return;
    }
    const bf16* queries = qkv + size_t(sequence) * (q_heads + 2 * kv_heads) * D + head * group * D;
    const int* table = tables + size_t(sequence) * table_stride;
    int steps = (count + TILE - 1) / TILE, pages = (count + PAGE - 1) / PAGE;
    float scale_2 = scale * LOG2_E;

    for (int first_row = 0; first_row < group; first_row += 16) {
        // Block numbers are read one tile early, so that no copy waits for them.
        int page[PAGES];
        auto look_up = [&](int step) {
            UNROLL for (int i = 0; i < PAGES; i++) page[i] = step * PAGES + i < pages ? table[step * PAGES + i] : 0;
        };
        auto copy = [&](int step) {
            bf16* stage = tiles + step % STAGES * 2 * TILE * D;
            int piece = threadIdx.x % PIECES;
            UNROLL for (int k = 0; k < TILE / STEP; k++) {
                int i = threadIdx.x / PIECES + k * STEP;
                bool valid = step * TILE + i < count;
                size_t at = ((size_t(page[k * STEP / PAGE]) * kv_heads + head) * PAGE + i % PAGE) * D + piece * 8;
                copy_async(stage + place<D>(i, piece), keys + at, valid);
                copy_async(stage + TILE * D + place<D>(i, piece), values + at, valid);
            }
        };
        look_up(0);
        for (int step = 0; step < STAGES - 1; step++) {
            if (step < steps) copy(step);
            copy_commit();
            look_up(step + 1);
        }
        int low = first_row + lane / 4, high = low + 8;  // this lane's query heads of the group
        uint32_t q[D / 16][4];
        load_rows<D>(q, low < group ? queries + low * D : nullptr, high < group ? queries + high * D : nullptr);
        float sums[2] = {}, maxima[2] = {minus_infinity(), minus_infinity()}, o[COLUMNS / 8][4] = {};
        int seen[2] = {count, count};
        for (int step = 0; step < steps; step++) {
            copy_wait<STAGES - 2>();
            __syncthreads();  // the tile is complete for all threads, and none still reads the previous one
            if (step + STAGES - 1 < steps) copy(step + STAGES - 1);
            copy_commit();
            look_up(step + STAGES);
            const bf16* now = tiles + step % STAGES * 2 * TILE * D;
            float s[2][4], largest[2] = {minus_infinity(), minus_infinity()}, factors[2];
            score_chunk<D>(s, q, now, warp);
            if ((step + 1) * TILE > count) mask_chunk(s, step * TILE + warp * CHUNK, seen);
            max_chunk(largest, s);
            UNROLL for (int r = 0; r < 2; r++) {
                largest[r] = row_max(largest[r]);
                if (lane % 4 == 0) all_maxima[warp * 16 + lane / 4 + 8 * r] = largest[r];
            }
            __syncthreads();
            UNROLL for (int r = 0; r < 2; r++) {
                float top = maxima[r];
                for (int chunk = 0; chunk < CHUNKS; chunk++) top = fmaxf(top, all_maxima[chunk * 16 + lane / 4 + 8 * r]);
                factors[r] = advance(maxima[r], top, scale_2);
            }
            weigh_chunk(s, maxima, factors, scale_2, sums);
            uint32_t p[4];
            to_factor(p, s);
            all_weights[warp * WARP_SIZE + lane] = make_uint4(p[0], p[1], p[2], p[3]);
            scale_rows(o, factors);
            __syncthreads();
            UNROLL for (int chunk = 0; chunk < CHUNKS; chunk++) {
                uint4 weights = all_weights[chunk * WARP_SIZE + lane];
                uint32_t factor[4] = {weights.x, weights.y, weights.z, weights.w};
                add_chunk<D>(o, factor, now + TILE * D, chunk, warp * COLUMNS);
            }
        }
        UNROLL for (int r = 0; r < 2; r++) {
            sums[r] = row_sum(sums[r]);
            if (lane % 4 == 0) all_sums[warp * 16 + lane / 4 + 8 * r] = sums[r];
        }
        __syncthreads();  // the tiles are also free for the next rows
        float factor[2];
        UNROLL for (int r = 0; r < 2; r++) {
            const float* of = all_sums + lane / 4 + 8 * r;
            factor[r] = 1.0f / total(of[0], of[16], of[32], of[48]);
        }
        store_rows(o, factor[0], factor[1], low < group ? to + low * D : nullptr, high < group ? to + high * D : nullptr, warp * COLUMNS);
    }
}

}  // namespace attention

// Writes the keys and values of `qkv [t, (q + 2 kv) d]` to `slots [t]` (block number * 16 + offset in the block). A negative slot skips its
// row. Rows are multiples of 16 bytes: d is a multiple of 4 (f32) or 8 (bf16). Grid (t), block 128.
template <class T>
__device__ __forceinline__ void cache_store(T* keys, T* values, const T* qkv, const int* slots, int q_heads, int kv_heads, int width) {
    constexpr int PIECE = 16 / sizeof(T);
    int slot = slots[blockIdx.x], pieces = width / PIECE;
    if (slot < 0) return;
    const T* from = qkv + (size_t(blockIdx.x) * (q_heads + 2 * kv_heads) + q_heads) * width;
    for (int i = threadIdx.x; i < 2 * kv_heads * pieces; i += blockDim.x) {
        int head = i / pieces, piece = i % pieces;  // key heads, then value heads
        T* to = head < kv_heads ? keys : values;
        size_t row = (size_t(slot / attention::PAGE) * kv_heads + head % kv_heads) * attention::PAGE + slot % attention::PAGE;
        *reinterpret_cast<uint4*>(to + row * width + piece * PIECE) = *reinterpret_cast<const uint4*>(from + head * width + piece * PIECE);
    }
}
extern "C" __global__ void cache_store_bf16(bf16* keys, bf16* values, const bf16* qkv, const int* slots, int q_heads, int kv_heads, int width) {
    cache_store(keys, values, qkv, slots, q_heads, kv_heads, width);
}
EXPORT(cache_store_bf16)
extern "C" __global__ void cache_store_f32(float* keys, float* values, const float* qkv, const int* slots, int q_heads, int kv_heads, int width) {
    cache_store(keys, values, qkv, slots, q_heads, kv_heads, width);
}
EXPORT(cache_store_f32)

// Does the work of rotate (rows.cuh) and cache_store: rotates the queries and keys of each row of `qkv [t, (q + 2 kv) d]` in place, d = 2
// half, by the row's `positions [t]`, and writes the rotated keys and the values to `slots [t]`. A negative slot skips the write. Grid (t);
// a thread processes VECTOR<T> pairs of a head at a time.
KERNEL(rotate_and_store,
       (T* qkv, T* keys, T* values, const float* cos, const float* sin, const int* positions, const int* slots, int q_heads, int kv_heads, int half),
       (qkv, keys, values, cos, sin, positions, slots, q_heads, kv_heads, half)) {
    constexpr int N = VECTOR<T>;
    int width = 2 * half, turned = q_heads + kv_heads, slot = slots[blockIdx.x], pieces = (half + N - 1) / N;
    qkv += (long long)blockIdx.x * (q_heads + 2 * kv_heads) * width;
    long long at = (long long)positions[blockIdx.x] * half;
    cos += at, sin += at;
    bool vectors = half % N == 0 && aligned(qkv, keys, values, cos, sin);
    auto place = [&](int head) { return ((size_t(slot / attention::PAGE) * kv_heads + head) * attention::PAGE + slot % attention::PAGE) * width; };
    for (int piece = threadIdx.x; piece < (turned + kv_heads) * pieces; piece += blockDim.x) {
        int head = piece / pieces, i = piece % pieces * N;
        T* first = qkv + head * width + i;
        float x[N], y[N];
        load(x, first, half - i, vectors);
        load(y, first + half, half - i, vectors);
        if (head < turned) {
            float c[N], s[N];
            load(c, cos + i, half - i, vectors);
            load(s, sin + i, half - i, vectors);
            turn(x, y, c, s, 1.0f);
            store(first, x, half - i, vectors);
            store(first + half, y, half - i, vectors);
        }
        if (head >= q_heads && slot >= 0) {
            T* to = (head < turned ? keys + place(head - q_heads) : values + place(head - turned)) + i;
            store(to, x, half - i, vectors);
            store(to + half, y, half - i, vectors);
        }
    }
}

// Copies whole blocks of keys and values, given as `pairs [n, 2]` = {from, to}. Two sequences that share a block need this before they
// continue it differently. A block that one pair writes must not occur in another pair. `block_elements` is kv * 16 * d. Grid (n), block
// 256.
template <class T>
__device__ __forceinline__ void cache_copy_blocks(T* keys, T* values, const int* pairs, int block_elements) {
    constexpr int PIECE = 16 / sizeof(T);
    size_t from = size_t(pairs[2 * blockIdx.x]) * block_elements, to = size_t(pairs[2 * blockIdx.x + 1]) * block_elements;
    for (int i = threadIdx.x * PIECE; i < block_elements; i += blockDim.x * PIECE) {
        *reinterpret_cast<uint4*>(keys + to + i) = *reinterpret_cast<const uint4*>(keys + from + i);
        *reinterpret_cast<uint4*>(values + to + i) = *reinterpret_cast<const uint4*>(values + from + i);
    }
}
extern "C" __global__ void cache_copy_blocks_bf16(bf16* keys, bf16* values, const int* pairs, int block_elements) {
    cache_copy_blocks(keys, values, pairs, block_elements);
}
EXPORT(cache_copy_blocks_bf16)
extern "C" __global__ void cache_copy_blocks_f32(float* keys, float* values, const int* pairs, int block_elements) {
    cache_copy_blocks(keys, values, pairs, block_elements);
}
EXPORT(cache_copy_blocks_f32)

// `qkv [n, (q + 2 kv) d]` has one row per sequence, whose keys and values must already be in the cache. `counts [n]` is each sequence's
// number of tokens, including the new one; a count of 0 sets the row of `out [n, q d]` to zero. Rows are bit-identical to those of
// attend_packed_forward.
// Grid (kv, n), block 128, shared memory 256 d stages + 2,560 bytes: 68,096 for d = 64 (4 stages), 100,864 for d = 128 (3 stages).
#define ATTEND_CACHED(D)                                                                                                                          \
    extern "C" __global__ void __launch_bounds__(128)                                                                                             \
        attend_cached_bf16_d##D(bf16* out, const bf16* qkv, const bf16* keys, const bf16* values, const int* tables, const int* counts,           \
                                int table_stride, int q_heads, int kv_heads, int, float scale) {                                                  \
        attention::cached<D>(out, qkv, keys, values, tables, counts, table_stride, q_heads, kv_heads, scale);                                     \
    }                                                                                                                                             \
    EXPORT(attend_cached_bf16_d##D)
ATTEND_CACHED(64)
ATTEND_CACHED(128)
#undef ATTEND_CACHED

// The same in f32, with one warp per query head, for any width that is a multiple of 4 and at most 128. Grid (kv, n), block 128, no dynamic
// shared memory.
extern "C" __global__ void __launch_bounds__(128)
    attend_cached_f32(float* out, const float* qkv, const float* keys, const float* values, const int* tables, const int* counts, int table_stride,
                      int q_heads, int kv_heads, int width, float scale) {
    int head = blockIdx.x, sequence = blockIdx.y, group = q_heads / kv_heads, count = counts[sequence];
    const int* table = tables + size_t(sequence) * table_stride;
    auto at = [&](int position) {
        return ((size_t(table[position / attention::PAGE]) * kv_heads + head) * attention::PAGE + position % attention::PAGE) * width;
    };
    for (int i = threadIdx.x / WARP_SIZE; i < group; i += attention::WARPS) {
        float* to = out + (size_t(sequence) * q_heads + head * group + i) * width;
        const float* query = qkv + (size_t(sequence) * (q_heads + 2 * kv_heads) + head * group + i) * width;
        if (count > 0) {
            attention::attend_row(
                to, query, count, width, scale, [&](int position) { return keys + at(position); },
                [&](int position) { return values + at(position); });
        } else {
            for (int j = threadIdx.x % WARP_SIZE; j < width; j += WARP_SIZE) to[j] = 0;
        }
    }
}
EXPORT(attend_cached_f32)
