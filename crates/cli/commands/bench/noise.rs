//! Examples without meaning: what is timed does not depend on values.

use strait::data::{DataInfo, Dataset, Part};
use strait::space::Shape;

/// Different examples; beyond them they repeat.
const DISTINCT: usize = 256;

/// Uniform noise of any shape, as many examples as a measurement needs.
#[derive(Debug)]
pub(super) struct Noise {
    info: DataInfo,
    len: usize,
    values: Vec<f32>,
}

impl Noise {
    pub(super) fn new(shape: Shape, classes: usize, len: usize) -> Self {
        let mut state = 0x9e37_79b9_7f4a_7c15u64;
        let mut next = || {
            // xorshift64 (Marsaglia, 2003); of the upper 24 bits a fraction.
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 40) as f32 / (1 << 24) as f32
        };
        let values = (0..DISTINCT * shape.elements()).map(|_| next()).collect();
        let classes = (0..classes).map(|class| class.to_string()).collect();
        Self { info: DataInfo { name: "noise".into(), shape, classes }, len, values }
    }
}

impl Dataset for Noise {
    fn info(&self) -> &DataInfo {
        &self.info
    }

    fn len(&self, _: Part) -> usize {
        self.len
    }

    fn read(&self, _: Part, index: usize, out: &mut [f32]) -> u32 {
        out.copy_from_slice(&self.values[index % DISTINCT * out.len()..][..out.len()]);
        (index % self.info.classes.len()) as u32
    }
}
