// Included by emulated_driver.cpp. Stands in for those of candle's kernels that are still launched: by stock operations while the program
// starts, and by tests that compare with candle.
#pragma once

namespace {

// Registers a kernel of candle's, as a function that processes all elements.
template <class... Args>
void add_whole(const std::string& name, void (*kernel)(Args...)) {
    emulator::kernels()[name] = [kernel](void** args) {
        return [kernel, own = emulator::values<Args...>(args, std::index_sequence_for<Args...>{})](dim3, dim3, size_t) {
            std::apply(kernel, own);
        };
    };
}
size_t strided(size_t i, size_t rank, const size_t* dims, const size_t* strides) {
    size_t at = 0;
    for (size_t d = rank; d-- > 0; i /= dims[d]) at += i % dims[d] * strides[d];
    return at;
}
size_t offset(size_t i, size_t rank, const size_t* info) { return info ? strided(i, rank, info, info + rank) : i; }

template <class T>
T wide(T value) {
    return value;
}
float wide(__nv_bfloat16 value) { return __bfloat162float(value); }
template <class T>
struct Narrow {
    template <class S>
    static T of(S value) {
        return T(value);
    }
};
template <>
struct Narrow<__nv_bfloat16> {
    template <class S>
    static __nv_bfloat16 of(S value) {
        return __float2bfloat16(float(value));
    }
};

template <class S, class T>
void cast(size_t n, size_t rank, const size_t* info, const S* in, T* out) {
    for (size_t i = 0; i < n; i++) out[i] = Narrow<T>::of(wide(in[offset(i, rank, info)]));
}
template <class T>
void copy(size_t n, size_t rank, const size_t* info, const T* in, T* out) {
    for (size_t i = 0; i < n; i++) out[i] = in[offset(i, rank, info)];
}
template <class T>
void copy2d(const T* from, T* to, uint32_t rows, uint32_t columns, uint32_t from_row, uint32_t to_row) {
    for (size_t i = 0; i < rows; i++) memmove(to + i * to_row, from + i * from_row, columns * sizeof(T));
}
template <class T>
void affine(size_t n, size_t rank, const size_t* info, const T* in, T* out, T factor, T term) {
    for (size_t i = 0; i < n; i++) out[i] = (in ? in : out)[offset(i, rank, info)] * factor + term;
}
template <class T>
void const_set(size_t n, size_t rank, const size_t* info, T value, T* out) {
    for (size_t i = 0; i < n; i++) out[offset(i, rank, info)] = value;
}
template <class T>
void index_select(size_t n, size_t, const size_t*, const uint32_t* ids, const T* in, T* out, size_t, size_t rows, size_t count, size_t right) {
    for (size_t i = 0; i < n; i++) {
        size_t left = i / (count * right), id = ids[i / right % count];
        out[i] = in[(left * rows + id) * right + i % right];
    }
}

template <class T>
void add_of(const std::string& dtype) {
    add_whole("ucopy_" + dtype, copy<T>);
    add_whole("copy2d_" + dtype, copy2d<T>);
    add_whole("is_u32_" + dtype, index_select<T>);
    add_whole("const_set_" + dtype, const_set<T>);
}
[[maybe_unused]] const bool added = [] {
    add_of<float>("f32"), add_of<double>("f64"), add_of<uint32_t>("u32"), add_of<uint8_t>("u8"), add_of<__nv_bfloat16>("bf16");
    add_whole("cast_f32_bf16", cast<float, __nv_bfloat16>);
    add_whole("cast_bf16_f32", cast<__nv_bfloat16, float>);
    add_whole("cast_f32_f64", cast<float, double>);
    add_whole("cast_f64_f32", cast<double, float>);
    add_whole("cast_bf16_f64", cast<__nv_bfloat16, double>);
    add_whole("affine_f32", affine<float>);
    return true;
}();

}  // namespace
