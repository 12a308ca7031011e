//! How the program ends, for scripts: one classifier for all verbs.

use crate::runtime::error::{Code, Kind};
use std::process::ExitCode;

/// The program's end.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Exit {
    /// 0: done.
    Done,
    /// 1: it was tried and failed.
    Failed,
    /// 2: the configuration or the command is wrong.
    Usage,
    /// 3: the surroundings are: servers, rights, disk.
    Environment,
}

impl Exit {
    /// The end an error leads to.
    #[must_use]
    pub const fn of(code: Code) -> Self {
        match code.kind() {
            Kind::Config => Exit::Usage,
            Kind::Environment | Kind::Transient => Exit::Environment,
            Kind::Fenced | Kind::Record | Kind::Integrity | Kind::Unexpected => Exit::Failed,
        }
    }

    /// The number scripts see.
    #[must_use]
    pub const fn number(self) -> u8 {
        match self {
            Exit::Done => 0,
            Exit::Failed => 1,
            Exit::Usage => 2,
            Exit::Environment => 3,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        ExitCode::from(exit.number())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_of_error_has_its_number() {
        let cases = [
            (Code::ConfigInvalid, 2),
            (Code::FlowForbidden, 2),
            (Code::SourceUnreachable, 3),
            (Code::DiskFull, 3),
            (Code::LogCorrupt, 1),
            (Code::Unexpected, 1),
        ];
        for (code, number) in cases {
            assert_eq!(Exit::of(code).number(), number, "{}", code.as_str());
        }
        assert_eq!(Exit::Done.number(), 0);
    }
}
