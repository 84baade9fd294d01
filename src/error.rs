//! The one error type of the project, and the one table that gives it its wire form.
//!
//! An [`Error`] carries its [`Kind`], a message for the caller and the cause for the log. What a client sees
//! (`error_type`, `error_class`) is derived from the kind by [`Kind::wire`] and nowhere else. Messages must
//! never contain a secret: build them from redacted references (see
//! [`crate::command::SourceReference::redacted`]).

use std::borrow::Cow;
use std::fmt;
use std::time::Duration;

/// Result with the project's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// `error_type` of the Stream Manager protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorType {
    /// `invalid_payload`: the request itself is wrong.
    InvalidPayload,
    /// `authorisation_error`: who asks may not.
    Authorisation,
    /// `not_found`: no such pipeline or model.
    NotFound,
    /// `operation_error`: not allowed in the present state.
    Operation,
    /// `internal_error`: what no other word fits.
    Internal,
}

impl ErrorType {
    /// The word on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            ErrorType::InvalidPayload => "invalid_payload",
            ErrorType::Authorisation => "authorisation_error",
            ErrorType::NotFound => "not_found",
            ErrorType::Operation => "operation_error",
            ErrorType::Internal => "internal_error",
        }
    }
}

/// What went wrong, in the terms of this product. One line here is one row of the table in [`Kind::wire`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    // -- the request
    /// Not JSON, or not UTF-8.
    MalformedPayload,
    /// A message or field longer, larger or deeper than a named limit.
    TooLarge,
    /// JSON nested deeper than the parser's limit.
    TooDeep,
    /// A required key is absent; the message is the key in quotes.
    MissingKey,
    /// A value that no command, property or range knows.
    InvalidValue,
    /// A feature the protocol names and nobody offers (another sink, another task).
    Unsupported,
    /// A value of the wrong JSON type where the reference fails inside itself.
    WrongType,
    /// A buffer strategy that does not exist.
    UnknownStrategy,
    /// A buffer strategy that is no text.
    StrategyNotText,
    /// A list of no sources.
    NoSources,
    // -- the connection
    /// Length header of 0, or cut short.
    MalformedHeader,
    /// The peer closed before its message was complete.
    ChannelClosed,
    /// The peer was silent for longer than the socket timeout.
    TimedOut,
    // -- the caller's rights and the service's limits
    /// No token, or a wrong one.
    Unauthorised,
    /// Wrong tokens again and again.
    LockedOut,
    /// A token without the scope, or a source or sink outside the allow-lists.
    Forbidden,
    /// A limit of the service is reached (pipelines, memory).
    Exhausted,
    /// Too many clients listen to a pipeline.
    Crowded,
    /// The service is stopping.
    ShuttingDown,
    // -- pipelines
    /// No pipeline of that id.
    NoSuchPipeline,
    /// No source of that index in the pipeline.
    NoSuchSource,
    /// There is no frame to show.
    NoPicture,
    /// The state of the pipeline forbids the operation.
    NotAllowed,
    // -- models
    /// The API refused the key (401).
    ApiUnauthorised,
    /// The API does not know the model (404).
    ApiNotFound,
    /// The API answered with another error code.
    ApiUnsuccessful,
    /// The API could not be reached.
    ApiConnection,
    /// The API did not answer in time.
    ApiTimeout,
    /// The API's answer is not what it should be.
    ApiMalformed,
    /// A model id that is no id.
    InvalidModelId,
    /// `modelType` that nobody knows.
    UnknownModelType,
    /// Weights, environment or class names that do not fit together or cannot be loaded.
    ModelArtefact,
    /// A model failed on a frame.
    Inference,
    // -- sources
    /// A source that cannot be opened.
    SourceConnection,
    /// A source refused the credentials: trying again soon would lock the account.
    SourceUnauthorised,
    /// A source that was open and broke.
    SourceLost,
    /// A source that is open and silent.
    SourceStalled,
    /// A source that is open and sends pictures, none of which decoding could begin with.
    NoKeyFrame,
    /// A codec, container or format that is not supported.
    SourceUnsupported,
    /// One picture that could not be decoded; the next may be.
    Undecodable,
    /// A worker process died or broke its protocol.
    Worker,
    // -- sinks
    /// A datagram could not be sent.
    Sink,
    // -- the machine
    /// An operating-system call failed.
    System,
    /// A configuration that cannot be used.
    Configuration,
    /// An address that cannot be listened on.
    Address,
    /// A command line that cannot be understood.
    Usage,
    /// A file that the command line names is not there.
    NoInput,
    /// A file that was written by this program and cannot be read again: damaged, or another passphrase.
    Damaged,
    /// A file cannot be written.
    CannotCreate,
}

