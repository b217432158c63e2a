//! Tests the operations that only decoding passes use.

use candle_core::{DType, Result, Tensor};

use crate::kernels::cpu::testing::random;
use crate::kernels::{Heads, Kernels, Rotation, on_host};

/// Checks that `rotate_and_store_in_place` is bit-identical to its two operations, in the rows and in the cache.
pub fn check_rotate_and_store(kernels: &dyn Kernels) -> Result<()> {
    let bits = |tensor: &Tensor| on_host(tensor)?.to_dtype(DType::F32)?.flatten_all()?.to_vec1::<f32>();
    // `store` requires rows in multiples of 16 bytes.
    let narrow = if kernels.dtype() == DType::F32 { 12 } else { 8 };
    for (query, key_value, width) in [(2, 1, 64), (6, 2, 128), (3, 3, 16), (2, 1, narrow)] {
        let heads = Heads { query, key_value, width };
        let put = |shape: (usize, usize), seed, dtype| random(shape, seed).to_dtype(dtype)?.to_device(kernels.device());
        let (qkv, cos, sin) =
            (put((4, heads.row()), 1, kernels.dtype())?, put((40, width / 2), 2, DType::F32)?, put((40, width / 2), 3, DType::F32)?);
        let (positions, slots) = (kernels.indices(&[0, 39, 7, 20])?, kernels.indices(&[17, 0, 63, 32])?);
        let rotation = Rotation { cos: &cos, sin: &sin, positions: &positions };
        let (once, twice) = (qkv.copy()?, qkv.copy()?);
        let (together, apart) = (kernels.cache(4, heads)?, kernels.cache(4, heads)?);
        kernels.rotate_and_store_in_place(&once, heads, &rotation, &together, &slots)?;
        kernels.rotate_in_place(&twice, heads, &rotation)?;
        kernels.store(&apart, &twice, &slots, heads)?;
        assert_ne!(bits(&once)?, bits(&qkv)?);
        assert_eq!(bits(&once)?, bits(&twice)?, "{heads:?}");
        assert_eq!(bits(&together.keys)?, bits(&apart.keys)?, "{heads:?}");
        assert_eq!(bits(&together.values)?, bits(&apart.values)?, "{heads:?}");
    }
    Ok(())
}

#[test]
fn rotate_and_store_in_place_equals_both_operations() -> Result<()> {
    use std::sync::Arc;

    use crate::kernels::fused::emulated::Emulator;
    use crate::kernels::{Cpu, Fused, Stock};

    check_rotate_and_store(&Cpu)?;
    for dtype in [DType::F32, DType::BF16] {
        check_rotate_and_store(&Stock::new(candle_core::Device::Cpu, dtype))?;
        if let Some(emulator) = Emulator::new() {
            check_rotate_and_store(&Fused::new(Arc::new(emulator), dtype)?)?;
        }
    }
    Ok(())
}

#[cfg(feature = "cuda")]
#[test]
fn rotate_and_store_in_place_on_a_gpu_equals_both_operations() -> Result<()> {
    let Some(gpu) = super::gpu() else { return Ok(()) };
    [DType::F32, DType::BF16].into_iter().try_for_each(|dtype| check_rotate_and_store(&crate::kernels::Fused::new(gpu.clone(), dtype)?))
}
