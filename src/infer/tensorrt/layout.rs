//! Where each version of TensorRT keeps its functions: the one table of this interface.
//!
//! TensorRT has no C interface. A C++ program calls small inline functions of public classes (`IRuntime`,
//! `ICudaEngine`, `IExecutionContext`), which forward to an implementation object behind a pointer; that
//! object's virtual table is what the library and the program agree on. A slot is a position in that table,
//! counted from 0, where 0 and 1 are the two destructors that the C++ ABI (Itanium, which GCC and Clang use
//! on Linux) makes of one.
//!
//! ```text
//! public object            implementation           virtual table
//! ┌──────────────┐         ┌──────────────┐         ┌───┬──────────────────────┐
//! │ table        │   ┌────▶│ table        │────────▶│ 0 │ destructor           │
//! │ mImpl        │───┘     │ …            │         │ 1 │ destructor + free    │
//! └──────────────┘         └──────────────┘         │ n │ what we call         │
//! ```
//!
//! Sources: the public headers `NvInferImpl.h`, `NvInferRuntime.h`, `NvInferRuntimeBase.h` and
//! `NvOnnxParser.h`. Read and counted: 8.5.3, 8.6.1, 10.3.0, 10.7.0, 10.9.0, 10.13.0, 10.14.1, 10.16.0,
//! 11.1.0, 11.4.0; laid out by a compiler as well: 8.5.3, 8.6.1, 10.3.0, 11.1.0 (clang,
//! `-fdump-vtable-layouts`), 11.4.0 (g++, `-fdump-lang-class`). Within a major version, which is the number
//! in the library's name, releases only append functions: the headers of 10 differ in nothing else, so those
//! between 10.3 and 10.16 that were not read (10.4 to 10.6, 10.8, 10.10 to 10.12, 10.15) are in the table
//! too, and so are 11.2 and 11.3. What lies outside is refused, because a wrong slot calls a function that
//! is not the one meant.
//!
//! TensorRT for RTX (`libtensorrt_rtx.so.1`, for the GPUs of PCs) has the same classes and a numbering of its
//! own. Its headers 1.3 to 1.7 were read and laid out by g++; its libraries 1.5.0, 1.6.1 and 1.7.1 were run
//! (`make nvidia`). 1.3 and 1.4 are laid out like 10 with a few functions less: they could not be run, and
//! are not in the table.
//!
//! Before 8.5 (JetPack 4, and 5.0 with 8.4) there is nothing to add a row for: no function takes a tensor by
//! its name.

use std::fmt;

/// Which of NVIDIA's two libraries: they number their versions independently of each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Product {
    /// TensorRT: Jetson, servers, PCs.
    TensorRt,
    /// TensorRT for RTX: PCs.
    Rtx,
}

impl Product {
    /// What NVIDIA calls it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Product::TensorRt => "TensorRT",
            Product::Rtx => "TensorRT for RTX",
        }
    }
}

/// What `getInferLibVersion()` answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Version(pub(super) i32);

impl Version {
    /// Up to 9 the number is `major * 1000 + minor * 100 + patch`; from 10 on, and for RTX from its 1 on
    /// (10 100), `major * 10000 + minor * 100 + patch`.
    const FIRST_OF_WIDE_NUMBERS: i32 = 10_000;

    /// Major, minor and patch, whatever the number's form.
    fn parts(self) -> (i32, i32, i32) {
        let major = if self.0 < Self::FIRST_OF_WIDE_NUMBERS { self.0 / 1000 } else { self.0 / 10_000 };
        let minor = if self.0 < Self::FIRST_OF_WIDE_NUMBERS { self.0 / 100 % 10 } else { self.0 / 100 % 100 };
        (major, minor, self.0 % 100)
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (major, minor, patch) = self.parts();
        write!(f, "{major}.{minor}.{patch}")
    }
}

/// How wide the numbers of a shape (`Dims`) are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum DimsWidth {
    /// Eight `int32_t`: 36 bytes.
    Narrow,
    /// Eight `int64_t`: 72 bytes.
    Wide,
}

/// `ILogger`, which we implement and the library calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum LoggerTable {
    /// `log`, then the destructors.
    LogFirst,
    /// A versioned interface: language, information, the destructors, then `log`.
    Versioned,
}

/// `IRuntime` and its implementation.
#[derive(Debug, Clone, Copy)]
pub(super) struct RuntimeSlots {
    pub(super) deserialise: usize,
    /// Whether it takes a third argument, a plugin factory that has to be null.
    pub(super) takes_factory: bool,
}

/// `ICudaEngine`.
#[derive(Debug, Clone, Copy)]
pub(super) struct EngineSlots {
    pub(super) create_context: usize,
    /// Whether that takes a strategy for device memory (0: the library allocates once).
    pub(super) takes_strategy: bool,
    pub(super) tensor_shape: usize,
    pub(super) tensor_data_type: usize,
    pub(super) tensor_mode: usize,
    pub(super) tensor_count: usize,
    pub(super) tensor_name: usize,
}

