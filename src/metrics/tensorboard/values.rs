//! The values of an event: scalars, histograms, texts, and the start and end of a session of the HParams plugin, as in
//! `tensorboard/compat/proto/summary.proto` and `tensorboard/plugins/hparams/plugin_data.proto`.

use super::message::Message;

/// The number of equal intervals of a histogram.
const BUCKETS: usize = 30;
/// `DT_FLOAT` in `types.proto`, followed by `DT_DOUBLE` and `DT_STRING`.
const FLOAT: u64 = 1;
const DOUBLE: u64 = 2;
const STRING: u64 = 7;
/// `DATA_CLASS_TENSOR` in `summary.proto`.
const TENSOR_CLASS: u64 = 2;

/// A value of an event, under a tag.
#[derive(Clone, Debug)]
pub struct SummaryValue(Message);

/// The value of a hyperparameter.
#[derive(Clone, Debug, PartialEq)]
pub enum Param {
    /// A number.
    Number(f64),
    /// True or false.
    Boolean(bool),
    /// A string.
    Text(String),
}

impl SummaryValue {
    /// Makes a scalar.
    pub fn scalar(tag: &str, number: f32) -> Self {
        let mut value = tagged(tag);
        value.float(2, number);
        Self(value)
    }

    /// Makes a histogram of the finite numbers: 30 equal intervals from the lowest to the highest, or one of width 1 if all are equal.
    pub fn histogram(tag: &str, numbers: &[f32]) -> Self {
        let rows = buckets(numbers);
        let mut tensor = tensor(DOUBLE, &[rows.len() as u64, 3]);
        let content: Vec<u8> = rows.iter().flatten().flat_map(|number| number.to_le_bytes()).collect();
        tensor.bytes(4, &content);
        Self::with_tensor(tag, "histograms", &[], &tensor)
    }

    /// Makes a text, which TensorBoard shows as Markdown.
    pub fn text(tag: &str, markdown: &str) -> Self {
        let mut tensor = tensor(STRING, &[1]);
        tensor.bytes(8, markdown.as_bytes());
        Self::with_tensor(tag, "text", &[], &tensor)
    }

    /// Makes the start of a session of the HParams plugin, with the hyperparameters that its table compares.
    pub fn session_start(params: &[(String, Param)], start_s: f64) -> Self {
        let mut start = Message::default();
        for (name, param) in params {
            let mut entry = Message::default();
            entry.bytes(1, name.as_bytes());
            entry.bytes(2, &param.encoded().0);
            start.bytes(1, &entry.0);
        }
        start.double(5, start_s);
        Self::of_session("_hparams_/session_start_info", 3, &start)
    }

    /// Makes the end of a session that reached its last step.
    pub fn session_end(end_s: f64) -> Self {
        let mut end = Message::default();
        end.varint(1, 1); // STATUS_SUCCESS
        end.double(2, end_s);
        Self::of_session("_hparams_/session_end_info", 4, &end)
    }

    pub(super) fn encoded(&self) -> &[u8] {
        &self.0.0
    }

    /// Makes a value of the HParams plugin, which reads only the metadata.
    fn of_session(tag: &str, field: u8, message: &Message) -> Self {
        let mut content = Message::default();
        content.bytes(field, &message.0);
        Self::with_tensor(tag, "hparams", &content.0, &tensor(FLOAT, &[0]))
    }

    fn with_tensor(tag: &str, plugin: &str, content: &[u8], tensor: &Message) -> Self {
        let mut plugin_data = Message::default();
        plugin_data.bytes(1, plugin.as_bytes());
        plugin_data.bytes(2, content);
        let mut metadata = Message::default();
        metadata.bytes(1, &plugin_data.0);
        metadata.varint(4, TENSOR_CLASS);
        let mut value = tagged(tag);
        value.bytes(8, &tensor.0);
        value.bytes(9, &metadata.0);
        Self(value)
    }
}

impl Param {
    /// Encodes it as `google.protobuf.Value`.
    fn encoded(&self) -> Message {
        let mut value = Message::default();
        match self {
            Self::Number(number) => value.double(2, *number),
            Self::Text(text) => value.bytes(3, text.as_bytes()),
            Self::Boolean(boolean) => value.varint(4, u64::from(*boolean)),
        }
        value
    }
}

fn tagged(tag: &str) -> Message {
    let mut value = Message::default();
    value.bytes(1, tag.as_bytes());
    value
}

/// Starts a `TensorProto` with this type and shape.
fn tensor(dtype: u64, sizes: &[u64]) -> Message {
    let mut shape = Message::default();
    for size in sizes {
        let mut dimension = Message::default();
        dimension.varint(1, *size);
        shape.bytes(2, &dimension.0);
    }
    let mut tensor = Message::default();
    tensor.varint(1, dtype);
    tensor.bytes(2, &shape.0);
    tensor
}

/// Returns the intervals of a histogram as `[left, right, count]`; the last one includes its right end.
fn buckets(numbers: &[f32]) -> Vec<[f64; 3]> {
    let finite = || numbers.iter().map(|number| f64::from(*number)).filter(|number| number.is_finite());
    let (Some(low), Some(high)) = (finite().reduce(f64::min), finite().reduce(f64::max)) else { return Vec::new() };
    if low == high {
        return vec![[low - 0.5, low + 0.5, finite().count() as f64]];
    }
    let edge = |number: usize| low + (high - low) * number as f64 / BUCKETS as f64;
    let mut rows: Vec<[f64; 3]> = (0..BUCKETS).map(|number| [edge(number), edge(number + 1), 0.0]).collect();
    for number in finite() {
        let bucket = ((number - low) / (high - low) * BUCKETS as f64) as usize;
        rows[bucket.min(BUCKETS - 1)][2] += 1.0;
    }
    rows
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_count_every_finite_number_once() {
        let check = |numbers: &[f32], expected: &[[f64; 3]]| {
            let found: Vec<[f64; 3]> = buckets(numbers).into_iter().filter(|row| row[2] > 0.0).collect();
            assert_eq!(found, expected, "{numbers:?}");
        };
        check(&[], &[]);
        check(&[f32::NAN, f32::INFINITY], &[]);
        check(&[2.0, 2.0, f32::NAN], &[[1.5, 2.5, 2.0]]);
        check(&[0.0, 30.0, 1.0, 1.5, 30.0], &[[0.0, 1.0, 1.0], [1.0, 2.0, 2.0], [29.0, 30.0, 2.0]]);
        assert_eq!(buckets(&[-1.0, 1.0]).len(), BUCKETS);
        assert_eq!(buckets(&[f32::MIN, f32::MAX]).iter().map(|row| row[2]).sum::<f64>(), 2.0);
    }
}
