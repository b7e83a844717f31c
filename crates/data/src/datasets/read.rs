//! Files into memory, plain or gzipped, and never more than announced.

use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::Path;

use flate2::bufread::MultiGzDecoder;

use crate::error::Fault;
use crate::{Error, ErrorKind};

/// No header may announce more; above it a data set does not belong in memory.
const LIMIT: u64 = 16 << 30;

/// Opens `path`, through gzip if its first two bytes say so.
pub(crate) fn open(path: &Path) -> Result<Box<dyn Read>, Error> {
    let peek = |path| -> io::Result<Box<dyn Read>> {
        let mut start = Vec::new();
        File::open(path)?.take(2).read_to_end(&mut start)?;
        let file = BufReader::new(File::open(path)?);
        Ok(if start == [0x1f, 0x8b] { Box::new(MultiGzDecoder::new(file)) } else { Box::new(file) })
    };
    peek(path).map_err(|error| Error::file(path, error))
}

/// The `n` records of `size` bytes (a product) that a header announces, and no more.
///
/// Memory grows with what is there, not with what is announced.
pub(super) fn records(reader: &mut dyn Read, n: usize, size: &[usize]) -> Result<Vec<u8>, Fault> {
    let expected =
        size.iter().try_fold(n as u64, |bytes, dim| bytes.checked_mul(*dim as u64)).unwrap_or(u64::MAX);
    if expected > LIMIT {
        return Err(ErrorKind::TooLarge { found: expected, limit: LIMIT }.into());
    }
    let mut bytes = Vec::new();
    match reader.take(expected + 1).read_to_end(&mut bytes) {
        Err(error) if error.kind() != io::ErrorKind::UnexpectedEof => return Err(error.into()),
        _ => {} // a gzip stream that breaks off has given what there was
    }
    let found = bytes.len() as u64;
    match found {
        _ if found > expected => Err(ErrorKind::Surplus { expected }.into()),
        _ if found < expected => {
            let record = found / (expected / n as u64); // n > 0, or nothing were expected
            Err(Fault::at(record as usize, ErrorKind::Truncated { found, expected }))
        }
        _ => Ok(bytes),
    }
}

/// The next `n` bytes of a header; few enough to be read at once.
pub(super) fn head(reader: &mut dyn Read, n: u32) -> Result<Vec<u8>, ErrorKind> {
    let mut bytes = Vec::new();
    let found = reader.take(n.into()).read_to_end(&mut bytes)? as u64;
    if found < n.into() { Err(ErrorKind::Truncated { found, expected: n.into() }) } else { Ok(bytes) }
}
