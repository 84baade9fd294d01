//! Names that stand for a Roboflow model: docs/roboflow.md §6.1.

/// Families of aliases: a pattern with `*` for the size, and the version of each size.
struct Row {
    prefix: &'static str,
    suffix: &'static str,
    /// Size and version of the dataset `coco`.
    sizes: &'static [(&'static str, u32)],
}

/// Every alias resolves to a version of this dataset.
const DATASET: &str = "coco";

const YOLOV11: &[(&str, u32)] = &[("n", 25), ("s", 26), ("m", 27), ("l", 28), ("x", 29)];
const YOLOV11_1280: &[(&str, u32)] = &[("n", 30), ("s", 31), ("m", 32), ("l", 33), ("x", 34)];
const YOLO26: &[(&str, u32)] = &[("n", 41), ("s", 42), ("m", 43), ("l", 44), ("x", 45)];

const ROWS: &[Row] = &[
    Row { prefix: "yolov8", suffix: "-640", sizes: &[("n", 3), ("s", 6), ("m", 8), ("l", 7), ("x", 5)] },
    Row { prefix: "yolov8", suffix: "-1280", sizes: &[("n", 9), ("s", 10), ("m", 11), ("l", 12), ("x", 13)] },
    Row { prefix: "yolo-nas-", suffix: "-640", sizes: &[("s", 14), ("m", 15), ("l", 16)] },
    Row {
        prefix: "yolov10",
        suffix: "-640",
        sizes: &[("n", 19), ("s", 20), ("m", 21), ("b", 22), ("l", 23), ("x", 24)],
    },
    Row { prefix: "yolov11", suffix: "-640", sizes: YOLOV11 },
    Row { prefix: "yolo11", suffix: "-640", sizes: YOLOV11 },
    Row { prefix: "yolov11", suffix: "-1280", sizes: YOLOV11_1280 },
    Row { prefix: "yolo11", suffix: "-1280", sizes: YOLOV11_1280 },
    Row { prefix: "yolov26", suffix: "-640", sizes: YOLO26 },
    Row { prefix: "yolo26", suffix: "-640", sizes: YOLO26 },
    Row {
        prefix: "rfdetr-",
        suffix: "",
        // `large` was 37 before the reference's newest versions.
        sizes: &[
            ("base", 36),
            ("large", 37),
            ("nano", 38),
            ("small", 39),
            ("medium", 40),
            ("xlarge", 47),
            ("2xlarge", 48),
        ],
    },
];

/// What an alias stands for.
pub(super) fn resolve(alias: &str) -> Option<String> {
    ROWS.iter().find_map(|row| {
        let size = alias.strip_prefix(row.prefix)?.strip_suffix(row.suffix)?;
        let (_, version) = row.sizes.iter().find(|(name, _)| *name == size)?;
        Some(format!("{DATASET}/{version}"))
    })
}

#[cfg(test)]
mod tests {
    use super::resolve;

    #[test]
    fn the_reference_table_holds() {
        for (alias, id) in [
            ("yolov8n-640", "coco/3"),
            ("yolov8x-640", "coco/5"),
            ("yolov8x-1280", "coco/13"),
            ("yolo-nas-l-640", "coco/16"),
            ("yolov10b-640", "coco/22"),
            ("yolov11n-640", "coco/25"),
            ("yolo11x-1280", "coco/34"),
            ("yolo26m-640", "coco/43"),
            ("rfdetr-base", "coco/36"),
            ("rfdetr-nano", "coco/38"),
        ] {
            assert_eq!(resolve(alias).as_deref(), Some(id), "{alias}");
        }
        for unknown in ["yolov8n", "yolov8z-640", "rfdetr-", "coco/3", "yolov8-640", ""] {
            assert_eq!(resolve(unknown), None, "{unknown}");
        }
    }
}
