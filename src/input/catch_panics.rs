//! Catches panics of libraries on corrupt input and returns them as errors.

use std::cell::{Cell, RefCell};
use std::fmt::Display;
use std::panic::{AssertUnwindSafe, PanicHookInfo, catch_unwind};
use std::sync::Once;

use anyhow::{Result, bail};

thread_local! {
    /// True while this thread runs inside [`catch_panics`].
    static IS_CATCHING: Cell<bool> = const { Cell::new(false) };
    /// The message of the last caught panic.
    static LAST_MESSAGE: RefCell<String> = const { RefCell::new(String::new()) };
}

/// The maximum length of a library's message in an error, in characters.
const MAX_MESSAGE_CHARS: usize = 160;

/// Runs `work` and returns a panic as an error, without printing it. `input` is the name of the input in the error, such as a file or a
/// line. A panic on another thread is still printed.
///
/// After a panic, do not use state that `work` has modified: it may be inconsistent.
///
/// # Errors
/// As for `work`, or if it panics. The message includes `input` and the panic's message.
pub fn catch_panics<T>(input: impl Display, work: impl FnOnce() -> Result<T>) -> Result<T> {
    install_hook();
    let outer = IS_CATCHING.replace(true);
    let result = catch_unwind(AssertUnwindSafe(work));
    IS_CATCHING.set(outer);
    match result {
        Ok(result) => result,
        Err(_) => {
            let message = LAST_MESSAGE.take();
            bail!(
                "{input} is corrupt: a library cannot read it ({message}); download the file again, or save it with \
                 another version of the program that wrote it"
            )
        }
    }
}

/// True if a panic of this thread would be caught by [`catch_panics`], so that it does not end the program.
pub fn is_catching_panics() -> bool {
    IS_CATCHING.get()
}

/// Installs a panic hook that records the messages of caught panics and passes all others to the previous hook.
fn install_hook() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let previous = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            if IS_CATCHING.get() {
                LAST_MESSAGE.set(message(panic));
            } else {
                previous(panic);
            }
        }));
    });
}

/// Returns a panic's message on one line, with control characters replaced by spaces, truncated to [`MAX_MESSAGE_CHARS`].
fn message(panic: &PanicHookInfo) -> String {
    let payload = panic.payload();
    let text = payload.downcast_ref::<&str>().copied().or_else(|| payload.downcast_ref::<String>().map(String::as_str));
    text.unwrap_or("no message")
        .chars()
        .map(|character| if character.is_control() { ' ' } else { character })
        .take(MAX_MESSAGE_CHARS)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn catch_panics_returns_a_panic_as_an_error() {
        let panicking = |text: &'static str| catch_panics("model/x.json", || -> Result<()> { panic!("index {}\n{text}", 7) });
        let error = panicking("out of range").unwrap_err().to_string();
        assert!(error.starts_with("model/x.json is corrupt") && error.contains("(index 7 out of range)"), "{error}");
        // Handles sequential and nested panics. Returns errors and values unchanged.
        let inner = catch_panics("outer", || {
            let inner = panicking("inside");
            assert!(inner.is_err());
            panicking("again")
        });
        assert!(inner.unwrap_err().to_string().contains("index 7 again"));
        assert_eq!(catch_panics("x", || Ok(3)).unwrap(), 3);
        assert_eq!(catch_panics("x", || -> Result<()> { bail!("no") }).unwrap_err().to_string(), "no");
        assert!(!IS_CATCHING.get());
    }
}
