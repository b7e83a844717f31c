//! Where things go: a layered drawing (Sugiyama, Tagawa & Toda, 1981) in which labels are members of layers.
//!
//! Boxes stand in even columns, labels in the odd ones between. A link that passes a column has a slot there of its
//! own, and runs level across it, so a label can meet neither a box nor another link: what crosses, crosses in the gaps
//! between columns, and the order of the slots is searched so that little does.

use order::flipped;

mod heights;
mod order;
#[cfg(test)]
mod tests;

/// Distance of two links at a box, in pixels.
pub(super) const PORT: f64 = 11.0;
/// Orders tried, each from another start, and the number of joints up to which so many are worth their time.
const STARTS: (u64, usize) = (48, 120);

/// A box or a label to place: its size in pixels.
#[derive(Clone, Copy, Debug)]
pub(super) struct Size {
    pub(super) width: f64,
    pub(super) height: f64,
}

/// A link to route.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wire {
    pub(super) from: usize,
    /// Above `from`.
    pub(super) to: usize,
    pub(super) label: Option<Size>,
}

/// The finished drawing; all positions in pixels from the top left.
#[derive(Debug)]
pub(super) struct Placed {
    /// Center and size of every box.
    pub(super) boxes: Vec<(Point, Size)>,
    pub(super) routes: Vec<Route>,
    pub(super) width: f64,
    pub(super) height: f64,
}

/// A link's way: level pieces, joined by curves with level ends.
#[derive(Debug)]
pub(super) struct Route {
    /// `(x from, x to, y)` of every level piece, from left to right.
    pub(super) level: Vec<(f64, f64, f64)>,
    /// The label's center.
    pub(super) label: Option<Point>,
}

/// A position.
#[derive(Clone, Copy, Debug)]
pub(super) struct Point {
    pub(super) x: f64,
    pub(super) y: f64,
}

/// Places boxes and routes wires.
pub(super) fn place(boxes: &[Size], wires: &[Wire]) -> Placed {
    let layers = Layers::new(boxes, wires);
    let starts = if layers.joints.len() > STARTS.1 { 1 } else { STARTS.0 };
    let orders = (0..starts).map(|start| layers.ordered(start)).flat_map(|order| [flipped(&order), order]);
    let tried = orders.map(|columns| (layers.coordinates(&columns), columns));
    let best = tried.min_by(|(a, x), (b, y)| layers.cost(x, a).total_cmp(&layers.cost(y, b)));
    let (ys, columns) = best.expect("at least one start");
    layers.drawn(boxes, wires, &columns, &ys)
}

/// A member of a column: a box, or a wire's slot.
#[derive(Clone, Copy, Debug)]
struct Member {
    column: usize,
    size: Size,
    is_box: bool,
}

/// Two members of neighboring columns that a wire joins.
#[derive(Clone, Copy, Debug)]
struct Joint {
    left: usize,
    right: usize,
    /// How much it resists a slope: more between slots than at boxes.
    stiffness: f64,
}

/// The problem: members, joints, and which members are each wire's.
struct Layers {
    members: Vec<Member>,
    joints: Vec<Joint>,
    /// Per wire its members from box to box, and which of them bears the label.
    chains: Vec<(Vec<usize>, Option<usize>)>,
    n_columns: usize,
}

type Columns = Vec<Vec<usize>>;

impl Layers {
    fn new(boxes: &[Size], wires: &[Wire]) -> Self {
        let ranks = ranks(boxes.len(), wires);
        let n_columns = ranks.iter().max().map_or(0, |last| last + 1);
        let of_box = |(&column, &size): (&usize, &Size)| Member { column, size, is_box: true };
        let mut layers = Self {
            members: ranks.iter().zip(boxes).map(of_box).collect(),
            joints: Vec::new(),
            chains: Vec::new(),
            n_columns,
        };
        let mut labels = vec![0; n_columns];
        for wire in wires {
            layers.thread(wire, &ranks, &mut labels);
        }
        layers
    }

