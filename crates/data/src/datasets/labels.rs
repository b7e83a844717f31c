//! Which integers are classes.

use std::collections::BTreeSet;
use std::path::Path;

use crate::{Error, ErrorKind};

/// The class names `"0"`, `"1"`, … that `labels` of the training file `path` call for.
///
/// With `declared` classes every label must be below it; otherwise the labels must be `0..=highest`
/// without a gap, because a gap is how a damaged label file shows.
pub(super) fn numbered(path: &Path, labels: &[u32], declared: Option<usize>) -> Result<Vec<String>, Error> {
    let classes = match declared {
        Some(classes) => classes,
        None => count(labels).map_err(|kind| Error::file(path, kind))?,
    };
    check(path, labels, classes)?;
    Ok((0..classes).map(|class| class.to_string()).collect())
}

/// Every label of `path` is below `classes`.
pub(super) fn check(path: &Path, labels: &[u32], classes: usize) -> Result<(), Error> {
    match labels.iter().position(|label| *label as usize >= classes) {
        None => Ok(()),
        Some(record) => {
            let kind = ErrorKind::Label {
                found: labels[record].to_string(),
                accepted: format!("0 to {}", classes - 1),
            };
            Err(Error::record(path, record, kind))
        }
    }
}

fn count(labels: &[u32]) -> Result<usize, ErrorKind> {
    let used: BTreeSet<u32> = labels.iter().copied().collect();
    let Some(&highest) = used.last() else { return Err(ErrorKind::Empty) };
    match (0..).zip(&used).find(|(expected, found)| expected != *found) {
        Some((missing, _)) => Err(ErrorKind::Gap { highest: highest.into(), missing: u64::from(missing) }),
        None => Ok(used.len()),
    }
}
