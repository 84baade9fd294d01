//! How exactly a model is computed.

/// How exactly a model is computed on the CPU.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Precision {
    /// 32-bit floats throughout.
    #[default]
    Full,
    /// Pictures and weights in half precision, everything behind the last convolutions in 32 bits: bfloat16
    /// with sums in 32 bits, or binary16 whose sums have 16 bits too. As `Full` on a CPU that gains nothing by
    /// either.
    Half,
    /// A model that has a twin in 8 bits, made by `weir models quantise`, is served by that one; any other as `Full`.
    /// A model that comes in 8 bits has them whatever is said here.
    Int8,
    /// As `Half`, by the loops of that name: for tests.
    #[cfg(test)]
    HalfBy(&'static str),
}

impl Precision {
    /// Its word in the configuration and on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Precision::Full => "full",
            Precision::Half => "half",
            Precision::Int8 => "int8",
            #[cfg(test)]
            Precision::HalfBy(name) => name,
        }
    }

    /// Whether pictures and weights shall have half precision.
    pub(crate) fn is_half(self) -> bool {
        !matches!(self, Precision::Full | Precision::Int8)
    }

    /// From the word of a flag or configuration: `full`, `half`, `int8`.
    pub fn from_name(name: &str) -> Option<Precision> {
        [Precision::Full, Precision::Half, Precision::Int8]
            .into_iter()
            .find(|precision| precision.name() == name)
    }
}
