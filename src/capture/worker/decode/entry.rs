//! What becomes of the units of a decoder that is not ours.

/// What becomes of an access unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Entry {
    /// It holds no picture.
    Sets,
    /// It passes by undecoded.
    Pass,
    /// The access unit is decoded.
    Decode {
        /// Decoding begins anew here; `true`: nothing of what follows is wrong.
        begins: Option<bool>,
        /// This picture is right, and all that are shown after it.
        recovers: bool,
        /// It gives a picture of its own: it is no second field.
        own_picture: bool,
    },
}
