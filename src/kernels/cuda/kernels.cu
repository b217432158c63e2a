// All kernels, one translation unit.
#include "adamw.cuh"
#include "attention_cached.cuh"
#include "attention_packed_backward.cuh"
#include "head.cuh"
#include "rms_norm.cuh"
#include "rows.cuh"
#include "sample.cuh"
#include "swiglu.cuh"
