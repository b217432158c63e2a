//! Variables that CUDA and NCCL read when they start.

/// Sets a variable of this process. Only for the start of the program, when no other thread of it reads or changes the environment.
pub fn set(name: &str, value: &str) {
    // SAFETY: the program calls this at its start, see above.
    #[allow(unsafe_code)]
    unsafe {
        std::env::set_var(name, value);
    }
}
