//! Which decoded pictures may be shown: decoding may begin before pictures are right.

/// Pictures pass in presentation order; what does not pass was decoded for reference only.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Gate {
    /// Nothing is shown: no picture is right yet.
    Shut,
    /// What is shown at this order count and after it, in this coded sequence.
    From(i32),
    /// Everything: decoding began where nothing is missing.
    Open,
}

impl Gate {
    pub(super) fn lets_pass(self, order: i32) -> bool {
        match self {
            Gate::Shut => false,
            Gate::From(first) => order >= first,
            Gate::Open => true,
        }
    }
}
