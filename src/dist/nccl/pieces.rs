//! How bytes of the host pass through a buffer on the device that is smaller than they are. All ranks compute the same pieces.

use std::ops::Range;

/// Splits bytes to send and bytes to receive into pieces of at most `room` bytes, one of each in every round. A round in which one side has
/// no bytes left has an empty piece. The other rank, which receives what this one sends, has the same pieces.
pub fn rounds(send: usize, receive: usize, room: usize) -> impl Iterator<Item = (Range<usize>, Range<usize>)> {
    let piece = move |length: usize, round: usize| (round * room).min(length)..((round + 1) * room).min(length);
    (0..send.max(receive).div_ceil(room)).map(move |round| (piece(send, round), piece(receive, round)))
}

/// A part of one rank's bytes that lies in a range of the bytes of all ranks, one after the other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// The rank.
    pub root: usize,
    /// Which of the rank's bytes.
    pub own: Range<usize>,
    /// Where they start in the range.
    pub at: usize,
}

/// Returns the parts of a range of the bytes of all ranks, which have these lengths. Empty parts are left out.
pub fn parts(lengths: &[usize], range: &Range<usize>) -> Vec<Part> {
    let (mut parts, mut start) = (Vec::new(), 0);
    for (root, length) in lengths.iter().enumerate() {
        let (from, to) = (range.start.max(start), range.end.min(start + length));
        if from < to {
            parts.push(Part { root, own: from - start..to - start, at: from - range.start });
        }
        start += length;
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounds_cover_both_sides_and_mirror_the_other_rank() {
        let check = |send, receive, expected: &[(Range<usize>, Range<usize>)]| {
            assert_eq!(rounds(send, receive, 4).collect::<Vec<_>>(), expected);
            let mirrored: Vec<_> = expected.iter().cloned().map(|(send, receive)| (receive, send)).collect();
            assert_eq!(rounds(receive, send, 4).collect::<Vec<_>>(), mirrored);
        };
        check(0, 0, &[]);
        check(4, 4, &[(0..4, 0..4)]);
        check(9, 3, &[(0..4, 0..3), (4..8, 3..3), (8..9, 3..3)]);
        check(0, 5, &[(0..0, 0..4), (0..0, 4..5)]);
    }

    #[test]
    fn parts_cover_every_byte_once() {
        let lengths = [3, 0, 5, 1];
        let part = |root, own, at| Part { root, own, at };
        assert_eq!(parts(&lengths, &(0..4)), [part(0, 0..3, 0), part(2, 0..1, 3)]);
        assert_eq!(parts(&lengths, &(4..8)), [part(2, 1..5, 0)]);
        assert_eq!(parts(&lengths, &(8..9)), [part(3, 0..1, 0)]);
        for room in 1..=10 {
            let mut found: Vec<Vec<usize>> = vec![Vec::new(); lengths.len()];
            for (range, _) in rounds(9, 0, room) {
                let filled: usize = parts(&lengths, &range).iter().map(|part| part.own.len()).sum();
                assert_eq!(filled, range.len());
                parts(&lengths, &range).into_iter().for_each(|part| found[part.root].extend(part.own));
            }
            let expected: Vec<Vec<usize>> = lengths.iter().map(|length| (0..*length).collect()).collect();
            assert_eq!(found, expected);
        }
    }
}
