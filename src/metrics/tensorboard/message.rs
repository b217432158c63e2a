//! Encodes protobuf messages. Independent of what the messages mean.

/// A protobuf message being encoded. Each field is `number << 3 | wire type`, followed by its value.
#[derive(Clone, Debug, Default)]
pub(super) struct Message(pub(super) Vec<u8>);

impl Message {
    /// Adds a nonnegative whole number, or an enum.
    pub(super) fn varint(&mut self, field: u8, value: u64) {
        self.0.push(field << 3);
        self.raw_varint(value);
    }

    pub(super) fn double(&mut self, field: u8, value: f64) {
        self.0.push(field << 3 | 1);
        self.0.extend(value.to_le_bytes());
    }

    /// Adds a string, bytes, or an encoded message.
    pub(super) fn bytes(&mut self, field: u8, value: &[u8]) {
        self.0.push(field << 3 | 2);
        self.raw_varint(value.len() as u64);
        self.0.extend(value);
    }

    pub(super) fn float(&mut self, field: u8, value: f32) {
        self.0.push(field << 3 | 5);
        self.0.extend(value.to_le_bytes());
    }

    /// Encodes seven bits per byte, lowest first, with the high bit set on all bytes but the last.
    fn raw_varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
    }
}
