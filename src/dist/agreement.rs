//! Values that must be equal on all ranks before they start.

use anyhow::{Result, bail};

use super::World;

impl World {
    /// Checks that labelled values, such as a setting or the digest of a file, are the same on all ranks. Every rank calls it, and all get
    /// the same answer, with one value that differs.
    ///
    /// # Errors
    /// If a value differs, with the rank, the label and both values; or if the connection fails.
    pub fn ensure_equal(&self, values: &[(&str, String)]) -> Result<()> {
        let own: Vec<(String, String)> = values.iter().map(|(label, value)| ((*label).to_owned(), value.clone())).collect();
        let all = self.gather(own)?;
        let Some((first, others)) = all.split_first() else { return Ok(()) };
        for (index, other) in others.iter().enumerate() {
            let rank = index + 1;
            let differs = first.iter().zip(other).find(|(first, other)| first != other);
            if let Some(((label, expected), (other_label, found))) = differs {
                if label != other_label {
                    bail!("rank {rank} compares {other_label} where rank 0 compares {label}: {ADVICE}");
                }
                bail!("rank {rank} has {label} {found}, but rank 0 has {expected}: {ADVICE}");
            }
            if first.len() != other.len() {
                bail!("rank {rank} compares {} values, but rank 0 compares {}: {ADVICE}", other.len(), first.len());
            }
        }
        Ok(())
    }
}

const ADVICE: &str = "start all ranks with the same program, arguments and files";

#[cfg(test)]
mod tests {
    use super::super::threads;
    use super::*;

    fn own<'a>(values: &[(&'a str, &str)]) -> Vec<(&'a str, String)> {
        values.iter().map(|(label, value)| (*label, (*value).to_owned())).collect()
    }

    #[test]
    fn ensure_equal_names_the_rank_and_the_difference() {
        let check = |odd: &[(&str, &str)], expected: Option<&str>| {
            let values = |rank: usize| if rank == 2 { odd } else { &[("build", "1"), ("--mb", "100")] };
            let compare = |world: World| world.ensure_equal(&own(values(world.rank()))).err().map(|error| error.to_string());
            let expected = expected.map(|text| format!("{text}: {ADVICE}"));
            assert_eq!(threads::run(4, compare), vec![expected; 4]);
        };
        check(&[("build", "1"), ("--mb", "100")], None);
        check(&[("build", "1"), ("--mb", "50")], Some("rank 2 has --mb 50, but rank 0 has 100"));
        check(&[("build", "2"), ("--mb", "50")], Some("rank 2 has build 2, but rank 0 has 1"));
        check(&[("model", "1"), ("--mb", "100")], Some("rank 2 compares model where rank 0 compares build"));
        check(&[("build", "1")], Some("rank 2 compares 1 values, but rank 0 compares 2"));
    }
}
