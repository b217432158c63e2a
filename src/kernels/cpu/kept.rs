//! Rows of logits of which only some tokens count: those that a truncated sampler could have drawn.

use candle_core::{Result, Tensor, bail};

use super::{for_rows, head, update};
use crate::flow::{Kept, Truncated};
use crate::kernels::{Chosen, Drawn, MASKED};

/// For each of `rows` rows of `width` logits, the tokens below `limit`.
pub fn all_below(limit: usize, (rows, width): (usize, usize)) -> Kept {
    let mut kept = Kept::default();
    let runs: &[[u32; 2]] = if limit < width { &[[0, limit as u32]] } else { &[] };
    (0..rows).for_each(|_| kept.push_runs(runs));
    kept
}

/// Refuses sets that do not go with logits `[t, v]`.
pub fn check(kept: &Kept, (rows, width): (usize, usize)) -> Result<()> {
    if kept.len() != rows {
        bail!("{} sets of kept tokens for {rows} rows of logits", kept.len());
    }
    if kept.vocabulary() > width {
        bail!("token {} is kept, which is beyond the model's vocabulary of {width}", kept.vocabulary() - 1);
    }
    Ok(())
}

/// Sets what is not kept of `logits [t, v]` to [`MASKED`], in place.
pub fn mask(logits: &Tensor, kept: &Kept) -> Result<()> {
    let (rows, width) = logits.dims2()?;
    check(kept, (rows, width))?;
    if kept.is_whole() {
        return Ok(());
    }
    update(logits, [], |logits, []| {
        for_rows(logits, width, |first, logits| {
            logits.chunks_exact_mut(width).zip(first..).for_each(|(row, index)| mask_row(row, kept.runs(index)));
        });
    })
}

/// Scores `tokens` of scaled logits among what is kept; `logprobs` are those over the whole vocabulary. The logits are used up.
pub fn score(logits: &Tensor, tokens: Vec<u32>, logprobs: Vec<f32>, kept: Kept) -> Result<Chosen> {
    let among_kept = if kept.is_whole() {
        logprobs.clone()
    } else {
        mask(logits, &kept)?;
        head::forward(logits, &tokens)?.logprobs
    };
    Ok(Chosen::here(Drawn { tokens, logprobs, truncated: Some(Truncated { kept, logprobs: among_kept }) }))
}

fn mask_row(row: &mut [f32], runs: &[[u32; 2]]) {
    if runs.is_empty() {
        return;
    }
    let mut from = 0;
    for [begin, end] in runs {
        row[from..*begin as usize].fill(MASKED);
        from = *end as usize;
    }
    row[from..].fill(MASKED);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::cpu::tensor;

    #[test]
    fn only_kept_logits_stay() -> Result<()> {
        let mut kept = Kept::default();
        kept.push([1, 2, 4]);
        kept.push_whole();
        kept.push([0]);
        let logits = tensor((0..15).map(|z| z as f32).collect(), (3, 5))?;
        mask(&logits, &kept)?;
        let m = MASKED;
        let expected = [[m, 1.0, 2.0, m, 4.0], [5.0, 6.0, 7.0, 8.0, 9.0], [10.0, m, m, m, m]];
        assert_eq!(logits.to_vec2::<f32>()?, expected);
        Ok(())
    }

    #[test]
    fn sets_that_do_not_go_with_the_logits_are_refused() {
        let refused = |kept: &Kept, expected: &str| assert!(check(kept, (2, 5)).unwrap_err().to_string().contains(expected));
        refused(&all_below(3, (1, 5)), "1 sets of kept tokens for 2 rows of logits");
        refused(&all_below(6, (2, 7)), "token 5 is kept, which is beyond the model's vocabulary of 5");
        assert!(check(&all_below(5, (2, 5)), (2, 5)).is_ok());
    }
}
