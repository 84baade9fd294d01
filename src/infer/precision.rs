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
            #[cfg(test)]
            Precision::HalfBy(name) => name,
        }
    }

    /// From the word of a flag or configuration: `full`, `half`.
    pub fn from_name(name: &str) -> Option<Precision> {
        [Precision::Full, Precision::Half].into_iter().find(|precision| precision.name() == name)
    }
}
