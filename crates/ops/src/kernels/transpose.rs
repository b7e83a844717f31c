//! Matrices turned about.

use super::element::Real;

/// Rows that are read side by side, so that what is written lies in one piece.
const ROWS: usize = 16;

/// Writes a matrix of `cols` columns, turned: element `(i, j)` of `from` to `j·stride + i` of `to`.
pub(crate) fn transpose_to<T: Real>(from: &[T], cols: usize, to: &mut [T], stride: usize) {
    for (block, rows) in from.chunks(ROWS * cols).enumerate() {
        let n = rows.len() / cols;
        for j in 0..cols {
            let to = &mut to[j * stride + block * ROWS..][..n];
            to.iter_mut().zip(rows[j..].iter().step_by(cols)).for_each(|(to, &x)| *to = x);
        }
    }
}

/// A matrix of `cols` columns, turned.
pub(crate) fn transpose<T: Real>(from: &[T], cols: usize) -> Vec<T> {
    let mut to = vec![T::ZERO; from.len()];
    transpose_to(from, cols, &mut to, from.len() / cols);
    to
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_become_columns_whatever_their_number() {
        for (rows, cols) in [(1, 1), (1, 5), (5, 1), (3, 4), (16, 16), (17, 33), (64, 10)] {
            let from: Vec<f32> = (0..rows * cols).map(|i| i as f32).collect();
            let turned = transpose(&from, cols);
            for (i, j) in (0..rows).flat_map(|i| (0..cols).map(move |j| (i, j))) {
                assert_eq!(turned[j * rows + i], from[i * cols + j], "({i}, {j}) of {rows}×{cols}");
            }
            assert_eq!(transpose(&turned, rows), from);
        }
    }

    #[test]
    fn a_block_lands_inside_of_a_larger_matrix() {
        let mut to = [0.0f64; 8];
        transpose_to(&[1.0, 2.0, 3.0, 4.0], 2, &mut to[1..], 4);
        assert_eq!(to, [0.0, 1.0, 3.0, 0.0, 0.0, 2.0, 4.0, 0.0]);
    }
}
