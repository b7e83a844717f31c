//! What a command gives back: the bytes of stdout and the exit code.

use std::io::{self, Write};
use std::process::ExitCode;

use serde::Serialize;

use crate::failure::Failure;

/// The result of a command.
#[derive(Debug)]
pub(crate) struct Answer {
    /// What goes to stdout, as it is.
    pub(crate) bytes: Vec<u8>,
    /// What the process ends with.
    pub(crate) code: ExitCode,
}

impl Answer {
    /// Words for a person; a missing newline at the end is added.
    pub(crate) fn text(text: impl Into<String>) -> Self {
        let mut text = text.into();
        if !text.is_empty() && !text.ends_with('\n') {
            text.push('\n');
        }
        Self::bytes(text)
    }

    /// A file's content.
    pub(crate) fn bytes(bytes: impl Into<Vec<u8>>) -> Self {
        Self { bytes: bytes.into(), code: ExitCode::SUCCESS }
    }

    /// One JSON object.
    pub(crate) fn json(value: &impl Serialize) -> Result<Self, Failure> {
        Ok(Self::text(serde_json::to_string(value)?))
    }

    /// The JSON object where `json` was asked for, the text otherwise.
    pub(crate) fn either(
        json: bool,
        value: &impl Serialize,
        text: impl FnOnce() -> String,
    ) -> Result<Self, Failure> {
        if json { Self::json(value) } else { Ok(Self::text(text())) }
    }

    /// The same bytes, said of an input that is refused.
    pub(crate) fn refusing(self, code: ExitCode) -> Self {
        Self { code, ..self }
    }

    /// Writes it to stdout. A reader that has seen enough (`strait list ops | head -1`) is no failure.
    pub(crate) fn print(&self) -> Result<(), Failure> {
        let mut stdout = io::stdout().lock();
        match stdout.write_all(&self.bytes).and_then(|()| stdout.flush()) {
            Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
                Err(Failure::new("cannot write to stdout", error))
            }
            _ => Ok(()),
        }
    }
}
