//! Sketches as expressions of PyTorch.

use std::fmt::Write;

use ops::{
    Sketch,
    kernels::{Prelude, Window},
    layers::Activation,
};
use search_space::{Extent, OpSpec, Rank, Site};

use crate::{
    Error, Trained,
    named::{leaf, spatial_axes},
    trained::{Reach, moved, spatial},
};

/// One Python function for each distinct operation.
pub(super) struct Functions<'a> {
    trained: &'a Trained,
    /// Name and body.
    known: Vec<(String, String)>,
}

impl<'a> Functions<'a> {
    pub(super) fn new(trained: &'a Trained) -> Self {
        Self { trained, known: Vec::new() }
    }

    /// The call of the function that makes this operation.
    pub(super) fn call(
        &mut self,
        op: &OpSpec,
        site: &Site,
        sketch: &Sketch,
        place: &str,
    ) -> Result<String, Error> {
        if *sketch == Sketch::identity() {
            return Ok("nn.Identity()".to_owned());
        }
        let body = module(self.trained, sketch, site.extent, place, 1)?;
        let mut name = format!("{}_{}", op.label, site.c_in);
        if site.c_out != site.c_in {
            let _ = write!(name, "_{}", site.c_out);
        }
        if site.stride > 1 {
            let _ = write!(name, "_s{}", site.stride);
        }
        let more = (2..).map(|n| format!("{name}_v{n}"));
        for name in std::iter::once(name.clone()).chain(more) {
            match self.known.iter().find(|(known, _)| *known == name) {
                Some((_, same)) if *same == body => return Ok(format!("{name}()")),
                Some(_) => {}
                None => {
                    self.known.push((name.clone(), body));
                    return Ok(format!("{name}()"));
                }
            }
        }
        unreachable!("numbers do not end")
    }

    /// The functions' definitions.
    pub(super) fn text(&self) -> String {
        let define = |(name, body): &(String, String)| format!("\n\ndef {name}():\n    return {body}\n");
        self.known.iter().map(define).collect()
    }
}

/// The expression of a sketch on maps of `extent`, its lines indented by `depth` steps.
pub(super) fn module(
    trained: &Trained,
    sketch: &Sketch,
    extent: Extent,
    place: &str,
    depth: usize,
) -> Result<String, Error> {
    let mut writer = Writer { trained, place };
    Ok(writer.whole(sketch, extent, depth)?.0)
}

struct Writer<'a> {
    trained: &'a Trained,
    /// The operation's scope of ours.
    place: &'a str,
}

/// Children of a `Sequential`: name and expression.
type Children = Vec<(String, String)>;

