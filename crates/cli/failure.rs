//! How a command fails: what is printed, what to do next, and the exit code.

use std::error::Error;
use std::fmt;
use std::process::ExitCode;

use strait::{controller, data, export, lab, report, space, trainer};

/// Exit code of a wrong command line or an invalid input.
pub(crate) const MISUSE: u8 = 2;
/// Exit code of an interrupted command.
pub(crate) const INTERRUPTED: u8 = 130;

/// An error on its way to a person.
#[derive(Debug)]
pub(crate) struct Failure {
    /// What the process ends with.
    pub(crate) code: ExitCode,
    /// One line for each independent error, then what caused the last of them.
    lines: Vec<String>,
    hint: Option<String>,
}

impl Failure {
    /// `what`, because of `error`; the code follows from the error.
    pub(crate) fn new(what: impl Into<String>, error: impl Error + 'static) -> Self {
        let mut failure = Self::from(error);
        let cause = failure.lines.drain(..).enumerate();
        let causes = cause
            .map(|(i, line)| if i == 0 { format!("  because {line}") } else { line })
            .collect::<Vec<_>>();
        failure.lines = std::iter::once(what.into()).chain(causes).collect();
        failure
    }

    /// What a person wrote cannot be followed; `message` says what was found and what is accepted.
    pub(crate) fn misuse(message: impl Into<String>) -> Self {
        Self { code: ExitCode::from(MISUSE), lines: vec![message.into()], hint: None }
    }

    /// A signal came; what was done is saved.
    pub(crate) fn interrupted(message: impl Into<String>) -> Self {
        Self { code: ExitCode::from(INTERRUPTED), lines: vec![message.into()], hint: None }
    }

    /// The messages, without marks: for `--json`.
    pub(crate) fn lines(&self) -> Vec<&str> {
        self.lines.iter().map(|line| line.trim_start()).collect()
    }

    /// Says what to type or do next, unless that is said already.
    pub(crate) fn hint(self, hint: impl Into<String>) -> Self {
        Self { hint: self.hint.or_else(|| Some(hint.into())), ..self }
    }
}

/// Every error on the way up becomes a failure; its kind decides between "failed" and "misuse".
impl<E: Error + 'static> From<E> for Failure {
    fn from(error: E) -> Self {
        let code = if chain(&error).any(is_misuse) { ExitCode::from(MISUSE) } else { ExitCode::FAILURE };
        let mut lines: Vec<String> = message(&error).lines().map(str::to_owned).collect();
        for cause in chain(&error).skip(1).map(message) {
            if lines.last().is_none_or(|said| !said.contains(&cause)) {
                lines.push(format!("  because {cause}"));
            }
        }
        Self { code, lines, hint: chain(&error).find_map(advice) }
    }
}

fn chain<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(Some(error), |&error| error.source())
}

/// What an error says, without the backtrace that candle's say where `RUST_BACKTRACE` asks for one: it begins at frame 0.
fn message(error: &(dyn Error + 'static)) -> String {
    let said = error.to_string();
    let lines: Vec<&str> = said.lines().take_while(|line| !line.starts_with("   0: ")).collect();
    lines.join("\n")
}

/// Whether it is the input that is wrong.
fn is_misuse(error: &(dyn Error + 'static)) -> bool {
    error.downcast_ref::<trainer::Error>().is_some_and(trainer::Error::is_misuse)
        || error.is::<data::Error>()
        || error.is::<space::SpaceErrors>()
        || error.is::<space::LayoutError>()
        || error.is::<space::GenotypeError>()
        || error.is::<space::WordError>()
        || matches!(error.downcast_ref(), Some(export::Error::Genotype(_)))
        || matches!(error.downcast_ref(), Some(report::Error::Run(error)) if error.is_misuse())
        || matches!(
            error.downcast_ref(),
            Some(lab::Error::Setting { .. } | lab::Error::Flat | lab::Error::Tau(_))
        )
        || error.is::<controller::estimators::UnknownEstimator>()
}

/// What to do about it, where the error alone does not say.
fn advice(error: &(dyn Error + 'static)) -> Option<String> {
    if error.is::<space::SpaceErrors>() {
        return Some("`strait list ops` shows every operation, `strait new` a commented space".into());
    }
    error.is::<data::Error>().then(|| "`strait list data` shows what can be read, and from where".into())
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let interrupted = self.code == ExitCode::from(INTERRUPTED);
        for (i, line) in self.lines.iter().enumerate() {
            let mark = if interrupted || line.starts_with("  ") { "" } else { "error: " };
            write!(f, "{}{mark}{line}", if i == 0 { "" } else { "\n" })?;
        }
        self.hint.as_ref().map_or(Ok(()), |hint| write!(f, "\nhint: {hint}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As `std::backtrace::Backtrace` writes frames.
    #[test]
    fn a_backtrace_is_no_part_of_a_message() {
        let said =
            "no device\n   0: candle_core::error::Error::bt\n             at /src/error.rs:1:2\n   1: main";
        let error = strait::trainer::Error::from(candle_core::Error::Msg(said.to_owned()));
        let failure = Failure::new("cannot open cuda:0", error);
        assert_eq!(failure.to_string(), "error: cannot open cuda:0\n  because no device");
    }
}
