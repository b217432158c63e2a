// Forward pass of causal attention over a packed batch, in which sequences may share a prefix. attention.cuh explains the arithmetic.
//
// A row of `segments [n, 4]` describes a sequence: {first row of its own tokens, number of own tokens, first row of its prefix, number of
// prefix rows}. Own token i has position `prefix rows + i` in its sequence and sees all prefix rows and own tokens 0 to i. The rows of a
// prefix are own tokens of a segment that has no prefix itself. `tiles [m, 2]` has a row {segment, first own token} for every 64 own tokens
// of each segment; the longest sequences should come first for speed. A row of qkv has (q + 2 kv) d columns: query heads, keys, values.
#pragma once
#include "attention.cuh"

namespace attention {

// A tile of query rows and its sequence.
struct QueryTile {
    int first_row, own, prefix_row, prefix;  // of the segment
    int first;                               // first own token of the tile
    __device__ QueryTile(const int* segments, const int* tile) {
        const int* segment = segments + 4 * tile[0];
        first_row = segment[0];
        own = segment[1];
        prefix_row = segment[2];
        prefix = segment[3];
        first = tile[1];
    }
    // The row of the batch at a position of the sequence.
    __device__ int row(int position) const { return position < prefix ? prefix_row + position : first_row + position - prefix; }
    // The number of positions that the tile's last row sees.
    __device__ int count() const { return prefix + min(first + TILE, own); }
};

// Starts the copies of the keys and values of the tile at position `position`. `keys` is the address of key 0, and value 0 is `values`
// elements further.
template <int D>
__device__ __forceinline__ void copy_keys(bf16* to, const bf16* keys, const QueryTile& tile, int position, int stride, int values) {
    int count = tile.count();
    auto key = [&](int i) { return position + i < count ? keys + size_t(tile.row(position + i)) * stride : nullptr; };
    copy_tile<D>(to, keys, key);
    copy_tile<D>(to + TILE * D, keys, [&](int i) {
        const bf16* at = key(i);
        return at ? at + values : at;
    });
}

template <int D>
__device__ __forceinline__ void packed_forward(bf16* out, float* lse, const bf16* qkv, const int* segments, const int* tiles, int tokens, int q_heads,
                                               int kv_heads, float scale) {
    DYNAMIC_SHARED(bf16, shared);  // [2 stages, keys and values, 64, D]
    QueryTile tile(segments, tiles + 2 * blockIdx.x);
    int head = blockIdx.y, stride = (q_heads + 2 * kv_heads) * D, values = kv_heads * D;
    const bf16* keys = qkv + (q_heads + head / (q_heads / kv_heads)) * D;
    int warp = threadIdx.x / WARP_SIZE, lane = threadIdx.x % WARP_SIZE;
    int token = tile.first + warp * 16 + lane / 4;  // this lane's rows are own tokens `token` and `token` + 8
    int counts[2] = {tile.prefix + token + 1, tile.prefix + token + 9};
    // The smallest and largest count of the warp's rows. A warp without rows has nothing to do.
    int least = tile.prefix + tile.first + warp * 16 + 1, most = tile.first + warp * 16 < tile.own ? least + 15 : 0;
    auto query = [&](int i) { return i < tile.own ? qkv + size_t(tile.first_row + i) * stride + head * D : nullptr; };
    uint32_t q[D / 16][4];
    load_rows<D>(q, query(token), query(token + 8));

    float sums[CHUNKS][2] = {}, maxima[2] = {minus_infinity(), minus_infinity()}, o[D / 8][4] = {};
    float scale_2 = scale * LOG2_E;
    int steps = (tile.count() + TILE - 1) / TILE;
    copy_keys<D>(shared, keys, tile, 0, stride, values);
    copy_commit();
    for (int step = 0; step < steps; step++) {
        copy_wait<0>();
        __syncthreads();  // the tile is complete for all threads, and none still reads the previous one
        if (step + 1 < steps) copy_keys<D>(shared + (step + 1) % 2 * 2 * TILE * D, keys, tile, (step + 1) * TILE, stride, values);
        copy_commit();
        int first = step * TILE;
        if (first >= most) continue;
        const bf16* now = shared + step % 2 * 2 * TILE * D;
        float s[CHUNKS][2][4], largest[2] = {maxima[0], maxima[1]}, factors[2];
        UNROLL for (int chunk = 0; chunk < CHUNKS; chunk++) {
            score_chunk<D>(s[chunk], q, now, chunk);
            if (first + TILE > least) mask_chunk(s[chunk], first + chunk * CHUNK, counts);
            max_chunk(largest, s[chunk]);
        }
        UNROLL for (int r = 0; r < 2; r++) factors[r] = advance(maxima[r], row_max(largest[r]), scale_2);
        scale_rows(o, factors);
        UNROLL for (int chunk = 0; chunk < CHUNKS; chunk++) {
            weigh_chunk(s[chunk], maxima, factors, scale_2, sums[chunk]);
            uint32_t p[4];
            to_factor(p, s[chunk]);
            add_chunk<D>(o, p, now + TILE * D, chunk, 0);
        }
    }
    float sum[2];
    UNROLL for (int r = 0; r < 2; r++) {
        sum[r] = total(row_sum(sums[0][r]), row_sum(sums[1][r]), row_sum(sums[2][r]), row_sum(sums[3][r]));
        if (lane % 4 == 0 && token + 8 * r < tile.own)
            lse[size_t(head) * tokens + tile.first_row + token + 8 * r] = maxima[r] * scale + logf(sum[r]);
    }
    auto to = [&](int i) { return i < tile.own ? out + (size_t(tile.first_row + i) * q_heads + head) * D : nullptr; };
    store_rows(o, 1.0f / sum[0], 1.0f / sum[1], to(token), to(token + 8), 0);
}

}  // namespace attention

