//! Decoding while tokens still come. It owns the question which text is final; it must never know who reads it.

use anyhow::Result;

use super::Text;

/// What decoders put in place of bytes that are no character, or not yet.
const REPLACEMENT: char = '\u{FFFD}';
/// A UTF-8 character has at most four bytes, so at most three of them can wait for their last; some decoders show a replacement for each.
const WAITING: usize = 3;

/// Gives the text of tokens as they come; the pieces, joined, are what decoding all at once gives.
pub struct TokenStream<'a> {
    text: &'a Text,
    /// One token of context (decoders treat a first token specially) and those whose text is not all given.
    window: Vec<u32>,
    /// Bytes of the window's text that were given already.
    given: usize,
}

impl<'a> TokenStream<'a> {
    pub(super) fn new(text: &'a Text) -> Self {
        Self { text, window: Vec::new(), given: 0 }
    }

    /// Takes the next token and gives the text that it completes, often empty for a part of a character.
    ///
    /// # Errors
    /// As [`Text::decode`].
    pub fn push(&mut self, id: u32) -> Result<String> {
        self.window.push(id);
        let decoded = self.text.decode(&self.window)?;
        let complete = complete_bytes(&decoded);
        let piece = decoded.get(self.given..complete).unwrap_or_default().to_owned();
        self.given = self.given.max(complete);
        if complete == decoded.len() {
            self.window = vec![id];
            self.given = self.text.decode(&self.window)?.len();
        }
        Ok(piece)
    }

    /// Gives what still waits, with U+FFFD for a character that never became complete.
    ///
    /// # Errors
    /// As [`Text::decode`].
    pub fn finish(self) -> Result<String> {
        let decoded = self.text.decode(&self.window)?;
        Ok(decoded.get(self.given..).unwrap_or_default().to_owned())
    }
}

/// How much of the text no later token can change.
fn complete_bytes(decoded: &str) -> usize {
    let waiting = decoded.chars().rev().take(WAITING).take_while(|&character| character == REPLACEMENT).count();
    decoded.len() - waiting * REPLACEMENT.len_utf8()
}
