//! Converts matrices between the layout of weight files, `[out, in]`, and this program's layout, `[in, out]`, where several matrices may be
//! columns of one wider matrix.

/// Rows and columns of a tile. A cache line has 16 f32, so a tile reads and writes whole lines.
const TILE: usize = 16;

/// Where a matrix starts within a wider row-major matrix.
#[derive(Clone, Copy, Debug)]
pub struct Columns {
    /// Number of columns of the wider matrix.
    pub width: usize,
    /// The first column that the matrix fills.
    pub start: usize,
}

/// Writes `source`, a row-major matrix with `columns` columns, to columns of `target`: `target[c][start + r] = source[r][c]`.
pub fn put_transposed(source: &[f32], columns: usize, target: &mut [f32], at: Columns) {
    let rows = source.len() / columns;
    for_tiles(rows, columns, |r, c| target[c * at.width + at.start + r] = source[r * columns + c]);
}

/// The inverse of [`put_transposed`]: fills `target`, a row-major matrix with `columns` columns. `target[r][c] = source[c][start + r]`.
pub fn take_transposed(source: &[f32], at: Columns, target: &mut [f32], columns: usize) {
    let rows = target.len() / columns;
    for_tiles(rows, columns, |r, c| target[r * columns + c] = source[c * at.width + at.start + r]);
}

/// Calls `visit(row, column)` tile by tile. The inner loop runs over the file's rows, so that memory in this program's
/// layout is accessed contiguously.
fn for_tiles(rows: usize, columns: usize, mut visit: impl FnMut(usize, usize)) {
    for first_row in (0..rows).step_by(TILE) {
        for first_column in (0..columns).step_by(TILE) {
            for column in first_column..(first_column + TILE).min(columns) {
                for row in first_row..(first_row + TILE).min(rows) {
                    visit(row, column);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn take_transposed_inverts_put_transposed() {
        for (rows, columns) in [(1, 1), (3, 40), (16, 16), (33, 17), (64, 5)] {
            let source: Vec<f32> = (0..rows * columns).map(|i| i as f32).collect();
            let at = Columns { width: rows + 7, start: 4 };
            let mut ours = vec![-1.0; columns * at.width];
            put_transposed(&source, columns, &mut ours, at);
            assert!((0..rows).all(|r| (0..columns).all(|c| ours[c * at.width + 4 + r] == source[r * columns + c])));
            assert_eq!(ours.iter().filter(|x| **x == -1.0).count(), columns * 7);
            let mut back = vec![0.0; source.len()];
            take_transposed(&ours, at, &mut back, columns);
            assert_eq!(back, source);
        }
    }
}
