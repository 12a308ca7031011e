//! One error for the whole program: a *kind* for the machine, a *code* for the reader, what was
//! being done, where, and the cause. `remedy` is the only place that decides whether to try again.

use std::error::Error as StdError;
use std::fmt;
use std::time::Duration;

/// What shape of trouble it is; decides the remedy.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// Passes by itself: a broken connection, a busy server.
    Transient,
    /// Another owner has taken over, or an append's fate is unknown: claim again.
    Fenced,
    /// This one record cannot be handled; the others can.
    Record,
    /// The configuration is wrong.
    Config,
    /// The environment is wrong: rights, settings, versions, disk.
    Environment,
    /// What is stored contradicts the protocol; going on could lose data.
    Integrity,
    /// A bug, or an answer nobody foresaw.
    Unexpected,
}

/// What is done about an error.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Remedy {
    /// Try again after a while.
    Retry {
        /// The first pause; it doubles up to a minute.
        after: Duration,
    },
    /// Put the record aside, show it, go on.
    Park,
    /// Stop this part of the work until a person acts.
    Halt,
}

macro_rules! codes {
    ($($variant:ident $text:literal $kind:ident),* $(,)?) => {
        /// The stable name of an error; each has a page in `docs/errors/`.
        #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
        pub enum Code { $(#[doc = $text] $variant),* }

        impl Code {
            /// All codes, for the documentation's tests.
            pub const ALL: &'static [Code] = &[$(Code::$variant),*];

            /// As it is shown and documented.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Code::$variant => $text),* }
            }

            /// The shape of trouble it stands for.
            #[must_use]
            pub const fn kind(self) -> Kind {
                match self { $(Code::$variant => Kind::$kind),* }
            }
        }
    };
}

codes! {
    AppendUnknown "append_unknown" Fenced,
    ClaimLost "claim_lost" Fenced,
    LogUnreachable "log_unreachable" Transient,
    LogCorrupt "log_corrupt" Integrity,
    LogLocked "log_locked" Environment,
    LogLost "log_lost" Integrity,
    LogFailed "log_failed" Environment,
    RegistryUnreachable "registry_unreachable" Transient,
    RegistryRefused "registry_refused" Environment,
    TopicMissing "topic_missing" Environment,
    TopicSettings "topic_settings" Environment,
    HistoryLost "history_lost" Integrity,
    ProposalsMissing "proposals_missing" Integrity,
    RecordUndecodable "record_undecodable" Integrity,
    RecordNewer "record_newer" Environment,
    DiskFull "disk_full" Environment,
    StateFailed "state_failed" Transient,
    ConfigInvalid "config_invalid" Config,
    ConfigMissing "config_missing" Config,
    ConfigUnsupported "config_unsupported" Config,
    ConflictDecided "conflict_decided" Config,
    ModeChanged "mode_changed" Config,
    FlowForbidden "flow_forbidden" Config,
    SourceUnreachable "source_unreachable" Transient,
    SourceDenied "source_denied" Environment,
    SourceIdentity "source_identity" Integrity,
    SourceSettings "source_settings" Environment,
    TableWithoutKey "table_without_key" Config,
    TableMissing "table_missing" Config,
    ClockSuspect "clock_suspect" Environment,
    SchemaUnsupported "schema_unsupported" Environment,
    ColumnMissing "column_missing" Record,
    TruncateHeld "truncate_held" Environment,
    KeyTooLong "key_too_long" Record,
    KeyCollision "key_collision" Record,
    ValueTooLarge "value_too_large" Record,
    ValueRefused "value_refused" Record,
    FileUndecodable "file_undecodable" Record,
    PathEscapes "path_escapes" Record,
    MarkerMissing "marker_missing" Environment,
    MassDelete "mass_delete" Environment,
    StoreBusy "store_busy" Transient,
    StoreCorrupt "store_corrupt" Integrity,
    ListenFailed "listen_failed" Environment,
    NodeUnreachable "node_unreachable" Environment,
    ConstraintViolated "constraint_violated" Record,
    Unexpected "unexpected" Unexpected,
}

/// What went wrong, in words for people and facts for machines.
pub struct Error {
    /// The stable name.
    pub code: Code,
    /// What was being done and what is wrong, in a sentence for the user.
    pub doing: String,
    /// Where: dataset, platform, topic, path …
    pub at: Vec<(&'static str, String)>,
    /// The cause, kept apart and never formatted into `doing`.
    pub source: Option<Box<dyn StdError + Send + Sync>>,
}

/// The result of everything that can fail.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// An error of `code`; `doing` says what is wrong and what to do.
    #[must_use]
    pub fn new(code: Code, doing: impl Into<String>) -> Self {
        Error { code, doing: doing.into(), at: Vec::new(), source: None }
    }

    /// Adds where it happened.
    #[must_use]
    pub fn at(mut self, what: &'static str, place: impl fmt::Display) -> Self {
        self.at.push((what, place.to_string()));
        self
    }

    /// Adds the cause.
    #[must_use]
    pub fn caused_by(mut self, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// The shape of trouble.
    #[must_use]
    pub const fn kind(&self) -> Kind {
        self.code.kind()
    }

    /// The one decision on what to do about it.
    #[must_use]
    pub const fn remedy(&self) -> Remedy {
        match self.kind() {
            Kind::Transient => Remedy::Retry { after: Duration::from_millis(200) },
            Kind::Fenced => Remedy::Retry { after: Duration::from_millis(0) },
            Kind::Record => Remedy::Park,
            Kind::Config | Kind::Environment | Kind::Integrity | Kind::Unexpected => Remedy::Halt,
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.code.as_str(), self.doing)?;
        self.at.iter().try_for_each(|(what, place)| write!(f, "; {what} {place}"))
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")?;
        self.source.as_ref().map_or(Ok(()), |cause| write!(f, ": {cause}"))
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.source.as_deref().map(|cause| cause as _)
    }
}