/// `IExecutionContext`.
#[derive(Debug, Clone, Copy)]
pub(super) struct ContextSlots {
    pub(super) set_input_shape: usize,
    pub(super) tensor_shape: usize,
    pub(super) set_tensor_address: usize,
    pub(super) enqueue: usize,
}

/// What builds a plan: `IBuilder`, `IBuilderConfig`, `IParser`. The slots of
/// `IOptimizationProfile`, `IHostMemory` and `IParserError` are the same in every version of the table.
#[derive(Debug, Clone, Copy)]
pub(super) struct BuilderSlots {
    pub(super) create_config: usize,
    pub(super) create_network: usize,
    pub(super) create_profile: usize,
    pub(super) build: usize,
    /// What a network is made with: `1 << kEXPLICIT_BATCH` where that is not understood.
    pub(super) network_flags: u32,
    /// Slots of the builder's config, this one and the next.
    pub(super) set_flag: usize,
    pub(super) add_profile: usize,
    /// Slot in the config; libraries have it from 10 on.
    pub(super) set_progress_monitor: Option<usize>,
    /// `BuilderFlag::kFP16`, where there is one: later the model alone decides.
    pub(super) half_flag: Option<i32>,
    /// Of the parser, which has no implementation behind it: these are slots of its own table.
    pub(super) parser_error_count: usize,
    pub(super) parser_error: usize,
    /// Of the destructor that also frees; in 8 of `destroy()`, which does and stays where it is.
    pub(super) parser_delete: usize,
}

/// `IOptimizationProfile::setDimensions(name, selector, dims)`: where `Dims` are narrow, by value.
pub(super) const PROFILE_SET_DIMENSIONS: usize = 2;
/// `IHostMemory::data()`, `size()`.
pub(super) const MEMORY_DATA: usize = 2;
pub(super) const MEMORY_SIZE: usize = 3;
/// `IParser::parse(bytes, size, path)`: of the parser's own table.
pub(super) const PARSER_PARSE: usize = 0;
/// `IParserError::desc()`: of the error's own table.
pub(super) const PARSER_ERROR_TEXT: usize = 1;

/// Flags of the `trtexec` that comes with the library.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct TrtexecFlags {
    /// Build, save, and do not measure.
    pub(super) build_only: &'static str,
    /// Allows 16-bit floats. From 11 on precision is what the graph declares, and there is no such flag.
    pub(super) half: Option<&'static str>,
}

/// One row of the table.
#[derive(Debug, Clone, Copy)]
pub(super) struct Layout {
    product: Product,
    /// First and last version it holds for.
    versions: (Version, Version),
    pub(super) dims: DimsWidth,
    pub(super) logger: LoggerTable,
    pub(super) runtime: RuntimeSlots,
    pub(super) engine: EngineSlots,
    pub(super) context: ContextSlots,
    pub(super) builder: BuilderSlots,
    pub(super) trtexec: TrtexecFlags,
}

const RUNTIME_8: RuntimeSlots = RuntimeSlots { deserialise: 2, takes_factory: true };
const BUILDER_8: BuilderSlots = BuilderSlots {
    create_config: 9,
    create_network: 11,
    create_profile: 12,
    build: 17,
    network_flags: 1,
    set_flag: 15,
    add_profile: 29,
    set_progress_monitor: None,
    half_flag: Some(0),
    parser_error_count: 6,
    parser_error: 7,
    parser_delete: 5,
};
const RUNTIME_10: RuntimeSlots = RuntimeSlots { deserialise: 3, takes_factory: false };

const ENGINE_8: EngineSlots = EngineSlots {
    create_context: 11,
    takes_strategy: false,
    tensor_shape: 34,
    tensor_data_type: 35,
    tensor_mode: 38,
    tensor_count: 45,
    tensor_name: 46,
};
const CONTEXT_8: ContextSlots =
    ContextSlots { set_input_shape: 29, tensor_shape: 30, set_tensor_address: 32, enqueue: 44 };

const ENGINE_11: EngineSlots = EngineSlots {
    create_context: 5,
    takes_strategy: true,
    tensor_shape: 15,
    tensor_data_type: 16,
    tensor_mode: 19,
    tensor_count: 26,
    tensor_name: 27,
};
const CONTEXT_11: ContextSlots =
    ContextSlots { set_input_shape: 20, tensor_shape: 21, set_tensor_address: 23, enqueue: 36 };
const BUILDER_11: BuilderSlots = BuilderSlots {
    create_config: 5,
    create_network: 6,
    create_profile: 7,
    build: 11,
    network_flags: 0,
    set_flag: 9,
    add_profile: 23,
    set_progress_monitor: Some(45),
    half_flag: None,
    parser_error_count: 3,
    parser_error: 4,
    parser_delete: 7,
};

const LAYOUT_11: Layout = Layout {
    product: Product::TensorRt,
    versions: (Version(110_100), Version(110_499)),
    dims: DimsWidth::Wide,
    logger: LoggerTable::Versioned,
    runtime: RUNTIME_10,
    engine: ENGINE_11,
    context: CONTEXT_11,
    builder: BUILDER_11,
    trtexec: TrtexecFlags { build_only: "--skipInference", half: None },
};