    /// Gives a wire a slot in every column it passes; its label goes to the odd column with the fewest.
    fn thread(&mut self, wire: &Wire, ranks: &[usize], labels: &mut [usize]) {
        let (first, last) = (ranks[wire.from] + 1, ranks[wire.to]);
        let bearer = (first..last).step_by(2).min_by_key(|&column| labels[column]);
        let bearer = bearer.filter(|_| wire.label.is_some());
        let mut chain = vec![wire.from];
        bearer.iter().for_each(|&column| labels[column] += 1);
        for column in first..last {
            let bears = bearer == Some(column);
            let size = wire.label.filter(|_| bears).unwrap_or(Size { width: 0.0, height: 2.0 });
            chain.push(self.members.len());
            self.members.push(Member { column, size, is_box: false });
        }
        chain.push(wire.to);
        for pair in chain.windows(2) {
            let slots = pair.iter().filter(|&&m| !self.members[m].is_box).count();
            let stiffness = [1.0, 2.0, 8.0][slots];
            self.joints.push(Joint { left: pair[0], right: pair[1], stiffness });
        }
        let label = bearer.map(|column| chain[column - first + 1]);
        self.chains.push((chain, label));
    }

    /// What the eye pays: crossings first, then slopes and height, and boxes that stand above earlier ones.
    fn cost(&self, columns: &Columns, ys: &[f64]) -> f64 {
        let ports = self.ports(columns);
        let slopes = self.joints.iter().zip(&ports).map(|(joint, (left, right))| {
            joint.stiffness.sqrt() * (ys[joint.left] + left - ys[joint.right] - right).abs()
        });
        let height = ys.iter().zip(&self.members).map(|(y, m)| y + m.size.height / 2.0).fold(0.0, f64::max);
        let inversions: usize = columns.iter().map(|column| self.inversions(column)).sum();
        let (crossings, inversions) = (self.crossings(columns) as f64, inversions as f64);
        1000.0 * crossings + slopes.sum::<f64>() + 2.0 * height + 60.0 * inversions
    }

    fn drawn(&self, boxes: &[Size], wires: &[Wire], columns: &Columns, ys: &[f64]) -> Placed {
        let ports = self.ports(columns);
        let spans = self.spans(columns, ys, &ports);
        let center = |member: usize| {
            let (left, right) = spans[self.members[member].column];
            Point { x: f64::midpoint(left, right), y: ys[member] }
        };
        let mut joint = 0;
        let mut routes = Vec::new();
        for (wire, (chain, label)) in wires.iter().zip(&self.chains) {
            let joints = joint..joint + chain.len() - 1;
            joint = joints.end;
            let start = center(wire.from).x + boxes[wire.from].width / 2.0;
            let end = center(wire.to).x - boxes[wire.to].width / 2.0;
            let (port_out, port_in) = (ports[joints.start].0, ports[joints.end - 1].1);
            let mut level = vec![(start, spans[self.members[wire.from].column].1, ys[wire.from] + port_out)];
            for &slot in &chain[1..chain.len() - 1] {
                let (left, right) = spans[self.members[slot].column];
                level.push((left, right, ys[slot]));
            }
            level.push((spans[self.members[wire.to].column].0, end, ys[wire.to] + port_in));
            routes.push(Route { level, label: label.map(center) });
        }
        let bottom = ys.iter().zip(&self.members).map(|(y, m)| y + m.size.height / 2.0).fold(0.0, f64::max);
        Placed {
            boxes: boxes.iter().enumerate().map(|(node, &size)| (center(node), size)).collect(),
            routes,
            width: spans.last().map_or(0.0, |span| span.1),
            height: bottom,
        }
    }

    /// Every column's left and right end; the gap in front of a column grows with the steepest wire in it.
    fn spans(&self, columns: &Columns, ys: &[f64], ports: &[(f64, f64)]) -> Vec<(f64, f64)> {
        let mut spans: Vec<(f64, f64)> = Vec::new();
        for (index, column) in columns.iter().enumerate() {
            let width = column.iter().map(|&m| self.members[m].size.width).fold(0.0, f64::max);
            let rise = (self.joints.iter().zip(ports))
                .filter(|(joint, _)| self.members[joint.right].column == index)
                .map(|(joint, (left, right))| (ys[joint.left] + left - ys[joint.right] - right).abs());
            let gap = (22.0 + 0.3 * rise.fold(0.0, f64::max)).min(84.0);
            let left = spans.last().map_or(0.0, |last| last.1 + gap);
            spans.push((left, left + width));
        }
        spans
    }
}

/// Even columns, each box one step right of the furthest box it reads.
fn ranks(n_boxes: usize, wires: &[Wire]) -> Vec<usize> {
    let mut ranks = vec![0; n_boxes];
    for node in 0..n_boxes {
        let sources = wires.iter().filter(|wire| wire.to == node).map(|wire| ranks[wire.from] + 2);
        ranks[node] = sources.max().unwrap_or(0);
    }
    ranks
}
