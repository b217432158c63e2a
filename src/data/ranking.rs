//! Ranks examples by historical variance: how much each example's accuracy varied while a model trained on all of them. pi_k is the example
//! of rank k in the subset. Owns the published order. Does not read the examples.

use std::fmt;
use std::path::Path;

use anyhow::{Result, anyhow, bail};
use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};

use crate::input;

/// `(rank, extra_info.index)` of the examples that the paper names. These need no history file.
const PUBLISHED: [(usize, u64); 23] = [
    (1, 124),
    (2, 267),
    (3, 531),
    (4, 931),
    (5, 212),
    (6, 25),
    (7, 568),
    (8, 131),
    (9, 649),
    (10, 724),
    (11, 875),
    (12, 925),
    (13, 682),
    (14, 100),
    (15, 291),
    (16, 50),
    (17, 870),
    (605, 60),
    (606, 906),
    (1201, 847),
    (1207, 174),
    (1208, 770),
    (1209, 789),
];

/// Returns the `extra_info.index` of the example with this rank, or `None` if the paper does not name it.
pub(super) fn published_index(rank: usize) -> Option<u64> {
    PUBLISHED.iter().find(|(known, _)| *known == rank).map(|&(_, index)| index)
}

/// The accuracy of each example in each epoch, in file order, which breaks ties.
struct History(Vec<(String, Vec<f64>)>);

impl<'de> Deserialize<'de> for History {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct InOrder;
        impl<'de> Visitor<'de> for InOrder {
            type Value = History;
            fn expecting(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
                formatter.write_str("an object that maps each example to a list of accuracies")
            }
            fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<History, M::Error> {
                let mut entries = Vec::new();
                while let Some(entry) = map.next_entry()? {
                    entries.push(entry);
                }
                Ok(History(entries))
            }
        }
        deserializer.deserialize_map(InOrder)
    }
}

/// Reads accuracy histories, `{"INDEX": [0.125, ...], ...}` with one accuracy per epoch. Returns `(index, accuracies)` in file order.
///
/// # Errors
/// If the file cannot be read or has another form, or if there is no history or an empty one.
pub fn read_history(path: &Path) -> Result<Vec<(u64, Vec<f64>)>> {
    let text = input::read_text(path, input::DOCUMENT_BYTES)?;
    let History(entries) = serde_json::from_str(&input::json(&text))
        .map_err(|error| anyhow!("{} is not an accuracy history, {{\"INDEX\": [0.125, ...], ...}}: {error}", path.display()))?;
    if entries.is_empty() {
        bail!("{} has no accuracy histories", path.display());
    }
    let numbered = |(index, accuracies): (String, Vec<f64>)| match index.parse() {
        Ok(_) if accuracies.is_empty() => bail!("{}: the history of example {index} is empty", path.display()),
        Ok(index) => Ok((index, accuracies)),
        Err(_) => bail!("{}: {index:?} is not an example's index", path.display()),
    };
    entries.into_iter().map(numbered).collect()
}

/// An example with the statistics of its accuracy history.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Ranked<'a, K> {
    /// The example's key in the history.
    pub example: &'a K,
    /// The population standard deviation of the accuracies (denominator `epochs`): the paper's "historical variance score".
    pub deviation: f64,
    /// The mean accuracy (denominator `epochs`).
    pub mean: f64,
    /// The number of accuracies.
    pub epochs: usize,
}

/// Sorts examples by the population standard deviation of their history, largest first, as in the published script. Ties keep their order.
pub fn rank_by_std<K>(history: &[(K, Vec<f64>)]) -> Vec<Ranked<'_, K>> {
    let mut all: Vec<Ranked<K>> = Vec::with_capacity(history.len());
    for (example, accuracies) in history {
        all.push(Ranked { example, deviation: deviation(accuracies), mean: mean(accuracies), epochs: accuracies.len() });
    }
    all.sort_by(|left, right| right.deviation.total_cmp(&left.deviation));
    all
}

fn mean(values: &[f64]) -> f64 {
    sum(values) / values.len().max(1) as f64
}

fn deviation(values: &[f64]) -> f64 {
    let (count, mean) = (values.len().max(1) as f64, mean(values));
    let squares: Vec<f64> = values.iter().map(|value| (value - mean) * (value - mean)).collect();
    (sum(&squares) / count).sqrt()
}

/// Sums in NumPy's order, with eight accumulators, because the published ranking depends on the last bit of its sums. Above 128 values
/// NumPy sums halves separately. The published histories are shorter; for longer ones the result may differ in the last bit.
fn sum(values: &[f64]) -> f64 {
    if values.len() < 8 {
        return values.iter().fold(0.0, |total, value| total + value);
    }
    let (chunks, rest) = values.as_chunks::<8>();
    let mut totals = [0.0; 8];
    for chunk in chunks {
        for (total, value) in totals.iter_mut().zip(chunk) {
            *total += value;
        }
    }
    let [a, b, c, d, e, f, g, h] = totals;
    rest.iter().fold(((a + b) + (c + d)) + ((e + f) + (g + h)), |total, value| total + value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::pinned;
    use crate::data::store::shared_store;

    #[test]
    fn rank_by_std_keeps_the_order_of_ties() {
        let history = [(7, vec![0.5, 0.5]), (3, vec![0.0, 1.0]), (1, vec![1.0, 1.0]), (9, vec![0.0, 0.5, 1.0]), (2, vec![1.0, 0.0])];
        let ranked = rank_by_std(&history);
        assert_eq!(ranked.iter().map(|ranked| *ranked.example).collect::<Vec<_>>(), [3, 2, 9, 7, 1]);
        assert_eq!((ranked[0].deviation, ranked[0].mean, ranked[2].epochs), (0.5, 0.5, 3));
        assert!(rank_by_std::<u64>(&[]).is_empty());
    }

    #[test]
    fn rank_by_std_reproduces_the_published_ranks() {
        let Some(store) = shared_store() else { return };
        let history = read_history(&store.path(&pinned::ACCURACY_HISTORY).unwrap()).unwrap();
        let ranking = rank_by_std(&history);
        assert_eq!(ranking.len(), 1209);
        for (rank, index) in PUBLISHED {
            assert_eq!(*ranking[rank - 1].example, index, "pi{rank}");
        }
    }

    #[test]
    fn read_history_rejects_malformed_files() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("history.json");
        for (content, expected) in [
            ("[]", "not an accuracy history"),
            ("{}", "no accuracy histories"),
            (r#"{"1": []}"#, "is empty"),
            (r#"{"x": [1.0]}"#, "not an example's index"),
            (r#"{"1": ["a"]}"#, "not an accuracy history"),
        ] {
            std::fs::write(&path, content).unwrap();
            let error = read_history(&path).unwrap_err().to_string();
            assert!(error.contains(expected) && error.contains("history.json"), "{error}");
        }
    }
}
