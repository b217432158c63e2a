//! Which GPU each run of a study uses. A run sees one GPU, so runs that go on at the same time do not share one while there are enough.

use crate::kernels::DeviceChoice;

/// The GPUs that the slots of one rank take in turn.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SlotGpus {
    /// The GPUs that this process sees, as `CUDA_VISIBLE_DEVICES` names them.
    visible: Vec<String>,
    rank_on_host: usize,
    ranks_on_host: usize,
}

impl SlotGpus {
    /// Finds the GPUs for the slots of a rank: those in `listed`, the value of `CUDA_VISIBLE_DEVICES`, or all if it is not set, which `count` counts.
    /// `rank_on_host` is the rank's number among the `ranks_on_host` ranks of this host, which deal its GPUs over their slots.
    pub fn new(listed: Option<&str>, count: impl FnOnce() -> usize, rank_on_host: usize, ranks_on_host: usize) -> Self {
        let visible = match listed {
            // CUDA ignores what follows a number that names no GPU, such as -1.
            Some(list) => list.split(',').map(str::trim).take_while(|gpu| !gpu.is_empty() && *gpu != "-1").map(str::to_owned).collect(),
            None => (0..count()).map(|gpu| gpu.to_string()).collect(),
        };
        Self { visible, rank_on_host, ranks_on_host }
    }

    /// Returns the value of `CUDA_VISIBLE_DEVICES` for a run on this device in this slot. `None` if the run keeps what this process sees: it needs no
    /// GPU, its settings name one by a number other than 0, or there are not several.
    pub fn of_slot(&self, slot: usize, device: DeviceChoice) -> Option<&str> {
        let chooses = matches!(device, DeviceChoice::Auto | DeviceChoice::Cuda(0)) && self.visible.len() > 1;
        chooses.then(|| &*self.visible[(self.rank_on_host + slot * self.ranks_on_host) % self.visible.len()])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_slot_deals_the_gpus_of_a_host_over_its_ranks_and_slots() {
        let check = |listed: Option<&str>, count: usize, ranks: usize, slots: usize, expected: &str| {
            let of_rank = |rank: usize| {
                let gpus = SlotGpus::new(listed, || count, rank, ranks);
                (0..slots).map(|slot| gpus.of_slot(slot, DeviceChoice::Auto).unwrap_or("-").to_owned()).collect::<Vec<_>>().join(" ")
            };
            assert_eq!((0..ranks).map(of_rank).collect::<Vec<_>>().join(" | "), expected, "{listed:?} {count}");
        };
        // One process with four slots, four processes with one, two with two.
        check(None, 4, 1, 4, "0 1 2 3");
        check(None, 4, 4, 1, "0 | 1 | 2 | 3");
        check(None, 4, 2, 2, "0 2 | 1 3");
        check(Some("3, 5,GPU-ab"), 8, 1, 4, "3 5 GPU-ab 3");
        check(Some("2,3,-1,4"), 8, 2, 2, "2 2 | 3 3");
        // The launcher has given each process a GPU, or there is none.
        check(Some("6"), 8, 2, 2, "- - | - -");
        check(Some(""), 8, 1, 1, "-");
        check(None, 1, 1, 2, "- -");
        check(None, 0, 2, 1, "- | -");
    }

    #[test]
    fn of_slot_respects_the_device_of_the_settings() {
        let gpus = SlotGpus::new(None, || 4, 0, 1);
        let check = |device: &str, expected: Option<&str>| assert_eq!(gpus.of_slot(2, device.parse().unwrap()), expected, "{device}");
        check("auto", Some("2"));
        check("cuda", Some("2"));
        check("cuda:1", None);
        check("cpu", None);
    }
}
