// Attention of query rows over their keys: the arithmetic that training, prefill and decode share. The results for a row are
// bit-identical in all three.
//
// A warp holds 16 query rows as the rows of its products. It visits the keys in tiles of 64, which start at positions 0, 64, 128, ... of
// the sequence, and each tile in four chunks of 16. Softmax is online (Milakov and Gimelshein 2018; Dao et al. 2022): each row keeps its
// running maximum score, the sum of its weights (one sum per chunk of the tile, so that four warps can split a tile), and the weighted sum
// of its values. Every element of a product is one sum over d, or over the keys in order. A key that a row must not see has weight exactly
// zero, and a tile without any visible key scales the row's sums by exactly one. The bits of a row therefore depend only on its query and
// the keys and values that it sees.
//
// The f32 kernels are simple: a warp per row, tiles of 32 keys, a key per lane. They are for comparison, not for speed.
#pragma once
#include "mma.cuh"

namespace attention {

constexpr int TILE = 64;    // keys (or queries) in shared memory at a time
constexpr int CHUNK = 16;   // keys in one step of a product
constexpr int CHUNKS = TILE / CHUNK;
constexpr int THREADS = 128;  // in every block here
constexpr int WARPS = THREADS / WARP_SIZE;
constexpr float LOG2_E = 1.4426950408889634f, LN_2 = 0.6931471805599453f;

// 2^x in one instruction; exact for 0 and minus infinity.
__device__ __forceinline__ float power_of_two(float x) {
#ifdef EMULATED
    return exp2f(x);
#else
    float power;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(power) : "f"(x));
    return power;
#endif
}
__device__ __forceinline__ float minus_infinity() { return __uint_as_float(0xff800000u); }

// Returns the maximum over the four lanes that hold a row of a product.
__device__ __forceinline__ float row_max(float x) {
    x = fmaxf(x, __shfl_xor_sync(ALL, x, 1));
    return fmaxf(x, __shfl_xor_sync(ALL, x, 2));
}
__device__ __forceinline__ float row_sum(float x) {
    x += __shfl_xor_sync(ALL, x, 1);
    return x + __shfl_xor_sync(ALL, x, 2);
}

// Returns the offset of the 16-byte piece `piece` of row `row` in a tile [64, D] in shared memory. Pieces are permuted within a row, so
// that the eight rows of a matrix are in different banks.
template <int D>
__device__ __forceinline__ int place(int row, int piece) {
    return row * D + (piece ^ (row & 7)) * 8;
}

// Starts the copy of a tile [64, D]; all threads take part. `row(i)` is the address of row i, or null if there is none. Missing rows are
// filled with zeros, because a weight of zero does not hide a NaN. `some` is any valid address.
template <int D, class Row>
__device__ __forceinline__ void copy_tile(bf16* tile, const bf16* some, Row row) {
    constexpr int PIECES = D / 8, STEP = THREADS / PIECES;
    int piece = threadIdx.x % PIECES;
    UNROLL for (int k = 0; k < TILE / STEP; k++) {
        int i = threadIdx.x / PIECES + k * STEP;
        const bf16* from = row(i);
        copy_async(tile + place<D>(i, piece), from ? from + piece * 8 : some, from != nullptr);
    }
}

// Loads the rows of a left factor from memory. This lane's rows are lane / 4 (`low`) and lane / 4 + 8 (`high`). A null row is zero.
template <int D>
__device__ __forceinline__ void load_rows(uint32_t (&a)[D / 16][4], const bf16* low, const bf16* high) {
    int t = threadIdx.x % 4;
    auto two = [&](const bf16* row, int column) { return row ? *reinterpret_cast<const uint32_t*>(row + column + 2 * t) : 0u; };
    UNROLL for (int k = 0; k < D / 16; k++) {
        a[k][0] = two(low, 16 * k);
        a[k][1] = two(high, 16 * k);
        a[k][2] = two(low, 16 * k + 8);
        a[k][3] = two(high, 16 * k + 8);
    }
}

