//! What this processor offers to the loops that choose an instruction set at run time.

/// Returns the instruction sets on which the bits of a result may depend, such as "avx2, fma"; empty on processors other than x86 and Arm.
pub fn processor_features() -> String {
    #[allow(unused_mut)]
    let mut found: Vec<&str> = Vec::new();
    macro_rules! detect {
        ($detected:ident: $($name:tt),*) => { $(if std::arch::$detected!($name) { found.push($name) })* };
    }
    #[cfg(target_arch = "x86_64")]
    detect!(is_x86_feature_detected: "sse4.2", "avx", "avx2", "fma", "avx512f", "avx512bw", "avx512dq", "avx512vl", "avx512vnni", "avx512bf16");
    #[cfg(target_arch = "aarch64")]
    detect!(is_aarch64_feature_detected: "neon", "fp16", "dotprod", "sve", "sve2");
    found.join(", ")
}
