//! Which GPU a rank uses. A rank hides the host's other GPUs from itself, so its own is the first that it sees.

use super::variables::Launch;
use crate::dist::nccl::environment;

/// The variable that lists the GPUs that a process sees, by number or name.
pub const VISIBLE: &str = "CUDA_VISIBLE_DEVICES";

/// The GPUs of its host that a rank sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gpus {
    /// One of its own, if the host has as many GPUs as ranks.
    Own,
    /// All that the launcher lets it see.
    All,
}

/// Hides the GPUs of the other ranks. Call it at the start of the program, before CUDA looks for GPUs.
pub(super) fn hide_others(launch: &Launch) {
    if let Some(own) = own(std::env::var(VISIBLE).ok().as_deref(), launch.local_rank, launch.local_world) {
        environment::set(VISIBLE, &own);
    }
}

/// Returns the GPU of the rank with this number on its host, out of the `visible` ones; empty if there are too few. `None` if nothing needs
/// to change: the rank is the only one, or the launcher has given it a GPU, as Slurm does with `--gpus-per-task=1`.
fn own(visible: Option<&str>, local_rank: usize, local_world: usize) -> Option<String> {
    let listed = visible.map(|list| list.split(',').map(str::trim).filter(|gpu| !gpu.is_empty()).collect::<Vec<_>>());
    if local_world == 1 || listed.as_ref().is_some_and(|listed| listed.len() <= 1) {
        return None;
    }
    Some(match listed {
        Some(listed) => listed.get(local_rank).copied().unwrap_or_default().to_owned(),
        None => local_rank.to_string(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_is_the_gpu_with_the_number_of_the_rank() {
        let check = |visible: Option<&str>, local_rank, local_world, expected: Option<&str>| {
            assert_eq!(own(visible, local_rank, local_world).as_deref(), expected, "{visible:?} {local_rank} of {local_world}");
        };
        check(None, 3, 8, Some("3"));
        check(None, 0, 1, None);
        check(Some("4,5"), 1, 2, Some("5"));
        check(Some("GPU-ab, GPU-cd"), 0, 2, Some("GPU-ab"));
        // Too few GPUs.
        check(Some("4,5"), 2, 4, Some(""));
        // Slurm has already chosen.
        check(Some("3"), 2, 4, None);
        check(Some(""), 2, 4, None);
        check(Some("0,1,2,3"), 0, 1, None);
    }
}
