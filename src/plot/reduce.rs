//! Reduces long series to as many points as a picture can show. Keeps extremes, so that no spike disappears.

/// Returns the indices of at most about `most` values that show the same line: the smallest and the largest finite value of each bucket of
/// neighbors, and both ends. A bucket without a finite value keeps one index, which is a gap.
pub(super) fn extremes(values: &[f64], most: usize) -> Vec<usize> {
    if values.len() <= most.max(2) {
        return (0..values.len()).collect();
    }
    let mut kept = vec![0];
    for bucket in buckets(values.len(), most / 2) {
        let finite = || bucket.clone().filter(|index| values[*index].is_finite());
        let smallest = finite().min_by(|one, other| values[*one].total_cmp(&values[*other]));
        let largest = finite().max_by(|one, other| values[*one].total_cmp(&values[*other]));
        match (smallest, largest) {
            (Some(smallest), Some(largest)) => kept.extend([smallest.min(largest), smallest.max(largest)]),
            _ => kept.push(bucket.start),
        }
    }
    kept.push(values.len() - 1);
    kept.dedup();
    kept
}

/// Splits `0..length` into `count` ranges (at least 1) of nearly equal length.
pub(super) fn buckets(length: usize, count: usize) -> impl Iterator<Item = std::ops::Range<usize>> + Clone {
    let count = count.clamp(1, length.max(1));
    (0..count).map(move |bucket| bucket * length / count..(bucket + 1) * length / count)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn extremes_keeps_spikes_gaps_and_ends() {
        let mut values: Vec<f64> = (0..2000).map(|index| f64::from(index % 7)).collect();
        (values[777], values[1111]) = (1000.0, -1000.0);
        values[1500..1600].fill(f64::NAN);
        let kept = extremes(&values, 300);
        assert!(kept.len() <= 303, "{}", kept.len());
        for index in [0, 777, 1111, 1999] {
            assert!(kept.contains(&index), "{index}");
        }
        assert!(kept.iter().any(|index| values[*index].is_nan()));
        assert!(kept.windows(2).all(|pair| pair[0] < pair[1]));
    }

    #[test]
    fn extremes_keeps_all_of_a_short_series() {
        assert_eq!(extremes(&[1.0, f64::NAN, 3.0], 300), [0, 1, 2]);
        assert!(extremes(&[], 300).is_empty());
    }

    #[test]
    fn buckets_cover_every_index_once() {
        for (length, count) in [(10, 3), (3, 10), (1, 1), (0, 5), (7, 0)] {
            let all: Vec<usize> = buckets(length, count).flatten().collect();
            assert_eq!(all, (0..length).collect::<Vec<_>>(), "{length} {count}");
        }
    }
}