// Attention of every row. out [t, q d], lse [q, t] (log-sum-exp of the scaled scores, f32), qkv [t, (q + 2 kv) d].
// Grid (m, q), block 128 (each warp computes 16 rows of the tile), shared memory 512 d bytes: 32 KiB for d = 64, 64 KiB for d = 128.
#define ATTEND_PACKED_FORWARD(D)                                                                                                                    \
    extern "C" __global__ void __launch_bounds__(128)                                                                                               \
        attend_packed_forward_bf16_d##D(bf16* out, float* lse, const bf16* qkv, const int* segments, const int* tiles, int tokens, int q_heads,     \
                                        int kv_heads, int, float scale) {                                                                           \
        attention::packed_forward<D>(out, lse, qkv, segments, tiles, tokens, q_heads, kv_heads, scale);                                             \
    }                                                                                                                                               \
    EXPORT(attend_packed_forward_bf16_d##D)
ATTEND_PACKED_FORWARD(64)
ATTEND_PACKED_FORWARD(128)
#undef ATTEND_PACKED_FORWARD

// The same in f32, for any width that is a multiple of 4 and at most 128. Grid (m, q), block 128, no dynamic shared memory.
extern "C" __global__ void __launch_bounds__(128)
    attend_packed_forward_f32(float* out, float* lse, const float* qkv, const int* segments, const int* tiles, int tokens, int q_heads, int kv_heads,
                              int width, float scale) {
    attention::QueryTile tile(segments, tiles + 2 * blockIdx.x);
    int head = blockIdx.y, stride = (q_heads + 2 * kv_heads) * width, values = kv_heads * width;
    const float* keys = qkv + (q_heads + head / (q_heads / kv_heads)) * width;
    for (int i = tile.first + threadIdx.x / WARP_SIZE; i < min(tile.first + attention::TILE, tile.own); i += attention::WARPS) {
        size_t row = tile.first_row + i;
        float found = attention::attend_row(
            out + (row * q_heads + head) * width, qkv + row * stride + head * width, tile.prefix + i + 1, width, scale,
            [&](int position) { return keys + size_t(tile.row(position)) * stride; },
            [&](int position) { return keys + size_t(tile.row(position)) * stride + values; });
        if (threadIdx.x % WARP_SIZE == 0) lse[head * size_t(tokens) + row] = found;
    }
}
EXPORT(attend_packed_forward_f32)
