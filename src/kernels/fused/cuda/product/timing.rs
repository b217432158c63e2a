//! Times algorithms on the operands of a shape's first product.

use std::sync::Arc;

use candle_core::Result;
use candle_core::cuda_backend::WrapErr;
use candle_core::cuda_backend::cudarc::driver::CudaStream;
use candle_core::cuda_backend::cudarc::driver::sys::CUevent_flags;

/// Timed runs per algorithm. The shortest counts.
const ROUNDS: usize = 5;
/// Algorithms whose times are within this factor of the fastest count as equally fast, so that noise does not decide.
const TIE: f32 = 1.02;

/// Times `count` algorithms, which `run(index)` starts. Returns milliseconds by index, infinite for an algorithm that fails; `None` if the
/// device's clock does not advance, as on an emulated GPU. `evict` clears the device's cache before each run because, in a real pass, weights
/// are read from memory.
///
/// # Errors
/// If the device reports an error.
pub fn measure(
    stream: &Arc<CudaStream>,
    count: usize,
    mut evict: impl FnMut() -> Result<()>,
    mut run: impl FnMut(usize) -> Result<()>,
) -> Result<Option<Vec<f32>>> {
    // The first run of an algorithm also loads its kernel.
    let runs: Vec<bool> = (0..count).map(|index| run(index).is_ok()).collect();
    let mut shortest = vec![f32::INFINITY; count];
    // Created only once, because creating an event takes the host as long as a small product takes the device.
    let event = || stream.context().new_event(Some(CUevent_flags::CU_EVENT_DEFAULT)).w();
    let (begin, end) = (event()?, event()?);
    for _ in 0..ROUNDS {
        for index in (0..count).filter(|index| runs[*index]) {
            evict()?;
            begin.record(stream).w()?;
            run(index)?;
            end.record(stream).w()?;
            let elapsed_ms = begin.elapsed_ms(&end).w()?;
            if elapsed_ms == 0.0 {
                return Ok(None);
            }
            shortest[index] = shortest[index].min(elapsed_ms);
        }
    }
    Ok(Some(shortest))
}

/// Returns the index of the first algorithm that is about as fast as the fastest; `None` if all have failed.
pub fn fastest(times: &[f32]) -> Option<usize> {
    let shortest = times.iter().copied().fold(f32::INFINITY, f32::min);
    times.iter().position(|time| time.is_finite() && *time <= shortest * TIE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fastest_on_a_gpu_prefers_the_librarys_order_among_similar_times() {
        let check = |times: &[f32], expected| assert_eq!(fastest(times), expected, "{times:?}");
        check(&[1.0, 0.99, 0.5], Some(2));
        check(&[1.01, 1.0, 1.0], Some(0));
        check(&[1.03, 1.0, 1.0], Some(1));
        check(&[f32::INFINITY, 3.0], Some(1));
        check(&[f32::INFINITY], None);
        check(&[], None);
    }
}