// Multiplies a warp's result [16, 8 N] by a factor per row and writes it to this lane's rows `low` and `high`, from column `column` on.
// Null rows are skipped.
template <int N>
__device__ __forceinline__ void store_rows(const float (&x)[N][4], float low_factor, float high_factor, bf16* low, bf16* high, int column) {
    int t = threadIdx.x % 4;
    UNROLL for (int n = 0; n < N; n++) {
        int at = column + 8 * n + 2 * t;
        if (low) *reinterpret_cast<uint32_t*>(low + at) = pack(x[n][0] * low_factor, x[n][1] * low_factor);
        if (high) *reinterpret_cast<uint32_t*>(high + at) = pack(x[n][2] * high_factor, x[n][3] * high_factor);
    }
}

// scores [16, 16] = a [16, D] times the transposed rows of chunk `chunk` of the tile.
template <int D>
__device__ __forceinline__ void score_chunk(float (&scores)[2][4], const uint32_t (&a)[D / 16][4], const bf16* tile, int chunk) {
    int lane = threadIdx.x % WARP_SIZE, row = chunk * CHUNK + lane % 8 + lane / 16 * 8;
    UNROLL for (int i = 0; i < 8; i++) scores[i / 4][i % 4] = 0;
    UNROLL for (int k = 0; k < D / 16; k++) {
        uint32_t b[4];
        load_matrices(b, tile + place<D>(row, 2 * k + lane / 8 % 2));
        uint32_t left[2] = {b[0], b[1]}, right[2] = {b[2], b[3]};
        mma(scores[0], a[k], left);
        mma(scores[1], a[k], right);
    }
}

// out [16, 8 N] += weights [16, 16] times the rows of chunk `chunk` of the tile, from column `column` on.
template <int D, int N>
__device__ __forceinline__ void add_chunk(float (&out)[N][4], const uint32_t (&weights)[4], const bf16* tile, int chunk, int column) {
    int lane = threadIdx.x % WARP_SIZE, row = chunk * CHUNK + lane % 16;
    UNROLL for (int n = 0; n < N; n += 2) {
        uint32_t b[4];
        load_matrices<true>(b, tile + place<D>(row, column / 8 + n + lane / 16));
        uint32_t left[2] = {b[0], b[1]}, right[2] = {b[2], b[3]};
        mma(out[n], weights, left);
        mma(out[n + 1], weights, right);
    }
}

// Rounds a chunk of weights to the left factor of a product.
__device__ __forceinline__ void to_factor(uint32_t (&a)[4], const float (&x)[2][4]) {
    a[0] = pack(x[0][0], x[0][1]);
    a[1] = pack(x[0][2], x[0][3]);
    a[2] = pack(x[1][0], x[1][1]);
    a[3] = pack(x[1][2], x[1][3]);
}

// Sets the scores of keys from position `counts` on to minus infinity, for each of this lane's two rows. The chunk starts at position
// `first`.
__device__ __forceinline__ void mask_chunk(float (&scores)[2][4], int first, const int (&counts)[2]) {
    UNROLL for (int n = 0; n < 2; n++)
        UNROLL for (int i = 0; i < 4; i++)
            if (first + 8 * n + 2 * int(threadIdx.x % 4) + i % 2 >= counts[i / 2]) scores[n][i] = minus_infinity();
}

// Raises `largest`, this lane's part of the maxima of its two rows.
__device__ __forceinline__ void max_chunk(float (&largest)[2], const float (&scores)[2][4]) {
    UNROLL for (int r = 0; r < 2; r++)
        largest[r] = fmaxf(largest[r], fmaxf(fmaxf(scores[0][2 * r], scores[0][2 * r + 1]), fmaxf(scores[1][2 * r], scores[1][2 * r + 1])));
}

// Raises a row's running maximum to `largest`, which is at least as large. Returns the factor for the row's sums. Every row sees position
// 0, so only the maximum before the first tile is minus infinity.
__device__ __forceinline__ float advance(float& running, float largest, float scale) {
    float factor = power_of_two((running - largest) * scale);
    running = largest;
    return factor;
}

