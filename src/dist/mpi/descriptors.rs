//! The files and sockets of MPI, which programs started by this one must not inherit.

/// Keeps all open descriptors but the standard streams from programs that this process starts from now on. MPICH's launcher takes a rank for
/// alive until every process that inherited its connection has ended. Rust's own descriptors are never inherited.
#[cfg(unix)]
pub fn keep_from_programs() {
    use rustix::fd::BorrowedFd;
    use rustix::io::{FdFlags, fcntl_getfd, fcntl_setfd};

    /// The descriptor of the first file after stdin, stdout and stderr.
    const FIRST: i32 = 3;

    let names = std::fs::read_dir("/dev/fd").into_iter().flatten().flatten().map(|entry| entry.file_name());
    // Collected first, since the listing uses a descriptor, too.
    let numbers: Vec<i32> = names.filter_map(|name| name.to_str()?.parse().ok()).filter(|number| *number >= FIRST).collect();
    for number in numbers {
        // SAFETY: nothing is read, written or closed. If another thread has closed the descriptor meanwhile, the calls fail, or mark the one
        // that has taken its number, as Rust would.
        let descriptor = unsafe { BorrowedFd::borrow_raw(number) };
        if let Ok(flags) = fcntl_getfd(descriptor) {
            let _ = fcntl_setfd(descriptor, flags | FdFlags::CLOEXEC);
        }
    }
}

/// Does nothing: other systems inherit no descriptors unless asked to.
#[cfg(not(unix))]
pub fn keep_from_programs() {}

#[cfg(all(test, unix))]
mod tests {
    use std::os::fd::AsFd;

    use rustix::io::{FdFlags, fcntl_getfd, fcntl_setfd};

    use super::*;

    #[test]
    fn keep_from_programs_closes_what_a_library_left_open() {
        let file = tempfile::tempfile().unwrap();
        fcntl_setfd(file.as_fd(), FdFlags::empty()).unwrap();
        keep_from_programs();
        assert_eq!(fcntl_getfd(file.as_fd()).unwrap(), FdFlags::CLOEXEC);
    }
}