impl Kind {
    /// `error_type` and `error_class` of the wire. The class is absent where the reference sends none.
    pub fn wire(self) -> (ErrorType, Option<&'static str>) {
        use ErrorType::*;
        match self {
            Kind::MalformedPayload => (InvalidPayload, Some("MalformedPayloadError")),
            Kind::TooLarge => (InvalidPayload, Some("PayloadTooLargeError")),
            Kind::TooDeep => (Internal, Some("RecursionError")),
            Kind::MissingKey => (InvalidPayload, Some("KeyError")),
            Kind::InvalidValue => (InvalidPayload, Some("ValueError")),
            Kind::Unsupported => (InvalidPayload, Some("NotImplementedError")),
            Kind::WrongType => (Internal, Some("TypeError")),
            Kind::UnknownStrategy => (Internal, Some("ValueError")),
            Kind::StrategyNotText => (Internal, Some("AttributeError")),
            Kind::NoSources => (Internal, Some("ValueError")),
            Kind::MalformedHeader => (Internal, Some("MalformedHeaderError")),
            Kind::ChannelClosed => (Internal, Some("TransmissionChannelClosed")),
            Kind::TimedOut => (Internal, Some("TimeoutError")),
            Kind::Unauthorised => (Authorisation, Some("UnauthorisedError")),
            Kind::LockedOut => (Authorisation, Some("TooManyAttemptsError")),
            Kind::Forbidden => (Authorisation, Some("ForbiddenError")),
            Kind::Exhausted => (Operation, Some("ResourcesExhaustedError")),
            Kind::Crowded => (Operation, Some("TooManyListenersError")),
            Kind::ShuttingDown => (Operation, Some("ShuttingDownError")),
            Kind::NoSuchPipeline => (NotFound, None),
            Kind::NoSuchSource => (NotFound, Some("SourceNotFoundError")),
            Kind::NoPicture => (Operation, Some("NoPictureError")),
            Kind::NotAllowed => (Operation, Some("StreamOperationNotAllowedError")),
            Kind::ApiUnauthorised => (Authorisation, Some("RoboflowAPINotAuthorizedError")),
            Kind::ApiNotFound => (NotFound, Some("RoboflowAPINotNotFoundError")),
            Kind::ApiUnsuccessful => (Internal, Some("RoboflowAPIUnsuccessfulRequestError")),
            Kind::ApiConnection => (Internal, Some("RoboflowAPIConnectionError")),
            Kind::ApiTimeout => (Internal, Some("RoboflowAPITimeoutError")),
            Kind::ApiMalformed => (Internal, Some("MalformedRoboflowAPIResponseError")),
            Kind::InvalidModelId => (Internal, Some("InvalidModelIDError")),
            Kind::UnknownModelType => (InvalidPayload, Some("KeyError")),
            Kind::ModelArtefact => (Internal, Some("ModelArtefactError")),
            Kind::Inference => (Internal, Some("InferenceError")),
            Kind::SourceConnection => (Internal, Some("SourceConnectionError")),
            Kind::SourceUnauthorised => (Internal, Some("SourceUnauthorisedError")),
            Kind::SourceLost => (Internal, Some("SourceLostError")),
            Kind::SourceStalled => (Internal, Some("SourceStalledError")),
            Kind::NoKeyFrame => (Internal, Some("NoKeyFrameError")),
            Kind::SourceUnsupported => (Internal, Some("SourceUnsupportedError")),
            Kind::Undecodable => (Internal, Some("FrameDecodingError")),
            Kind::Worker => (Internal, Some("CaptureWorkerError")),
            Kind::Sink => (Internal, Some("OSError")),
            Kind::System => (Internal, Some("OSError")),
            Kind::Configuration => (InvalidPayload, Some("ConfigurationError")),
            Kind::Address => (Internal, Some("OSError")),
            Kind::Usage => (InvalidPayload, Some("UsageError")),
            Kind::NoInput | Kind::CannotCreate => (Internal, Some("OSError")),
            Kind::Damaged => (Internal, Some("DamagedFileError")),
        }
    }

