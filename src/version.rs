//! What this build of the program is: version, commit, features, and the devices that it can compute on.

use std::sync::LazyLock;

/// The commit that the program was built from, in hexadecimal; empty if it was built without git. Changes that were not committed do not
/// show.
const COMMIT: &str = env!("RLVR_COMMIT");

/// Returns the version and, if known, the commit: `0.1.0 (commit 0123456789ab)`.
pub fn short() -> String {
    let version = env!("CARGO_PKG_VERSION");
    if COMMIT.is_empty() { version.to_owned() } else { format!("{version} (commit {COMMIT})") }
}

/// Returns the version, the commit, the optional features that are built in, and the devices.
pub fn long() -> &'static str {
    static LONG: LazyLock<String> = LazyLock::new(describe);
    &LONG
}

fn describe() -> String {
    let features: Vec<&str> = [("cuda", cfg!(feature = "cuda")), ("hub", cfg!(feature = "hub"))]
        .iter()
        .map(|&(name, is_on)| match (name, is_on) {
            ("cuda", false) => "no cuda",
            ("hub", false) => "no hub",
            (name, _) => name,
        })
        .collect();
    let devices = if cfg!(feature = "cuda") {
        "the CPU, and NVIDIA GPUs of compute capability 8.0 or later"
    } else {
        "the CPU (GPUs need a build with --features cuda)"
    };
    let (system, processor) = (std::env::consts::OS, std::env::consts::ARCH);
    format!("{}\nfeatures: {}\ncomputes on: {devices}\nbuilt for: {system} on {processor}", short(), features.join(", "))
}
