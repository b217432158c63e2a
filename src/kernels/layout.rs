//! Moving a matrix between the layout of a file, `[out, in]`, and ours, `[in, out]`, where it may fill some columns of a wider one.

/// Elements of a square tile: 16 f32 are a cache line, so a tile reads and writes whole lines.
const TILE: usize = 16;

/// The columns `start..start + count` of a row-major matrix of `width` columns.
#[derive(Clone, Copy, Debug)]
pub struct Columns {
    /// Columns of the whole matrix.
    pub width: usize,
    /// The first column.
    pub start: usize,
}

/// Writes `source`, rows of `columns` values, as columns of `target`: `target[c][start + r] = source[r][c]`.
pub fn put_transposed(source: &[f32], columns: usize, target: &mut [f32], at: Columns) {
    let rows = source.len() / columns;
    for_tiles(rows, columns, |r, c| target[c * at.width + at.start + r] = source[r * columns + c]);
}

/// The reverse: `target[r][c] = source[c][start + r]`, rows of `columns` values.
pub fn take_transposed(source: &[f32], at: Columns, target: &mut [f32], columns: usize) {
    let rows = target.len() / columns;
    for_tiles(rows, columns, |r, c| target[r * columns + c] = source[c * at.width + at.start + r]);
}

/// Calls `visit(row, column)` tile by tile; within a tile the column of the file is the slow one, because ours is written (or read) by rows.
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
    fn a_matrix_comes_back_from_the_columns_that_it_filled() {
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