    /// The name that status updates carry as `error_type` (the reference puts the exception's class there).
    pub fn class(self) -> &'static str {
        self.wire().1.unwrap_or("NotFoundError")
    }
}

/// Causes of causes that are told; libraries wrap an error three or four times.
const MAX_CAUSES: usize = 16;

/// An error with its kind, a message for the caller and the cause for the log.
#[derive(Debug)]
pub struct Error {
    kind: Kind,
    message: Cow<'static, str>,
    cause: Option<Box<dyn std::error::Error + Send + Sync>>,
    /// The message ends with the cause's words.
    is_cause_told: bool,
    retry_after: Option<Duration>,
}

impl Error {
    /// An error whose message a client may read.
    pub fn new(kind: Kind, message: impl Into<Cow<'static, str>>) -> Self {
        Error { kind, message: message.into(), cause: None, is_cause_told: false, retry_after: None }
    }

    /// An error whose cause a client may read, too: `message: cause`.
    pub fn told(
        kind: Kind,
        message: impl fmt::Display,
        cause: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> Self {
        let cause = cause.into();
        let message = format!("{message}: {cause}");
        Error { cause: Some(cause), is_cause_told: true, ..Error::new(kind, message) }
    }

    /// Says when it is worth trying again.
    #[must_use]
    pub fn retry_after(mut self, pause: Duration) -> Self {
        self.retry_after = Some(pause);
        self
    }

    /// When it is worth trying again, where that is known.
    pub fn retries_after(&self) -> Option<Duration> {
        self.retry_after
    }

    /// Adds what the log shall say and the client need not know.
    #[must_use]
    pub fn because(mut self, cause: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        self.cause = Some(cause.into());
        self
    }

    /// What went wrong, by kind: it decides the words on the wire and the HTTP status.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// What only the log shall say: the cause, its own cause, and so on; empty where there is nothing beyond
    /// the message.
    pub fn causes(&self) -> String {
        let first = std::error::Error::source(self);
        // One of ours tells its own causes.
        let all =
            std::iter::successors(first, |error| if error.is::<Error>() { None } else { error.source() });
        let all = all.skip(usize::from(self.is_cause_told)).take(MAX_CAUSES);
        all.map(ToString::to_string).collect::<Vec<_>>().join(": ")
    }

    /// The words for the caller; may be empty.
    pub fn message(&self) -> &str {
        &self.message
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.kind.class(), self.message)?;
        match self.causes() {
            causes if causes.is_empty() => Ok(()),
            causes => write!(f, " ({causes})"),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(self.cause.as_deref()?)
    }
}

/// A failed system call: the operation in words, the errno as cause.
pub fn system(operation: &'static str) -> impl FnOnce(std::io::Error) -> Error {
    move |cause| Error::new(Kind::System, operation).because(cause)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn display_names_class_message_and_cause() {
        let error = Error::new(Kind::SourceLost, "stream ended").because(std::io::Error::other("EOF"));
        assert_eq!(error.to_string(), "SourceLostError: stream ended (EOF)");
        let outer = Error::new(Kind::System, "outer").because(error);
        assert_eq!(outer.causes(), "SourceLostError: stream ended (EOF)");
        let told = Error::told(Kind::System, "cannot write x", std::io::Error::other("full"));
        assert_eq!(
            (told.message(), told.to_string().as_str()),
            ("cannot write x: full", "OSError: cannot write x: full")
        );
        assert!(std::error::Error::source(&told).is_some_and(|cause| cause.to_string() == "full"));
    }

    #[test]
    fn a_missing_pipeline_has_no_class_on_the_wire() {
        assert_eq!(Kind::NoSuchPipeline.wire(), (ErrorType::NotFound, None));
    }
}
