//! Files that are whole at every instant: the old content or the new, never a piece.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write},
    path::{Path, PathBuf},
};

use crate::{Error, error::FileError};

/// Where a write is cut off, as if the process had been killed there. Only tests cut.
#[doc(hidden)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Cut {
    /// Nowhere.
    #[default]
    Never,
    /// After this many bytes of the temporary file.
    Writing(usize),
    /// Before the temporary file is synced.
    BeforeSync,
    /// Before it takes the name.
    BeforeRename,
    /// Before the directory is synced.
    BeforeDirectorySync,
}

/// Writes `bytes` to `path`: a temporary file beside it, fsync, rename, fsync of the directory.
///
/// The temporary name is fixed, so that what a kill leaves behind is overwritten and not collected; one process at a
/// time (the run's lock) writes.
pub(crate) fn replace(path: &Path, bytes: &[u8], cut: Cut) -> Result<(), Error> {
    let stop = |here| if cut == here { Err(file(path, FileError::Cut)) } else { Ok(()) };
    let temporary = temporary(path);
    let written =
        |result: io::Result<()>| result.map_err(|error| file(&temporary, FileError::Io("written", error)));
    let mut out = File::create(&temporary).map_err(|error| file(&temporary, FileError::Io("made", error)))?;
    if let Cut::Writing(n) = cut {
        written(out.write_all(&bytes[..n.min(bytes.len())]))?;
        return Err(file(path, FileError::Cut));
    }
    written(out.write_all(bytes))?;
    stop(Cut::BeforeSync)?;
    written(out.sync_all())?;
    stop(Cut::BeforeRename)?;
    fs::rename(&temporary, path).map_err(|error| file(path, FileError::Io("renamed", error)))?;
    stop(Cut::BeforeDirectorySync)?;
    sync_directory(path)
}

/// Appends one line and syncs it.
pub(crate) fn append(path: &Path, line: &str) -> Result<(), Error> {
    let mut out = OpenOptions::new()
        .create(true)
        .append(true)
        .open(path)
        .map_err(|error| file(path, FileError::Io("opened", error)))?;
    out.write_all(format!("{line}\n").as_bytes())
        .and_then(|()| out.sync_all())
        .map_err(|error| file(path, FileError::Io("written", error)))
}

/// Keeps the first `lines` whole lines.
pub(crate) fn keep_lines(path: &Path, lines: usize, cut: Cut) -> Result<(), Error> {
    let text = match fs::read(path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound && lines == 0 => return Ok(()),
        Err(error) => return Err(file(path, FileError::Io("read", error))),
    };
    let ends = text.iter().enumerate().filter(|(_, byte)| **byte == b'\n').map(|(at, _)| at + 1);
    let ends: Vec<usize> = std::iter::once(0).chain(ends).collect();
    match ends.get(lines) {
        Some(&end) if end == text.len() => Ok(()),
        Some(&end) => replace(path, &text[..end], cut),
        None => {
            let found =
                format!("{lines} whole lines, as its checkpoint has epochs; found {}", ends.len() - 1);
            Err(file(path, FileError::Malformed(found)))
        }
    }
}

/// Reads a whole file; `None` where there is none.
pub(crate) fn read(path: &Path) -> Result<Option<Vec<u8>>, Error> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(file(path, FileError::Io("read", error))),
    }
}

/// The name under which a file is written before it gets its own.
pub(crate) fn temporary(path: &Path) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".tmp");
    path.with_file_name(name)
}

pub(crate) fn file(path: &Path, kind: FileError) -> Error {
    Error::File { path: path.to_owned(), kind }
}

/// A rename is durable once its directory is; systems that cannot sync a directory need not.
#[cfg(unix)]
fn sync_directory(path: &Path) -> Result<(), Error> {
    let directory = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let synced = File::open(directory).and_then(|directory| directory.sync_all());
    synced.map_err(|error| file(directory, FileError::Io("synced", error)))
}

#[cfg(not(unix))]
fn sync_directory(_: &Path) -> Result<(), Error> {
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const CUTS: [Cut; 7] = [
        Cut::Writing(0),
        Cut::Writing(1),
        Cut::Writing(999),
        Cut::BeforeSync,
        Cut::BeforeRename,
        Cut::BeforeDirectorySync,
        Cut::Never,
    ];

    #[test]
    fn a_cut_write_leaves_the_old_content_or_the_new() -> Result<(), Error> {
        for cut in CUTS {
            let directory = tempfile::tempdir().expect("a temporary directory");
            let path = directory.path().join("file");
            replace(&path, b"old", Cut::Never)?;
            let renamed = matches!(cut, Cut::BeforeDirectorySync | Cut::Never);
            assert_eq!(replace(&path, b"newer", cut).is_ok(), cut == Cut::Never);
            let expected: &[u8] = if renamed { b"newer" } else { b"old" };
            assert_eq!(read(&path)?.as_deref(), Some(expected), "{cut:?}");
            replace(&path, b"newest", Cut::Never)?;
            assert_eq!(read(&path)?.as_deref(), Some(&b"newest"[..]));
            assert_eq!(
                fs::read_dir(directory.path()).expect("readable").count(),
                1,
                "a piece is left behind"
            );
        }
        Ok(())
    }

    #[test]
    fn lines_beyond_the_kept_ones_go_and_torn_ones_too() -> Result<(), Error> {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let path = directory.path().join("lines");
        for line in ["one", "two", "three"] {
            append(&path, line)?;
        }
        fs::write(&path, [&fs::read(&path).expect("readable")[..], b"fo"].concat()).expect("writable");
        keep_lines(&path, 2, Cut::Never)?;
        assert_eq!(read(&path)?.as_deref(), Some(&b"one\ntwo\n"[..]));
        let error = keep_lines(&path, 3, Cut::Never).expect_err("a lost line was overlooked");
        assert!(
            error.to_string().ends_with("not 3 whole lines, as its checkpoint has epochs; found 2"),
            "{error}"
        );
        Ok(())
    }
}
