//! `digits`: UCI's optical digits, 8×8, embedded in the binary (CC BY 4.0; see `digits/README.md`).

use std::io::Read;
use std::sync::{Arc, OnceLock};

use flate2::read::GzDecoder;
use search_space::{Extent, Shape};

use super::{Examples, InMemory, Values};
use crate::{Dataset, Error, ErrorKind};

/// 3,823 training and 1,797 test images by other writers; unpacked at first use, once per process.
pub(crate) fn open() -> Result<Arc<dyn Dataset>, Error> {
    static DIGITS: OnceLock<Arc<InMemory>> = OnceLock::new();
    if let Some(digits) = DIGITS.get() {
        return Ok(digits.clone());
    }
    let train = unpack(include_bytes!("digits/optdigits.tra.gz"))?;
    let test = unpack(include_bytes!("digits/optdigits.tes.gz"))?;
    let shape = Shape { extent: Extent::Image { height: 8, width: 8 }, channels: 1 };
    let classes = (0..10).map(|digit| digit.to_string()).collect();
    let digits = Arc::new(InMemory::new("digits", shape, classes, train, test)?);
    Ok(DIGITS.get_or_init(|| digits).clone())
}

/// Lines of 64 integers 0..=16 and the digit.
fn unpack(gz: &[u8]) -> Result<Examples, Error> {
    let mut text = String::new();
    GzDecoder::new(gz).read_to_string(&mut text).map_err(|error| Error::named("digits", error))?;
    let (mut data, mut labels) = (Vec::new(), Vec::new());
    for line in text.lines() {
        let fields: Result<Vec<u8>, _> = line.split(',').map(str::parse).collect();
        match fields.as_deref() {
            Ok([pixels @ .., label]) if pixels.len() == 64 => {
                data.extend_from_slice(pixels);
                labels.push(u32::from(*label));
            }
            _ => return Err(Error::named("digits", ErrorKind::Malformed(format!("`{line}` is no digit")))),
        }
    }
    Ok(Examples { values: Values::Bytes { data, full: 16 }, labels })
}
