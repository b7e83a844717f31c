//! Files into memory, plain or gzipped, and never more than announced.

use std::fs::File;
use std::io::{BufReader, Read};
use std::path::Path;

use flate2::bufread::MultiGzDecoder;

use crate::{Error, ErrorKind};

/// No header may announce more; above it a data set does not belong in memory.
const LIMIT: u64 = 16 << 30;

/// Opens `path`, through gzip if its first two bytes say so.
pub(crate) fn open(path: &Path) -> Result<Box<dyn Read>, Error> {
    let peek = |path| -> std::io::Result<Box<dyn Read>> {
        let mut start = Vec::new();
        File::open(path)?.take(2).read_to_end(&mut start)?;
        let file = BufReader::new(File::open(path)?);
        Ok(if start == [0x1f, 0x8b] { Box::new(MultiGzDecoder::new(file)) } else { Box::new(file) })
    };
    peek(path).map_err(|error| Error::file(path, error))
}

/// The bytes announced by `dims`, or an error where they are more than memory should hold.
pub(super) fn announced(dims: &[usize]) -> Result<u64, ErrorKind> {
    let found =
        dims.iter().try_fold(1u64, |product, dim| product.checked_mul(*dim as u64)).unwrap_or(u64::MAX);
    if found > LIMIT { Err(ErrorKind::TooLarge { found, limit: LIMIT }) } else { Ok(found) }
}

/// Reads exactly `expected` bytes up to the end of the file; memory grows with what is there, not with what is announced.
pub(super) fn exactly(reader: &mut dyn Read, expected: u64) -> Result<Vec<u8>, ErrorKind> {
    let mut bytes = Vec::new();
    let found = reader.take(expected + 1).read_to_end(&mut bytes)? as u64;
    match found {
        _ if found < expected => Err(ErrorKind::Truncated { found, expected }),
        _ if found > expected => Err(ErrorKind::Surplus { expected }),
        _ => Ok(bytes),
    }
}
