//! Compares copies between dtypes and devices with candle's on the CPU, bit for bit.

use candle_core::{DType, Device, Result, Tensor};

use crate::kernels::cpu::testing::random;
use crate::kernels::{Kernels, on_host};

/// Returns the values of a tensor of any dtype as f64.
fn values(tensor: &Tensor) -> Result<Vec<f64>> {
    on_host(tensor)?.to_dtype(DType::F64)?.flatten_all()?.to_vec1()
}

fn check_same(what: &str, found: &Tensor, expected: &Tensor) -> Result<()> {
    assert_eq!((found.dims(), found.dtype()), (expected.dims(), expected.dtype()), "{what}");
    assert!(values(found)? == values(expected)?, "{what} of {:?} in {:?}", expected.dims(), expected.dtype());
    Ok(())
}

/// Checks every copy, also at shapes that are not multiples of vector widths and that need several rows of blocks.
pub fn check_copies(kernels: &dyn Kernels) -> Result<()> {
    let on_device = |tensor: &Tensor| tensor.to_device(kernels.device());
    for (rows, columns) in [(1, 1), (3, 5), (7, 64), (65, 48), (2, 5000)] {
        let wide = random((rows, columns), 1);
        let narrow = wide.to_dtype(DType::BF16)?;
        for (from, to) in [(&wide, &narrow), (&narrow, &wide), (&wide, &wide), (&narrow, &narrow)] {
            check_same("cast", &kernels.cast(&on_device(from)?, to.dtype())?, &from.to_dtype(to.dtype())?)?;
            check_same("cast from the host", &kernels.cast(from, to.dtype())?, &from.to_dtype(to.dtype())?)?;
            for source in [(*from).clone(), on_device(from)?] {
                let target = on_device(&to.ones_like()?)?;
                kernels.set(&target, &source)?;
                check_same("set", &target, &from.to_dtype(to.dtype())?)?;
            }
            for (first, count) in [(0, columns), (columns / 3, columns - columns / 3), (columns - 1, 1)] {
                let expected = from.narrow(1, first, count)?.force_contiguous()?.to_dtype(DType::F32)?;
                check_same("columns", &kernels.columns(&on_device(from)?, first..first + count)?, &expected)?;
                let (target, values) = (on_device(&to.zeros_like()?)?, random((rows, count), 2).to_dtype(from.dtype())?);
                kernels.set_columns(&target, first, &on_device(&values)?)?;
                let written = on_host(&target)?;
                check_same("set_columns", &written.narrow(1, first, count)?.force_contiguous()?, &values.to_dtype(to.dtype())?)?;
                let others: f64 =
                    self::values(&written)?.iter().sum::<f64>() - self::values(&values.to_dtype(to.dtype())?)?.iter().sum::<f64>();
                assert!(others.abs() < 1e-9, "set_columns must not write outside its columns");
            }
            let parts = [on_device(from)?.narrow(0, rows / 2, rows - rows / 2)?, on_device(from)?, on_device(from)?.narrow(0, 0, 1)?];
            let expected = Tensor::cat(&[&from.narrow(0, rows / 2, rows - rows / 2)?, from, &from.narrow(0, 0, 1)?], 0)?;
            check_same("stack", &kernels.stack(&parts.iter().collect::<Vec<_>>())?, &expected)?;
            check_same("stack of one", &kernels.stack(&[&parts[0]])?, &from.narrow(0, rows / 2, rows - rows / 2)?)?;

            // Only f32 gradients and tensors in the kernels' own dtype are ever cleared.
            if [DType::F32, kernels.dtype()].contains(&from.dtype()) {
                let cleared = on_device(&from.copy()?)?;
                kernels.clear(&cleared)?;
                check_same("clear", &cleared, &from.zeros_like()?)?;
            }
        }
        check_same("scaled", &kernels.scaled(&on_device(&wide)?, 0.7)?, &(&wide * 0.7)?)?;
        let transposed = kernels.scaled(&on_device(&wide)?.t()?, 0.7)?;
        check_same("scaled transpose", &on_host(&transposed)?.contiguous()?, &(&wide * 0.7)?.t()?.contiguous()?)?;
        for x in [&narrow, &wide] {
            let average = on_device(&random((rows, columns), 3))?;
            kernels.mix_in_place(&average, &on_device(x)?, 0.75)?;
            let expected = (random((rows, columns), 3) * 0.75)? + (x.to_dtype(DType::F32)? * 0.25)?;
            let far = (on_host(&average)? - expected?)?.abs()?.flatten_all()?.max(0)?.to_scalar::<f32>()?;
            assert!(far < 1e-6, "mix_in_place is off by {far:.1e}");
        }
        assert_eq!(kernels.read(&on_device(&wide)?)?, wide.flatten_all()?.to_vec1::<f32>()?);
    }
    let codes = Tensor::from_vec((0..=255u8).collect::<Vec<_>>(), 256, &Device::Cpu)?;
    let target = on_device(&codes.zeros_like()?)?;
    kernels.set(&target, &codes)?;
    check_same("set", &target, &codes)
}

/// Checks that token ids on the device are gathered with unchanged bits, even if the bits would be a NaN.
pub fn check_token_ids(kernels: &dyn Kernels) -> Result<()> {
    let numbers = [0u32, 7, 151_935, u32::MAX, 0x7fa0_0001];
    let table = Tensor::new(&numbers, &Device::Cpu)?.to_device(kernels.device())?.reshape((5, 1))?;
    let found = kernels.gather(&table, &kernels.indices(&[4, 3, 3, 0, 2, 1])?)?;
    assert_eq!(on_host(&found)?.flatten_all()?.to_vec1::<u32>()?, [4, 3, 3, 0, 2, 1].map(|row: usize| numbers[row]));
    Ok(())
}