/// JetPack 5.1 (8.5.2), 6.0 (8.6.2), 6.1 and 6.2 (10.3.0), 7.1 (10.13), 7.2 (10.16.2); 11 has no JetPack yet.
const LAYOUTS: [Layout; 5] = [
    Layout {
        product: Product::TensorRt,
        versions: (Version(8500), Version(8599)),
        dims: DimsWidth::Narrow,
        logger: LoggerTable::LogFirst,
        runtime: RUNTIME_8,
        engine: ENGINE_8,
        context: CONTEXT_8,
        builder: BUILDER_8,
        trtexec: TrtexecFlags { build_only: "--buildOnly", half: Some("--fp16") },
    },
    Layout {
        product: Product::TensorRt,
        versions: (Version(8600), Version(8699)),
        dims: DimsWidth::Narrow,
        logger: LoggerTable::LogFirst,
        runtime: RUNTIME_8,
        engine: ENGINE_8,
        context: CONTEXT_8,
        builder: BUILDER_8,
        trtexec: TrtexecFlags { build_only: "--skipInference", half: Some("--fp16") },
    },
    Layout {
        product: Product::TensorRt,
        versions: (Version(100_300), Version(101_699)),
        dims: DimsWidth::Wide,
        logger: LoggerTable::LogFirst,
        runtime: RUNTIME_10,
        engine: EngineSlots {
            create_context: 5,
            takes_strategy: true,
            tensor_shape: 19,
            tensor_data_type: 20,
            tensor_mode: 23,
            tensor_count: 30,
            tensor_name: 31,
        },
        context: ContextSlots { set_input_shape: 21, tensor_shape: 22, set_tensor_address: 24, enqueue: 37 },
        builder: BuilderSlots {
            create_config: 7,
            create_network: 8,
            create_profile: 9,
            build: 14,
            network_flags: 0,
            set_flag: 11,
            add_profile: 25,
            set_progress_monitor: Some(56),
            half_flag: Some(0),
            parser_error_count: 5,
            parser_error: 6,
            parser_delete: 9,
        },
        trtexec: TrtexecFlags { build_only: "--skipInference", half: Some("--fp16") },
    },
    LAYOUT_11,
    Layout { product: Product::Rtx, versions: (Version(10_500), Version(10_799)), ..LAYOUT_11 },
];

impl Layout {
    /// The layout of that version, where it is known.
    pub(super) fn of(product: Product, version: Version) -> Option<&'static Layout> {
        LAYOUTS.iter().find(|layout| {
            layout.product == product && (layout.versions.0..=layout.versions.1).contains(&version)
        })
    }

    /// The versions of the table in words, for the message to who has another one.
    pub(super) fn known(product: Product) -> String {
        let minor = |version: Version| format!("{}.{}", version.parts().0, version.parts().1);
        let rows = LAYOUTS.iter().filter(|layout| layout.product == product).map(
            |Layout { versions: (first, last), .. }| match (minor(*first), minor(*last)) {
                (first, last) if first == last => first,
                (first, last) => format!("{first} to {last}"),
            },
        );
        rows.collect::<Vec<_>>().join(", ")
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn versions_are_read_both_ways_they_are_written() {
        let shown = |number| Version(number).to_string();
        assert_eq!(
            [shown(8502), shown(8601), shown(100_300), shown(110_105)],
            ["8.5.2", "8.6.1", "10.3.0", "11.1.5"]
        );
    }

    #[test]
    fn what_is_not_in_the_table_has_no_layout() {
        let of = |number| Layout::of(Product::TensorRt, Version(number));
        assert_eq!(of(8502).unwrap().engine.create_context, 11);
        for known in [100_300, 100_700, 101_303, 101_600] {
            assert_eq!(of(known).unwrap().context.enqueue, 37);
        }
        for known in [110_100, 110_400] {
            assert_eq!(of(known).unwrap().context.enqueue, 36);
        }
        for unknown in
            [0, -1, 8401, 8700, 9000, 10_701, 100_000, 100_200, 101_700, 110_000, 110_500, i32::MAX]
        {
            assert!(of(unknown).is_none(), "{unknown}");
        }
        assert_eq!(Layout::known(Product::TensorRt), "8.5, 8.6, 10.3 to 10.16, 11.1 to 11.4");
    }

    #[test]
    fn each_product_has_numbers_of_its_own() {
        let of = |number| Layout::of(Product::Rtx, Version(number));
        assert_eq!(Version(10_701).to_string(), "1.7.1");
        for known in [10_500, 10_601, 10_701] {
            assert_eq!(of(known).unwrap().context.enqueue, 36);
        }
        for unknown in [10_400, 10_800, 8502, 100_300, 110_100] {
            assert!(of(unknown).is_none(), "{unknown}");
        }
        assert_eq!(Layout::known(Product::Rtx), "1.5 to 1.7");
    }
}
