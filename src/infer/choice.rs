//! The word of a flag or of the configuration for an engine.

/// Which engine compiles models.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum EngineChoice {
    /// `tensorrt` where there is a GPU, else `cnn` where that supports the graph and is expected to be
    /// faster, else `tract`.
    #[default]
    Auto,
    /// Our own convolution engine, or an error.
    Cnn,
    /// tract, also for what our own engine supports.
    Tract,
    /// An NVIDIA GPU, or an error.
    TensorRt,
}

impl EngineChoice {
    /// Its word in the configuration and on the command line.
    pub fn name(self) -> &'static str {
        match self {
            EngineChoice::Auto => "auto",
            EngineChoice::Cnn => "cnn",
            EngineChoice::Tract => "tract",
            EngineChoice::TensorRt => "tensorrt",
        }
    }

    /// From the word of a flag or configuration: `auto`, `cnn`, `tract`, `tensorrt`.
    pub fn from_name(name: &str) -> Option<EngineChoice> {
        const ALL: [EngineChoice; 4] =
            [EngineChoice::Auto, EngineChoice::Cnn, EngineChoice::Tract, EngineChoice::TensorRt];
        ALL.into_iter().find(|choice| choice.name() == name)
    }
}
