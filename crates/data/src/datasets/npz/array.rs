//! The `.npy` format, versions 1 to 3: a header written as a Python dictionary, then the numbers.

use std::io::Read;

use crate::ErrorKind;
use crate::datasets::{Values, read};
use crate::error::Fault;

/// Longer headers belong to record arrays, which are no images.
const HEADER_LIMIT: u32 = 1 << 16;

/// An array in C order.
#[derive(Debug)]
pub(crate) struct Array {
    pub(crate) shape: Vec<usize>,
    kind: Kind,
    /// As many numbers as the shape says, as stored but in C order.
    bytes: Vec<u8>,
}

/// What one number is, and how many bytes it has; always little-endian, or one byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Unsigned(usize),
    Signed(usize),
    Float(usize),
}

impl Array {
    /// Reads one array to the end of `reader`; any bytes may be there.
    pub(crate) fn read(reader: &mut dyn Read) -> Result<Self, Fault> {
        let header = header(reader)?;
        let field = |key| field(&header, key).ok_or_else(|| malformed(&header));
        let kind = Kind::parse(field("descr")?)?;
        let shape = shape(field("shape")?).ok_or_else(|| malformed(&header))?;
        let (n, size) = shape.split_first().ok_or_else(|| malformed(&header))?;
        let bytes = read::records(reader, *n, &[size, &[kind.size()]].concat())?;
        let bytes = match field("fortran_order")? {
            "True" => to_c_order(&bytes, &shape, kind.size()),
            _ => bytes,
        };
        Ok(Self { shape, kind, bytes })
    }

    /// Unsigned bytes stay bytes; all else becomes `f32`, which may be infinite.
    pub(crate) fn into_values(self) -> Values {
        match self.kind {
            Kind::Unsigned(1) => Values::Bytes { data: self.bytes, full: 255 },
            kind => Values::Floats(
                self.bytes.chunks_exact(kind.size()).map(|bytes| kind.number(bytes) as f32).collect(),
            ),
        }
    }

    /// The numbers as labels, or the record that is none.
    pub(crate) fn into_labels(self) -> Result<Vec<u32>, Fault> {
        if !matches!(self.shape[..], [_] | [_, 1]) {
            let what = format!("has shape {:?}; accepted: one label for each example", self.shape);
            return Err(ErrorKind::Malformed(what).into());
        }
        let label = |(record, bytes)| match self.kind.number(bytes) {
            label if (0.0..4_294_967_296.0).contains(&label) && label.fract() == 0.0 => Ok(label as u32),
            label => {
                let accepted = "integers from 0".to_owned();
                Err(Fault::at(record, ErrorKind::Label { found: label.to_string(), accepted }))
            }
        };
        self.bytes.chunks_exact(self.kind.size()).enumerate().map(label).collect()
    }
}

impl Kind {
    fn parse(text: &str) -> Result<Self, ErrorKind> {
        match text.trim_matches(['\'', '"']) {
            "|u1" | "<u1" | "|b1" => Ok(Self::Unsigned(1)),
            "<u2" => Ok(Self::Unsigned(2)),
            "<u4" => Ok(Self::Unsigned(4)),
            "<u8" => Ok(Self::Unsigned(8)),
            "|i1" | "<i1" => Ok(Self::Signed(1)),
            "<i2" => Ok(Self::Signed(2)),
            "<i4" => Ok(Self::Signed(4)),
            "<i8" => Ok(Self::Signed(8)),
            "<f4" => Ok(Self::Float(4)),
            "<f8" => Ok(Self::Float(8)),
            other => Err(ErrorKind::Malformed(format!(
                "holds numbers of type `{other}`; accepted: |u1, |i1, |b1, <u2 to <u8, <i2 to <i8, <f4, <f8"
            ))),
        }
    }

    fn size(self) -> usize {
        match self {
            Self::Unsigned(size) | Self::Signed(size) | Self::Float(size) => size,
        }
    }

    /// The number in `bytes`, of which there are [`size`](Self::size).
    fn number(self, bytes: &[u8]) -> f64 {
        let mut wide = [0; 8];
        wide[..bytes.len()].copy_from_slice(bytes);
        let bits = u64::from_le_bytes(wide);
        match self {
            Self::Unsigned(_) => bits as f64,
            Self::Signed(size) => {
                let unused = 64 - 8 * size as u32;
                ((bits << unused) as i64 >> unused) as f64
            }
            Self::Float(4) => f64::from(f32::from_bits(bits as u32)),
            Self::Float(_) => f64::from_bits(bits),
        }
    }
}

fn malformed(header: &str) -> ErrorKind {
    let start: String = header.chars().take(120).collect();
    ErrorKind::Malformed(format!(
        "has the header `{}`; accepted: descr, fortran_order, shape",
        start.trim_end()
    ))
}

fn header(reader: &mut dyn Read) -> Result<String, ErrorKind> {
    let start = read::head(reader, 8)?;
    let [0x93, b'N', b'U', b'M', b'P', b'Y', major @ 1..=3, _] = start[..] else {
        return Err(ErrorKind::Magic {
            found: format!("{start:02x?}"),
            accepted: "93 NUMPY, versions 1 to 3",
        });
    };
    let mut length = [0; 4];
    let n = if major == 1 { 2 } else { 4 };
    length[..n].copy_from_slice(&read::head(reader, n as u32)?);
    match u32::from_le_bytes(length) {
        long if long > HEADER_LIMIT => {
            Err(ErrorKind::TooLarge { found: long.into(), limit: HEADER_LIMIT.into() })
        }
        length => Ok(String::from_utf8_lossy(&read::head(reader, length)?).into_owned()),
    }
}

/// What stands after `'key':`, up to the comma that ends it; parentheses hold theirs together.
fn field<'a>(header: &'a str, key: &str) -> Option<&'a str> {
    let after = |quote: char| header.split_once(&format!("{quote}{key}{quote}:"));
    let (_, rest) = after('\'').or_else(|| after('"'))?;
    let rest = rest.trim_start();
    let end = match rest.starts_with('(') {
        true => rest.find(')')? + 1,
        false => rest.find([',', '}'])?,
    };
    Some(rest[..end].trim())
}

/// `(60000, 28, 28)` or `(60000,)`.
fn shape(text: &str) -> Option<Vec<usize>> {
    let inner = text.strip_prefix('(')?.strip_suffix(')')?;
    let dims = inner.split(',').map(str::trim).filter(|dim| !dim.is_empty());
    dims.map(|dim| dim.parse().ok()).collect()
}

/// From first axis fastest to last axis fastest.
fn to_c_order(bytes: &[u8], shape: &[usize], size: usize) -> Vec<u8> {
    let mut out = Vec::with_capacity(bytes.len());
    let mut index = vec![0; shape.len()];
    for _ in 0..bytes.len() / size {
        let at = index.iter().zip(shape).rfold(0, |at, (i, dim)| at * dim + i);
        out.extend_from_slice(&bytes[at * size..(at + 1) * size]);
        for (i, dim) in index.iter_mut().zip(shape).rev() {
            *i += 1;
            if *i < *dim {
                break;
            }
            *i = 0;
        }
    }
    out
}