impl Writer<'_> {
    /// One module for the whole sketch.
    fn whole(&mut self, sketch: &Sketch, extent: Extent, depth: usize) -> Result<(String, Extent), Error> {
        let branches = match sketch {
            Sketch::Sum(branches) => Some(("Sum", branches)),
            Sketch::Concat(branches) => Some(("Concat", branches)),
            Sketch::Chain(_) | Sketch::Conv { .. } | Sketch::Depthwise { .. } | Sketch::BatchNorm { .. } => {
                None
            }
            Sketch::Linear { .. } | Sketch::Activation(_) | Sketch::GlobalPool => None,
            Sketch::MaxPool(_) | Sketch::AveragePool(_) => None,
        };
        let Some((class, branches)) = branches else {
            let mut children = Vec::new();
            let after = self.children(sketch, extent, depth + 1, &mut children)?;
            return Ok((sequential(children, depth), after));
        };
        let (mut text, mut after) = (format!("{class}([\n"), extent);
        for branch in branches {
            let (module, moved) = self.whole(branch, extent, depth + 1)?;
            let _ = writeln!(text, "{}{module},", indent(depth + 1));
            after = moved;
        }
        Ok((format!("{text}{}])", indent(depth)), after))
    }

    /// The links of a chain.
    fn children(
        &mut self,
        sketch: &Sketch,
        extent: Extent,
        depth: usize,
        into: &mut Children,
    ) -> Result<Extent, Error> {
        let rank = extent.rank();
        let axes = spatial_axes(rank);
        match sketch {
            Sketch::Chain(links) => {
                return links
                    .iter()
                    .try_fold(extent, |extent, link| self.children(link, extent, depth, into));
            }
            Sketch::Sum(_) | Sketch::Concat(_) => {
                // The paths of its weights begin at the operation itself (`crate::named`).
                let (module, after) = self.whole(sketch, extent, depth)?;
                free(into, "branches", &module);
                return Ok(after);
            }
            Sketch::Conv { name, bias, window, prelude } => {
                let kernel = self.trained.kernel(name, rank)?;
                let (c_out, c_in) = (kernel.dims[0], kernel.dims[1]);
                self.convolution(name, (c_in, c_out, 1, *bias), (window, *prelude), extent, into);
                return Ok(moved(extent, window));
            }
            Sketch::Depthwise { name, window, prelude } => {
                let channels = self.trained.filters(name, rank)?.dims[0];
                self.convolution(
                    name,
                    (channels, channels, channels, false),
                    (window, *prelude),
                    extent,
                    into,
                );
                return Ok(moved(extent, window));
            }
            Sketch::BatchNorm { name, affine, eps } => {
                let channels = self.trained.vector(name, "running_mean")?.len();
                let affine = if *affine { "" } else { ", affine=False" };
                let class = format!("nn.BatchNorm{}d({channels}, eps={eps:e}{affine})", axes.max(1));
                into.push((leaf(name, self.place), class));
            }
            Sketch::Linear { name } => {
                let matrix = self.trained.matrix(name)?;
                let class = format!("nn.Linear({}, {})", matrix.dims[1], matrix.dims[0]);
                into.push((leaf(name, self.place), class));
            }
            Sketch::Activation(Activation::Identity) => {}
            Sketch::Activation(Activation::Relu) => free(into, "relu", "nn.ReLU()"),
            Sketch::Activation(Activation::Relu6) => free(into, "relu6", "nn.ReLU6()"),
            Sketch::MaxPool(window) => {
                let pool = pool(&format!("nn.MaxPool{axes}d"), window, extent, "");
                free(into, "pool", &pool);
                return Ok(moved(extent, window));
            }
            Sketch::AveragePool(window) => {
                let pool = pool(&format!("nn.AvgPool{axes}d"), window, extent, ", count_include_pad=False");
                free(into, "pool", &pool);
                return Ok(moved(extent, window));
            }
            Sketch::GlobalPool => {
                free(into, "pool", "GlobalPool()");
                return Ok(Extent::Flat);
            }
        }
        Ok(extent)
    }

    fn convolution(
        &mut self,
        name: &str,
        (c_in, c_out, groups, bias): (usize, usize, usize, bool),
        (window, prelude): (&Window, Prelude),
        extent: Extent,
        into: &mut Children,
    ) {
        if prelude == Prelude::Relu {
            free(into, "relu", "nn.ReLU()");
        }
        let (rank, bias) = (extent.rank(), if bias { "" } else { ", bias=False" });
        if rank == Rank::Flat {
            into.push((leaf(name, self.place), format!("nn.Linear({c_in}, {c_out}{bias})")));
            return;
        }
        let reach = Reach::of(window, extent);
        let mut pad = pair(&spatial(reach.begin, rank));
        if reach.cuts() || outputs(window, reach.begin, extent) != plane(moved(extent, window)) {
            let sides: Vec<String> = (0..2)
                .rev()
                .filter(|&axis| rank == Rank::Image || axis == 1)
                .flat_map(|axis| {
                    [reach.begin[axis] as isize - reach.crop[axis] as isize, reach.end[axis] as isize]
                })
                .map(|side| side.to_string())
                .collect();
            free(into, "pad", &format!("Pad({})", sides.join(", ")));
            pad = "0".to_owned();
        }
        let axes = spatial_axes(rank);
        let mut text =
            format!("nn.Conv{axes}d({c_in}, {c_out}, {}", pair(&spatial(both(window.kernel), rank)));
        for (key, value, plain) in [
            ("stride", pair(&spatial(both(window.stride), rank)), "1"),
            ("padding", pad, "0"),
            ("dilation", pair(&spatial(both(window.dilation), rank)), "1"),
            ("groups", groups.to_string(), "1"),
        ] {
            if value != plain {
                let _ = write!(text, ", {key}={value}");
            }
        }
        into.push((leaf(name, self.place), format!("{text}{bias})")));
    }
}

fn both((rows, columns): (usize, usize)) -> [usize; 2] {
    [rows, columns]
}

fn plane(extent: Extent) -> [usize; 2] {
    both(extent.plane())
}

/// How many outputs there are with the same padding on both sides, as PyTorch has it.
fn outputs(window: &Window, pad: [usize; 2], extent: Extent) -> [usize; 2] {
    let (size, kernel) = (plane(extent), both(window.kernel));
    let (stride, dilation) = (both(window.stride), both(window.dilation));
    [0, 1].map(|i| (size[i] + 2 * pad[i]).saturating_sub(dilation[i] * (kernel[i] - 1) + 1) / stride[i] + 1)
}

/// A pool; where the last windows are partial, PyTorch counts them with `ceil_mode`.
fn pool(class: &str, window: &Window, extent: Extent, more: &str) -> String {
    let rank = extent.rank();
    let begin = Reach::of(window, extent).begin;
    let partial = outputs(window, begin, extent) != plane(moved(extent, window));
    let [kernel, stride, pad] =
        [both(window.kernel), both(window.stride), begin].map(|numbers| pair(&spatial(numbers, rank)));
    let ceil = if partial { ", ceil_mode=True" } else { "" };
    format!("{class}({kernel}, stride={stride}, padding={pad}{ceil}{more})")
}

/// `3`, or `(1, 7)` where the axes differ.
fn pair(numbers: &[usize]) -> String {
    match numbers {
        [a, b] if a != b => format!("({a}, {b})"),
        [a, ..] => a.to_string(),
        [] => "0".to_owned(),
    }
}

/// Adds a child without weights under the next free name.
fn free(children: &mut Children, name: &str, module: &str) {
    let more = (2..).map(|n| format!("{name}_{n}"));
    let taken = |name: &String| children.iter().any(|(known, _)| known == name);
    let name = std::iter::once(name.to_owned()).chain(more).find(|name| !taken(name));
    children.push((name.expect("numbers do not end"), module.to_owned()));
}

fn sequential(children: Children, depth: usize) -> String {
    if children.is_empty() {
        return "nn.Identity()".to_owned();
    }
    let line = |(name, module): (String, String)| format!("{}{name}={module},\n", indent(depth + 1));
    let lines: String = children.into_iter().map(line).collect();
    format!("sequence(\n{lines}{})", indent(depth))
}

fn indent(depth: usize) -> String {
    "    ".repeat(depth)
}
