//! The order of every column: few crossings, by barycenters and swaps from several starts.

use super::{Columns, Joint, Layers, STARTS};

impl Layers {
    /// One order of every column with few crossings, found from a start of its own.
    pub(super) fn ordered(&self, start: u64) -> Columns {
        let mut columns = vec![Vec::new(); self.n_columns];
        for (index, member) in self.members.iter().enumerate() {
            columns[member.column].push(index);
        }
        let mut state = start;
        for column in columns.iter_mut().filter(|_| start > 0) {
            shuffle(column, &mut state);
        }
        for sweep in 0..8 {
            self.sweep(&mut columns, sweep % 2 == 0);
        }
        if self.joints.len() <= STARTS.1 {
            self.swap_neighbors(&mut columns);
        }
        columns
    }

    /// Sorts every column by the mean position of its neighbors on one side.
    fn sweep(&self, columns: &mut Columns, rightward: bool) {
        for step in 1..self.n_columns {
            let position = self.positions(columns);
            let column = if rightward { step } else { self.n_columns - 1 - step };
            let mean = |&member: &usize| {
                let side = self.joints.iter().filter_map(|joint| match (joint.left, joint.right) {
                    (left, right) if rightward && right == member => Some(position[left]),
                    (left, right) if !rightward && left == member => Some(position[right]),
                    _ => None,
                });
                let (sum, n) = side.fold((0.0, 0.0), |(sum, n), at| (sum + at as f64, n + 1.0));
                if n > 0.0 { sum / n } else { position[member] as f64 }
            };
            columns[column].sort_by(|a, b| mean(a).total_cmp(&mean(b)));
        }
    }

    /// Swaps neighbors in a column as long as that removes a crossing.
    fn swap_neighbors(&self, columns: &mut Columns) {
        let mut fewest = self.crossings(columns);
        let mut improved = true;
        while improved && fewest > 0 {
            improved = false;
            for column in 0..self.n_columns {
                for upper in 1..columns[column].len() {
                    columns[column].swap(upper - 1, upper);
                    let found = self.crossings(columns);
                    if found < fewest {
                        (fewest, improved) = (found, true);
                    } else {
                        columns[column].swap(upper - 1, upper);
                    }
                }
            }
        }
    }

    /// Every member's place in its column.
    pub(super) fn positions(&self, columns: &Columns) -> Vec<usize> {
        let mut positions = vec![0; self.members.len()];
        for column in columns {
            for (place, &member) in column.iter().enumerate() {
                positions[member] = place;
            }
        }
        positions
    }

    pub(super) fn crossings(&self, columns: &Columns) -> usize {
        let at = self.positions(columns);
        let column = |joint: &Joint| self.members[joint.left].column;
        let crosses = |a: &Joint, b: &Joint| {
            column(a) == column(b)
                && (at[a.left] < at[b.left] && at[a.right] > at[b.right]
                    || at[a.left] > at[b.left] && at[a.right] < at[b.right])
        };
        let pairs = self.joints.iter().enumerate();
        pairs.map(|(i, a)| self.joints[i + 1..].iter().filter(|b| crosses(a, b)).count()).sum()
    }

    /// Pairs of boxes of which the later stands above.
    pub(super) fn inversions(&self, column: &[usize]) -> usize {
        let boxes: Vec<_> = column.iter().filter(|&&member| self.members[member].is_box).collect();
        boxes.iter().enumerate().map(|(i, a)| boxes[i + 1..].iter().filter(|b| b < &a).count()).sum()
    }
}

/// The same order upside down.
pub(super) fn flipped(columns: &Columns) -> Columns {
    columns.iter().map(|column| column.iter().rev().copied().collect()).collect()
}

/// Shuffles by a multiplicative generator: which start is tried when must never change.
fn shuffle(members: &mut [usize], state: &mut u64) {
    for last in (1..members.len()).rev() {
        *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        members.swap(last, (*state >> 33) as usize % (last + 1));
    }
}
