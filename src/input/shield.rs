//! The one boundary around libraries that panic on broken input.

use std::cell::{Cell, RefCell};
use std::fmt::Display;
use std::panic::{AssertUnwindSafe, PanicHookInfo, catch_unwind};
use std::sync::Once;

use anyhow::{Result, bail};

thread_local! {
    /// Whether this thread is inside of [`shield`].
    static IS_SHIELDED: Cell<bool> = const { Cell::new(false) };
    /// What the last shielded panic said.
    static SAID: RefCell<String> = const { RefCell::new(String::new()) };
}

/// Most characters of a library's message that are shown.
const SHOWN: usize = 160;

/// Runs a library's work on what `input` names (a file, a line); a panic in it becomes an error, and nothing is printed. Work that the library
/// hands to other threads is not covered by the silence, only by the error.
///
/// State that the work changes must not be used after a panic: only what is made inside, or read, is safe.
///
/// # Errors
/// As `work`, or when the library panics; the message names the input and what the library said.
pub fn shield<T>(input: impl Display, work: impl FnOnce() -> Result<T>) -> Result<T> {
    silence_shielded();
    let outer = IS_SHIELDED.replace(true);
    let result = catch_unwind(AssertUnwindSafe(work));
    IS_SHIELDED.set(outer);
    match result {
        Ok(result) => result,
        Err(_) => {
            let said = SAID.take();
            bail!("{input} is broken: reading it failed inside a library ({said}); get the file again, or save it with another version")
        }
    }
}

/// Panics inside of the shield are kept; all others go where they went before.
fn silence_shielded() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            if IS_SHIELDED.get() {
                SAID.set(message(panic));
            } else {
                before(panic);
            }
        }));
    });
}

/// A panic's message in one line, without control characters.
fn message(panic: &PanicHookInfo) -> String {
    let payload = panic.payload();
    let text = payload.downcast_ref::<&str>().copied().or_else(|| payload.downcast_ref::<String>().map(String::as_str));
    text.unwrap_or("no message").chars().map(|character| if character.is_control() { ' ' } else { character }).take(SHOWN).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_becomes_an_error_that_names_the_input() {
        let broken = |text: &'static str| shield("model/x.json", || -> Result<()> { panic!("index {}\n{text}", 7) });
        let error = broken("out of range").unwrap_err().to_string();
        assert!(error.starts_with("model/x.json is broken") && error.contains("(index 7 out of range)"), "{error}");
        // One after the other, one inside of the other, and errors and values as they are.
        let inner = shield("outer", || {
            let inner = broken("inside");
            assert!(inner.is_err());
            broken("again")
        });
        assert!(inner.unwrap_err().to_string().contains("index 7 again"));
        assert_eq!(shield("x", || Ok(3)).unwrap(), 3);
        assert_eq!(shield("x", || -> Result<()> { bail!("no") }).unwrap_err().to_string(), "no");
        assert!(!IS_SHIELDED.get());
    }
}
