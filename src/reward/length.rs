//! Length rewards: a ramp between two lengths, and DAPO's overlong penalty. Lengths are in tokens, including the end token.

use anyhow::{Result, ensure};

use super::{Graded, PerResponse, Reward, RewardSettings};

pub(super) fn make(parameters: &[f64], _: &RewardSettings) -> Result<Box<dyn Reward>> {
    let (low, high) = (parameters[0], parameters[1]);
    ensure!(
        low >= 0.0 && high > low,
        "length({low}, {high}) is not a range of tokens; the first number must be at least 0 and less than the second"
    );
    Ok(Box::new(PerResponse(move |graded: &Graded| ramp(graded, low, high))))
}

/// Returns the overlong penalty (DAPO, arXiv 2503.14476, equation 13): 0 up to `max_new_tokens - buffer` tokens, then linearly down to -1
/// at `max_new_tokens`.
///
/// # Errors
/// If `buffer` exceeds `max_new_tokens`.
pub(super) fn overlong(buffer: usize, max_new_tokens: usize) -> Result<Box<dyn Reward>> {
    ensure!(buffer <= max_new_tokens, "reward.overlong_buffer is {buffer}; it must be at most rollout.max_new_tokens ({max_new_tokens})");
    let (low, high) = ((max_new_tokens - buffer) as f64, max_new_tokens as f64);
    Ok(Box::new(PerResponse(move |graded: &Graded| -ramp(graded, low, high))))
}

/// Returns 0 up to `low` tokens and 1 from `high` tokens on, linear in between.
fn ramp(graded: &Graded, low: f64, high: f64) -> f32 {
    ((graded.rollout.completion.ids.len() as f64 - low) / (high - low)).clamp(0.0, 1.0) as f32
}

#[cfg(test)]
mod tests {
    use super::super::Rewards;
    use super::super::testing::{check, group, rewarded};
    use super::*;

    #[test]
    fn length_ramp_by_hand() {
        check("length(4, 8)", "", &["", "1234", "12345", "123456", "12345678", "1234567890"], &[0.0, 0.0, 0.25, 0.5, 1.0, 1.0]);
    }

    #[test]
    fn overlong_penalty_by_hand() {
        // At most 10 tokens with a buffer of 4: the penalty is 0 for 6 tokens, 1/4 for 7, and 1 for 10.
        let settings = RewardSettings { overlong_buffer: 4, ..RewardSettings::default() };
        let rewards = Rewards::new(&settings, 10).unwrap();
        let found = rewarded(&rewards, &group("7", &["123456", "1234567", "1234567890", r"\boxed{7}"]), 4, None);
        assert_eq!(found.iter().map(|one| one.total).collect::<Vec<_>>(), [0.0, -0.25, -1.0, 0.25]);
        assert_eq!((found[3].parts["outcome"], found[3].parts["overlong"]), (1.0, -0.75));
    }
}
