//! A span that has ended.

/// What an attribute says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Value {
    Text(Box<str>),
    Number(i64),
    Bool(bool),
}

/// What somebody did in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// It answered a request.
    Server,
    /// It asked somebody else.
    Client,
}

/// One span.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Span {
    pub(crate) trace: [u8; 16],
    pub(crate) id: [u8; 8],
    /// The span in which it was; `None`: it is the first of its trace.
    pub(crate) parent: Option<[u8; 8]>,
    pub(crate) name: Box<str>,
    pub(crate) kind: Kind,
    /// Nanoseconds since 1970.
    pub(crate) started_ns: u64,
    pub(crate) ended_ns: u64,
    pub(crate) attributes: Vec<(&'static str, Value)>,
    /// Whether what it did failed, and not by the fault of who asked.
    pub(crate) is_error: bool,
}
