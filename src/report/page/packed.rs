//! Data inside a page: compressed with deflate, written in base64, and unpacked by the page's script when a reader asks for it.

use std::io::Write;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use flate2::Compression;
use flate2::write::DeflateEncoder;
use maud::{Markup, PreEscaped, html};

/// A named piece of data inside a page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DataBlock {
    /// The `id` of its element, which the script looks up: letters, digits and hyphens.
    pub id: String,
    /// The compressed data in base64.
    base64: String,
}

impl DataBlock {
    /// Compresses data.
    pub fn new(id: impl Into<String>, data: &[u8]) -> Self {
        let mut encoder = DeflateEncoder::new(Vec::new(), Compression::best());
        // Writing to a vector cannot fail.
        let compressed = encoder.write_all(data).and_then(|()| encoder.finish()).unwrap_or_default();
        Self { id: id.into(), base64: STANDARD.encode(compressed) }
    }

    /// Returns the size in bytes that the data takes in the page.
    pub fn size_bytes(&self) -> usize {
        self.base64.len()
    }

    /// Returns the element. Browsers do not run scripts of an unknown type, and base64 needs no escapes.
    pub fn markup(&self) -> Markup {
        html! { script id=(self.id) type="application/vnd.rlvr.deflate+base64" { (PreEscaped(&self.base64)) } }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use flate2::read::DeflateDecoder;

    use super::*;

    #[test]
    fn data_block_can_be_unpacked() {
        let data = "</script>{\"a\": [1, 2]}".repeat(100);
        let block = DataBlock::new("some-data", data.as_bytes());
        let markup = block.markup().into_string();
        let (head, rest) = markup.split_once('>').unwrap();
        assert_eq!(head, "<script id=\"some-data\" type=\"application/vnd.rlvr.deflate+base64\"");
        let text = rest.strip_suffix("</script>").unwrap();
        assert_eq!((text.len(), text.contains('<')), (block.size_bytes(), false));
        let mut unpacked = String::new();
        DeflateDecoder::new(STANDARD.decode(text).unwrap().as_slice()).read_to_string(&mut unpacked).unwrap();
        assert!(unpacked == data && text.len() < data.len() / 4);
    }
}
