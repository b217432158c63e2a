//! Decodes tokens incrementally. Decides which part of the text is final. Independent of how the text is shown.

use anyhow::Result;

use super::Text;

/// The character that decoders return for invalid or incomplete characters.
const REPLACEMENT: char = '\u{FFFD}';
/// The maximum number of replacement characters that a later token can change. A UTF-8 character has at most four bytes, and some decoders
/// return a replacement for each of the first three.
const MAX_INCOMPLETE: usize = 3;

/// Decodes a sequence of tokens one at a time. The concatenated pieces equal the text of the whole sequence.
pub struct TokenStream<'a> {
    text: &'a Text,
    /// One token of context, because decoders treat the first token specially, and the tokens whose text has not been fully returned.
    pending: Vec<u32>,
    /// The number of bytes of the pending tokens' text that have been returned.
    returned_bytes: usize,
}

impl<'a> TokenStream<'a> {
    pub(super) fn new(text: &'a Text) -> Self {
        Self { text, pending: Vec::new(), returned_bytes: 0 }
    }

    /// Adds the next token and returns the text that it completes, which is empty inside a multi-byte character.
    ///
    /// # Errors
    /// As for [`Text::decode`].
    pub fn push(&mut self, id: u32) -> Result<String> {
        self.pending.push(id);
        let decoded = self.text.decode(&self.pending)?;
        let complete = complete_bytes(&decoded);
        let piece = decoded.get(self.returned_bytes..complete).unwrap_or_default().to_owned();
        self.returned_bytes = self.returned_bytes.max(complete);
        if complete == decoded.len() {
            self.pending = vec![id];
            self.returned_bytes = self.text.decode(&self.pending)?.len();
        }
        Ok(piece)
    }

    /// Returns the remaining text, in which U+FFFD represents an incomplete character.
    ///
    /// # Errors
    /// As for [`Text::decode`].
    pub fn finish(self) -> Result<String> {
        let decoded = self.text.decode(&self.pending)?;
        Ok(decoded.get(self.returned_bytes..).unwrap_or_default().to_owned())
    }
}

/// Returns the length in bytes of the part of a text that later tokens cannot change.
fn complete_bytes(decoded: &str) -> usize {
    let incomplete = decoded.chars().rev().take(MAX_INCOMPLETE).take_while(|&character| character == REPLACEMENT).count();
    decoded.len() - incomplete * REPLACEMENT.len_utf8()
}
