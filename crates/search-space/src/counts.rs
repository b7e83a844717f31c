//! How many architectures a space holds, in arbitrary precision.

use num_bigint::BigUint;

use crate::{
    Layout, Rule, Space,
    costs::{drops_none, kept},
};

impl Space {
    /// The number of architectures that [`Space::rule`] can derive from `layout`, a supernet's.
    #[must_use]
    pub fn architectures(&self, layout: &Layout) -> BigUint {
        self.architectures_per_kind(layout).into_iter().map(|(_, count)| count).product()
    }

    /// The same for every cell kind that the layout holds; of a kind whose cells choose for themselves, for all of
    /// its cells together.
    ///
    /// Under argmax every edge has its candidates, `none` included. Under top-k every node has its subsets of `k`
    /// incoming edges, each edge with its candidates but `none`: the `k`-th elementary symmetric polynomial of those
    /// numbers.
    #[must_use]
    pub fn architectures_per_kind(&self, layout: &Layout) -> Vec<(String, BigUint)> {
        let mut kinds: Vec<(String, BigUint)> = Vec::new();
        for node in layout.nodes_with_choices() {
            let kind = &layout.groups[node[0].0].kind;
            let choices: Vec<usize> =
                node.iter().map(|(group, _)| choices(layout, *group, self.rule())).collect();
            let ways = elementary(&choices, kept(self.rule(), choices.len()));
            match kinds.iter_mut().find(|(name, _)| name == kind) {
                Some((_, count)) => *count *= ways,
                None => kinds.push((kind.clone(), ways)),
            }
        }
        let order = |name: &str| self.kinds().iter().position(|kind| kind.name == name);
        kinds.sort_by_key(|(name, _)| order(name));
        kinds
    }
}

fn choices(layout: &Layout, group: usize, rule: Rule) -> usize {
    let candidates = layout.groups[group].candidates.iter();
    candidates.filter(|op| !(drops_none(rule) && op.is_none())).count()
}

/// The sum over all subsets of `k` numbers of their products.
fn elementary(numbers: &[usize], k: usize) -> BigUint {
    let mut sums = vec![BigUint::ZERO; k + 1];
    sums[0] = BigUint::from(1u32);
    for number in numbers {
        for size in (1..=k).rev() {
            let more = &sums[size - 1] * *number;
            sums[size] += more;
        }
    }
    sums.swap_remove(k)
}
