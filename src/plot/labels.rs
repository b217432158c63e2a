//! Places the labels at the ends of lines as close to their lines as possible without overlap.

/// Moves the `wanted` positions at least `gap` apart within `low..=high`, with the smallest sum of squared moves. Keeps their order. If the
/// range is too small, they start at `low` and exceed `high`.
///
/// With sorted y, `z_i = y_i - i gap` must not decrease. This is isotonic regression, solved by merging neighbors that violate it into
/// their mean (pool adjacent violators). Clamping z to the range preserves the order.
pub(super) fn spread(wanted: &[f64], gap: f64, low: f64, high: f64) -> Vec<f64> {
    let mut order: Vec<usize> = (0..wanted.len()).collect();
    order.sort_by(|&a, &b| wanted[a].total_cmp(&wanted[b]));

    // Blocks of (sum of z, count) with increasing means.
    let mut blocks: Vec<(f64, usize)> = Vec::new();
    for (rank, &index) in order.iter().enumerate() {
        let mut block = (wanted[index] - rank as f64 * gap, 1);
        while let Some(&(sum, count)) = blocks.last() {
            if sum / count as f64 <= block.0 / block.1 as f64 {
                break;
            }
            block = (block.0 + sum, block.1 + count);
            blocks.pop();
        }
        blocks.push(block);
    }

    let highest = (high - gap * wanted.len().saturating_sub(1) as f64).max(low);
    let means = blocks.iter().flat_map(|&(sum, count)| std::iter::repeat_n(sum / count as f64, count));
    let mut placed = vec![0.0; wanted.len()];
    for (rank, (&index, z)) in order.iter().zip(means).enumerate() {
        placed[index] = z.clamp(low, highest) + rank as f64 * gap;
    }
    placed
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(wanted: &[f64], expected: &[f64]) {
        let found = spread(wanted, 10.0, 0.0, 100.0);
        assert_eq!(found, expected, "{wanted:?}");
    }

    #[test]
    fn spread_keeps_labels_apart() {
        check(&[], &[]);
        check(&[50.0], &[50.0]);
        check(&[20.0, 50.0], &[20.0, 50.0]);
        check(&[50.0, 50.0], &[45.0, 55.0]);
        check(&[50.0, 52.0, 51.0], &[41.0, 61.0, 51.0]);
        check(&[20.0, 80.0, 84.0], &[20.0, 77.0, 87.0]);
    }

    #[test]
    fn spread_keeps_labels_inside() {
        check(&[0.0, 1.0], &[0.0, 10.0]);
        check(&[100.0, 99.0, 98.0], &[100.0, 90.0, 80.0]);
        check(&[-5.0], &[0.0]);
        // The range is too small: labels start at the top, in order.
        assert_eq!(spread(&[3.0, 1.0, 2.0], 10.0, 0.0, 5.0), [20.0, 0.0, 10.0]);
    }
}
