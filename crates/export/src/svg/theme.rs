//! Colors, fonts, and which operation wears which.

use search_space::Genotype;

use super::{escape, px, text_width};

/// Families whose color must not change from one picture to the next; others take what these leave.
const KNOWN: [(&str, usize); 11] = [
    ("none", NONE),
    ("skip_connect", 2),
    ("nor_conv", 0),
    ("sep_conv", 0),
    ("mbconv", 0),
    ("dense", 0),
    ("dil_conv", 1),
    ("avg_pool", 3),
    ("max_pool", 4),
    ("conv", 5),
    ("noise", 6),
];
/// The class of what is not there.
const NONE: usize = 7;

/// Classes are `k0` to `k7`, in the order of Okabe & Ito (2008): blue, orange, green, purple, vermilion, sky, and two
/// greys. Orange and sky are darkened on white, all are lightened on black: at least 3 : 1 to the ground.
pub(super) const CSS: &str = "
.strait text{font-family:Inter,'Helvetica Neue',Helvetica,Arial,'Liberation Sans',sans-serif;fill:#1f2328}
.strait .title{font-size:21px;font-weight:600}
.strait .kind{font-size:15px;font-weight:600}
.strait .muted{font-size:12.5px;font-weight:400;fill:#656d76}
.strait .op,.strait .legend{font-family:'DejaVu Sans Mono',Menlo,Consolas,'Liberation Mono',monospace;font-size:12px}
.strait .op{text-anchor:middle}
.strait .page{fill:#fff}
.strait .panel{fill:#f6f8fa}
.strait .ground{fill:#fff}
.strait .node{fill:#fff;stroke:#57606a;stroke-width:1.5}
.strait .io{fill:#57606a;stroke:#57606a;stroke-width:1.5}
.strait .name{font-size:14px;text-anchor:middle}
.strait text.on-io{fill:#fff}
.strait .sub{font-size:10px}
.strait .l{fill:none;stroke-width:2;stroke-linecap:round}
.strait .b{fill-opacity:.13;stroke-width:1.3}
.strait .share .l{stroke-width:1.4}
.strait .k0 .l,.strait .k0 .b{stroke:#0072b2}.strait .k0 .t,.strait .k0 .b{fill:#0072b2}
.strait .k1 .l,.strait .k1 .b{stroke:#c77f00}.strait .k1 .t,.strait .k1 .b{fill:#c77f00}
.strait .k2 .l,.strait .k2 .b{stroke:#009e73}.strait .k2 .t,.strait .k2 .b{fill:#009e73}
.strait .k3 .l,.strait .k3 .b{stroke:#b8598f}.strait .k3 .t,.strait .k3 .b{fill:#b8598f}
.strait .k4 .l,.strait .k4 .b{stroke:#d55e00}.strait .k4 .t,.strait .k4 .b{fill:#d55e00}
.strait .k5 .l,.strait .k5 .b{stroke:#2e8fc7}.strait .k5 .t,.strait .k5 .b{fill:#2e8fc7}
.strait .k6 .l,.strait .k6 .b{stroke:#7d6b3d}.strait .k6 .t,.strait .k6 .b{fill:#7d6b3d}
.strait .k7 .l,.strait .k7 .b{stroke:#8c959f}.strait .k7 .t,.strait .k7 .b{fill:#8c959f}
.strait .k7 .l,.strait .k7 .b{stroke-dasharray:4 4}
.strait .share .l{stroke-dasharray:none}
@media (prefers-color-scheme:dark){
.strait text{fill:#e6edf3}
.strait .muted{fill:#9198a1}
.strait .page{fill:#0d1117}
.strait .panel{fill:#161b22}
.strait .ground{fill:#0d1117}
.strait .node{fill:#0d1117;stroke:#9198a1}
.strait .io{fill:#9198a1;stroke:#9198a1}
.strait text.on-io{fill:#0d1117}
.strait .b{fill-opacity:.22}
.strait .k0 .l,.strait .k0 .b{stroke:#4aa8e0}.strait .k0 .t,.strait .k0 .b{fill:#4aa8e0}
.strait .k1 .l,.strait .k1 .b{stroke:#e69f00}.strait .k1 .t,.strait .k1 .b{fill:#e69f00}
.strait .k2 .l,.strait .k2 .b{stroke:#2dc49a}.strait .k2 .t,.strait .k2 .b{fill:#2dc49a}
.strait .k3 .l,.strait .k3 .b{stroke:#dc8fbb}.strait .k3 .t,.strait .k3 .b{fill:#dc8fbb}
.strait .k4 .l,.strait .k4 .b{stroke:#f0803c}.strait .k4 .t,.strait .k4 .b{fill:#f0803c}
.strait .k5 .l,.strait .k5 .b{stroke:#56b4e9}.strait .k5 .t,.strait .k5 .b{fill:#56b4e9}
.strait .k6 .l,.strait .k6 .b{stroke:#c2ad78}.strait .k6 .t,.strait .k6 .b{fill:#c2ad78}
.strait .k7 .l,.strait .k7 .b{stroke:#6e7681}.strait .k7 .t,.strait .k7 .b{fill:#6e7681}
}
";

/// The families of operations in a picture, in order of appearance, and their classes.
pub(super) struct Families(Vec<(String, usize)>);

impl Families {
    pub(super) fn of(genotype: &Genotype) -> Self {
        let mut families: Vec<(String, usize)> = Vec::new();
        let (mut free, classes) = (0, [5, 6, 1, 3, 4]);
        for op in genotype.cells.iter().flat_map(|cell| &cell.edges).map(|edge| &edge.op) {
            let family = family(op);
            if families.iter().any(|(name, _)| name == family) {
                continue;
            }
            let known = KNOWN.iter().find(|(name, _)| *name == family).map(|&(_, class)| class);
            let class = known.unwrap_or_else(|| {
                free += 1;
                classes[(free - 1) % classes.len()]
            });
            families.push((family.to_owned(), class));
        }
        Self(families)
    }

    /// The style class of an operation.
    pub(super) fn class(&self, op: &str) -> usize {
        let family = family(op);
        self.0.iter().find(|(name, _)| name == family).map_or(NONE, |&(_, class)| class)
    }

    pub(super) fn legend_width(&self) -> f64 {
        self.0.iter().map(|(name, _)| text_width(name, 7.23) + 52.0).sum()
    }

    pub(super) fn legend(&self, mut x: f64, y: f64) -> String {
        let mut svg = String::new();
        for (name, class) in &self.0 {
            svg += &format!(
                "<g class=\"k{class}\"><path class=\"l\" d=\"M{} {}h20\"/>\
                 <text class=\"legend\" x=\"{}\" y=\"{}\">{}</text></g>\n",
                px(x),
                px(y - 4.0),
                px(x + 28.0),
                px(y),
                escape(name),
            );
            x += text_width(name, 7.23) + 52.0;
        }
        svg
    }
}

/// The style class of what carries no operation.
pub(super) const SHARE: usize = NONE;

/// A label without what follows its first parameter: `sep_conv_3x3` and `sep_conv_5` are both `sep_conv`.
fn family(op: &str) -> &str {
    let digit = op.match_indices('_').find(|(at, _)| op[at + 1..].starts_with(|c: char| c.is_ascii_digit()));
    digit.map_or(op, |(at, _)| &op[..at])
}

#[cfg(test)]
mod tests {
    use super::family;

    #[test]
    fn a_family_is_a_label_without_its_parameters() {
        let families = ["sep_conv_3x3", "mbconv_3x3_e6", "conv_7x1_1x7", "skip_connect", "dense"].map(family);
        assert_eq!(families, ["sep_conv", "mbconv", "conv", "skip_connect", "dense"]);
    }
}
