//! From a file to a space: read, parsed, compiled and tried out.

use std::{fs::File, io::Read, path::Path};

use crate::{
    Space, Vocabulary, compile,
    document::{self, MOST_BYTES},
    fault::{Fault, Faults, SpaceErrors},
    schema::SpaceFile,
};

impl Space {
    /// Reads and checks the file at `path`.
    ///
    /// # Errors
    /// All independent faults of the file, each with its line and column; or why it cannot be read.
    pub fn load(path: &Path, words: &dyn Vocabulary) -> Result<Self, SpaceErrors> {
        let file = path.display().to_string();
        let refuse = |fault| SpaceErrors { file: file.clone(), faults: vec![fault] };
        let bytes = read(path).map_err(refuse)?;
        let text = std::str::from_utf8(&bytes).map_err(|error| refuse(document::not_utf8(&bytes, error)))?;
        Self::parse(text, &file, words)
    }

    /// Checks `text`, called `file_name` in messages.
    ///
    /// # Errors
    /// All independent faults of the text, each with its line and column.
    pub fn parse(text: &str, file_name: &str, words: &dyn Vocabulary) -> Result<Self, SpaceErrors> {
        let mut faults = Faults::default();
        let space = document::parse(text, &mut faults).and_then(|root| {
            let file: SpaceFile = document::read(&root, &mut faults)?;
            compile::space(&file, root.at(), text, file_name, words, &mut faults)
        });
        if let Some(errors) = faults.of(file_name) {
            return Err(errors);
        }
        let space = space.expect("a text without faults makes a space");
        space.try_out(words).map(|()| space)
    }
}

/// The bytes of a file, at most one above [`MOST_BYTES`]; devices and pipes are read no further.
fn read(path: &Path) -> Result<Vec<u8>, Fault> {
    let unreadable = |error: std::io::Error| Fault {
        at: None,
        found: format!("cannot be read: {error}"),
        accepted: "expected a YAML file".into(),
    };
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(unreadable)?;
    file.take(MOST_BYTES as u64 + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    if bytes.len() > MOST_BYTES { Err(document::too_long()) } else { Ok(bytes) }
}
