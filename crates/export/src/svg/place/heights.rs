//! The height of every box and slot: short and straight wires, nothing too close.

use super::{Columns, Layers, PORT};

/// Clear space between two neighbors of a column, in pixels.
const CLEAR: f64 = 13.0;
/// How far a box may move to straighten a wire, in pixels.
const NUDGE: f64 = 7.0;

impl Layers {
    /// The height of every member's center: short, straight wires, nothing too close.
    pub(super) fn coordinates(&self, columns: &Columns) -> Vec<f64> {
        let ports = self.ports(columns);
        let mut ys = vec![0.0; self.members.len()];
        for column in columns {
            self.settle(column, &mut ys, |_, place| (place as f64, 1.0));
        }
        for sweep in 0..60 {
            for step in 0..self.n_columns {
                let column = if sweep % 2 == 0 { step } else { self.n_columns - 1 - step };
                let before = ys.clone();
                self.settle(&columns[column], &mut ys, |member, _| self.pull(member, &ports, &before));
            }
        }
        for _ in 0..4 {
            self.straighten(columns, &ports, &mut ys);
            self.nudge_boxes(columns, &ports, &mut ys);
        }
        self.straighten(columns, &ports, &mut ys);
        let top =
            (ys.iter().zip(&self.members)).map(|(y, m)| y - m.size.height / 2.0).fold(f64::MAX, f64::min);
        ys.iter_mut().for_each(|y| *y -= top);
        ys
    }

    /// Where a member's joints would have it, and how strongly.
    fn pull(&self, member: usize, ports: &[(f64, f64)], ys: &[f64]) -> (f64, f64) {
        let (mut sum, mut weight) = (0.0, 0.0);
        for (joint, &(left, right)) in self.joints.iter().zip(ports) {
            let wanted = match member {
                _ if joint.left == member => ys[joint.right] + right - left,
                _ if joint.right == member => ys[joint.left] + left - right,
                _ => continue,
            };
            sum += joint.stiffness * wanted;
            weight += joint.stiffness;
        }
        if weight > 0.0 { (sum / weight, weight) } else { (ys[member], 1.0) }
    }

    /// Moves a column's members to where they are pulled, in order and clear of each other: the nearest such heights in
    /// the sense of least squares, by pooling adjacent violators.
    fn settle(&self, column: &[usize], ys: &mut [f64], pull: impl Fn(usize, usize) -> (f64, f64)) {
        let mut offsets = Vec::with_capacity(column.len());
        let mut pools: Vec<(f64, f64, usize)> = Vec::new(); // mean, weight, members
        let mut below = 0.0;
        for (place, &member) in column.iter().enumerate() {
            let half = self.members[member].size.height / 2.0;
            let offset = if place == 0 { 0.0 } else { below + CLEAR + half };
            below = offset + half;
            offsets.push(offset);
            let (wanted, weight) = pull(member, place);
            let mut pool = (wanted - offset, weight, 1);
            while let Some(above) = pools.pop_if(|above| above.0 > pool.0) {
                let sum = above.1 + pool.1;
                pool = ((above.0 * above.1 + pool.0 * pool.1) / sum, sum, above.2 + pool.2);
            }
            pools.push(pool);
        }
        let heights = pools.iter().flat_map(|&(mean, _, n)| std::iter::repeat_n(mean, n));
        for ((&member, offset), height) in column.iter().zip(offsets).zip(heights) {
            ys[member] = height + offset;
        }
    }

