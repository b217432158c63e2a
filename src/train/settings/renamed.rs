//! The old names of a run's settings, so that settings files and runs of earlier versions keep working.

use crate::config::Renamed;

/// The renamed settings and values.
pub(super) const RENAMED: &[Renamed] = &[
    Renamed::Setting { old: "rollout.max_new", new: "rollout.max_new_tokens" },
    Renamed::Setting { old: "rollout.resample", new: "rollout.dynamic_sampling" },
    Renamed::Setting { old: "eval.max_new", new: "eval.max_new_tokens" },
    Renamed::Setting { old: "train.recompute", new: "train.activation_checkpointing" },
    Renamed::Value { path: "train.activation_checkpointing", old: "all", new: "full" },
    Renamed::Setting { old: "train.lanes", new: "train.workers" },
    Renamed::Value { path: "compute.kernels", old: "reference", new: "stock" },
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{self, Settings};
    use crate::train::RunSettings;

    /// Every old name resolves to the setting with the new name, and no old name is a setting today.
    #[test]
    fn renamed_settings_resolve_under_their_old_names() {
        let resolve = |set: &str| config::resolve(&RunSettings::published(), &[config::parse_override(set).unwrap()]).unwrap();
        let check = |old: &str, new: &str| assert_eq!(resolve(old), resolve(new), "{old}");
        for renamed in RENAMED {
            match renamed {
                Renamed::Setting { old, .. } => assert!(!RunSettings::rows().iter().any(|row| row.path == *old), "{old}"),
                Renamed::Value { path, old, new } => check(&format!("{path}={old}"), &format!("{path}={new}")),
            }
        }
        check("rollout.max_new=7", "rollout.max_new_tokens=7");
        check("rollout.resample=7", "rollout.dynamic_sampling=7");
        check("eval.max_new=7", "eval.max_new_tokens=7");
        check("train.recompute=all", "train.activation_checkpointing=full");
        check("train.lanes=7", "train.workers=7");
    }
}
