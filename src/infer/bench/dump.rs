//! `weir bench engine --input X.f32 --dump DIR`: what a model makes of given numbers, to be compared with
//! other engines.

use super::{open, sides};
use crate::error::{Error, Kind, Result, system};
use crate::infer::engine::{self, Options};
use crate::infer::registry::RegistrySettings;
use crate::infer::tensorrt;
use crate::infer::{EngineChoice, Precision};
use std::fs::File;
use std::io::{Read, Write};
use std::path::Path;

/// Largest input that is read, bytes: a batch of 64 pictures of 1 920 × 1 920.
const MAX_INPUT_BYTES: u64 = 3 << 30;

/// Runs `model` once on the numbers in `input` and writes each raw output to `folder/NAME.f32`, and all
/// shapes to `folder/shapes.json` (`{"NAME": [1, 84, 8400]}`). Blocks.
///
/// `input` holds 32-bit little-endian floats in the order that the file declares for its input: `[1, 3, H,
/// W]`, or `[N, H, W, 3]` where it says so. In the names of files everything but letters, digits, `.`, `-`
/// and `_` is `_`.
pub fn dump(
    model: &Path,
    input: &Path,
    folder: &Path,
    (choice, precision): (EngineChoice, Precision),
) -> Result<()> {
    let session = open(model)?;
    let graph = session.description().clone();
    let ([width, height], budget_bytes) =
        (sides(graph.input()), RegistrySettings::default().memory_budget_bytes);
    let given = floats(input)?;
    let frames = graph.input().frames();
    let planes = graph.input().planes(&given, width, height).ok_or_else(|| {
        let message = format!(
            "{} holds {} floats, not those of a {width}x{height} input",
            input.display(),
            given.len()
        );
        Error::new(Kind::Usage, message)
    })?;
    let names: Vec<String> = graph.output_names().into_iter().map(str::to_owned).collect();
    let options = Options {
        width,
        height,
        choice,
        precision,
        budget_bytes,
        weights: model,
        tensorrt: &tensorrt::TensorRtSettings::default(),
        scores: &|_| None,
        in_background: false,
        building: &|_| Ok(()),
    };
    let engine = engine::compile(session, &options)?.engine;
    let mut run = engine.new_run()?;
    for (frame, planes) in planes.chunks_exact((planes.len() / frames).max(1)).enumerate() {
        run.select_frame(frame);
        let space = run.input();
        if space.len() != planes.len() {
            return Err(Error::new(Kind::Inference, "the engine's input is of another size"));
        }
        space.copy_from_slice(planes);
    }
    run.expect_frames(frames);
    run.execute()?;
    std::fs::create_dir_all(folder).map_err(system("cannot make the folder of --dump"))?;
    let write = |name: &str, bytes: &[u8]| {
        File::create(folder.join(name))
            .and_then(|mut file| file.write_all(bytes))
            .map_err(system("cannot write an output"))
    };
    let plain: Vec<&str> = names.iter().map(String::as_str).collect();
    let files = file_names(&plain);
    let mut shapes = Vec::new();
    for (index, (name, file)) in names.iter().zip(&files).enumerate() {
        let shape = run.output_shape(index).or_else(|| engine.output_shapes().get(index).map(Vec::as_slice));
        let shape = shape.unwrap_or_default().to_vec();
        // An output that is not of frames is the same for all of them.
        let rows = if shape.first() == Some(&frames) { frames } else { 1 };
        let mut bytes = Vec::new();
        for frame in 0..rows {
            run.select_frame(frame);
            bytes.extend(run.output(index).iter().flat_map(|value| value.to_le_bytes()));
        }
        write(&format!("{file}.f32"), &bytes)?;
        shapes.push(format!("\"{}\": {:?}", json_text(name), shape));
    }
    write("shapes.json", format!("{{{}}}\n", shapes.join(", ")).as_bytes())
}

/// The numbers of a file.
fn floats(path: &Path) -> Result<Vec<f32>> {
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(system("cannot open the input"))?;
    file.take(MAX_INPUT_BYTES + 1).read_to_end(&mut bytes).map_err(system("cannot read the input"))?;
    if bytes.len() as u64 > MAX_INPUT_BYTES || bytes.len() % 4 != 0 {
        return Err(Error::new(Kind::Usage, format!("{} is no file of 32-bit floats", path.display())));
    }
    Ok(bytes.chunks_exact(4).filter_map(|four| four.try_into().ok()).map(f32::from_le_bytes).collect())
}

/// A name for the file of each output, none twice, none with a path in it.
pub(super) fn file_names(outputs: &[&str]) -> Vec<String> {
    let mut files: Vec<String> = Vec::new();
    for (index, name) in outputs.iter().enumerate() {
        let allowed =
            |c: char| if c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_') { c } else { '_' };
        let mut file: String = name.chars().map(allowed).take(MAX_NAME_CHARS).collect();
        if file.chars().all(|c| c == '.') {
            file = format!("output{index}");
        }
        if files.contains(&file) {
            file = format!("{file}-{}", index + 1);
        }
        files.push(file);
    }
    files
}

/// Longest name of a file that is taken over from an output, characters; file systems allow 255 bytes.
const MAX_NAME_CHARS: usize = 200;

/// Between the quotes of a JSON text.
fn json_text(text: &str) -> String {
    let mut escaped = String::new();
    for c in text.chars() {
        match c {
            '"' | '\\' => escaped.extend(['\\', c]),
            c if c < ' ' => escaped.push_str(&format!("\\u{:04x}", u32::from(c))),
            c => escaped.push(c),
        }
    }
    escaped
}