    /// Draws every wire level as far as its neighbors let it: a run of slots takes one height, if it can that of the port
    /// at one end.
    fn straighten(&self, columns: &Columns, ports: &[(f64, f64)], ys: &mut [f64]) {
        let mut joint = 0;
        for (chain, _) in &self.chains {
            let (first, last) = (joint, joint + chain.len() - 2);
            joint = last + 1;
            let start = ys[chain[0]] + ports[first].0;
            let end = ys[chain[chain.len() - 1]] + ports[last].1;
            let mut slots = &chain[1..chain.len() - 1];
            while !slots.is_empty() {
                let (n, (low, high)) = self.level_run(slots, columns, ys);
                let mean = slots[..n].iter().map(|&slot| ys[slot]).sum::<f64>() / n as f64;
                let wanted = [start, end].into_iter().find(|y| (low..=high).contains(y)).unwrap_or(mean);
                slots[..n].iter().for_each(|&slot| ys[slot] = wanted.clamp(low, high));
                slots = &slots[n..];
            }
        }
    }

    /// Moves each box by the few pixels that make the least bent of its wires straight.
    fn nudge_boxes(&self, columns: &Columns, ports: &[(f64, f64)], ys: &mut [f64]) {
        for node in (0..self.members.len()).filter(|&member| self.members[member].is_box) {
            let (low, high) = self.room(node, columns, ys);
            let rises = self.joints.iter().zip(ports).filter_map(|(joint, (left, right))| {
                let rise = ys[joint.right] + right - ys[joint.left] - left;
                (joint.left == node).then_some(rise).or((joint.right == node).then_some(-rise))
            });
            let near = rises.filter(|rise| rise.abs() < NUDGE && (low..=high).contains(&(ys[node] + rise)));
            if let Some(rise) = near.min_by(|a, b| a.abs().total_cmp(&b.abs())) {
                ys[node] += rise;
            }
        }
    }

    /// How many of the next slots can share a height, and from where to where.
    fn level_run(&self, slots: &[usize], columns: &Columns, ys: &[f64]) -> (usize, (f64, f64)) {
        let mut shared = self.room(slots[0], columns, ys);
        for (n, &slot) in slots.iter().enumerate().skip(1) {
            let (low, high) = self.room(slot, columns, ys);
            if low.max(shared.0) > high.min(shared.1) {
                return (n, shared);
            }
            shared = (low.max(shared.0), high.min(shared.1));
        }
        (slots.len(), shared)
    }

    /// How far up and down a member can move between its neighbors.
    fn room(&self, member: usize, columns: &Columns, ys: &[f64]) -> (f64, f64) {
        let column = &columns[self.members[member].column];
        let place = column.iter().position(|&m| m == member).expect("a member stands in its column");
        let apart = |other: usize| {
            CLEAR + f64::midpoint(self.members[member].size.height, self.members[other].size.height)
        };
        let above = place.checked_sub(1).map(|p| column[p]);
        let below = column.get(place + 1).copied();
        let low = above.map_or(f64::NEG_INFINITY, |m| ys[m] + apart(m));
        let high = below.map_or(f64::INFINITY, |m| ys[m] - apart(m));
        (low.min(ys[member]), high.max(ys[member]))
    }

    /// How far above or below a box's center each joint meets it, at its left and at its right end.
    pub(super) fn ports(&self, columns: &Columns) -> Vec<(f64, f64)> {
        let at = self.positions(columns);
        let mut ports = vec![(0.0, 0.0); self.joints.len()];
        for node in (0..self.members.len()).filter(|&member| self.members[member].is_box) {
            let mut out: Vec<_> = (0..self.joints.len()).filter(|&j| self.joints[j].left == node).collect();
            out.sort_by_key(|&j| at[self.joints[j].right]);
            let mut into: Vec<_> = (0..self.joints.len()).filter(|&j| self.joints[j].right == node).collect();
            into.sort_by_key(|&j| at[self.joints[j].left]);
            let offset = |place: usize, n: usize| (place as f64 - (n as f64 - 1.0) / 2.0) * PORT;
            out.iter().enumerate().for_each(|(place, &j)| ports[j].0 = offset(place, out.len()));
            into.iter().enumerate().for_each(|(place, &j)| ports[j].1 = offset(place, into.len()));
        }
        ports
    }
}