// Converts the scores of a chunk to weights 2^(scale (score - maximum)) and updates the chunk's sums of weights. `scale` includes log2 e.
__device__ __forceinline__ void weigh_chunk(float (&scores)[2][4], const float (&maxima)[2], const float (&factors)[2], float scale,
                                            float (&sums)[2]) {
    UNROLL for (int r = 0; r < 2; r++) {
        float base = -maxima[r] * scale;
        UNROLL for (int i = 0; i < 4; i++) {
            float& score = scores[i / 2][2 * r + i % 2];
            score = power_of_two(fmaf(score, scale, base));
        }
        float added = (scores[0][2 * r] + scores[0][2 * r + 1]) + (scores[1][2 * r] + scores[1][2 * r + 1]);
        sums[r] = fmaf(sums[r], factors[r], added);
    }
}

// Adds the four sums of a row, always in the same order.
__device__ __forceinline__ float total(float a, float b, float c, float d) { return (a + b) + (c + d); }

template <int N>
__device__ __forceinline__ void scale_rows(float (&x)[N][4], const float (&factors)[2]) {
    UNROLL for (int n = 0; n < N; n++)
        UNROLL for (int i = 0; i < 4; i++) x[n][i] *= factors[i / 2];
}

// For the f32 kernels. The d <= 128 columns of a row are distributed over the lanes: element i of a lane is column lane + 32 i.
constexpr int PARTS = 4;

__device__ __forceinline__ float dot(const float* a, const float* b, int width) {
    float sum = 0;
    for (int i = 0; i < width; i += 4) {
        float4 x = *reinterpret_cast<const float4*>(a + i), y = *reinterpret_cast<const float4*>(b + i);
        sum = fmaf(x.x, y.x, sum);
        sum = fmaf(x.y, y.y, sum);
        sum = fmaf(x.z, y.z, sum);
        sum = fmaf(x.w, y.w, sum);
    }
    return sum;
}

// sums += weight * row.
__device__ __forceinline__ void add_row(float (&sums)[PARTS], float weight, const float* row, int width) {
    int lane = threadIdx.x % WARP_SIZE;
    UNROLL for (int i = 0; i < PARTS; i++)
        if (lane + 32 * i < width) sums[i] = fmaf(weight, row[lane + 32 * i], sums[i]);
}
__device__ __forceinline__ void store_row(float* row, const float (&sums)[PARTS], float factor, int width) {
    int lane = threadIdx.x % WARP_SIZE;
    UNROLL for (int i = 0; i < PARTS; i++)
        if (lane + 32 * i < width) row[lane + 32 * i] = sums[i] * factor;
}

// Computes, with one warp, a row of attention over positions 0 to `count` - 1 at `key(position)` and `value(position)`. Writes `out` and
// returns the log-sum-exp.
template <class Key, class Value>
__device__ __forceinline__ float attend_row(float* out, const float* query, int count, int width, float scale, Key key, Value value) {
    int lane = threadIdx.x % WARP_SIZE;
    float running = minus_infinity(), sum = 0, sums[PARTS] = {};
    for (int first = 0; first < count; first += WARP_SIZE) {
        int position = first + lane;
        // Rounds the product, so that the compiler cannot fuse it with the next operation in one kernel but not in another.
        float score = position < count ? fmaf(dot(query, key(position), width), scale, 0.0f) : minus_infinity();
        float largest = fmaxf(running, warp_max(score));
        float factor = expf(running - largest), weight = expf(score - largest);
        running = largest;
        sum = fmaf(sum, factor, weight);
        UNROLL for (int i = 0; i < PARTS; i++) sums[i] *= factor;
        ONE_BY_ONE for (int j = 0; j < WARP_SIZE && first + j < count; j++) add_row(sums, __shfl_sync(ALL, weight, j), value(first + j), width);
    }
    sum = warp_sum(sum);
    store_row(out, sums, 1.0f / sum, width);
    return running + logf(sum);
}

}  // namespace attention
